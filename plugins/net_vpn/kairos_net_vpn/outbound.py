"""The way out: what waits at the TUN device is sealed and sent. It takes what is there and waits for nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from kairos_net_vpn.bundle import Run, bundle, bundle_few, find_runs, merge, take_bulk
from kairos_net_vpn.datagrams import HEADER_SIZE, MAX_DATAGRAMS, Buffer
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.kept import Kept
from kairos_net_vpn.lanes import HOST, SHORTEST, Course, Key, key_of
from kairos_net_vpn.mould import Mould
from kairos_net_vpn.pathmtu import CEILING
from kairos_net_vpn.records import ALONE, SIDE
from kairos_net_vpn.session import Session
from kairos_net_vpn.sides import Wanted, encode_repair
from kairos_net_vpn.slot import ROOM, Slot
from kairos_net_vpn.small import TAG
from kairos_net_vpn.tun import Tun
from kairos_net_vpn.tunnel import Tunnel
from kairos_net_vpn.underlay import Underlay
from kairos_net_vpn.vnet import segment

SLOTS = 64
"""Small frames read before they are sent. Raising it fills datagrams better in a burst, and delays its first packet
by 3 us for each."""
FEW = 4
"""Small frames for which a shorter way is tried. Raising it makes bursts of UDP wait for a look that is in vain."""
SUPERS = 8
"""Super-packets read before the other direction has its turn. Raising it saves a system call of some, and delays
acknowledgements by 50 us for each."""
PAUSE = 0.001
"""Seconds after which a packet is expected alone. Lowering it spares a look in vain behind each packet of a slower
conversation, and makes a flood that begins anew grow from one packet."""
_SPARE = 1 << 18
"""Bytes that a record of several groups may have: with packets of UDP that fill half of each, twice its payload."""
_GSO_TYPE = ROOM + 1


class Outbound:
    """Reads frames, finds who carries them, seals and sends."""

    def __init__(
        self, tunnel: Tunnel, tun: Tun, underlay: Underlay, give_way: Callable[[], object] = os.sched_yield
    ) -> None:
        self._tunnel, self._tun, self._underlay = tunnel, tun, underlay
        self._give_way = give_way
        """Called after a flood's burst: what is too much is then dropped before it is sealed, where that costs least,
        and whoever it is for gets the processor to take what has come. In a lab of one machine half as much again
        arrives."""
        self._slots = [Slot() for _ in range(SLOTS)]
        self._merged, self._spare = Slot(), Buffer(_SPARE)
        self._bundles = Buffer(MAX_DATAGRAMS * CEILING)
        self._expected = 1
        """Small frames to look for at once."""
        self._supers = 1
        """The same of super-packets."""
        self._read_at = 0.0
        """When the last read was."""
        self.is_streaming = False
        """Whether it found a part of a stream."""
        self._kept = Kept(Slot)
        self._courses, self._hosts = tunnel.lanes.courses, tunnel.lanes.hosts

    def read(self, now: float) -> None:
        """Send what waits at the device, up to a bound. Raises OSError when the device is gone.

        A try that finds nothing costs as much as one that finds a packet, and delays what was found. So after a
        packet that came alone the next is expected alone, after a pause too; while there are always more than
        expected, so are more.
        """
        slots, read = self._slots, self._tun.read
        supers, most = self._supers, self._expected
        has_paused, self._read_at = now - self._read_at > PAUSE, now
        self.is_streaming = False
        waiting: list[memoryview] = []
        found = 0
        while found < most:
            slot = slots[found]
            length = read(slot.into)
            if length is None:
                self._supers = max(1, self._supers - supers)
                break
            if not slot.octets[_GSO_TYPE]:
                frame = slot.octets[ROOM : ROOM + length]
                if has_paused:
                    self._expected = 1
                    self._send_alone(frame, now)
                    return
                waiting.append(frame)
                found += 1
                continue
            if found:  # they came first
                self._send_small(waiting, now)
            slots[found] = self._send_super(slot, length, now)
            self.is_streaming = True
            if found:
                waiting, found = [], 0
            supers -= 1
            if not supers:
                self._supers = min(SUPERS, 2 * self._supers)
                break
        if not found:
            self._expected = 1
            return
        self._expected = min(SLOTS, 4 * most) if found == most else found
        if found == 1:
            self._send_alone(waiting[0], now)
        else:
            self._send_small(waiting, now)

    def _send_super(self, slot: Slot, length: int, now: float) -> Slot:
        """Send a super-packet; return what is to take the place of its slot.

        It is one record to a Kairos node, and what was in the slot is then written over. Its datagrams are kept where
        some of them may be asked for again.
        """
        key = key_of(slot.octets, ROOM, length)
        course = self._courses.get(key)
        if course is not None:
            session, peer, until, sealer, members, mould = course
            limits = peer.members
            if now >= until or mould.size != peer.datagram or members != limits.count or peer.endpoint is None:
                course = None
        if course is None:
            course = self._find_course(slot, length, key, now)
            if course is None:
                return slot
            session, peer, until, sealer, _, mould = course
            limits = peer.members
        wire = sealer.seal_super(slot, length, mould, self._spare)
        sent = self._underlay.send_record(wire, mould.size, peer.endpoint)
        if now < until:
            self._tunnel.note_sent(peer, sent, now)
        else:
            self._tunnel.has_sent(session, sent, now)
        return self._keep(session, mould, wire, slot) if limits.keeps else slot

    def _keep(self, session: Session, mould: Mould, wire: memoryview, slot: Slot) -> Slot:
        """Keep the datagrams of the record that was just sealed; return what is to take the place of its slot."""
        session.peer.members.kept(mould.datagrams)
        name = session.index, session.sealer.counter - mould.groups
        if mould.here is not None:
            return self._kept.keep(name, wire, mould.size, slot)
        self._kept.copy(name, wire, mould.size)
        return slot

    def _find_course(self, slot: Slot, length: int, key: Key, now: float) -> Course | None:
        """Return the course of a super-packet that is like none before; None when it is lost, or has been sent."""
        frame = slot.octets[ROOM : ROOM + length]
        session = self._tunnel.carrier(frame, now)
        if session is None:
            return None
        peer = session.peer
        if not peer.records:
            self._send_plain(session, frame, now)
            return None
        members, lanes = peer.members.count, self._tunnel.lanes
        try:
            mould = session.sealer.mould(frame, peer.datagram, members)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1
            return None
        lane = lanes.hosts.get(HOST.unpack_from(frame))
        course = Course(session, peer, lane.until if lane else now, session.sealer, members, mould)
        if lane is not None and lane.session is session:
            lanes.learn_course(frame, key, course)
        return course

    def _send_alone(self, frame: memoryview, now: float) -> None:
        """Send one small frame; what it does not need is left out, since all of it is the frame's delay."""
        size = len(frame)
        lane = self._hosts.get(HOST.unpack_from(frame)) if size >= SHORTEST else None
        if lane is not None:
            session, peer, until = lane
            if now < until and peer.records and size <= peer.datagram - ALONE and peer.endpoint is not None:
                datagram = session.sealer.seal_packets(size.to_bytes(2, "little") + frame)
                self._underlay.send(datagram, peer.endpoint)
                self._tunnel.note_sent(peer, len(datagram), now)
                return
        carrier = self._tunnel.carrier(frame, now)
        if carrier is not None:
            self._send_by(carrier, frame, now)

    def _send_by(self, session: Session, frame: memoryview, now: float) -> None:
        """Send one small frame to a host without a lane."""
        peer = session.peer
        if not peer.records or len(frame) > peer.datagram - ALONE:
            self._send_share(session, [[frame]], now)
            return
        datagram = session.sealer.seal_packets(len(frame).to_bytes(2, "little") + frame)
        self._underlay.send(datagram, peer.endpoint)
        self._tunnel.has_sent(session, len(datagram), now)

    def _send_small(self, frames: list[memoryview], now: float) -> None:
        """Send frames, those of one peer together and each flow's in their order."""
        if len(frames) <= FEW and self._send_few(frames, now):
            return
        shares: dict[Session, list[Run]] = {}
        carrier = self._tunnel.carrier
        for run in find_runs(frames):
            session = carrier(run[0], now)
            if session is not None:
                shares.setdefault(session, []).append(run)
            else:
                for frame in run[1:]:  # one may wait, each is counted
                    carrier(frame, now)
        for session, share in shares.items():
            self._send_share(session, share, now)

    def _send_few(self, frames: list[memoryview], now: float) -> bool:
        """Send a few frames in one datagram; say whether they were such."""
        lane = self._hosts.get(HOST.unpack_from(frames[0])) if len(frames[0]) >= SHORTEST else None
        if lane is None or now >= lane.until:
            return False
        session, peer, _ = lane
        plain = bundle_few(frames, peer.datagram - HEADER_SIZE - TAG) if peer.records and peer.endpoint else None
        if plain is None:
            return False
        datagram = session.sealer.seal_packets(plain)
        self._underlay.send(datagram, peer.endpoint)
        self._tunnel.note_sent(peer, len(datagram), now)
        return True

    def _send_share(self, session: Session, runs: list[Run], now: float) -> None:
        if session.peer.records:
            self._send_bundles(session, runs, now)
        else:
            for run in runs:
                for frame in run:
                    self._send_plain(session, frame, now)

    def _send_bundles(self, session: Session, runs: list[Run], now: float) -> None:
        peer = session.peer
        room = peer.datagram - HEADER_SIZE - TAG
        pieces, others = take_bulk(runs, room)
        for piece in pieces:
            merged = merge(piece)
            self._merged.octets[ROOM : ROOM + len(merged)] = merged
            self._merged = self._send_super(self._merged, len(merged), now)
            self._give_way()
        if not others:
            return
        datagrams = session.sealer.seal_bundles(list(bundle(others, room)), peer.datagram, self._bundles)
        self._tunnel.has_sent(session, self._underlay.send_uneven(datagrams, peer.endpoint), now)

    def _send_plain(self, session: Session, frame: memoryview, now: float) -> None:
        """Send to a peer that speaks WireGuard only: packet by packet, whole."""
        try:
            for packet in segment(frame):
                datagram = session.seal(bytes(packet))
                self._underlay.send(datagram, session.peer.endpoint)
                self._tunnel.has_sent(session, len(datagram), now)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1

    def send_report(self, session: Session, report: tuple[int, int]) -> None:
        """Tell the peer how much of what it sends is lost."""
        self._underlay.send(session.sealer.seal_report(*report), session.peer.endpoint)

    def ask(self, session: Session, wanted: Sequence[Wanted]) -> None:
        """Ask the peer to send something of a session again."""
        self._underlay.send(session.sealer.seal_alone(SIDE, encode_repair(wanted)), session.peer.endpoint)

    def send_again(self, session: Session, wanted: Sequence[Wanted], now: float) -> None:
        """Send what the peer lacks again, as far as it is there and the peer may ask."""
        members = session.peer.members
        members.asked()
        datagrams: list[memoryview] = []
        for each in wanted:
            for member in each.members:
                found = self._kept.find(session.index, each.number, each.group, member)
                if found and members.spend():
                    datagrams.append(found)
                else:
                    self._tunnel.drops[VpnDrop.NOT_KEPT] += 1
        if datagrams:
            self._tunnel.has_sent(session, self._underlay.send_uneven(datagrams, session.peer.endpoint), now)
