import asyncio
import random
import socket
import ssl
import struct

import pytest
from kairos_transport_tls import admission, dialling
from kairos_transport_tls.frames import encode_frame
from kairos_transport_tls.stream import GREETING

from kairos_core import MAX_MESSAGE, Address, Identity, ProtocolError, TransportError
from kairos_core.testing.transports import NOON, RecordingHost, refused, running, token_for_test, within

STRANGER = Identity(bytes(32))


@pytest.fixture
async def friend(make_tls):
    """Another node with the same token."""
    async with running(make_tls(), RecordingHost("friend")) as (started,):
        yield started


@pytest.fixture
def key(member):
    return member.host.network_keys()[0]


async def is_cut_off(reader):
    """Wait for the other side to close; say whether it sent no message before."""
    try:
        return await within(reader.read()) == b""
    except OSError:
        return True


@pytest.mark.parametrize("seed", range(6))
async def test_random_bytes_are_no_tls_and_harm_nobody(member, friend, dial, seed):
    noise = random.Random(seed)
    async with dial() as (reader, writer):
        writer.write(noise.randbytes(noise.choice([1, 5, 100, 20_000])))
        writer.write_eof()
        await is_cut_off(reader)
    assert await member.host.saw_drop() == "not_tls"
    await friend.open_stream(member)


@pytest.mark.parametrize("cut", [1, 6, 60, 200])
async def test_a_hello_cut_short_or_altered_is_no_tls(member, dial, cut, hand_made):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = hand_made().wrap_bio(incoming, outgoing, server_hostname="join.kairos.invalid")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = bytearray(outgoing.read())
    async with dial() as (reader, writer):
        writer.write(hello[:cut])
        writer.write_eof()
        await is_cut_off(reader)
    assert await member.host.saw_drop() == "not_tls"


async def test_a_server_name_that_is_not_text_harms_nobody_and_is_not_logged(member, friend, dial, hand_made):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = hand_made().wrap_bio(incoming, outgoing, server_hostname="join.kairos.invalid")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    async with dial() as (reader, writer):
        writer.write(outgoing.read().replace(b"join.kairos", b"\xff\xfe\n\xc3.kairos"))
        await is_cut_off(reader)
    assert await member.host.saw_drop() == "not_tls"
    await friend.open_stream(member)


async def test_a_client_of_tls_1_2_is_refused(member, dial, hand_made, key):
    old = hand_made(key, STRANGER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with dial(old, key):
            pass
    assert await member.host.saw_drop() == "not_tls"


# An IP address stands for no server name at all: TLS has none for it.
@pytest.mark.parametrize("name", ["e1.kairos.invalid", "kairos.invalid", "example.com", "127.0.0.1"])
async def test_a_key_that_is_not_accepted_is_unknown(member, dial, hand_made, key, name):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with dial(hand_made(key, STRANGER), name=name):
            pass
    assert await member.host.saw_drop() == "unknown_key"


async def test_a_client_without_a_certificate_is_a_stranger(member, dial, hand_made, key):
    async with dial(hand_made(), key) as (reader, writer):
        writer.write(encode_frame(GREETING))
        assert await is_cut_off(reader)
    assert await member.host.saw_drop() == "stranger"


async def test_a_leaf_of_another_network_is_a_stranger_though_it_trusts_anybody(member, dial, hand_made, key):
    theirs = RecordingHost("x", token_for_test("theirs")).network_keys()[0]
    assert theirs.label == key.label
    async with dial(hand_made(theirs, STRANGER), key) as (reader, writer):
        writer.write(encode_frame(GREETING))
        assert await is_cut_off(reader)
    assert await member.host.saw_drop() == "stranger"
    assert member.host.streams.empty()


async def test_a_leaf_of_one_key_is_worth_nothing_under_another(member, dial, hand_made, key):
    join = member.host.network_keys()[-1]
    async with dial(hand_made(join, STRANGER), key) as (reader, writer):
        writer.write(encode_frame(GREETING))
        assert await is_cut_off(reader)
    assert await member.host.saw_drop() == "stranger"


async def test_an_old_key_is_refused_once_its_epoch_is_over(member, dial, hand_made, key):
    async with dial(hand_made(key, STRANGER), key) as (reader, writer):
        writer.write(encode_frame(GREETING))
        assert await within(reader.readexactly(4 + len(GREETING))) == encode_frame(GREETING)
    member.host.unix_now = NOON + 36_000
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with dial(hand_made(key, STRANGER), key):
            pass
    assert await member.host.saw_drop() == "unknown_key"


@pytest.mark.parametrize(
    "greeting",
    [encode_frame(b"GET / HTTP/1.1"), encode_frame(b""), struct.pack("!I", MAX_MESSAGE), b"\xff" * 300],
)
async def test_a_member_that_does_not_greet_as_we_do_is_refused(member, dial, hand_made, key, greeting):
    async with dial(hand_made(key, STRANGER), key) as (reader, writer):
        writer.write(greeting)
        assert await is_cut_off(reader)
    assert await member.host.saw_drop() == "bad_hello"


async def test_a_later_version_may_say_more_in_its_greeting(member, dial, hand_made, key):
    async with dial(hand_made(key, STRANGER), key) as (_, writer):
        writer.write(encode_frame(GREETING + b" and more") + encode_frame(b"message"))
        stream = await within(member.host.streams.get())
        assert await within(stream.receive()) == b"message"


async def test_another_application_protocol_is_refused(member, dial, hand_made, key):
    async with dial(hand_made(key, STRANGER, alpn="h2"), key) as (reader, writer):
        writer.write(encode_frame(GREETING))
        assert await is_cut_off(reader)
    assert await member.host.saw_drop() == "bad_hello"


async def test_an_oversized_message_ends_the_stream_before_its_bytes_come(member, dial, hand_made, key):
    async with dial(hand_made(key, STRANGER), key) as (_, writer):
        writer.write(encode_frame(GREETING) + struct.pack("!I", MAX_MESSAGE + 1))
        stream = await within(member.host.streams.get())
        with pytest.raises(ProtocolError) as raised:
            await within(stream.receive())
        assert raised.value.drop == "oversized"
        with pytest.raises(TransportError):
            await within(stream.receive())


async def test_a_peer_that_leaves_inside_a_message_is_named(member, dial, hand_made, key):
    async with dial(hand_made(key, STRANGER), key) as (_, writer):
        writer.write(encode_frame(GREETING) + encode_frame(b"message")[:-1])
        stream = await within(member.host.streams.get())
        writer.close()
        with pytest.raises(TransportError, match="middle of a message"):
            await within(stream.receive())


async def test_who_says_nothing_is_let_go(member, dial, hand_made, key, monkeypatch):
    monkeypatch.setattr(admission, "HANDSHAKE_TIME", 0.2)
    async with dial() as (reader, _):
        assert await is_cut_off(reader)
    async with dial(hand_made(key, STRANGER), key) as (reader, _):
        assert await is_cut_off(reader)
    assert dict(member.host.drops) == {"slow_peer": 2}


async def test_a_flood_of_half_open_connections_is_bounded_and_members_still_come_in(member, friend, dial):
    flood = [await asyncio.open_connection(member.address.host, member.address.port) for _ in range(200)]
    try:
        near, far = await within(friend.open_stream(member))
        await near.send(b"through the crowd")
        assert await within(far.receive()) == b"through the crowd"
        unfinished = member.transport._admission._handshakes
        assert len(unfinished) <= admission.MAX_HANDSHAKES
        assert member.host.drops["crowded"] == 201 - admission.MAX_HANDSHAKES
    finally:
        for _, writer in flood:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for _, writer in flood), return_exceptions=True)


async def test_one_peer_does_not_take_all_streams_and_gets_more_when_it_closes_some(
    member, friend, make_tls, monkeypatch
):
    monkeypatch.setattr(admission, "MAX_STREAMS_PER_PEER", 2)
    streams = [await friend.open_stream(member) for _ in range(2)]
    await refused(friend.transport.connect(member.address))
    assert await member.host.saw_drop() == "too_many_streams"
    async with running(make_tls(), RecordingHost("third")) as (third,):
        await third.open_stream(member)
    near, far = streams[0]
    await near.close()
    await refused(far.receive())
    await friend.open_stream(member)


async def test_all_peers_together_hold_a_bounded_number_of_streams(member, friend, make_tls, monkeypatch):
    monkeypatch.setattr(admission, "MAX_STREAMS", 1)
    await friend.open_stream(member)
    async with running(make_tls(), RecordingHost("third")) as (third,):
        error = await refused(third.transport.connect(member.address))
    assert "refused this node" in str(error)
    assert await member.host.saw_drop() == "too_many_streams"


async def test_without_file_descriptors_nothing_is_lost_but_time(member, friend, monkeypatch):
    monkeypatch.setattr(admission, "_PAUSE", 0.01)
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [24, 23, 103]

    async def scarce(listener):
        if failures:
            raise OSError(failures.pop(0), "as arranged")
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", scarce)
    await friend.open_stream(member)  # the accept that was waiting before
    await friend.open_stream(member)
    assert dict(member.host.drops) == {"no_descriptors": 2}


async def test_strangers_are_told_apart_from_the_dead_and_from_ourselves(make_tls, member):
    async with running(make_tls(), RecordingHost("x", token_for_test("theirs"))) as (outside,):
        error = await refused(outside.transport.connect(member.address))
        assert "another network" in str(error)
        assert await member.host.saw_drop() == "abandoned"
        gone = outside.address
    assert "cannot reach" in str(await refused(member.transport.connect(gone)))
    assert "this node itself" in str(await refused(member.transport.connect(member.address)))
    assert "TLS handshake" not in str(await refused(member.transport.connect(Address("no.such.invalid", 1))))


async def test_a_server_that_is_not_kairos_is_named_and_costs_two_tries(member):
    tries = []

    async def answer(reader, writer):
        tries.append(await reader.read(1))
        writer.write(b"220 smtp.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(member.transport.connect(Address("127.0.0.1", port)))
    assert "not Kairos" in str(error)
    assert len(tries) == 2


async def test_a_server_that_says_nothing_is_given_up_in_time(member, monkeypatch):
    monkeypatch.setattr(dialling, "DIAL_TIME", 0.2)
    silent = asyncio.Event()

    async def say_nothing(reader, writer):
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(member.transport.connect(Address("127.0.0.1", port)))
        silent.set()
    assert "no answer within" in str(error)


async def test_host_names_are_resolved_when_connecting(friend, member):
    stream = await within(friend.transport.connect(Address("localhost", member.address.port)))
    assert stream.peer == member.host.identity.peer_id
    assert stream.address.host in ("127.0.0.1", "::1")


async def test_closing_ends_a_connect_that_is_under_way(friend):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("127.0.0.1", silent.getsockname()[1])
        connecting = asyncio.create_task(friend.transport.connect(address))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await within(friend.transport.close())
        assert "closed meanwhile" in str(await refused(connecting))


async def test_a_caller_that_gives_up_leaves_no_stream_behind(friend, member):
    for turns in range(0, 60, 3):
        connecting = asyncio.create_task(friend.transport.connect(member.address))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        outcome = (await asyncio.gather(connecting, return_exceptions=True))[0]
        if not isinstance(outcome, BaseException):
            await outcome.close()
    assert not friend.transport._dialler._dials
    near, _ = await friend.open_stream(member)
    await near.close()


async def test_neither_end_of_a_stream_waits_to_send_a_short_message(friend, member):
    """With Nagle's algorithm each handshake and each short answer would take 40 ms."""
    for stream in await friend.open_stream(member):
        connection = stream._lane.writer.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
