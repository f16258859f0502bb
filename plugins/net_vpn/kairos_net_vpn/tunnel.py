"""The tunnel as a machine without IO: packets and datagrams in, datagrams and packets out.

The packet path (`carrier`, `receive`, `find_session`, `admit`) has no queue, no await and no log line; what is
refused is counted by name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kairos_net_vpn import sides, spec
from kairos_net_vpn.admission import Admission
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.handshakes import Handshakes, Sources
from kairos_net_vpn.lanes import HOST, SHORTEST, Lane
from kairos_net_vpn.mss import clamp
from kairos_net_vpn.noise import Local, Remote
from kairos_net_vpn.parts import Buffers
from kairos_net_vpn.path import Via
from kairos_net_vpn.paths import Paths, Underground
from kairos_net_vpn.peer import NEVER, Endpoint, Peer
from kairos_net_vpn.prefixes import Inside, Prefix
from kairos_net_vpn.relaying import Relaying
from kairos_net_vpn.session import Session
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.table import MAX_PEERS, Table
from kairos_net_vpn.vnet import PLAIN_IPV4, VNET_HEADER, header_size, segment

_PLAIN_IPV4 = bytes([PLAIN_IPV4])
GREETINGS = 3
"""Empty packets to each peer after a move. With one in a hundred lost, a peer that hears none of them is one in a
million; it is told by the ledger then. Raising it costs 60 bytes each."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """What the tunnel should hold of a peer; `is_eager` asks for a session without waiting for a packet.

    Packets for `routes` go to it; packets from `standby` may come from it. `psk` None takes the network's; every
    `keepalive` seconds it hears from us (0: only when there is something to say).
    """

    public: bytes
    candidates: tuple[Endpoint, ...]
    addresses: frozenset[bytes]
    is_eager: bool
    routes: tuple[Prefix, ...] = ()
    standby: tuple[Prefix, ...] = ()
    records: bool = False
    """It opens records, so they are what it gets."""
    psk: bytes | None = field(default=None, repr=False)
    keepalive: float = 0.0


class Tunnel:
    """All peers of this node.

    `underground` is what is known of endpoints; `chacha` chooses the cipher of the records that we seal.
    """

    def __init__(  # noqa: PLR0913 - what a tunnel is made of, each named at the call
        self,
        local: Local,
        *,
        inside: Inside,
        mtu: int,
        timing: Timing,
        sources: Sources,
        underground: Underground | None = None,
        chacha: bool = False,
    ) -> None:
        self.drops: Counter[VpnDrop] = Counter()
        self._buffers = Buffers()
        self.table = Table(sources.entropy, inside)
        self.lanes = self.table.lanes
        self._hosts = self.lanes.hosts
        self.wake = NEVER
        """When to call `handle_timer` next; never later than needed."""
        self._handshakes = Handshakes(local, self.table, timing, sources)
        self._admission = Admission(inside, mtu, self.drops)
        self.admit = self._admission.admit
        """As of Admission; directly, since each packet is asked for."""
        self._inside, self._mtu = inside, mtu
        self._timing = timing
        self._refresh_after = timing.refresh_after
        self._reject_after, self._rekey_after = timing.reject_after, timing.rekey_after
        self._chacha = chacha
        self._underground = underground or Underground()
        self.paths = Paths(self.table, self._underground, sources.entropy, self._handshakes.has_session)
        self.relaying = Relaying(self.table, self.paths.can_relay)
        self._handshakes.relays = self.paths.relays
        self.outboxes = (self._handshakes.outbox, self.paths.outbox)
        """What `take_outbox` takes from: while all are empty there is nothing to send."""

    # -- control

    def set_peer(self, state: PeerState, now: float) -> None:
        """Take a peer or what changed of it. Raises Refused for a key that gives no shared secret."""
        peer = self.table.find(state.public) or self._add_peer(state)
        if not peer.remote.has_psk(state.psk):
            self.table.remove(state.public)
            peer = self._add_peer(state)
        is_elsewhere = state.candidates != peer.candidates
        has_moved = bool(peer.candidates) and is_elsewhere
        peer.candidates, peer.is_eager, peer.records = state.candidates, state.is_eager, state.records
        self.table.route(peer, state.addresses, state.routes, state.standby)
        if has_moved and peer.is_eager and peer.endpoint not in peer.candidates:
            self._handshakes.start(peer, now, everywhere=True)
        if is_elsewhere:
            self.paths.has_candidates(peer, now)
        self._handshakes.hold(peer, now)
        peer.keep_alive(state.keepalive, now)
        self._wake_for(peer)

    def _add_peer(self, state: PeerState) -> Peer:
        if len(self.table) >= MAX_PEERS:
            raise Refused(VpnDrop.TABLE_FULL)
        peer = Peer(Remote(self._handshakes.local, state.public, state.psk), self._mtu)
        peer.chacha, peer.drops, peer.buffers = self._chacha, self.drops, self._buffers
        self.table.add(peer)
        return peer

    def forget_peer(self, public: bytes) -> None:
        self.table.remove(public)
        self.paths.forget(public)

    def greet_all(self, now: float) -> None:
        """Send every peer with a session empty packets: by these it follows us to where we are now."""
        for peer in self.table:
            for _ in range(GREETINGS):
                self._send_keepalive(peer, now)

    def take_outbox(self) -> list[tuple[bytes, Endpoint]]:
        """Return the handshake messages, keepalives and probes to send now, each once."""
        if not (self._handshakes.outbox or self.paths.outbox):
            return []
        taken = self._handshakes.outbox + self.paths.outbox
        self._handshakes.outbox.clear()
        self.paths.outbox.clear()
        return taken

    # -- the packet path

    def carrier(self, frame: memoryview, now: float) -> Session | None:
        """Return the session that carries a frame now, to its peer's endpoint; None when it waits or is lost."""
        host = HOST.unpack_from(frame) if len(frame) >= SHORTEST else ()
        lane = self._hosts.get(host)
        if lane is not None and now < lane.until and lane.session.peer.endpoint is not None:
            return lane.session
        try:
            session = self._find_carrier(frame, now)
        except Refused as refused:
            self.drops[refused.drop] += 1
            return None
        if session is not None and host and host[0] == _PLAIN_IPV4:
            self._learn_lane(host, session, now)
        return session

    def _learn_lane(self, host: tuple[bytes, bytes], session: Session, now: float) -> None:
        """Remember who carries packets for a host, if there is nothing else to decide until a new session is due."""
        until = session.born + (self._rekey_after if session.is_initiator else self._reject_after)
        if now < until and not session.is_ageing:
            self.table.learn_lane(host, Lane(session, session.peer, until))

    def _find_carrier(self, frame: memoryview, now: float) -> Session | None:
        packet = frame[VNET_HEADER:]
        if len(packet) < header_size(packet):
            raise Refused(VpnDrop.NOT_IP)
        peer = self.table.find_route(packet)
        if peer is None:
            raise Refused(VpnDrop.NO_ROUTE)
        if peer.sources is not None or self._inside.routes:
            clamp(frame, self._mtu)
        session = peer.current
        if session is None or now >= session.born + self._reject_after or session.is_spent:
            self._queue(peer, bytes(next(segment(frame))), now)
            return None
        if peer.endpoint is None:
            raise Refused(VpnDrop.NO_ENDPOINT)
        return session

    def has_sent(self, session: Session, size: int, now: float) -> None:
        """Note that data left under a session: it may be time for a new one."""
        peer = session.peer
        self.note_sent(peer, size, now)
        is_due = session.is_initiator and now >= session.born + self._rekey_after
        if is_due or session.sent >= spec.REKEY_AFTER_MESSAGES:
            self._handshakes.start(peer, now)
            self._wake_for(peer)

    def note_sent(self, peer: Peer, size: int, now: float) -> None:
        """Note the same of a session that has a lane: so no new one is due."""
        peer.sent += size
        peer.owed_at, peer.path.used_at = None, now
        if peer.unheard_at is None:
            peer.unheard_at = now
            if not peer.watches_silence:
                self._watch_silence(peer, now)

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> bytes | None:
        """Take a datagram; return the packet for this machine in it, if there is one. Never raises."""
        try:
            kind = _kind(datagram)
            if kind == spec.TRANSPORT:
                return self._receive_transport(datagram, source, now)
            self._receive_handshake(kind, datagram, source, now)
        except Refused as refused:
            self.drops[refused.drop] += 1
        return None

    def _receive_handshake(self, kind: int, datagram: bytes, source: Endpoint, now: float) -> None:
        if kind == spec.INITIATION and self._handshakes.is_shut(datagram, source, now):
            raise Refused(VpnDrop.FLOODED)
        if type(source) is not Via and self._underground.loops(source):
            raise Refused(VpnDrop.LOOPED)
        if kind == spec.INITIATION:
            self._wake_for(self._handshakes.receive_initiation(datagram, source, now))
        elif kind == spec.RESPONSE:
            peer = self._handshakes.receive_response(datagram, source, now)
            self._arrived(peer, source, now)
            self.paths.settle(peer, now)
            self._handshakes.greet(peer, now)
            self._wake_for(peer)
        elif kind == spec.COOKIE:
            self._handshakes.receive_cookie(datagram, now)
        else:
            raise Refused(VpnDrop.UNKNOWN_KIND)

    def _receive_transport(self, datagram: bytes, source: Endpoint, now: float) -> bytes | None:
        if len(datagram) < spec.TRANSPORT_OVERHEAD:
            raise Refused(VpnDrop.TRUNCATED)
        session = self.find_session(int.from_bytes(datagram[4:8], "little"), now)
        if session is None:
            return None
        try:
            packet = session.open(datagram)
            self._has_arrived(session, len(datagram), source, now, is_data=bool(packet))
            return packet[: self._admission.check(packet, session.peer)] if packet else None
        except Refused:
            session.peer.refused += 1
            raise

    def find_session(self, index: int, now: float) -> Session | None:
        """Return the session of a record; None, and count it, when it has none that may be used."""
        session = self.peek_session(index, now)
        if session is None:
            self.drops[VpnDrop.EXPIRED if index in self.table.sessions else VpnDrop.UNKNOWN_INDEX] += 1
        return session

    def peek_session(self, index: int, now: float) -> Session | None:
        """Return the session of a record as `find_session`, but count nothing."""
        session = self.table.sessions.get(index)
        return session if session is not None and now < session.born + self._reject_after else None

    def usual_until(self, session: Session) -> float:
        """Return until when records of a session ask for nothing but to be opened."""
        return session.born + self._refresh_after

    def has_arrived(  # noqa: PLR0913 - what is known of datagrams that came
        self,
        session: Session,
        size: int,
        source: Endpoint,
        now: float,
        *,
        is_data: bool = True,
        is_probe: bool = False,
    ) -> bool:
        """Note that authentic records came; say whether what is in them may be taken. A probe changes no endpoint."""
        is_usual = session is session.peer.current and now < session.born + self._refresh_after
        if is_usual and self.note_arrived(session.peer, size, source, now, is_data=is_data):
            return True
        try:
            self._has_arrived(session, size, source, now, is_data=is_data, is_probe=is_probe)
        except Refused as refused:
            self.drops[refused.drop] += 1
            return False
        return True

    def note_arrived(self, peer: Peer, size: int, source: Endpoint, now: float, *, is_data: bool = True) -> bool:
        """Note the same of a peer's current session while it asks for no new one; False if there is more to it."""
        path = peer.path
        if source != peer.endpoint or path.check_at is not None:
            return False
        path.heard_at, peer.unheard_at = now, None
        peer.received += size
        if is_data and peer.owed_at is None:
            peer.owed_at = now
            if not peer.watches_debt:
                self._watch_debt(peer, now)
        return True

    def _watch_silence(self, peer: Peer, now: float) -> None:
        """See that somebody looks when data to a peer gets no answer from now on."""
        peer.watches_silence = True
        peer.wake = min(peer.wake, now + self._timing.silence)
        if peer.records:
            self.paths.has_sent(peer, now)
        self._wake_for(peer)

    def _watch_debt(self, peer: Peer, now: float) -> None:
        """See that somebody looks when data of a peer gets no answer from now on."""
        peer.watches_debt = True
        peer.wake = min(peer.wake, now + self._timing.keepalive)
        self._wake_for(peer)

    def _has_arrived(  # noqa: PLR0913 - as above
        self, session: Session, size: int, source: Endpoint, now: float, *, is_data: bool, is_probe: bool = False
    ) -> None:
        peer = session.peer
        if not is_probe or peer.endpoint is None:
            self._arrived(peer, source, now)
        self.paths.heard(peer, source, now)
        peer.has_received(size, data_at=now if is_data else None)
        if session is peer.next:
            self._handshakes.confirm(session, now)
            self.paths.settle(peer, now)
            self._handshakes.greet(peer, now)
        elif session.is_initiator and session is peer.current and now >= session.born + self._refresh_after:
            self._handshakes.start(peer, now)
        self._wake_for(peer)

    def take_report(self, peer: Peer, lost: int, arrived: int, now: float) -> None:
        """Take what a peer says of the records that we sent."""
        if peer.members.learn(lost, arrived) > arrived:
            self.paths.doubt_size(peer, now)
            self._wake_for(peer)

    def receive_side(self, session: Session, plain: bytes, source: Endpoint, now: float) -> None:
        """Take a PING or a PONG. Never raises."""
        try:
            if sides.kind_of(plain) == sides.PING:
                self.paths.receive_ping(session, plain, source, now)
            else:
                self.paths.receive_pong(session, plain, now)
        except Refused as refused:
            self.drops[refused.drop] += 1
        self._wake_for(session.peer)

    def _arrived(self, peer: Peer, source: Endpoint, now: float) -> None:
        """Follow a peer to where its authentic datagram came from, but never into the tunnel itself."""
        if source != peer.endpoint:
            self.paths.follow(peer, source, now)
        self._wake_for(peer)

    def _queue(self, peer: Peer, packet: bytes, now: float) -> None:
        if peer.queued is not None:
            self.drops[VpnDrop.NO_SESSION] += 1
        if peer.endpoint is None and not peer.candidates:
            raise Refused(VpnDrop.NO_ENDPOINT)
        peer.queued = packet
        self._handshakes.start(peer, now)
        self._wake_for(peer)

    # -- time

    def handle_timer(self, now: float) -> None:
        """Do what is due and set `wake` anew. Costs a look at each peer, so call it when `wake` has come."""
        for peer in self.table:
            if peer.wake <= now:
                self._handle_peer(peer, now)
                peer.set_wake(self._timing)
        self.wake = min((peer.wake for peer in self.table), default=NEVER)

    def _handle_peer(self, peer: Peer, now: float) -> None:
        if peer.forget_at <= now:
            peer.forget_at = NEVER
            self.table.forget_sessions(peer)
        if peer.persistent_at <= now:
            peer.persistent_at = now + peer.persistent
            self._handshakes.hold(peer, now)
            self._send_keepalive(peer, now)
        if peer.keepalive_at(self._timing) <= now:
            self._send_keepalive(peer, now)
        if peer.silence_at(self._timing) <= now:
            peer.unheard_at = None
            self._handshakes.start(peer, now)
        self.paths.handle_timer(peer, now)
        if peer.knock_at <= now:
            lost = self._handshakes.knock(peer, now)
            if lost is not None:
                self.drops[lost] += 1

    def _send_keepalive(self, peer: Peer, now: float) -> None:
        peer.owed_at = None
        if peer.current is not None and peer.endpoint is not None and self._handshakes.has_session(peer, now):
            datagram = peer.current.seal(b"")
            peer.has_sent(len(datagram))
            self._handshakes.outbox.append((datagram, peer.endpoint))

    def _wake_for(self, peer: Peer) -> None:
        if peer.wake < self.wake:  # noqa: PLR1730 - min() takes three times as long, twice for each packet
            self.wake = peer.wake


def _kind(datagram: bytes) -> int:
    if len(datagram) < 4:
        raise Refused(VpnDrop.TRUNCATED)
    return int.from_bytes(datagram[:4], "little")  # the three bytes after the type must be zero
