"""The way out: what waits at the TUN device is sealed and sent. It takes what is there and waits for nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from kairos_net_vpn.batch import Batch
from kairos_net_vpn.bundle import Run, bundle, find_runs, merge, take_bulk
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.kept import Kept
from kairos_net_vpn.records import ALONE, TAG
from kairos_net_vpn.session import Session
from kairos_net_vpn.sides import Wanted, encode_repair
from kairos_net_vpn.tun import Tun
from kairos_net_vpn.tunnel import Tunnel
from kairos_net_vpn.underlay import Underlay
from kairos_net_vpn.vnet import MAX_FRAME, segment

SLOTS = 64
"""Small frames read before they are sent. Raising it fills datagrams better in a burst, and delays its first packet
by 3 us for each."""
SUPERS = 4
"""Super-packets read before the other direction has its turn. Raising it saves a system call of some, and delays
acknowledgements by 50 us for each."""
_SLOT = MAX_FRAME + (1 << 16)  # records.Sealer pads behind the frame


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
        self._slots = [memoryview(bytearray(_SLOT)) for _ in range(SLOTS)]
        self._merged = memoryview(bytearray(_SLOT))
        self._expected = 1
        """Small frames to look for at once."""
        self._batches: dict[int, Batch] = {}
        self._kept = Kept()

    def read(self, now: float) -> None:
        """Send what waits at the device, up to a bound. Raises OSError when the device is gone.

        A try that finds nothing costs as much as one that finds a packet, and delays what was found. So after a
        packet that came alone the next is expected alone; while there are always more than expected, so are more.
        """
        supers, most = SUPERS, self._expected
        waiting: list[memoryview] = []
        while supers and len(waiting) < most:
            slot = self._slots[len(waiting)]
            try:
                length = self._tun.read(slot)
            except BlockingIOError:
                break
            if slot[1]:
                supers -= 1
                if waiting:  # they came first
                    self._send_small(waiting, now)
                    waiting = []
                self._send_super(slot, length, now)
            else:
                waiting.append(slot[:length])
        self._expected = min(SLOTS, 4 * most) if len(waiting) == most else max(1, len(waiting))
        if len(waiting) == 1:
            self._send_alone(waiting[0], now)
        elif waiting:
            self._send_small(waiting, now)

    def _send_super(self, slot: memoryview, length: int, now: float) -> None:
        session = self._tunnel.carrier(slot[:length], now)
        if session is None:
            return
        if session.peer.records:
            self._send_whole(session, slot, length, now)
        else:
            self._send_plain(session, slot[:length], now)

    def _send_whole(self, session: Session, slot: memoryview, length: int, now: float) -> None:
        """Send a super-packet as one record. The slot is written over."""
        peer = session.peer
        try:
            batch, used = self._seal_super(session, slot, length)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1
            return
        self._tunnel.has_sent(session, self._underlay.send_batch(batch, used, peer.endpoint), now)

    def _seal_super(self, session: Session, slot: memoryview, length: int) -> tuple[Batch, int]:
        """Seal a super-packet, into buffers that are kept where some of it may be asked for again. Raises Refused."""
        peer, sealer, members = session.peer, session.sealer, session.peer.members
        if members.keeps:
            batch, number = self._kept.lend(peer.datagram), sealer.counter
            with suppress(Refused):  # too many datagrams to be kept, or no super-packet at all
                used = sealer.seal_super(slot, length, batch, members.count)
                members.kept(self._kept.keep(session.index, number, used))
                return batch, used
        batch = self._batch(peer.datagram)
        return batch, sealer.seal_super(slot, length, batch, members.count)

    def _send_alone(self, frame: memoryview, now: float) -> None:
        """Send one small frame; what it does not need is left out, since all of it is the frame's delay."""
        session = self._tunnel.carrier(frame, now)
        if session is None:
            return
        peer = session.peer
        if not peer.records or len(frame) > peer.datagram - ALONE:
            self._send_share(session, [[frame]], now)
            return
        datagram = session.sealer.seal_packet(frame)
        self._underlay.send(datagram, peer.endpoint)
        self._tunnel.has_sent(session, len(datagram), now)

    def _send_small(self, frames: list[memoryview], now: float) -> None:
        """Send frames, those of one peer together and each flow's in their order."""
        for session, share in self._tunnel.carriers(find_runs(frames), now).items():
            self._send_share(session, share, now)

    def _send_share(self, session: Session, runs: list[Run], now: float) -> None:
        if session.peer.records:
            self._send_bundles(session, runs, now)
        else:
            for run in runs:
                for frame in run:
                    self._send_plain(session, frame, now)

    def _send_bundles(self, session: Session, runs: list[Run], now: float) -> None:
        peer = session.peer
        batch = self._batch(peer.datagram)
        room = batch.chunk - TAG
        pieces, others = take_bulk(runs, room)
        for piece in pieces:
            merged = merge(piece)
            self._merged[: len(merged)] = merged
            self._send_whole(session, self._merged, len(merged), now)
            self._give_way()
        if not others:
            return
        iov = session.sealer.seal_bundles(list(bundle(others, room)), batch)
        self._tunnel.has_sent(session, self._underlay.send_uneven(iov, peer.endpoint), now)

    def _send_plain(self, session: Session, frame: memoryview, now: float) -> None:
        """Send to a peer that speaks WireGuard only: packet by packet, whole."""
        try:
            for packet in segment(frame):
                datagram = session.seal(bytes(packet))
                self._underlay.send(datagram, session.peer.endpoint)
                self._tunnel.has_sent(session, len(datagram), now)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1

    def send_report(self, session: Session, report: tuple[int, int], now: float) -> None:
        """Tell the peer how much of what it sends is lost."""
        batch = self._batch(session.peer.datagram)
        iov = session.sealer.seal_report(*report, batch)
        self._underlay.send_uneven(iov, session.peer.endpoint)

    def ask(self, session: Session, wanted: Sequence[Wanted]) -> None:
        """Ask the peer to send something of a session again."""
        peer = session.peer
        iov = session.sealer.seal_side(encode_repair(wanted), peer.datagram)
        self._underlay.send_uneven(iov, peer.endpoint)

    def send_again(self, session: Session, wanted: Sequence[Wanted], now: float) -> None:
        """Send what the peer lacks again, as far as it is there and the peer may ask."""
        members = session.peer.members
        members.asked()
        iov: list[memoryview] = []
        for each in wanted:
            for member in each.members:
                found = self._kept.find(session.index, each.number, each.group, member)
                if found and members.spend():
                    iov += found
                else:
                    self._tunnel.drops[VpnDrop.NOT_KEPT] += 1
        if iov:
            self._tunnel.has_sent(session, self._underlay.send_uneven(iov, session.peer.endpoint), now)

    def _batch(self, size: int) -> Batch:
        batch = self._batches.get(size)
        if batch is None:
            batch = self._batches[size] = Batch(size)
        return batch
