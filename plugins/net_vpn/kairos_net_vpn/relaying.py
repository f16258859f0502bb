"""Datagrams that go through a peer, or between two others through us. Pure.

What is relayed is sealed end to end; between relay and peer it is sealed once more, as a side message (sides.py) in
their own session. So only members can ask for it, nobody can write another's name as the origin but the relay, and
whoever listens sees traffic with the relay. One hop: what came through a relay is relayed no further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kairos_net_vpn import sides
from kairos_net_vpn.datagrams import HEADER_SIZE
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.parts import MAX_GROUP
from kairos_net_vpn.path import Via
from kairos_net_vpn.peer import Endpoint, Peer
from kairos_net_vpn.session import Session
from kairos_net_vpn.sides import Tale
from kairos_net_vpn.small import TAG
from kairos_net_vpn.table import Table

RATE = 64e6
"""Bytes in a second that we relay from one peer to another: half a gigabit. Raising it lets a pair take more of this
machine's bandwidth and processor from the packets of its own."""
BURST = 1.0
"""Seconds of RATE that may come at once."""
MAX_PAIRS = 1024
"""Pairs counted at a time. Bounds what members can make us hold; a pair is forgotten when it was silent for BURST."""


class Quota:
    """Bytes that may pass for each pair, by the time at which its bucket is full again (see rations.py)."""

    def __init__(self) -> None:
        self._full_at: dict[tuple[bytes, bytes], float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, pair: tuple[bytes, bytes], size: int, now: float) -> bool:
        """Let so many bytes pass; False when the pair had its share, or there are too many pairs."""
        begin = max(self._full_at.get(pair, now), now)
        if begin - now > BURST:
            return False
        if pair not in self._full_at and len(self._full_at) >= MAX_PAIRS:
            self._full_at = {other: at for other, at in self._full_at.items() if at > now}
            if len(self._full_at) >= MAX_PAIRS:
                return False
        self._full_at[pair] = begin + size / RATE
        return True


class Relaying:
    """Wraps what goes through a relay, unwraps what comes through one, and is one."""

    def __init__(self, table: Table, can_relay: Callable[[Peer, float], bool]) -> None:
        self._table = table
        self._can_relay = can_relay
        self._quota = Quota()

    def wrap(self, wire: Sequence[bytes | memoryview], via: Via, now: float) -> tuple[Session, list[bytes]]:
        """Return the relay's session and the side messages that carry datagrams, of one size but the last.

        Raises Refused (no_relay).
        """
        relay = self._table.find(via.relay)
        if relay is None or relay.current is None or not self._can_relay(relay, now):
            raise Refused(VpnDrop.NO_RELAY)
        return relay.current, list(self._wrap(wire, via, relay))

    def _wrap(self, wire: Sequence[bytes | memoryview], via: Via, relay: Peer) -> Iterator[bytes]:
        size = len(wire[0])
        room = min(relay.members.count * (relay.datagram - HEADER_SIZE), MAX_GROUP) - TAG - sides.TALE
        each = max(1, room // size)
        for first in range(0, len(wire), each):
            part = b"".join(wire[first : first + each])
            yield sides.encode_tale(sides.RELAY, Tale(via.target, min(size, len(part)), part))

    def forward(self, session: Session, plain: bytes, source: Endpoint, now: float) -> tuple[Session, bytes]:
        """Return the session of the peer that a RELAY is for, and the RELAYED to send in it.

        It is as large as what came: nothing is amplified. Raises Refused (malformed, relay_loop, relay_refused,
        relay_flood).
        """
        tale = sides.decode_tale(plain)
        if type(source) is Via:
            raise Refused(VpnDrop.RELAY_LOOP)
        target = self._table.find(tale.key)
        if target is None or target is session.peer or target.current is None or not self._can_relay(target, now):
            raise Refused(VpnDrop.RELAY_REFUSED)
        origin = session.peer.remote.public
        if not self._quota.take((origin, tale.key), len(plain), now):
            raise Refused(VpnDrop.RELAY_FLOOD)
        return target.current, sides.encode_tale(sides.RELAYED, tale._replace(key=origin))

    def unwrap(self, session: Session, plain: bytes, source: Endpoint) -> tuple[Tale, Via]:
        """Return what came through a relay, and the way to where it is from.

        Raises Refused (malformed, relay_loop, relay_forged).
        """
        tale = sides.decode_tale(plain)
        if type(source) is Via:
            raise Refused(VpnDrop.RELAY_LOOP)
        relay = session.peer.remote.public
        if tale.key == relay or self._table.find(tale.key) is None:
            raise Refused(VpnDrop.RELAY_FORGED)
        return tale, Via(relay, tale.key)
