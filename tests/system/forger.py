"""A member with the right token and bad intentions: pushes entries that break the rules over its own session.

Usage: forger.py HOST:PORT VICTIM     The token is in $KAIROS_TOKEN; VICTIM is the peer id in whose name it writes.
"""

import asyncio
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace

from kairos_transport_tls import TlsTransport
from kairos_transport_tls.settings import TlsSettings

from kairos_core import Address, Identity, PeerId, TransportError
from kairos_core.protocol.clock import stamp
from kairos_core.protocol.entry import LEASE, MAX_VALUE, Entry, pack
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import Token, parse_token
from kairos_core.protocol.wire import Done, Entries, Hello, Offer, Want, decode_message, encode_message
from kairos_core.testing.transports import RecordingHost

NOT_NODES = (
    {"addresses": 5, "seal_key": bytes(32), "network_id": "kairos", "name": "evil", "kind": "node"},
    {"addresses": [b"bytes", 7, None, "fe80::1%a\0b:1", "[fe80::1%eth0]:1", "example.org:1"], "network_id": "kairos"},
    {"addresses": [], "seal_key": bytes(32), "network_id": "kairos", "wish": "emperor"},
    b"\x91" * 900 + b"\x01",
)
"""Values of `peers` that no honest node writes; as raw bytes where they are msgpack already."""


def raw(identity: Identity, entry: Entry, network: bytes, body: bytes | None = None) -> bytes:
    """Sign without the checks that an honest node makes of its own entries."""
    body = body or entry.body
    return body + identity.sign(b"kairos entry 1" + network + body)


def not_canonical(entry: Entry) -> bytes:
    """The same entry, with its flags (0) written in two bytes instead of one."""
    hlc = b"\xcf" + entry.hlc.to_bytes(8)
    return entry.body.replace(hlc + b"\x00", hlc + b"\xcc\x00")


def forgeries(mine: Identity, victim: PeerId, network: bytes) -> list[bytes]:
    """One of each kind."""
    now = time.time()
    own = Entry("reports", str(mine.peer_id), pack({"role": "master"}), mine.peer_id, stamp(now))
    theirs = replace(own, key=str(victim), value=pack({"role": "worker", "address": "10.1.0.66"}))
    return [
        raw(mine, theirs, network),  # our name on another's key
        raw(mine, replace(theirs, author=victim), network),  # another's name without its key
        raw(mine, replace(own, hlc=stamp(now - 2 * LEASE)), network),
        raw(mine, replace(own, hlc=stamp(now + LEASE)), network),
        raw(mine, replace(own, value=bytes(MAX_VALUE + 1)), network),
        raw(mine, own, network, not_canonical(own)),
        raw(mine, replace(own, bucket="registers", key=f"kairos/{mine.peer_id}", value=pack(5)), network),
        raw(mine, own, network)[:40],
    ]


def oddities(network: bytes) -> list[bytes]:
    """Well-signed entries of members that are none."""
    entries = []
    for number, value in enumerate(NOT_NODES):
        who = Identity(os.urandom(31) + bytes([number]))
        packed = value if isinstance(value, bytes) else pack(value)
        entries.append(raw(who, Entry("peers", str(who.peer_id), packed, who.peer_id, stamp(time.time())), network))
    return entries


async def push(transport: TlsTransport, target: Address, entries: list[bytes]) -> None:
    """Run one session as its caller, and send these entries instead of those that are wanted."""
    stream = await transport.connect(target)
    await stream.send(encode_message(Hello(7373, int(time.time() * 1000))))
    decode_message(await stream.receive())
    await stream.send(encode_message(Offer(b"")))
    while not isinstance(decode_message(await stream.receive()), Want):
        pass
    await stream.send(encode_message(Entries(tuple(entries))))
    await stream.send(encode_message(Done()))
    with suppress(TransportError):
        await stream.receive()


async def say(transport: TlsTransport, target: Address, *messages: bytes) -> None:
    """Open a session, say what does not belong there, and wait until the agent has ended it."""
    stream = await transport.connect(target)
    for message in messages:
        await stream.send(message)
    with suppress(TransportError):
        while True:
            await stream.receive()


async def main(target: Address, victim: PeerId, token: Token) -> None:
    host, keyring = RecordingHost("forger", token, time.time()), Keyring(token)
    transport = TlsTransport(TlsSettings(port=0))
    await transport.start(host)
    hello = encode_message(Hello(7373, int(time.time() * 1000)))
    await push(transport, target, forgeries(host.identity, victim, keyring.network))
    await push(transport, target, oddities(keyring.network))
    await say(transport, target, encode_message(Done()))
    await say(transport, target, hello, b"\xc1")
    await say(transport, target, hello, encode_message(Offer(b"")), encode_message(Offer(b"")))
    await transport.close()


if __name__ == "__main__":
    asyncio.run(main(Address.parse(sys.argv[1]), PeerId.parse(sys.argv[2]), parse_token(os.environ["KAIROS_TOKEN"])))
