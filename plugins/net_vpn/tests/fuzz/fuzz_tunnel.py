"""A fuzzer of all that strangers can send, guided by coverage. For people; `./run test` does not run it.

    pip install atheris
    python plugins/net_vpn/tests/fuzz/fuzz_tunnel.py plugins/net_vpn/tests/fuzz/corpus -max_total_time=600

The first byte of an input chooses: a line of the control protocol, or datagrams for a node that has a session with
another. A datagram is one that the two have exchanged (with right indices and, if wished, a right mac1, so that the
fuzzer need not guess hashes), altered where the input says. It fails when anything is raised, when a packet comes out
that nobody sealed, or when a table grows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["kairos_net_vpn"]):
    from conftest import Node, Wire
    from kairos_net_vpn import messages, rations, spec
    from kairos_net_vpn.noise import Remote

CONTROL = 0
SMALLEST = spec.INITIATION_SIZE - 2 * spec.MAC


class World:
    """Two nodes with a session, and the datagrams between them."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.alice, self.bob = self.wire.add(), self.wire.add()
        self.alice.meet(self.bob)
        self.bob.meet(self.alice)
        self.wire.run(1.5)
        self.alice.say(self.bob)
        self.wire.run(0.1)
        cookie = spec.COOKIE.to_bytes(4, "little") + bytes(60)
        self.known = [*dict.fromkeys(datagram for _, datagram, _ in self.wire.sent), cookie]
        self.to_bob = Remote(self.alice.local, self.bob.local.public)

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.alice, self.bob


def datagram_of(world: World, data: atheris.FuzzedDataProvider) -> bytes:
    """Return one datagram for bob as the input describes it."""
    datagram = bytearray(world.known[data.ConsumeIntInRange(0, len(world.known) - 1)])
    for _ in range(data.ConsumeIntInRange(0, 4)):
        datagram[data.ConsumeIntInRange(0, len(datagram) - 1)] = data.ConsumeIntInRange(0, 255)
    if data.ConsumeBool():
        datagram += data.ConsumeBytes(64)
    if data.ConsumeBool():
        del datagram[data.ConsumeIntInRange(0, len(datagram)) :]
    sessions = world.bob.tunnel.table.sessions
    if data.ConsumeBool() and len(datagram) >= 8 and sessions:
        datagram[4:8] = next(iter(sessions)).to_bytes(4, "little")
    if data.ConsumeBool() and len(datagram) > 2 * spec.MAC:
        return world.to_bob.with_macs(bytes(datagram[: -2 * spec.MAC]))
    return bytes(datagram)


def check(world: World, arrived: int) -> None:
    """Fail when something came out of the tunnel or a table holds more than it may."""
    table = world.bob.tunnel.table
    assert len(world.bob.arrived) == arrived, "a packet that nobody sealed"
    assert len(table) == 1
    assert len(table.sessions) <= 3
    assert len(table.pending) <= 1
    assert len(world.bob.tunnel._handshakes._gate._rations) <= rations.MAX_HOSTS


def fuzz_datagrams(data: atheris.FuzzedDataProvider) -> None:
    world = World()
    arrived = len(world.bob.arrived)
    while data.remaining_bytes():
        source = (f"203.0.113.{data.ConsumeIntInRange(0, 255)}", 1)
        world.bob.receive(datagram_of(world, data), source)
        if data.ConsumeBool():
            world.wire.run(data.ConsumeFloatInRange(0.0, 200.0))
        check(world, arrived)


def fuzz_control(line: bytes) -> None:
    try:
        message = messages.decode(line)
    except ValueError:
        return
    messages.encode(message)


def fuzz(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    if data[:1] == bytes([CONTROL]):
        fuzz_control(data[1:])
    else:
        fuzz_datagrams(provider)


if __name__ == "__main__":
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
