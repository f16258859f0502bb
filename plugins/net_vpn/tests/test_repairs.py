"""How what is lost is asked for and sent again, and what came behind it waits."""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn import repairs
from kairos_net_vpn.datagrams import Buffer, Received
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.kept import RING, Kept
from kairos_net_vpn.opening import OUT_SIZE, Opener
from kairos_net_vpn.parts import Buffers
from kairos_net_vpn.records import Sealer
from kairos_net_vpn.runs import Span
from kairos_net_vpn.sides import Wanted, decode_repair, encode_repair
from kairos_net_vpn.slot import ROOM, Slot
from kairos_net_vpn.underlay import split
from kairos_net_vpn.vnet import GSO_TCPV4, HEADER, NEEDS_CSUM, TCP

KEY = bytes(range(32))
SIZE = 1472
SESSION = 7
LENGTH = 20000
HEADERS = 50


def tcp(number: int) -> bytes:
    """Return a super-packet of TCP, 14 datagrams, that is told from others by its number."""
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 40 + LENGTH, 0, 0x4000, 64, TCP, 0, 1, 2)
    header = HEADER.pack(NEEDS_CSUM, GSO_TCPV4, 40, 1360, 20, 16)
    return header + ip + bytes(12) + b"\x50\x10" + bytes(6) + bytes([number % 256]) * LENGTH


class Line:
    """A sender, a receiver, and a path that loses what `loses` says, by the place in all that is sent.

    What is left of a group comes in one receive, or `splits` at each loss, as it does in IPv4.
    """

    takes_pieces = True
    """Whether the receiver tries the short way for parts of groups."""

    def __init__(
        self, loses: Callable[[int], bool] = lambda _: False, *, delay: float = 0.0003, splits: bool = False
    ) -> None:
        self.now, self.sent, self.lost = 5.0, 0, 0
        self.delay = delay
        self.opener = Opener(KEY, Counter(), Buffers())
        self.kept = Kept(Slot)
        self.frames: list[bytes] = []
        self.asked: list[Wanted] = []
        self._loses, self._splits = loses, splits
        self._sealer = Sealer(KEY, 0xAABBCCDD, chacha=False)
        self._out = memoryview(bytearray(OUT_SIZE))
        self._slot, self._spare = Slot(), Buffer(1 << 18)
        self._under_way: deque[tuple[float, list[Wanted]]] = deque()

    def send(self, frame: bytes, members: int = 64) -> None:
        slot, number = self._slot, self._sealer.counter
        slot.octets[ROOM : ROOM + len(frame)] = frame
        mould = self._sealer.mould(slot.octets[ROOM : ROOM + len(frame)], SIZE, members)
        wire = self._sealer.seal_super(slot, len(frame), mould, self._spare)
        if mould.here is not None:
            self._slot = self.kept.keep((SESSION, number), wire, SIZE, slot)
        else:
            self.kept.copy((SESSION, number), wire, SIZE)
        self.now += 0.0001
        self._carry([bytes(each) for each in split((wire,), SIZE)])
        self.answer()

    def answer(self) -> None:
        """Answer the questions that have been on their way for long enough."""
        while self._under_way and self._under_way[0][0] <= self.now:
            _, wanted = self._under_way.popleft()
            again = [
                self.find(each.number, each.group, member)
                for each in decode_repair(encode_repair(wanted))
                for member in each.members
            ]
            self._carry([datagram for datagram in again if datagram])

    def find(self, number: int, group: int, member: int) -> bytes:
        """Return a datagram that is kept; nothing when it is not."""
        return bytes(self.kept.find(SESSION, number, group, member) or b"")

    def rest(self, seconds: float = 0.1) -> None:
        """Let time pass, as the data plane does."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.0005
            self.answer()
            due = self.opener.ask_again_at(self.now)
            if due is not None:
                self._ask()
                self._release()

    def _carry(self, datagrams: list[bytes]) -> None:
        """Carry datagrams of one size but the last."""
        arriving: list[bytes] = []
        for datagram in datagrams:
            self.sent += 1
            is_lost = self._loses(self.sent)
            if is_lost:
                self.lost += 1
            else:
                arriving.append(datagram)
            if len(datagram) < SIZE or (self._splits and is_lost):
                self._receive(arriving)
                arriving = []
        self._receive(arriving)

    def _receive(self, datagrams: list[bytes]) -> None:
        if not datagrams:
            return
        wire = Received.copy(b"".join(datagrams), max(map(len, datagrams)))
        for frame in self._open(wire):
            self.opener.order.hold(memoryview(bytes(frame)), self.opener.last, None)
            self._release()
        self._ask()

    def _open(self, wire: Received) -> Iterable[memoryview]:
        """Open a receive on the short way for parts of a group, where it is one, and else on the long way."""
        parts = self.opener.take_piece(wire) if self.takes_pieces else None
        if parts is None:
            return self.opener.open(wire, Span(0, wire.count, wire.tail), self._out)
        frame = self.opener.open_whole(parts) if parts.is_whole else None
        return [] if frame is None else [frame]

    def _release(self) -> None:
        self.frames += map(bytes, self.opener.order.release(self.opener.first_awaited(self.now)))

    def _ask(self) -> None:
        wanted = self.opener.choose_wanted(self.now)
        if wanted:
            self.asked += wanted
            self._under_way.append((self.now + self.delay, wanted))


@pytest.mark.parametrize("splits", [False, True])
def test_a_lost_datagram_comes_again_and_the_stream_stays_in_order(splits: bool) -> None:
    line = Line(lambda place: place in (5, 90, 110), splits=splits)
    frames = [tcp(number) for number in range(12)]
    for frame in frames:
        line.send(frame)
    line.rest()
    assert sorted(line.frames) == sorted(frames)
    assert [(each.number, each.members) for each in line.asked] == [(0, b"\4"), (6, b"\4"), (7, b"\n")]
    assert line.frames[5:] == frames[5:], "once an answer has come it is known that answers come soon"
    assert not line.opener.drops
    assert line.opener.take_report(line.now) == (0, 12 * 14)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    share=st.sampled_from((0.0, 0.01, 0.02)),
    members=st.sampled_from((2, 8, 64)),
    delay=st.sampled_from((0.0001, 0.0008, 0.003)),
    splits=st.booleans(),
    takes_pieces=st.booleans(),
)
def test_at_random_losses_every_packet_comes_once_and_whole(
    seed: int, share: float, members: int, delay: float, *, splits: bool, takes_pieces: bool
) -> None:
    random = Random(seed)
    line = Line(lambda _: random.random() < share, delay=delay, splits=splits)
    line.takes_pieces = takes_pieces
    frames = [tcp(number) for number in range(60)]
    for frame in frames:
        line.send(frame, members)
    line.rest(2.0)
    got: Counter[int] = Counter()
    for frame in line.frames:  # a packet may come in parts
        assert len(set(frame[HEADERS:])) == 1
        got[frame[-1]] += len(frame) - HEADERS
    assert max(got.values()) == LENGTH, "none comes twice"
    assert got.total() >= 0.97 * LENGTH * len(frames), "without repair much more is lost"
    if members == 64:
        hopeless = line.opener.drops[VpnDrop.INCOMPLETE]
        assert len(got) >= len(frames) - hopeless - 1, "what nothing came behind is not known to be lost"
    assert not line.opener.order


def test_an_answer_that_is_lost_is_asked_for_again() -> None:
    line = Line(lambda place: place in (3, 71))  # of the first packet, and the answer
    frames = [tcp(number) for number in range(12)]
    for frame in frames:
        line.send(frame)
    line.rest(2.0)
    assert sorted(line.frames) == sorted(frames)
    assert [(each.number, each.members) for each in line.asked] == [(0, b"\2")] * 2


def test_what_is_lost_again_and_again_is_given_up() -> None:
    line = Line(lambda place: place == 3, delay=10.0)  # no answer comes
    for number in range(40):
        line.send(tcp(number))
    line.rest(3 * 3 * repairs.SLOWEST)
    for number in range(40):
        line.send(tcp(number))
    assert len(line.asked) == repairs.TRIES
    assert line.opener.drops == {VpnDrop.INCOMPLETE: 1}
    assert len(line.frames) == 79, "nothing waits for what does not come"


def test_losses_in_a_row_are_congestion_and_not_asked_for() -> None:
    most = repairs.MOST_MISSING
    for count in (most, most + 1):
        line = Line(lambda place, count=count: 3 <= place < 3 + count)
        for number in range(4):
            line.send(tcp(number))
        line.rest()
        assert len(line.frames) == (4 if count == most else 3)
        assert bool(line.asked) is (count == most)
        assert line.opener.ask_again_at(line.now) is None, "nothing is waited for"


def test_much_loss_is_not_hidden() -> None:
    line = Line(lambda place: place % 8 == 0)
    for number in range(400):
        line.send(tcp(number))
    asked = sum(len(each.members) for each in line.asked)
    assert asked <= repairs.CREDIT + line.sent * repairs.SHARE
    assert line.opener.drops[VpnDrop.INCOMPLETE] + len(line.opener.waiting) > 200


def test_a_queue_on_the_path_ends_the_asking_for_a_while() -> None:
    line = Line(lambda place: place % 50 == 0)
    for number in range(20):
        line.send(tcp(number))
    line.rest()
    line.delay += 2 * repairs.QUEUE
    for number in range(60):
        line.send(tcp(number))
        line.rest(0.01)
    asked = len(line.asked)
    for number in range(40):
        line.send(tcp(number))
        line.rest(0.01)
    assert len(line.asked) <= asked + repairs.TRIES, "TCP hears of what is lost"
    line.delay = 0.0003
    line.rest(repairs.REST)
    asked = len(line.asked)
    for number in range(20):
        line.send(tcp(number))
    assert len(line.asked) > asked


@pytest.mark.parametrize("late", [0.8 * repairs.PATIENCE, 3 * repairs.QUEUE], ids=["little", "much"])
def test_answers_that_are_late_now_and_then_end_nothing(late: float) -> None:
    """The path has no queue, but at times the machines at its ends have other work."""
    line, busy = Line(lambda place: place % 40 == 0), set[bytes]()
    for number in range(250):
        line.delay = 0.0003
        if number // 20 % 3 == 2:
            line.delay = late
            busy.add(tcp(number))
        line.send(tcp(number))
        line.rest(0.002)
    line.rest()
    assert line.lost > 60
    missing = {tcp(number) for number in range(250)} - set(line.frames)
    assert missing <= busy
    assert not missing or late > repairs.PATIENCE


def test_the_order_is_kept_for_longer_where_answers_take_longer_on_a_short_path() -> None:
    line = Line(lambda place: place % 40 == 0)
    for number in range(250):
        line.delay = 2 * repairs.PATIENCE if number % 2 else 0.0003
        line.send(tcp(number))
        line.rest(0.002)
    line.rest()
    assert line.frames[-120:] == [tcp(number) for number in range(130, 250)]


def test_the_end_of_a_group_that_was_asked_for_is_asked_for_too() -> None:
    line = Line(lambda place: place in (3, 14))  # nothing comes behind the second, so only time tells
    line.send(tcp(0))
    line.rest(3 * repairs.SLOWEST)
    assert [each.members for each in line.asked] == [b"\2", b"\r"]
    assert line.frames == [tcp(0)]
    assert line.opener.ask_again_at(line.now) is None


def test_what_is_only_overtaken_becomes_whole_however_much_it_is() -> None:
    line = Line()
    line._carry, carry = lambda _: None, line._carry  # type: ignore[method-assign]
    line.send(tcp(0))
    sent = [line.find(0, 0, member) for member in range(14)]
    carry(sent[10:12] + sent[:1])  # nine are missing before the last that came
    assert not line.asked
    carry(sent[1:10])
    carry(sent[12:])
    assert line.frames == [tcp(0)]


def test_what_comes_twice_since_it_was_asked_for_is_no_replay() -> None:
    line = Line(lambda place: place == 3)
    line.send(tcp(0))
    again = line.find(0, 0, 2)
    line._receive([again])  # it comes by itself, and then as the answer
    line.rest()
    assert line.frames == [tcp(0)]
    assert line.opener.drops == {VpnDrop.UNNEEDED: 1}
    line._receive([line.find(0, 0, 5)])
    assert line.opener.drops == {VpnDrop.UNNEEDED: 2}
    line.send(tcp(1))
    line._receive([line.find(1, 0, 5)])
    assert line.opener.drops == {VpnDrop.UNNEEDED: 2, VpnDrop.REPLAYED: 1}


def test_only_super_packets_are_asked_for() -> None:
    opener, sealer = Opener(KEY, Counter(), Buffers()), Sealer(KEY, 1 << 20, chacha=False)
    first, _, last = sealer.seal_side(bytes(4000), SIZE)
    wire = Received.copy(bytes(first) + last, SIZE)
    out = memoryview(bytearray(OUT_SIZE))
    assert not list(opener.open(wire, Span(0, 2, wire.tail), out))
    assert len(opener.waiting) == 1
    assert opener.choose_wanted(1.0) == []


def test_a_datagram_of_an_opened_group_does_not_wait_for_the_rest() -> None:
    line = Line()
    line.send(tcp(1))
    first = line.find(0, 0, 0)
    line._receive([first])
    assert not line.opener.waiting
    assert line.opener.drops == {VpnDrop.REPLAYED: 1}


# -- what is kept


def test_the_last_super_packets_are_kept_and_no_more() -> None:
    line = Line()
    for number in range(RING + 3):
        line.send(tcp(number), members=4)
    per_packet = line._sealer.counter // (RING + 3)
    assert line.find(2 * per_packet, 0, 0) == b""
    assert len(line.find(3 * per_packet, 0, 0)) == SIZE
    assert len(line.kept._places) == RING


@pytest.mark.parametrize("members", [1, 3, 4, 64])
def test_every_datagram_is_found_by_its_name_and_nothing_else(members: int) -> None:
    line = Line()
    carried: list[list[bytes]] = []
    line._carry = carried.append  # type: ignore[method-assign]
    line.send(tcp(1), members)
    line.send(tcp(2), members)
    number = line._sealer.counter // 2
    for at, sent in enumerate(carried):
        for datagram in sent:
            assert line.find(at * number, datagram[7], datagram[6]) == datagram
    assert line.kept.find(SESSION + 1, 0, 0, 0) is None, "of another session"
    assert line.find(number - 1, 0, 0) == (b"" if number > 1 else line.find(0, 0, 0))
    assert line.find(0, 0, 15) == b""
    assert line.find(0, 200, 0) == b""
    assert line.find(0, 0, min(members, 14)) == b"", "that is the next group's"


@pytest.mark.parametrize("members", [4, 64])
def test_who_leaves_a_buffer_gets_one_that_is_no_longer_kept(members: int) -> None:
    line = Line()
    for number in range(3 * RING):
        line.send(tcp(number), members)
        held = {id(record.buffer) for record in line.kept._places.values()}
        assert len(held) == len(line.kept._places)
        assert not held & {id(line._slot), id(line._spare)}


def test_what_fits_no_buffer_is_not_kept_and_harms_nothing() -> None:
    store = Kept(lambda: Buffer(4000))
    for number in range(2 * RING):
        length = 4001 if number % 2 else 4000
        store.copy((SESSION, number), memoryview(bytearray(b"\0" * length)), 1000)
    assert [store.find(SESSION, number, 0, 0) is not None for number in range(RING, 2 * RING)] == [True, False] * (
        RING // 2
    )
