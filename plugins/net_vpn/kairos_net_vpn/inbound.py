"""The way in: what waits at the UDP socket is opened, checked and handed to the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kairos_net_vpn import sides
from kairos_net_vpn.bundle import unbundle
from kairos_net_vpn.carriage import Carriage
from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, Received
from kairos_net_vpn.drops import Refused
from kairos_net_vpn.lanes import Arrival, Mark
from kairos_net_vpn.lone import Lone, cut
from kairos_net_vpn.opening import OUT_SIZE, Opener
from kairos_net_vpn.outbound import PAUSE, Outbound
from kairos_net_vpn.parts import Parts
from kairos_net_vpn.peer import NEVER, Endpoint
from kairos_net_vpn.records import MIN_INDEX
from kairos_net_vpn.runs import ALONE, MESSAGES, Span, count_alone, end_of_session
from kairos_net_vpn.session import Session
from kairos_net_vpn.small import TAG
from kairos_net_vpn.tun import Tun
from kairos_net_vpn.tunnel import Tunnel
from kairos_net_vpn.vnet import GSO_NONE, GSO_UDP_L4

SINGLES = 32
"""Receives of one datagram before the other direction has its turn; of many, one. Raising it saves a call of poll in
a flood, and delays the other direction by 15 us for each."""
_INDEX, _KIND, _MEMBERS = slice(0, 4), slice(4, 7), 5
"""Where in a datagram the session is named, what says whether it is a group for itself, and how many its group has."""
_LEAST = HEADER_SIZE + TAG
"""Bytes in a datagram that can be a group for itself."""
_REPAIR = bytes([sides.REPAIR])
_UNORDERED = frozenset({GSO_NONE, GSO_UDP_L4})
"""Kinds of frames that wait for nothing before them: what has no order, and what is alone."""


class Inbound:
    """Receives datagrams, opens what is in them, and writes the frames that the peer may send to us."""

    def __init__(self, tunnel: Tunnel, tun: Tun, underlay: Carriage, outbound: Outbound) -> None:
        self._tunnel, self._tun, self.underlay, self.outbound = tunnel, tun, underlay, outbound
        self._wire = Received()
        self.octets = self._wire.octets  # where a datagram lies that `take_one` takes
        self._buffers = [self.octets]
        self._arrivals, self._marks = tunnel.lanes.arrivals, tunnel.lanes.marks
        self._expected, self._read_at = 1, 0.0
        self.is_streaming = False
        """Whether the last read brought a part of a stream."""
        self.came_alone: Endpoint | None = None
        """Where what it brought came from, if that was one datagram after a pause."""
        self.wake = NEVER
        """When to call `handle_timer` next."""
        self._watched: set[Session] = set()
        """Sessions that lack something that was asked for."""
        self._out = memoryview(bytearray(OUT_SIZE))

    def read(self, now: float) -> None:
        """Take what waits at the socket, up to a bound. Raises OSError when the device is gone.

        How many receives are tried follows what was found before, as in Outbound.read. After one that came alone the
        device is looked at, since the kernel answers a ping within the write, and to be woken for that takes longer.
        """
        self.is_streaming, self.came_alone = False, None
        has_paused, self._read_at = now - self._read_at > PAUSE, now
        for found in range(1 if has_paused else self._expected):
            received = self.underlay.receive(self._buffers)
            if received is None:
                self._expected = found or 1
                return
            length, size, source = received
            if length > size:
                self.is_streaming, self._expected = True, found or 1
                arrival = self._arrivals.get((self._wire.words[0], length, size))
                if arrival is None or not self._take_alike(arrival, length, source, now):
                    self._wire.set(length, size)
                    self._take_many(self._wire, source, now)
                return
            self.take_one(length, source, now)
        if has_paused:
            self._expected, self.came_alone = 1, source
            self.outbound.read(now)
        else:
            self._expected = min(SINGLES, 4 * self._expected)

    def take_one(self, length: int, source: Endpoint, now: float) -> None:
        """Take one datagram, which lies in `octets`."""
        wire = self._wire
        mark = self._marks.get(wire.words[0]) if length >= _LEAST else None
        if mark is not None and now < mark.until:
            self._take_lone(mark, length, source, now)
            return
        index, kind = int.from_bytes(wire.octets[_INDEX], "little"), wire.octets[_KIND].tobytes()
        if length < HEADER_SIZE or index < MIN_INDEX:
            self._take_plain(bytes(wire.octets[:length]), source, now)
            return
        if kind in ALONE:  # small packets
            wire.set(length, length)
            session = self._take_packets(wire, (index, Span(0, 1, length)), source, now)
            if session is not None:
                self._tunnel.lanes.learn_mark(wire, session, self._tunnel.usual_until(session))
            return
        session = self._tunnel.find_session(index, now)
        if session is None:
            return
        if kind in MESSAGES:
            self._take_message(session, length, source, now)
            return
        parts = session.opener.gatherer.take_one(wire.octets[:length])
        if parts is not None:
            self._take_parts(session, parts, length, source, now)
            return
        wire.set(length, length)
        if not self._take_piece(session, wire, source, now):
            self._take_records(session, wire, Span(0, 1, length), source, now)

    def _take_lone(self, mark: Mark, length: int, source: Endpoint, now: float) -> None:
        """Take a datagram that is a whole group of small packets, as one of this session's was before."""
        session, opener, peer, _, cipher, lones = mark
        lone = lones.get(length) or cut(self._wire.octets, length, cipher)
        if not opener.open_lone(self._wire, lone):
            return
        tunnel = self._tunnel
        is_noted = tunnel.note_arrived(peer, length, source, now)
        if not (is_noted or tunnel.has_arrived(session, length, source, now)):
            return
        plain, _, _, traits, admitted, frames = lone
        if not frames or traits.unpack_from(plain) != admitted or opener.waiting or opener.order:
            self._take_bundle(mark, lone, length, now)
        else:
            for frame in frames:
                self._tun.write(frame)
        if now >= opener.gatherer.due or now >= opener.losses.soonest:
            self._look_after(session, opener, now)

    def _take_bundle(self, mark: Mark, lone: Lone, length: int, now: float) -> None:
        """Take a bundle that is not made up like one before."""
        frames: list[memoryview] = []
        are_whole = True
        try:
            unbundle(lone.plain, frames)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1
            are_whole = False
        for frame in frames:
            are_whole = self._hand_over(frame, mark.session, now) and are_whole
        if are_whole:
            self._tunnel.lanes.learn_lone(mark, lone, length, frames)

    def _take_alike(self, arrival: Arrival, length: int, source: Endpoint, now: float) -> bool:
        """Take a receive that looks like one that was a super-packet and admitted; say whether it was."""
        session, opener, peer, until, alike, decrypt, traits, admitted = arrival
        if now >= until:
            return False
        buffer = opener.buffers.take() if opener.waiting or opener.order else None
        frame = opener.open_alike(alike, decrypt, buffer)
        if frame is None:
            if buffer is not None:
                opener.buffers.give_back(buffer)
            return False
        tunnel = self._tunnel
        is_noted = tunnel.note_arrived(peer, length, source, now)
        if not (is_noted or tunnel.has_arrived(session, length, source, now)):
            if buffer is not None:
                opener.buffers.give_back(buffer)
            return True
        if traits.unpack_from(frame) != admitted:
            self._hand_over(frame, session, now, buffer)
        elif buffer is not None:
            self._pass_on(frame, opener, now, buffer)
        else:
            self._tun.write(frame)
        if now >= opener.gatherer.due or now >= opener.losses.soonest:
            self._look_after(session, opener, now)
        return True

    def _take_piece(self, session: Session, wire: Received, source: Endpoint, now: float) -> bool:
        """Take some datagrams of a super-packet that is cut like one before; say whether they were such."""
        parts = session.opener.take_piece(wire)
        if parts is None:
            return False
        self._take_parts(session, parts, wire.length, source, now)
        return True

    def _take_parts(self, session: Session, parts: Parts, size: int, source: Endpoint, now: float) -> None:
        """Open a super-packet if `size` bytes that came have made it whole."""
        opener = session.opener
        if parts.is_over:
            frame = opener.open_whole(parts)
            if frame is not None and self._tunnel.has_arrived(session, size, source, now):
                arrival = self._arrivals.get((parts.buffer.words[0], parts.length, parts.size))
                if arrival is not None and now < arrival.until and arrival.admits(session, frame):
                    self._pass_on(frame, opener, now, parts.buffer)
                else:
                    self._hand_over(frame, session, now, parts.buffer)
            else:
                opener.buffers.give_back(parts.buffer)
        elif parts.is_front:
            return  # the rest is what comes next, mostly
        if now >= opener.gatherer.due or now >= opener.losses.soonest:
            self._look_after(session, opener, now)

    def _look_after(self, session: Session, opener: Opener, now: float) -> None:
        """Do what opening something may have made due. The short ways ask before they call, which costs less."""
        if opener.losses.is_due(now):
            self._exchange_reports(session, now)
        if now >= opener.gatherer.due:
            self._ask(session, opener, now)

    def _take(self, wire: Received, source: Endpoint, now: float) -> None:
        """Take the datagrams of one receive."""
        whole = wire.count - (wire.tail < HEADER_SIZE)
        at = 0
        while at < wire.count:
            start = at * wire.size
            index = int.from_bytes(wire.octets[start : start + 4], "little")
            if at >= whole or wire.size < HEADER_SIZE or index < MIN_INDEX:
                self._take_plain(bytes(wire.datagram(at)), source, now)
                at += 1
                continue
            alone = count_alone(wire, at, whole)
            end = at + alone if alone else end_of_session(wire, at, whole)
            span = Span(at, end, wire.tail if end == wire.count else wire.size)
            session = None if alone else self._tunnel.find_session(index, now)
            if alone:
                self._take_packets(wire, (index, span), source, now)
            elif session is not None:
                self._take_records(session, wire, span, source, now)
            at = end

    def _take_many(self, wire: Received, source: Endpoint, now: float) -> None:
        """Take many datagrams, as `_take` but sooner where they are one whole super-packet, cut like one before."""
        session = self._tunnel.peek_session(int.from_bytes(wire.octets[_INDEX], "little"), now)
        is_piece = wire.count < wire.octets[_MEMBERS]
        opened = session.opener.open_usual(wire, self._out) if session is not None and not is_piece else None
        if session is None or opened is None:
            if session is None or not is_piece or not self._take_piece(session, wire, source, now):
                self._take(wire, source, now)
            return
        frame, shape = opened
        if self._tunnel.has_arrived(session, wire.length, source, now):
            if self._hand_over(frame, session, now) and wire is self._wire:
                self._tunnel.lanes.learn_arrival(wire, (session, self._tunnel.usual_until(session), shape), frame)
            self._look_after(session, session.opener, now)

    def _take_packets(self, wire: Received, what: tuple[int, Span], source: Endpoint, now: float) -> Session | None:
        """Take datagrams of small packets, each a group of its own; return their session, if they are what it says."""
        index, span = what
        session = self._tunnel.find_session(index, now)
        if session is None:
            return None
        opener = session.opener
        opened = opener.losses.opened
        frames = opener.open_packets(wire, span)
        if opener.losses.opened == opened:
            return None
        size = (span.end - span.first - 1) * wire.size + span.tail
        if not self._tunnel.has_arrived(session, size, source, now, is_data=bool(frames)):
            return None
        for frame in frames:
            self._hand_over(frame, session, now)
        self._look_after(session, opener, now)
        return session

    def _hand_over(self, frame: memoryview, session: Session, now: float, buffer: Buffer | None = None) -> bool:
        """Write a frame, if the peer may send it; part of a TCP stream in its order. Say whether it has no padding.

        It may lie in a buffer of its own, which is used again then.
        """
        admitted, opener = self._tunnel.admit(frame, session.peer), session.opener
        if admitted is not None:
            self._pass_on(admitted, opener, now, buffer)
        elif buffer is not None:
            opener.buffers.give_back(buffer)
        return admitted is frame

    def _pass_on(self, frame: memoryview, opener: Opener, now: float, buffer: Buffer | None) -> None:
        """Write a frame that may come in, part of a TCP stream in its order."""
        order = opener.order
        if (opener.waiting or order) and frame[1] not in _UNORDERED:
            before = opener.first_awaited(now)
            if (before is not None and opener.last > before) or (order and opener.last > order[0].counter):
                order.hold(frame, opener.last, buffer)
                buffer = None
            else:
                self._tun.write(frame)
            if order:
                self._write_all(order.release(before))
        else:
            self._tun.write(frame)
        if buffer is not None:
            opener.buffers.give_back(buffer)

    def _write_all(self, frames: Iterable[memoryview]) -> None:
        for frame in frames:
            self._tun.write(frame)

    def handle_timer(self, now: float) -> None:
        """Ask again for what did not come, and let go what has waited for it too long. Sets `wake` anew."""
        watched, self._watched, self.wake = self._watched, set(), NEVER
        for session in watched:
            opener = session.opener
            self._ask(session, opener, now)
            self._write_all(opener.order.release(opener.first_awaited(now)))
            self._watch(session, opener, now)

    def _watch(self, session: Session, opener: Opener, now: float) -> None:
        due = opener.ask_again_at(now)
        if due is not None and (opener.order or session is session.peer.current):
            self._watched.add(session)
            self.wake = min(self.wake, due)

    def _take_plain(self, datagram: bytes, source: Endpoint, now: float) -> None:
        packet = self._tunnel.receive(datagram, source, now)
        if packet is not None:
            self._tun.write_packet(packet)

    def _take_records(self, session: Session, wire: Received, span: Span, source: Endpoint, now: float) -> None:
        """Open records of one session, and write what may come from its peer."""
        size = (span.end - span.first - 1) * wire.size + span.tail
        opener, is_ours = session.opener, False
        opened = opener.losses.opened
        for frame in opener.open(wire, span, self._out):
            if not is_ours and not self._tunnel.has_arrived(session, size, source, now):
                opener.sides = []
                return
            is_ours = True
            self._hand_over(frame, session, now)
        said, opener.sides = opener.sides, []
        if said:
            self._take_sides(session, said, 0 if is_ours else size, source, now)
        elif not is_ours and opener.losses.opened != opened:
            self._tunnel.has_arrived(session, size, source, now, is_data=False)
        self._exchange_reports(session, now)
        if now >= opener.gatherer.due:
            self._ask(session, opener, now)

    def _take_message(self, session: Session, length: int, source: Endpoint, now: float) -> None:
        """Take a datagram that is a whole side message."""
        opener = session.opener
        plain = opener.open_message(self._wire, length)
        if plain is None:
            return
        if plain[:1] != _REPAIR:
            self._take_sides(session, (plain,), length, source, now)
        elif self._tunnel.has_arrived(session, length, source, now, is_data=False):
            self._send_again(session, plain, now)
        if now >= opener.losses.soonest:
            self._exchange_reports(session, now)

    def _take_sides(self, session: Session, said: Sequence[bytes], size: int, source: Endpoint, now: float) -> None:
        """Take side messages; of `size` bytes nothing is noted yet."""
        if size:
            is_data = any(map(sides.is_data, said))
            is_probe = not is_data and said[0][:1] != _REPAIR
            if not self._tunnel.has_arrived(session, size, source, now, is_data=is_data, is_probe=is_probe):
                return
        for plain in said:
            self._take_side(session, plain, source, now)

    def _ask(self, session: Session, opener: Opener, now: float) -> None:
        """Have the peer send again what groups of the session lack, as long as it is the one that we send in."""
        if session is not session.peer.current or session.peer.endpoint is None:
            return
        wanted = opener.choose_wanted(now)
        if wanted:
            self.outbound.ask(session, wanted)
            self._watch(session, opener, now)

    def _take_side(self, session: Session, plain: bytes, source: Endpoint, now: float) -> None:
        """Take a side message; what is in a RELAYED as if it had come by itself."""
        kind = plain[0] if plain else 0
        if kind == sides.RELAY:
            self.underlay.forward(session, plain, source)
        elif kind == sides.RELAYED:
            found = self.underlay.unwrap(session, plain, source)
            if found is not None:
                tale, via = found
                self._take_many(Received.copy(tale.wire, tale.size), via, now)
        elif kind == sides.REPAIR:
            self._send_again(session, plain, now)
        else:
            self._tunnel.receive_side(session, plain, source, now)

    def _send_again(self, session: Session, plain: bytes, now: float) -> None:
        if session.peer.endpoint is None:
            return
        try:
            self.outbound.send_again(session, sides.decode_repair(plain), now)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1

    def _exchange_reports(self, session: Session, now: float) -> None:
        peer, opener = session.peer, session.opener
        if opener.report is not None:
            self._tunnel.take_report(peer, *opener.report, now)
            opener.report = None
        report = opener.take_report(now) if opener.losses.is_due(now) else None
        if report is not None and peer.current is not None and peer.endpoint is not None:
            self.outbound.send_report(peer.current, report)
