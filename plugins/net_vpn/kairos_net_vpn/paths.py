"""Which way to a peer: the endpoint that answers, the fastest of several, through another peer where none does.

Sans IO. PINGs within the session prove that a way works in both directions, now. They go out when data got no answer,
when a session has just come up, and every two seconds while a relay is in use. A direct way that answers is taken at
once from a relay; from another direct one, if it is clearly faster or the other one has gone silent.

Who hears data by another way than the one it uses follows its peer, as WireGuard does. But a relay is followed only
when our own way has not been proven for HOLD seconds: datagrams that were under way must not turn a change back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kairos_net_vpn import sides
from kairos_net_vpn.datagrams import HEADER_SIZE, WORD
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.path import CHECK, Asked, Via
from kairos_net_vpn.pathmtu import NEVER
from kairos_net_vpn.peer import Endpoint, Peer
from kairos_net_vpn.session import Session
from kairos_net_vpn.small import TAG
from kairos_net_vpn.spec import OVERHEAD
from kairos_net_vpn.table import Table

RETRY = 0.5
"""Seconds between rounds of PINGs while a path is in doubt."""
ROUNDS = 16
"""Rounds until only new data, or a new handshake, has the peer looked for again."""
PROBE = 2.0
"""Seconds between PINGs to the direct endpoints of a peer that is relayed to."""
IDLE, IDLE_PROBE = 60.0, 15.0
"""After so many seconds without data the pause is that long."""
HOLD = 3.0
FASTER = 0.7
"""A direct endpoint takes another's place when its answer took less than this share of the time."""
AS_FAST = 1.4
"""The same where its headers are smaller, IPv4's instead of IPv6's: with equal times data is faster there. Below
1 / FASTER, so that no two take each other's place in turns."""
MAX_SEEN = 2
"""Endpoints of ours, as others see them, that are worth telling."""
MAX_RELAYS = 3
"""Relays tried at once, lowest key first, the next ones in the next round."""


class Probe(bytes):
    """A datagram that may not be fragmented: whether it arrives is the question."""


@dataclass(frozen=True, slots=True)
class Underground:
    """What the paths know of the underlay: how large the headers around a datagram to an endpoint are, and its name."""

    headers: Callable[[Endpoint], int] = lambda endpoint: 48
    describe: Callable[[Endpoint], str] = field(default=lambda endpoint: f"{endpoint[0]}:{endpoint[1]}")
    loops: Callable[[Endpoint], bool] = lambda endpoint: False


class Paths:
    """Chooses the endpoint of each peer that opens records; others are followed to where they send from."""

    def __init__(
        self,
        table: Table,
        underground: Underground,
        entropy: Callable[[int], bytes],
        usable: Callable[[Peer, float], bool],
    ) -> None:
        self.outbox: list[tuple[bytes, Endpoint]] = []
        self.reflexive: dict[bytes, str] = {}
        """Where each peer sees us, if it is reached without a relay."""
        self._table = table
        self._underground = underground
        self._entropy = entropy
        self._usable = usable

    # -- what the tunnel notes

    def has_sent(self, peer: Peer, now: float) -> None:
        """Note data to a peer that nobody watches yet: now silence means something, and its path is worth a search."""
        path = peer.path
        if path.check_at == NEVER:  # nobody asks any more: once again
            path.check_at, path.rounds = now + CHECK, min(path.rounds, ROUNDS - 1)
        peer.wake = min(peer.wake, now + CHECK)
        if path.mtu.is_idle and type(peer.endpoint) is not Via:
            path.mtu.start(now)
            peer.wake = now

    def heard(self, peer: Peer, source: Endpoint, now: float) -> None:
        """Note an authentic datagram. Once the path is in doubt only a PONG helps: the other direction may be dead.

        What comes by another way answers nothing that was sent by this one.
        """
        path = peer.path
        if source == peer.endpoint:
            path.heard_at = now
            if not path.rounds:
                path.check_at = None
        elif peer.unheard_at is not None:
            path.check_at = peer.check_at

    def follow(self, peer: Peer, source: Endpoint, now: float) -> None:
        """Go to where a peer sends data from. Raises Refused (looped, relay_forged)."""
        require_target(source, peer)
        if type(source) is Via:
            if not self._follows_relay(peer, source, now):
                return
        elif self._underground.loops(source):
            raise Refused(VpnDrop.LOOPED)
        self._move(peer, source, now)

    def _follows_relay(self, peer: Peer, source: Via, now: float) -> bool:
        current, path = peer.endpoint, peer.path
        if type(current) is Via:  # two relays, one for each direction: the lower key for both
            return source.relay < current.relay or now >= path.heard_at + HOLD
        return current is None or now >= path.proven_at + HOLD

    def settle(self, peer: Peer, now: float) -> None:
        """A session has come up: look for the fastest way."""
        if peer.records and peer.endpoint is not None:
            path = peer.path
            if type(peer.endpoint) is not Via:
                path.proven_at = now
            path.used_at = max(path.used_at, now - IDLE + PROBE)
            if type(peer.endpoint) is Via or len(peer.candidates) > 1:
                self._probe_at(peer, now)

    def has_candidates(self, peer: Peer, now: float) -> None:
        """Endpoints of a peer have become known: try them if it is relayed to."""
        if type(peer.endpoint) is Via:
            self._probe_at(peer, now)

    def doubt_size(self, peer: Peer, now: float) -> None:
        """Large datagrams seem to get lost."""
        if peer.records and type(peer.endpoint) is not Via:
            peer.path.mtu.start(now)
            peer.wake = min(peer.wake, peer.path.mtu.due)

    def relays(self, peer: Peer, turn: int, now: float) -> list[Endpoint]:
        """Return a few ways to a peer through others that we reach directly, other ones each turn."""
        able = sorted(other.remote.public for other in self._table if other is not peer and self.can_relay(other, now))
        first = turn * MAX_RELAYS % len(able) if able else 0
        chosen = (able[first:] + able[:first])[:MAX_RELAYS]
        return [Via(relay, peer.remote.public) for relay in chosen]

    def can_relay(self, peer: Peer, now: float) -> bool:
        """Say whether datagrams of others may go to a peer: a node in session with us, not itself behind a relay."""
        is_direct = peer.endpoint is not None and type(peer.endpoint) is not Via
        return peer.records and is_direct and self._usable(peer, now)

    def forget(self, public: bytes) -> None:
        """A peer is no longer one."""
        self.reflexive.pop(public, None)

    def seen_at(self) -> tuple[str, ...]:
        """Return where peers see us, most of them first: what two say, or the only one that says anything.

        Behind a NAT this is where we can be reached. One liar among several peers is not heard.
        """
        told = Counter(text for text in self.reflexive.values() if text)
        least = min(2, told.total())
        ranked = sorted((-count, text) for text, count in told.items() if count >= least)
        return tuple(text for _, text in ranked[:MAX_SEEN])

    # -- what peers say

    def receive_ping(self, session: Session, plain: bytes, source: Endpoint, now: float) -> None:
        """Answer a PING to where it came from. Raises Refused (malformed, probe_flood, looped, relay_forged)."""
        token, peer = sides.token_of(plain), session.peer
        require_target(source, peer)
        if not peer.path.answers.take(now):
            raise Refused(VpnDrop.PROBE_FLOOD)
        is_direct = type(source) is not Via
        if is_direct and self._underground.loops(source):
            raise Refused(VpnDrop.LOOPED)
        seen = self._underground.describe(source) if is_direct else ""
        self._send(session, sides.encode_pong(token, seen), source)
        if is_direct and source != peer.path.seen:
            peer.path.seen = source
            if type(peer.endpoint) is Via:
                self._ping(peer, source, now)

    def receive_pong(self, session: Session, plain: bytes, now: float) -> None:
        """Learn that a way works. Raises Refused (malformed, unasked)."""
        peer, path = session.peer, session.peer.path
        asked = path.asked.pop(sides.token_of(plain), None)
        if asked is None:
            raise Refused(VpnDrop.UNASKED)
        if type(asked.endpoint) is not Via:
            self.reflexive[peer.remote.public] = sides.text_of(plain)
        if asked.size:
            peer.members.answered()
            if asked.endpoint == peer.endpoint:
                path.mtu.has_arrived(asked.size)
                self._resize(peer)
            return
        self._consider(peer, asked.endpoint, now - asked.at, now)

    def _consider(self, peer: Peer, endpoint: Endpoint, rtt: float, now: float) -> None:
        """Take an endpoint that has answered, if it is better than the one in use."""
        path, current = peer.path, peer.endpoint
        if endpoint != current:
            if type(endpoint) is Via:
                is_better = current is None or path.rounds > 1
            else:
                was_measured = path.rtt is not None and now < path.proven_at + HOLD
                needed = (path.rtt or 0.0) * (AS_FAST if self._is_leaner(endpoint, current) else FASTER)
                is_faster = was_measured and rtt < needed
                is_better = current is None or type(current) is Via or path.rounds > 0 or is_faster
            if not is_better:
                return
            self._move(peer, endpoint, now)
        if path.rounds and type(endpoint) is not Via:
            self.doubt_size(peer, now)  # a small datagram passes where data got no answer
        path.rtt, path.proven_at, path.heard_at = rtt, now, now
        path.check_at, path.rounds = None, 0

    def _is_leaner(self, endpoint: Endpoint, current: Endpoint | None) -> bool:
        """Say whether a direct way has smaller headers than the direct one in use."""
        if current is None or type(current) is Via:
            return False
        return self._underground.headers(endpoint) < self._underground.headers(current)

    def _move(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        path = peer.path
        peer.endpoint = endpoint
        path.rtt, path.proven_at, path.heard_at = None, -NEVER, now
        path.mtu.forget()
        peer.watches_silence = False  # so that the next data begins a search
        self._resize(peer)
        if type(endpoint) is Via:
            self._probe_at(peer, now + PROBE)

    def _resize(self, peer: Peer) -> None:
        """Fill what the path is known to carry, or what is usual."""
        endpoint = peer.endpoint
        if endpoint is None or type(endpoint) is Via:
            size = peer.mtu + OVERHEAD - 48
        else:
            size = (peer.path.mtu.found or peer.mtu + OVERHEAD) - self._underground.headers(endpoint)
        peer.datagram = size // WORD * WORD

    # -- time

    def handle_timer(self, peer: Peer, now: float) -> None:
        """Do what is due."""
        path = peer.path
        if min(peer.check_at, path.probe_at, path.mtu.due) > now:
            return
        if not self._usable(peer, now):
            path.rest()
            return
        if peer.check_at <= now:
            if path.rounds < ROUNDS or path.used_at > peer.check_at - CHECK:
                self._check(peer, now)
            else:  # no new data
                path.check_at = NEVER if peer.unheard_at is None else now + CHECK
        if path.probe_at <= now:
            self._probe(peer, now)
        if path.mtu.due <= now:
            self._probe_sizes(peer, now)

    def _check(self, peer: Peer, now: float) -> None:
        """Ask everywhere, from the second round on through others too."""
        path = peer.path
        path.rounds += 1
        ways = self._direct(peer)
        if path.rounds > 1:
            ways += self.relays(peer, path.rounds - 2, now)
        if peer.endpoint is not None:
            ways = [peer.endpoint, *ways]
        for endpoint in dict.fromkeys(ways):
            self._ping(peer, endpoint, now)
        path.check_at = now + (RETRY if path.rounds < ROUNDS else CHECK)

    def _probe(self, peer: Peer, now: float) -> None:
        """Look for a better way than the one in use."""
        path, is_relayed = peer.path, type(peer.endpoint) is Via
        for endpoint in self._direct(peer):
            self._ping(peer, endpoint, now)
        path.probe_at = NEVER
        if is_relayed:
            path.probe_at = now + (PROBE if now < path.used_at + IDLE else IDLE_PROBE)

    def _probe_sizes(self, peer: Peer, now: float) -> None:
        endpoint, search = peer.endpoint, peer.path.mtu
        if endpoint is None or type(endpoint) is Via:
            search.due = NEVER
            return
        if now > peer.path.used_at + IDLE:
            search.rest()
            return
        headers = self._underground.headers(endpoint)
        for size in search.sizes_to_probe(now):
            self._ping(peer, endpoint, now, size, size - headers)
        self._resize(peer)

    def _direct(self, peer: Peer) -> list[Endpoint]:
        """Return where a peer may be, without others' help."""
        ways: list[Endpoint] = list(peer.candidates)
        if peer.path.seen is not None:
            ways.append(peer.path.seen)
        if peer.endpoint is not None and type(peer.endpoint) is not Via:
            ways.insert(0, peer.endpoint)
        return list(dict.fromkeys(ways))

    def _ping(self, peer: Peer, endpoint: Endpoint, now: float, size: int = 0, datagram: int = 0) -> None:
        if peer.current is None:
            return
        token = self._entropy(sides.TOKEN)
        peer.path.note_asked(token, Asked(endpoint, size, now))
        if size:
            peer.members.probed()
        plain = sides.encode_ping(token, datagram - HEADER_SIZE - TAG)
        self._send(peer.current, plain, endpoint, is_probe=bool(size))

    def _send(self, session: Session, plain: bytes, endpoint: Endpoint, *, is_probe: bool = False) -> None:
        sealed = b"".join(session.sealer.seal_side(plain, 1 << 16))
        session.peer.sent += len(sealed)
        self.outbox.append((Probe(sealed) if is_probe else sealed, endpoint))

    def _probe_at(self, peer: Peer, at: float) -> None:
        peer.path.probe_at = min(peer.path.probe_at, at)
        peer.wake = min(peer.wake, at)


def require_target(source: Endpoint, peer: Peer) -> None:
    """Raises Refused (relay_forged) where a relay named another origin than the peer that sealed a datagram."""
    if type(source) is Via and source.target != peer.remote.public:
        raise Refused(VpnDrop.RELAY_FORGED)
