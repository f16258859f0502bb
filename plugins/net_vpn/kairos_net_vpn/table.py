"""Who is who: peers by key, by inner address and prefix, and sessions by the index that a datagram carries.

Changed by the control process and by handshakes; the packet path only looks up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kairos_net_vpn.lanes import Lane, Lanes
from kairos_net_vpn.peer import Peer, Pending
from kairos_net_vpn.prefixes import Inside, Prefix, Prefixes
from kairos_net_vpn.records import MIN_INDEX
from kairos_net_vpn.session import Session

MAX_PEERS = 4096
"""More than any address pool in use; bounds what a flood of ledger entries can make the data plane hold."""


class Table:
    """The lookup tables of a tunnel."""

    def __init__(self, entropy: Callable[[int], bytes], inside: Inside) -> None:
        self.inside = inside
        self._addresses: dict[bytes, Peer] = {}
        self._holders: dict[Prefix, Peer] = {}
        self._prefixes: Prefixes[Peer] | None = None  # None: no prefix leads anywhere, which is the usual case
        self.sessions: dict[int, Session] = {}
        self.lanes = Lanes(has_routes=bool(inside.routes))
        """What follows from all this for packets that come and go all the time."""
        self.pending: dict[int, Pending] = {}
        self._peers: dict[bytes, Peer] = {}
        self._entropy = entropy

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    def find(self, public: bytes) -> Peer | None:
        return self._peers.get(public)

    def add(self, peer: Peer) -> None:
        self._peers[peer.remote.public] = peer

    def remove(self, public: bytes) -> None:
        """Forget a peer with its sessions and routes; nothing happens when it is unknown."""
        peer = self._peers.pop(public, None)
        if peer is None:
            return
        self.forget_sessions(peer)
        self.drop_pending(peer)
        self.route(peer, frozenset())

    def find_route(self, packet: bytes | memoryview) -> Peer | None:
        """Return the peer that a packet goes to, by its destination; None when there is none.

        The caller has checked that the packet has a whole IPv4 or IPv6 header. A datagram of the tunnel itself
        goes to no prefix: it would come back, larger, without end.
        """
        destination = bytes(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])
        peer = self._addresses.get(destination)
        if peer is not None or self._prefixes is None or self.inside.is_own_datagram(packet):
            return peer
        return self._prefixes.find(destination)

    def find_host(self, address: bytes) -> Peer | None:
        """Return the peer that has a packed address itself."""
        return self._addresses.get(address)

    def learn_lane(self, host: tuple[bytes, bytes], lane: Lane) -> None:
        """Remember what carries packets for a host, if it is the peer's own address and no packet is looked at."""
        peer = lane.session.peer
        if self._addresses.get(host[1]) is peer and peer.sources is None and not self.inside.routes:
            self.lanes.hosts[host] = lane

    def find_prefix(self, address: bytes) -> Peer | None:
        """Return the peer behind which a packed address lies, by the longest prefix."""
        return self._prefixes.find(address) if self._prefixes is not None else None

    def route(
        self,
        peer: Peer,
        addresses: frozenset[bytes],
        routes: tuple[Prefix, ...] = (),
        standby: tuple[Prefix, ...] = (),
    ) -> None:
        """Give a peer these inner addresses (packed) and prefixes; who had one before loses it.

        What lies in `standby` may come from the peer, but is not sent to it: another has the route.
        """
        self.lanes.forget()
        for address in peer.addresses - addresses:
            if self._addresses.get(address) is peer:
                del self._addresses[address]
        for address in addresses:
            holder = self._addresses.get(address)
            if holder is not None and holder is not peer:
                holder.addresses -= {address}
                holder.admitted.clear()
            self._addresses[address] = peer
        peer.addresses = addresses
        peer.admitted.clear()
        peer.sources = self.inside.sources(routes + standby) if routes or standby else None
        if routes != peer.routes:
            self._route_prefixes(peer, routes)

    def _route_prefixes(self, peer: Peer, routes: tuple[Prefix, ...]) -> None:
        for prefix in peer.routes:
            if self._holders.get(prefix) is peer:
                del self._holders[prefix]
        self._holders.update(dict.fromkeys(routes, peer))
        peer.routes = routes
        self._prefixes = Prefixes(self._holders) if self._holders else None

    def new_index(self) -> int:
        """Return a name for a session, in use by none; random, so that it says nothing of our sessions.

        It is above WireGuard's types, since records have it in their place.
        """
        while True:
            index = int.from_bytes(self._entropy(4), "little")
            if index >= MIN_INDEX and index not in self.sessions and index not in self.pending:
                return index

    def expect(self, pending: Pending) -> None:
        """Wait for the response to this initiation, and no longer for an earlier one of the peer."""
        self.drop_pending(pending.peer)
        pending.peer.pending = pending
        self.pending[pending.index] = pending

    def drop_pending(self, peer: Peer) -> None:
        if peer.pending is not None:
            del self.pending[peer.pending.index]
            peer.pending = None

    def stand_by(self, session: Session) -> None:
        """Keep a session that we answered for until the peer uses it."""
        self.lanes.forget()
        peer = session.peer
        self._retire(peer.next)
        peer.next = session
        self.sessions[session.index] = session

    def confirm(self, session: Session) -> None:
        """Make a session the current one.

        The previous one is then the one that was current; but where both sides initiated at once, it is the
        one we answered for, since that is what the peer may have taken as its current one.
        """
        self.lanes.forget()
        peer = session.peer
        standing_by = peer.next if peer.next is not session else None
        previous = standing_by or peer.current
        for old in (peer.previous, peer.current):
            if old is not previous:
                self._retire(old)
        peer.previous, peer.current, peer.next = previous, session, None
        self.sessions[session.index] = session

    def forget_sessions(self, peer: Peer) -> None:
        self.lanes.forget()
        for session in peer.sessions():
            self._retire(session)
        peer.current = peer.previous = peer.next = None

    def _retire(self, session: Session | None) -> None:
        if session is not None:
            del self.sessions[session.index]
