"""When to initiate, how to answer, what a finished handshake changes. Sans IO: datagrams go to `outbox`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kairos_net_vpn import noise, spec
from kairos_net_vpn.cookies import Gate
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.noise import Local, SessionKeys
from kairos_net_vpn.path import Via
from kairos_net_vpn.paths import require_target
from kairos_net_vpn.peer import NEVER, Endpoint, Peer, Pending
from kairos_net_vpn.session import Session
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.table import Table

RELAY_FROM = 2
"""Attempts without an answer until others are asked to pass the initiation on: after 0.75 s."""

LOOK = 1.0
"""Seconds for which the hosts of peers are remembered in a flood: a new peer is spared after that."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where randomness and wall time come from: `os.urandom` and `time.time`, or a test's own.

    `host_of` names the host of an endpoint, which has one ration of handshakes.
    """

    entropy: Callable[[int], bytes]
    unix_now: Callable[[], float]
    host_of: Callable[[Endpoint], bytes] = lambda endpoint: str(endpoint[0]).encode()


class Handshakes:
    """Makes sessions with peers and keeps them young."""

    def __init__(self, local: Local, table: Table, timing: Timing, sources: Sources) -> None:
        self.local = local
        self.outbox: list[tuple[bytes, Endpoint]] = []
        """Datagrams to send; the caller takes them after each call. At most a few for each peer."""
        self._table = table
        self._timing = timing
        self._sources = sources
        self._gate = Gate(local.public, sources.entropy)
        self._last_stamp = b""
        self._look_at = float("-inf")
        self.relays: Callable[[Peer, int, float], list[Endpoint]] = lambda peer, turn, now: []
        """Ways to a peer through others, a few each turn."""

    # -- our initiative

    def start(self, peer: Peer, now: float, *, everywhere: bool = False) -> None:
        """Begin a handshake unless one is under way; `everywhere` sends already the first try to all
        places."""
        if peer.trying_since == NEVER:
            peer.trying_since = now
            peer.attempts = 1 if everywhere else 0
            self.knock(peer, now)

    def knock(self, peer: Peer, now: float) -> VpnDrop | None:
        """Send an initiation and set the time of the next. Return why a waiting packet was given up, if
        so."""
        if peer.trying_since == NEVER:
            peer.trying_since, peer.attempts = now, 0
        given_up = now >= peer.trying_since + self._timing.attempt
        lost = VpnDrop.NO_SESSION if given_up and peer.queued is not None else None
        if given_up:
            peer.queued = None
        if given_up and not peer.is_eager:
            self._stop_trying(peer)
            return lost
        self._initiate(peer, now)
        pause = self._timing.idle_retry if given_up else self._pause(peer.attempts)
        peer.attempts += 1
        self._schedule(peer, now + pause + self._jitter())
        return lost

    def hold(self, peer: Peer, now: float) -> None:
        """See that an eager peer gets a session: the lower key begins at once, the other if nothing came."""
        is_waiting = peer.trying_since != NEVER or peer.knock_at != NEVER
        if peer.is_eager and not is_waiting and not self.has_session(peer, now):
            goes_first = self.local.public < peer.remote.public
            self._schedule(peer, now if goes_first else now + self._timing.yield_first)

    def has_session(self, peer: Peer, now: float) -> bool:
        return peer.current is not None and now < peer.current.born + self._timing.reject_after

    def _initiate(self, peer: Peer, now: float) -> None:
        destinations = list(peer.destinations())
        if peer.records and peer.attempts >= RELAY_FROM:
            destinations += self.relays(peer, peer.attempts - RELAY_FROM, now)
        if not destinations:
            return
        index = self._table.new_index()
        seed, stamp = self._sources.entropy(32), self._stamp()
        message, initiated = noise.initiate(self.local, peer.remote, seed=seed, timestamp=stamp, index=index)
        self._table.expect(Pending(peer, index, initiated))
        message = peer.jar.prove(message, now)
        for endpoint in dict.fromkeys(destinations):
            self.outbox.append((message, endpoint))
            peer.has_sent(len(message))

    def _pause(self, attempts: int) -> float:
        retries = self._timing.retries
        return retries[attempts] if attempts < len(retries) else self._timing.rekey_timeout

    def _jitter(self) -> float:
        return self._timing.jitter * int.from_bytes(self._sources.entropy(2)) / 65536

    def _schedule(self, peer: Peer, at: float) -> None:
        peer.knock_at = at
        peer.wake = min(peer.wake, at)

    def _stop_trying(self, peer: Peer) -> None:
        self._table.drop_pending(peer)
        peer.trying_since = peer.knock_at = NEVER
        peer.attempts = 0

    def _stamp(self) -> bytes:
        """Return a label above all before, also when the clock stands still or was set back meanwhile."""
        stamp = noise.tai64n(self._sources.unix_now())
        if stamp <= self._last_stamp:
            stamp = (int.from_bytes(self._last_stamp) + 1).to_bytes(12)
        self._last_stamp = stamp
        return stamp

    # -- their initiative

    def is_shut(self, initiation: bytes, source: Endpoint, now: float) -> bool:
        """Say whether an initiation gets no answer, whatever else it is: too many come."""
        if not self._gate.is_full(initiation, now):
            return False
        self._look_around(now)
        return not self._gate.spares(self._host_of(source), now)

    def _look_around(self, now: float) -> None:
        """Tell the gate where peers are, once in LOOK: 0.5 us for each place."""
        if now >= self._look_at:
            self._look_at = now + LOOK
            places = (place for peer in self._table for place in (peer.endpoint, *peer.candidates) if place)
            # A relay is named by its key: only a peer with a session relays.
            self._gate.known = {*map(self._host_of, places), *(peer.remote.public for peer in self._table)}

    def _host_of(self, source: Endpoint) -> bytes:
        return source.relay if isinstance(source, Via) else self._sources.host_of(source)

    def receive_initiation(self, message: bytes, source: Endpoint, now: float) -> Peer:
        """Answer an initiation. Raises Refused; nothing is kept of a refused one.

        Where it came from is not taken as the peer's endpoint: it may be a replay from before our start. The
        peer's first datagram under the new session tells.
        """
        noise.check(self.local, message, spec.INITIATION_SIZE)
        self._pass_gate(message, source, now)
        knock = noise.read_initiation(self.local, message)
        peer = self._table.find(knock.public)
        if peer is None:
            raise Refused(VpnDrop.UNKNOWN_PEER)
        require_target(source, peer)
        stamp = noise.admit(knock, peer.remote)
        if stamp <= peer.greatest_timestamp:
            return self._doubt(peer, now)
        if now < peer.last_knock_seen + self._timing.flood:
            raise Refused(VpnDrop.FLOODED)
        peer.greatest_timestamp, peer.last_knock_seen = stamp, now
        index = self._table.new_index()
        seed = self._sources.entropy(32)
        response, keys = noise.respond(self.local, peer.remote, knock, seed=seed, index=index)
        self._table.stand_by(Session(peer, keys, index=index, is_initiator=False, now=now))
        self._keep_until(peer, now)
        self.outbox.append((peer.jar.prove(response, now), source))
        peer.has_received(len(message))
        peer.has_sent(len(response))
        return peer

    def _doubt(self, peer: Peer, now: float) -> Peer:
        """Refuse an authentic initiation that is no newer than one before.

        It is a copy of one just answered, since a peer tries several places at once; or one of long ago: a replay, or
        the peer restarted with its clock set back. Of the last two a handshake of ours finds out which, without waiting
        for its silence; a replay causes one in `rekey_timeout`.
        """
        peer.drops[VpnDrop.STALE_TIMESTAMP] += 1
        is_near = now < peer.last_knock_seen + self._timing.rekey_timeout
        if not is_near and (peer.current is None or now >= peer.current.born + self._timing.rekey_timeout):
            self.start(peer, now)
        return peer

    def receive_response(self, message: bytes, source: Endpoint, now: float) -> Peer:
        """Finish a handshake of ours. Raises Refused, and goes on waiting for an authentic response."""
        noise.check(self.local, message, spec.RESPONSE_SIZE)
        pending = self._table.pending.get(noise.receiver_of(message))
        if pending is None:
            raise Refused(VpnDrop.UNKNOWN_INDEX)
        self._pass_gate(message, source, now)
        keys = noise.read_response(self.local, pending.initiated, message)
        pending.peer.has_received(len(message))
        self._finish(pending, keys, now)
        return pending.peer

    def _pass_gate(self, message: bytes, source: Endpoint, now: float) -> None:
        """Raises Refused (cookie, flooded) for a message that costs too much now; a cookie is on its way then."""
        reply = self._gate.admit(message, repr(source).encode(), self._host_of(source), now)
        if reply is not None:
            self.outbox.append((reply, source))
            raise Refused(VpnDrop.COOKIE)

    def receive_cookie(self, message: bytes, now: float) -> None:
        """Keep the cookie that a peer under load gave us for our initiation or response. Raises Refused.

        Nothing is sent again at once: the next try comes when its time has come (paper, section 5.4.7).
        """
        if len(message) != spec.COOKIE_SIZE:
            raise Refused(VpnDrop.TRUNCATED if len(message) < spec.COOKIE_SIZE else VpnDrop.MALFORMED)
        index = noise.receiver_of(message)
        named = self._table.pending.get(index) or self._table.sessions.get(index)
        if named is None:
            raise Refused(VpnDrop.UNKNOWN_INDEX)
        named.peer.jar.take(message, now)

    def _finish(self, pending: Pending, keys: SessionKeys, now: float) -> None:
        session = Session(pending.peer, keys, index=pending.index, is_initiator=True, now=now)
        self._stop_trying(pending.peer)
        self.confirm(session, now)

    def confirm(self, session: Session, now: float) -> None:
        """Use a session from now on: both sides are known to have it."""
        peer = session.peer
        self._table.confirm(session)
        self._stop_trying(peer)
        self._keep_until(peer, now)
        peer.last_handshake = now

    def greet(self, peer: Peer, now: float) -> None:
        """Send what waits for the session; without that an initiator sends a keepalive, which confirms it."""
        session, packet = peer.current, peer.queued
        if session is None or peer.endpoint is None:
            return
        peer.queued = None
        if packet is not None or session.is_initiator:
            datagram = session.seal(packet or b"")
            self.outbox.append((datagram, peer.endpoint))
            peer.has_sent(len(datagram), data_at=now if packet else None)

    def _keep_until(self, peer: Peer, now: float) -> None:
        """Throw keys away when nothing can use them any more (paper, section 6.3)."""
        peer.forget_at = now + 3 * self._timing.reject_after
        peer.wake = min(peer.wake, peer.forget_at)
