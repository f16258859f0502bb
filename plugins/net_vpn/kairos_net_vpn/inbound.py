"""The way in: what waits at the UDP socket is opened, checked and handed to the kernel."""

from __future__ import annotations

from kairos_net_vpn import sides
from kairos_net_vpn.batch import HEADER_SIZE, MAX_DATAGRAMS, Batch, Loose
from kairos_net_vpn.carriage import Carriage
from kairos_net_vpn.drops import Refused
from kairos_net_vpn.opening import OUT_SIZE
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.pathmtu import CEILING
from kairos_net_vpn.peer import NEVER, Endpoint
from kairos_net_vpn.records import MIN_INDEX
from kairos_net_vpn.runs import Datagrams, Span, count_alone
from kairos_net_vpn.session import Session
from kairos_net_vpn.tun import Tun
from kairos_net_vpn.tunnel import Tunnel
from kairos_net_vpn.vnet import GSO_NONE, GSO_UDP_L4

SINGLES = 32
"""Receives of one datagram before the other direction has its turn; of many, one. Raising it saves a call of epoll in
a flood, and delays the other direction by 15 us for each."""
PATIENCE = 8
"""Receives of one datagram before the next is expected to be one. Each costs 3 us more than it need; but many where one
was expected cost 25, and while a stream is repaired they take turns."""
USUAL = 1472
"""Bytes in the datagrams of a peer reached over IPv4 by Ethernet."""
_REPAIR = bytes([sides.REPAIR])
_UNORDERED = frozenset({GSO_NONE, GSO_UDP_L4})
"""Kinds of frames that wait for nothing before them: what has no order, and what is alone."""
SIZES = 4
"""Sizes of datagrams with buffers of their own, 190 KB for the usual one, 1.1 MB at most; others are copied once."""


class Inbound:
    """Receives datagrams, opens what is in them, and writes the frames that the peer may send to us."""

    def __init__(self, tunnel: Tunnel, tun: Tun, underlay: Carriage, outbound: Outbound) -> None:
        self._tunnel, self._tun, self._underlay, self._outbound = tunnel, tun, underlay, outbound
        self._batches: dict[int, Batch] = {}
        self._batch = self._learn(USUAL)
        self._iov = self._batch.one  # as the last receives were, so will be the next
        self._alone = 0
        """Receives of one datagram since the last of many."""
        self._expected = 1
        self.wake = NEVER
        """When to call `handle_timer` next."""
        self._watched: set[Session] = set()
        """Sessions that lack something that was asked for."""
        self._loose = Loose()
        self._relayed = Loose()
        self._out = memoryview(bytearray(OUT_SIZE))

    def read(self, now: float) -> None:
        """Take what waits at the socket, up to a bound. Raises OSError when the device is gone.

        How many receives are tried follows what was found before, as in Outbound.read.
        """
        for found in range(self._expected):
            received = self._underlay.receive(self._iov)
            if received is None or self._take_received(*received, now):
                self._expected = max(1, found)
                return
        self._expected = min(SINGLES, 4 * self._expected)

    def _take_received(self, length: int, size: int, source: Endpoint, now: float) -> bool:
        """Take what one receive brought; say whether it were many datagrams."""
        batch, is_many = self._batch, length > size
        if not is_many:
            opened = self._take_one(batch, length, source, now)
            if opened:  # what was refused says nothing of what comes next
                self._alone += 1
                if self._alone >= PATIENCE:
                    self._iov = self._batch.one
        elif size == batch.size and self._iov is batch.many and length <= size * MAX_DATAGRAMS:
            self._alone = 0
            self._take_many(batch, (length, size), source, now)
        elif size < HEADER_SIZE:  # no records, nor anything else
            self._take_runts(batch.flat(self._iov, length), size, source, now)
        else:
            if self._take_many(self._load(length, size), (length, size), source, now) and size <= CEILING:
                self._batch = self._learn(size)
            self._iov, self._alone = self._batch.many, 0
        return is_many

    def _take_one(self, batch: Batch, length: int, source: Endpoint, now: float) -> bool:
        """Take a receive of one datagram, the usual one first: small packets. Say whether it was a record."""
        if HEADER_SIZE <= length <= batch.size and count_alone(batch, 0, 1):
            index = int.from_bytes(batch.headers[:4], "little")
            if index >= MIN_INDEX:
                return self._take_packets(batch, (index, Span(0, 1, length - HEADER_SIZE)), source, now)
        size = max(length, 1)
        return self._take(batch if length <= batch.size else self._load(length, size), (length, size), source, now)

    def _load(self, length: int, size: int) -> Datagrams:
        """Return what was received, sorted into headers and bodies again."""
        self._loose.load(self._batch.flat(self._iov, length), size)
        return self._loose

    def _take_runts(self, wire: bytes, size: int, source: Endpoint, now: float) -> None:
        """Have datagrams counted that are too short for a header."""
        for at in range(0, len(wire), size):
            self._take_plain(wire[at : at + size], source, now)

    def _learn(self, size: int) -> Batch:
        """Return buffers for the datagrams that a peer has sent, for the next of that size."""
        if size not in self._batches and len(self._batches) >= SIZES:
            self._batches.clear()
        batch = self._batches.get(size)
        if batch is None:
            batch = self._batches[size] = Batch(size)
        return batch

    def _take(self, batch: Datagrams, sizes: tuple[int, int], source: Endpoint, now: float) -> bool:
        """Take the datagrams of one receive; say whether there were authentic records."""
        length, size = sizes
        count = max(1, -(-length // size))
        tail = length - (count - 1) * size - HEADER_SIZE
        at, opened = 0, False
        while at < count:
            index = int.from_bytes(batch.headers[HEADER_SIZE * at : HEADER_SIZE * at + 4], "little")
            is_short = tail < 0 and at == count - 1
            if is_short or index < MIN_INDEX:
                self._take_plain(_datagram(batch, at, tail if at == count - 1 else batch.chunk), source, now)
                at += 1
                continue
            whole = count - (tail < 0)
            alone = count_alone(batch, at, whole)
            end = at + alone if alone else _end_of(batch, at, whole)
            span = Span(at, end, tail if end == count else batch.chunk)
            if alone:
                opened |= self._take_packets(batch, (index, span), source, now)
            else:
                opened |= self._take_records(batch, (index, span), source, now)
            at = end
        return opened

    def _take_many(self, batch: Datagrams, sizes: tuple[int, int], source: Endpoint, now: float) -> bool:
        """Take many datagrams, as `_take` but sooner where they are one whole super-packet, cut like one before."""
        length, size = sizes
        session = self._tunnel.peek_session(int.from_bytes(batch.headers[:4], "little"), now)
        if session is None:
            return self._take(batch, sizes, source, now)
        count = -(-length // size)
        tail = length - (count - 1) * size - HEADER_SIZE
        frame = session.opener.open_usual(batch, count, tail, self._out) if tail >= 0 else None
        if frame is None:
            return self._take(batch, sizes, source, now)
        if self._tunnel.has_arrived(session, length, source, now):
            self._hand_over(frame, session, now)
            self._exchange_reports(session, now)
            if session.opener.waiting:
                self._ask(session, now)
        return True

    def _take_packets(self, batch: Datagrams, what: tuple[int, Span], source: Endpoint, now: float) -> bool:
        """Take datagrams of small packets, each a group of its own. Say whether there was any."""
        index, span = what
        session = self._tunnel.find_session(index, now)
        if session is None:
            return False
        opener = session.opener
        opened = opener.losses.opened
        frames = opener.open_packets(batch, span, self._out)
        if opener.losses.opened == opened:
            return False
        size = (span.end - span.first) * (batch.chunk + HEADER_SIZE) + span.tail - batch.chunk
        if not self._tunnel.has_arrived(session, size, source, now, is_data=bool(frames)):
            return False
        for frame in frames:
            self._hand_over(frame, session, now)
        self._exchange_reports(session, now)
        if opener.waiting or opener.repaired:
            self._ask(session, now)
        return bool(frames)

    def _hand_over(self, frame: memoryview, session: Session, now: float) -> None:
        """Write a frame, if the peer may send it; part of a TCP stream in its order."""
        admitted = self._tunnel.admit(frame, session.peer)
        if admitted is None:
            return
        opener = session.opener
        if (opener.waiting or opener.order) and admitted[1] not in _UNORDERED:
            for each in opener.order.pass_on(admitted, opener.last, opener.first_awaited(now)):
                self._tun.write(each)
        else:
            self._tun.write(admitted)

    def handle_timer(self, now: float) -> None:
        """Ask again for what did not come, and let go what has waited for it too long. Sets `wake` anew."""
        watched, self._watched, self.wake = self._watched, set(), NEVER
        for session in watched:
            self._ask(session, now)
            for frame in session.opener.order.release(session.opener.first_awaited(now)):
                self._tun.write(frame)
            self._watch(session, now)

    def _watch(self, session: Session, now: float) -> None:
        due = session.opener.ask_again_at(now)
        if due is not None and (session.opener.order or session is session.peer.current):
            self._watched.add(session)
            self.wake = min(self.wake, due)

    def _take_plain(self, datagram: bytes, source: Endpoint, now: float) -> None:
        packet = self._tunnel.receive(datagram, source, now)
        if packet is not None:
            self._tun.write_packet(packet)

    def _take_records(self, batch: Datagrams, what: tuple[int, Span], source: Endpoint, now: float) -> bool:
        """Open records of one session, and write what may come from its peer. Say whether there was any."""
        index, span = what
        session = self._tunnel.find_session(index, now)
        if session is None:
            return False
        size = (span.end - span.first) * (batch.chunk + HEADER_SIZE) + span.tail - batch.chunk
        opener, is_ours = session.opener, False
        opened = opener.losses.opened
        for frame in opener.open(batch, span, self._out):
            if not is_ours and not self._tunnel.has_arrived(session, size, source, now):
                opener.sides = []
                return False
            is_ours = True
            self._hand_over(frame, session, now)
        said, opener.sides = opener.sides, []
        if not is_ours and opener.losses.opened != opened:
            is_data = any(map(sides.is_data, said))
            is_probe = bool(said) and not is_data and said[0][:1] != _REPAIR
            if not self._tunnel.has_arrived(session, size, source, now, is_data=is_data, is_probe=is_probe):
                return False
        for plain in said:
            self._take_side(session, plain, source, now)
        self._exchange_reports(session, now)
        if opener.waiting or opener.repaired:
            self._ask(session, now)
        return is_ours

    def _ask(self, session: Session, now: float) -> None:
        """Have the peer send again what groups of the session lack, as long as it is the one that we send in."""
        if session is not session.peer.current or session.peer.endpoint is None:
            return
        wanted = session.opener.choose_wanted(now)
        if wanted:
            self._outbound.ask(session, wanted)
            self._watch(session, now)

    def _take_side(self, session: Session, plain: bytes, source: Endpoint, now: float) -> None:
        """Take a side message; what is in a RELAYED as if it had come by itself."""
        kind = plain[0] if plain else 0
        if kind == sides.RELAY:
            self._underlay.forward(session, plain, source)
        elif kind == sides.RELAYED:
            found = self._underlay.unwrap(session, plain, source)
            if found is not None:
                tale, via = found
                self._relayed.load(tale.wire, tale.size)
                take = self._take_many if len(tale.wire) > tale.size else self._take
                take(self._relayed, (len(tale.wire), tale.size), via, now)
        elif kind == sides.REPAIR:
            self._send_again(session, plain, now)
        else:
            self._tunnel.receive_side(session, plain, source, now)

    def _send_again(self, session: Session, plain: bytes, now: float) -> None:
        if session.peer.endpoint is None:
            return
        try:
            self._outbound.send_again(session, sides.decode_repair(plain), now)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1

    def _exchange_reports(self, session: Session, now: float) -> None:
        peer, opener = session.peer, session.opener
        if opener.report is not None:
            peer.members.learn(*opener.report)
            if opener.report[0] > opener.report[1]:
                self._tunnel.paths.doubt_size(peer, now)
            opener.report = None
        report = opener.take_report(now) if opener.losses.is_due(now) else None
        if report is not None and peer.current is not None and peer.endpoint is not None:
            self._outbound.send_report(peer.current, report, now)


def _end_of(batch: Datagrams, first: int, count: int) -> int:
    """Return where the datagrams with the same index as the first end."""
    if count - first == 1:
        return count
    headers, place, rest = batch.headers, HEADER_SIZE * first, count - first
    index = headers[place : place + 4]
    # One column at a time: all that came have one index but at the change from one session to the next.
    if (
        headers[place : HEADER_SIZE * count : HEADER_SIZE] == index[:1] * rest
        and headers[place + 1 : HEADER_SIZE * count : HEADER_SIZE] == index[1:2] * rest
        and headers[place + 2 : HEADER_SIZE * count : HEADER_SIZE] == index[2:3] * rest
        and headers[place + 3 : HEADER_SIZE * count : HEADER_SIZE] == index[3:] * rest
    ):
        return count
    end = first + 1
    while end < count and headers[HEADER_SIZE * end : HEADER_SIZE * end + 4] == index:
        end += 1
    return end


def _datagram(batch: Datagrams, at: int, size: int) -> bytes:
    """Return one datagram as it was on the wire; shorter ones than a header have a `size` below 0."""
    header = batch.headers[HEADER_SIZE * at : HEADER_SIZE * (at + 1) + min(size, 0)]
    return bytes(header) + bytes(batch.body[batch.chunk * at : batch.chunk * at + max(size, 0)])
