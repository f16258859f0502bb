"""What strangers can send: datagrams of WireGuard's kinds, and lines of the control protocol.

A datagram is one that two nodes have exchanged (with right indices and, if wished, a right mac1, so that nobody need
guess hashes), altered where the input says. Nothing may be raised, no packet come out that nobody sealed, and no table
grow.
"""

from __future__ import annotations

import sys
from pathlib import Path

from choices import Choices

sys.path.insert(0, str(Path(__file__).parents[1]))

from kairos_net_vpn import messages, rations, spec
from kairos_net_vpn.noise import Remote

from conftest import Wire


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


def datagram_of(world: World, choices: Choices) -> bytes:
    """Return one datagram for bob as the input describes it."""
    datagram = bytearray(choices.altered(choices.pick(world.known)))
    if choices.chance():
        datagram += choices.octets(choices.below(64))
    if choices.chance():
        del datagram[choices.below(len(datagram) + 1) :]
    sessions = world.bob.tunnel.table.sessions
    if choices.chance() and len(datagram) >= 8 and sessions:
        datagram[4:8] = next(iter(sessions)).to_bytes(4, "little")
    if choices.chance() and len(datagram) > 2 * spec.MAC:
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


def send_datagrams(data: bytes) -> None:
    """Play an input; fail when a node does not bear it."""
    choices, world = Choices(data), World()
    arrived = len(world.bob.arrived)
    while choices:
        source = (f"203.0.113.{choices.below(256)}", 1)
        world.bob.receive(datagram_of(world, choices), source)
        if choices.chance():
            world.wire.run(choices.pick((0.05, 0.5, 3.0, 20.0, 130.0, 200.0)))
        check(world, arrived)


def send_line(line: bytes) -> None:
    """Read a line of the control protocol: it is a message, which can be written, or a ValueError."""
    try:
        message = messages.decode(line)
    except ValueError:
        return
    messages.encode(message)
