import asyncio
import time
from contextlib import suppress

import pytest

from kairos_core.errors import TransportError
from kairos_core.model import Address, PeerId
from kairos_core.protocol import reconciliation
from kairos_core.protocol.shunning import FORGERIES
from kairos_core.protocol.wire import Done, Entries, Hello, Offer, encode_message
from kairos_core.runtime import sessions as sessions_module
from kairos_core.runtime.clock import NetworkTime
from kairos_core.runtime.pump import Errand

HELLO = encode_message(Hello(7373, int(time.time() * 1000)))


async def ended(stream) -> None:
    """Read to the end of a stream."""
    async with asyncio.timeout(5):
        with suppress(TransportError):
            while True:
                await stream.receive()


@pytest.mark.parametrize(
    ("messages", "drop"),
    [
        ([b"\xc1"], "malformed"),
        ([encode_message(Done())], "bad_hello"),
        ([b"\x94\x01\x02\xcd\x1c\xcd\x00"], "version"),
        ([HELLO, b"\x91\x09"], "unknown_kind"),
        ([HELLO, HELLO], "malformed"),
        ([HELLO, encode_message(Offer(b"")), encode_message(Offer(b""))], "malformed"),
        ([HELLO, encode_message(Offer(bytes(24)))], "oversized"),
        ([HELLO, encode_message(Entries((b"short",))), encode_message(Done())], "truncated"),
    ],
)
async def test_what_a_peer_says_wrong_ends_its_session_and_is_counted(world, monkeypatch, messages, drop):
    monkeypatch.setattr(reconciliation, "MAX_ENTRIES", 2)
    one, two = await world.peer("one"), await world.peer("two")
    stream = await two.connect(one)
    for message in messages:
        await stream.send(message)
    await ended(stream)
    assert one.drops == {drop: 1}
    await world.meet(one, two)  # the next one is taken as if nothing had been


async def test_a_peer_that_says_nothing_is_let_go(world, monkeypatch):
    monkeypatch.setattr(sessions_module, "SESSION_TIME", 0.02)
    one, two = await world.peer("one"), await world.peer("two")
    stream = await two.connect(one)
    await stream.send(HELLO)
    await ended(stream)
    assert one.drops == {"slow_peer": 1}


async def test_a_peer_that_does_not_read_is_let_go_too(world, monkeypatch):
    monkeypatch.setattr(sessions_module, "SESSION_TIME", 0.05)
    monkeypatch.setattr("kairos_core.protocol.wire.BATCH_BYTES", 100)
    one, two = await world.peer("one"), await world.peer("two")
    for number in range(20):
        one.pump.publish("values", f"k{number}", "x" * 100)
    stream = await two.connect(one)
    await stream.send(HELLO)
    await stream.send(encode_message(Offer(b"")))
    await world.until(lambda: one.drops)
    assert one.drops == {"slow_peer": 1}


async def test_a_peer_that_leaves_in_the_middle_costs_nothing_and_what_it_gave_is_kept(world):
    one, two = await world.peer("one"), await world.peer("two")
    two.write("reports", {"role": "worker"})
    stream = await two.connect(one)
    await stream.send(HELLO)
    await stream.send(encode_message(Entries(tuple(entry.raw for entry in two.pump.entries()))))
    await one.until(lambda: one.reads("reports", str(two.id)) is not None)
    await stream.close()
    assert one.drops == {}
    await world.meet(one, two)


async def test_a_peer_that_falls_silent_in_the_middle_of_our_dial_ends_it(world, monkeypatch):
    monkeypatch.setattr(sessions_module, "SESSION_TIME", 0.05)
    one, two = await world.peer("one"), await world.peer("two")
    two.transport.host.accept = lambda stream: None
    one.sessions.reconcile(two.address)
    await world.until(lambda: one.drops)
    assert one.drops == {"slow_peer": 1}
    assert not one.sessions._dialling


async def test_only_so_many_peers_are_answered_at_once(world, monkeypatch):
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 2)
    one, two = await world.peer("one"), await world.peer("two")
    held = [await two.connect(one) for _ in range(2)]
    await ended(await two.connect(one))
    assert one.drops == {"too_many_sessions": 1}
    for stream in held:
        await stream.close()
    await world.meet(one, two)


async def test_only_so_many_peers_are_dialled_at_once(world, monkeypatch):
    one = await world.peer("one")
    under_way: list[Address] = []
    most, release = 0, asyncio.Event()

    async def slow(address: Address):
        nonlocal most
        under_way.append(address)
        most = max(most, len(under_way))
        await release.wait()
        under_way.remove(address)
        raise TransportError("nobody is there")

    one.transport.connect = slow
    for number in range(3 * sessions_module.MAX_DIALS):
        one.sessions.found(Address(f"10.0.0.{number}", 1))
    await world.until(lambda: len(under_way) == sessions_module.MAX_DIALS)
    release.set()
    await world.until(lambda: not one.sessions._dialling)
    assert most == sessions_module.MAX_DIALS


async def test_a_place_that_a_session_has_left_is_given_to_the_next(world, monkeypatch):
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 1)
    one, two = await world.peer("one"), await world.peer("two")
    for _ in range(5):
        stream = await two.connect(one)
        await stream.close()
        await world.until(lambda: not one.sessions._inbound)
    assert one.drops == {}


async def test_a_discovered_node_is_known_before_its_stream_is_open(world):
    one, two = await world.peer("one"), await world.peer("two")
    for peer in (one, two):
        peer.write("peers", {"addresses": [str(peer.address)]})
    hanging = asyncio.Event()
    connect = one.transport.connect

    async def late(address: Address):
        await hanging.wait()
        return await connect(address)

    one.transport.connect = late
    one.sessions.found(two.address)
    for peer in (one, two):
        await peer.until(lambda peer=peer: len(peer.pump.gossip.membership.alive()) == 1)
    hanging.set()
    await world.until(lambda: not one.sessions._dialling)
    assert one.pump.clock._heard, "the stream is for the clocks"


async def test_a_peer_that_brings_forged_entries_is_let_go_and_refused_for_a_while(world):
    one, two, three = [await world.peer(name) for name in ("one", "two", "three")]
    await world.meet(one, three)
    two.write("reports", {"role": "worker"})
    raw = next(iter(two.pump.entries())).raw
    forged = tuple(raw[:-64] + bytes([n]) * 64 for n in range(200))
    stream = await two.connect(one)
    await stream.send(HELLO)
    await stream.send(encode_message(Entries(forged)))
    await ended(stream)
    assert one.drops["bad_signature"] == FORGERIES
    assert one.drops["shunned"] == sessions_module.TAKEN_AT_ONCE - FORGERIES + 1, "and the rest is not looked at"
    before = one.drops["shunned"]
    await ended(await two.connect(one))
    assert one.drops["shunned"] == before + 1
    one.sessions.reconcile(two.address)
    await world.until(lambda: not one.sessions._dialling)
    assert one.drops["shunned"] == before + 2, "nor is it dialled with more success"
    three.write("reports", {"role": "master"})
    await one.until(lambda: one.reads("reports", str(three.id)) is not None)


async def test_where_clocks_disagree_further_peers_are_asked_for_theirs(world):
    one, two, three = [await world.peer(name) for name in ("one", "two", "three")]
    await world.meet(one, two, three)
    late = await world.peer("late", clock=NetworkTime(lambda: time.time() - 86_400))
    for peer in (one, two, three, late):
        peer.write("peers", {"addresses": [str(peer.address)]})
    late.sessions.reconcile(one.address)
    await world.until(lambda: late.pump.clock._heard.keys() >= {one.id, two.id, three.id})
    assert late.pump.clock.warning is not None


async def test_where_clocks_agree_nobody_is_asked(world):
    one, two = await world.peer("one"), await world.peer("two")
    await world.meet(one, two)
    await world.until(lambda: not one.sessions._dialling)
    asked = []
    one.pump.sync_wanted = lambda address, errand: asked.append(address)
    one.pump._ask_the_time()
    assert asked == []
    one.pump.clock.heard(PeerId(b"x" * 32), 0)
    one.pump._ask_the_time()
    assert asked == [], "it was heard already"
    one.pump.clock._heard.pop(two.id)
    one.pump._ask_the_time()
    assert asked == [two.address]


async def test_invented_announcements_fill_no_memory(world, monkeypatch):
    monkeypatch.setattr(sessions_module, "MAX_WAITING", 4)
    monkeypatch.setattr(sessions_module, "MAX_REMEMBERED", 8)
    one = await world.peer("one")
    for turn in range(5):
        for number in range(6):
            one.sessions.found(Address(f"10.0.{turn}.{number}", 1))
        await world.until(lambda: not one.sessions._dialling)
    assert one.drops == {"too_many_sessions": 10}
    assert len(one.sessions._not_before) == 8


@pytest.mark.parametrize("lives", [False, True])
async def test_an_errand_with_a_peer_that_is_heard_does_not_wait_for_a_dial_that_hangs(world, lives):
    one, two = await world.peer("one"), await world.peer("two")
    two.pump.publish("values", "k", 1)
    if lives:
        await world.meet(one, two)
        await world.until(lambda: not one.sessions._dialling)
    connect, dials = one.transport.connect, []

    async def hang_once(address: Address):
        dials.append(address)
        if len(dials) == 1:
            await asyncio.Event().wait()
        return await connect(address)

    one.transport.connect = hang_once
    one.sessions._begin(two.address, sessions_module.WHOLE, is_heard=False)  # begun when nothing answered there
    await world.until(lambda: dials)
    errand = sessions_module.WHOLE if lives else Errand(want=tuple(two.pump.ledger.short_ids()))
    one.sessions.reconcile(two.address, errand)
    await world.until(lambda: dials == [two.address] * 2)
    await one.until(lambda: one.pump.ledger.digest == two.pump.ledger.digest)


async def test_errands_that_come_while_one_is_run_are_run_after_it(world):
    one, two = await world.peer("one"), await world.peer("two")
    for number in range(4):
        two.pump.publish("values", f"k{number}", number)
    ids = [entry.short_id for entry in two.pump.entries()]
    connect, dials, free = one.transport.connect, [], asyncio.Event()

    async def slow(address: Address):
        dials.append(address)
        await free.wait()
        return await connect(address)

    one.transport.connect = slow
    for short_id in ids:
        one.sessions.reconcile(two.address, Errand(want=(short_id,)))
    await world.until(lambda: dials)
    free.set()
    await one.until(lambda: len(one.pump.ledger) == 4)
    await world.until(lambda: not one.sessions._dialling)
    assert dials == [two.address] * 2
    assert one.sessions._waiting == {}


async def test_an_address_that_leads_nowhere_is_not_dialled_again_at_once(world):
    one = await world.peer("one")
    nowhere, dials = Address("10.9.9.9", 1), []
    connect = one.transport.connect

    async def counting(address: Address):
        dials.append(address)
        return await connect(address)

    one.transport.connect = counting
    for _ in range(3):
        one.sessions.found(nowhere)
        await world.until(lambda: not one.sessions._dialling)
    assert dials == [nowhere]


async def test_a_living_peer_that_is_found_again_is_not_dialled(world):
    one, two = await world.peer("one"), await world.peer("two")
    await world.meet(one, two)
    await world.until(lambda: not one.sessions._dialling)
    one.sessions.found(two.address)
    assert not one.sessions._dialling


async def test_a_stranger_gets_no_session(world):
    one, stranger = await world.peer("one"), await world.peer("two", token="another")
    stranger.sessions.reconcile(one.address)
    await world.until(lambda: not stranger.sessions._dialling)
    assert one.drops == {"stranger": 1}
    assert not one.pump.gossip.membership.members


async def test_a_node_whose_clock_is_a_day_off_goes_by_its_peers_and_signs_again_what_it_wrote(world):
    peers = [await world.peer("one"), await world.peer("two")]
    await world.meet(*peers)
    wrong = NetworkTime(lambda: time.time() + 86_400)
    late = await world.peer("late", clock=wrong)
    key = late.write("reports", {"role": "worker"})
    for peer in peers:
        late.sessions.reconcile(peer.address)
    for peer in peers:
        await peer.until(lambda peer=peer: peer.reads("reports", key) == {"role": "worker"})
    assert abs(wrong.now() - time.time()) < 1
    assert "ahead of the network's" in wrong.warning
    assert peers[0].pump.clock.warning is None
