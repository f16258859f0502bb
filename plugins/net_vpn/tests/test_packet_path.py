"""The packet path with real sockets: a socket pair stands for the TUN device of a kernel without virtio headers."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kairos_net_vpn.carriage import Carriage
from kairos_net_vpn.datagrams import SOL_UDP, UDP_SEGMENT, Buffer, Received
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.loss import START
from kairos_net_vpn.offloads import Offloads, has_aes
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.tun import Tun


class NodePath:
    """One node's path: packets in at `kernel`, datagrams at `udp`."""

    def __init__(self, node: Any, allowed: Offloads) -> None:
        self.node, tunnel = node, node.tunnel
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.device, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (self.udp, self.device, self.kernel):
            each.setblocking(False)
        self.tun = Tun(self.device.fileno(), allowed, tunnel.drops)
        self.underlay = Carriage(self.udp, allowed, tunnel, lambda: node.wire.now)
        self.outbound = Outbound(tunnel, self.tun, self.underlay)
        self.inbound = Inbound(tunnel, self.tun, self.underlay, self.outbound)

    def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.kernel.send(packet)
        for _ in range(20):
            self.outbound.read(self.node.wire.now)

    def receive(self) -> list[bytes]:
        """Take what waits at the socket, and return what the kernel gets."""
        for _ in range(20):
            self.inbound.read(self.node.wire.now)
        packets = []
        while True:
            try:
                packets.append(self.kernel.recv(1 << 16))
            except BlockingIOError:
                return packets

    def close(self) -> None:
        for each in (self.udp, self.device, self.kernel):
            each.close()


@pytest.fixture(params=[Offloads(), Offloads(gso=False, gro=False, aes=False)], ids=["offloads", "none"])
def paths(pair: Any, request: Any) -> Iterator[tuple[NodePath, NodePath]]:
    """Two nodes with a session, that know where the other's socket is and speak records."""
    one, other = (NodePath(node, request.param) for node in pair)
    for here, there in ((one, other), (other, one)):
        peer = here.node.knows(there.node).peer
        peer.records, peer.endpoint, peer.chacha = True, there.udp.getsockname(), not request.param.aes
    yield one, other
    one.close()
    other.close()


class Counted:
    """Calls a function, and counts how often."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self._function(*arguments)


def test_a_packet_after_a_pause_is_not_followed_by_a_look_for_more(paths: Any, packet: Any) -> None:
    one, other = paths
    looks = one.tun.read, other.underlay.receive = Counted(one.tun.read), Counted(other.underlay.receive)
    wire, asked = one.node.wire, packet(one.node.address, other.node.address)
    for turn in range(1, 9):
        wire.now += 0.1
        one.kernel.send(asked)
        one.outbound.read(wire.now)
        other.inbound.read(wire.now)
        assert other.kernel.recv(1 << 16) == asked
        assert [look.calls for look in looks] == [turn, turn]


def test_an_answer_that_is_there_at_once_leaves_with_the_packet_that_it_answers(paths: Any, packet: Any) -> None:
    one, other = paths
    wire, answer = one.node.wire, packet(other.node.address, one.node.address)
    for _ in range(3):
        wire.now += 0.1
        one.send(packet(one.node.address, other.node.address))
        other.kernel.send(answer)  # before the packet is taken, as the kernel does while it is
        other.inbound.read(wire.now)
        assert one.receive() == [answer]


def test_where_more_than_one_packet_comes_the_way_out_has_its_own_turn(paths: Any, packet: Any) -> None:
    one, other = paths
    other.inbound._read_at = one.node.wire.now
    one.send(*[packet(one.node.address, other.node.address)] * 3)
    look = other.tun.read = Counted(other.tun.read)
    assert len(other.receive()) == 3
    assert look.calls == 0


def test_a_burst_after_a_pause_is_read_in_ever_more_at_a_time(paths: Any, packet: Any) -> None:
    one, other = paths
    for _ in range(2):
        one.node.wire.now += 0.1
        for _ in range(80):
            one.kernel.send(packet(one.node.address, other.node.address))
        look = one.tun.read = Counted(one.tun.read)
        for looks in (1, 2, 6, 22, 81):  # the last finds nothing
            one.outbound.read(one.node.wire.now)
            assert look.calls == looks
        assert len(other.receive()) == 80


def test_packets_pass_both_ways_in_order(paths: Any, packet: Any) -> None:
    for one, other in (paths, paths[::-1]):
        sent = [packet(one.node.address, other.node.address, bytes([i]) * i * 20) for i in range(60)]
        one.send(*sent)
        assert other.receive() == sent
        assert not one.node.tunnel.drops + other.node.tunnel.drops


def test_a_packet_as_large_as_the_mtu_passes(paths: Any, packet: Any) -> None:
    one, other = paths
    sent = packet(one.node.address, other.node.address, bytes(1400))
    one.send(sent)
    assert other.receive() == [sent]


def test_a_foreign_source_and_a_foreign_destination_are_dropped_by_name(paths: Any, packet: Any) -> None:
    one, other = paths
    session = one.node.knows(other.node).current
    good = packet(one.node.address, other.node.address)
    frames = [packet("10.1.0.77", other.node.address), packet(one.node.address, "10.1.0.99"), b"\x10" + bytes(40), good]
    bundle = b"".join((10 + len(each)).to_bytes(2, "little") + bytes(10) + each for each in frames)
    one.underlay.send_uneven(session.sealer.seal_bundles([bundle], 1472, Buffer(1 << 18)), other.udp.getsockname())
    assert other.receive() == [good]
    drops = {VpnDrop.SOURCE_MISMATCH: 1, VpnDrop.NOT_OURS: 1, VpnDrop.NOT_IP: 1}
    assert other.node.tunnel.drops == drops


def test_a_record_moves_the_peer_but_not_one_out_of_the_tunnel(paths: Any, packet: Any, monkeypatch: Any) -> None:
    one, other = paths
    peer = other.node.knows(one.node).peer
    peer.endpoint = ("203.0.113.66", 66)
    one.send(packet(one.node.address, other.node.address))
    assert len(other.receive()) == 1
    assert peer.endpoint == one.udp.getsockname()
    peer.endpoint = ("203.0.113.66", 66)
    paths_of = other.node.tunnel.paths
    monkeypatch.setattr(paths_of, "_underground", replace(paths_of._underground, loops=lambda endpoint: True))
    one.send(packet(one.node.address, other.node.address))
    assert other.receive() == []
    assert other.node.tunnel.drops == {VpnDrop.LOOPED: 1}


def test_a_record_under_an_old_or_unknown_session_is_dropped_by_name(paths: Any, packet: Any) -> None:
    one, other = paths
    session = one.node.knows(other.node).current
    iov = session.sealer.seal_bundles([b"\x0b\0" + bytes(11)], 1472, Buffer(1 << 18))
    wire = b"".join(iov)
    other.node.wire.now += 1000
    one.udp.sendto(wire, other.udp.getsockname())
    one.udp.sendto(b"\1\2\3\4" + wire[4:], other.udp.getsockname())
    assert other.receive() == []
    assert other.node.tunnel.drops == {VpnDrop.EXPIRED: 1, VpnDrop.UNKNOWN_INDEX: 1}
    one.node.wire.now -= 1000


def bundle_of(*packets: bytes) -> bytes:
    return b"".join((10 + len(each)).to_bytes(2, "little") + bytes(10) + each for each in packets)


def test_packets_of_a_known_session_are_examined_each(paths: Any, packet: Any) -> None:
    one, other = paths
    sealer, to = one.node.knows(other.node).current.sealer, other.udp.getsockname()
    good = packet(one.node.address, other.node.address)

    def seal(plain: bytes) -> bytes:
        return bytes(sealer.seal_packets(plain))

    def carry(datagram: bytes) -> list[bytes]:
        one.udp.sendto(datagram, to)
        return list(other.receive())

    first = seal(bundle_of(good))
    assert carry(first) == [good]
    assert len(other.node.tunnel.lanes.marks) == 1, "so what follows goes the short way"
    late = seal(bundle_of(good))
    for few in ([good], [good, good], [good] * 5):
        assert carry(seal(bundle_of(*few))) == few
    assert carry(late) == [good], "once, out of order"
    assert not other.node.tunnel.drops
    altered = bytearray(seal(bundle_of(good)))
    altered[40] ^= 1
    foreign = packet("10.1.0.77", other.node.address)
    for datagram, arrived, drop in (
        (first, [], VpnDrop.REPLAYED),
        (late, [], VpnDrop.REPLAYED),
        (bytes(altered), [], VpnDrop.UNSEAL),
        (first[:31], [], VpnDrop.TRUNCATED),
        (first[:32], [], VpnDrop.REPLAYED),
        (first[:10] + b"\xff" * 6 + first[16:], [], VpnDrop.REPLAYED),  # no counter is so high
        (seal(bundle_of(good) + b"\xff\0abc"), [good], VpnDrop.MALFORMED),
        (seal(b"\3\0abc"), [], VpnDrop.MALFORMED),
        (seal(bundle_of(foreign, good)), [good], VpnDrop.SOURCE_MISMATCH),
    ):
        assert carry(datagram) == arrived
        assert other.node.tunnel.drops == {drop: 1}
        other.node.tunnel.drops.clear()
    assert carry(seal(b"")) == carry(seal(bytes(2))) == []
    assert carry(seal(bundle_of(good) + bytes(9))) == [good]
    assert not other.node.tunnel.drops


def test_bundles_that_look_alike_are_looked_at_once_and_others_each(
    paths: Any, packet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = paths
    sealer, to = one.node.knows(other.node).current.sealer, other.udp.getsockname()

    def acknowledgement(number: int, source: str = one.node.address) -> bytes:
        return bytes(packet(source, other.node.address, bytes([number] * 32)))

    def carry(*packets: bytes) -> list[bytes]:
        one.udp.sendto(sealer.seal_packets(bundle_of(*packets)), to)
        return list(other.receive())

    for number in range(4):
        for count in (1, 2, 4):
            assert carry(*[acknowledgement(number)] * count) == [acknowledgement(number)] * count
    with monkeypatch.context() as patch:
        patch.setattr(other.inbound, "_take_bundle", None)
        for number in range(40):
            assert carry(acknowledgement(number), acknowledgement(number + 1)) == [
                acknowledgement(number), acknowledgement(number + 1)
            ]  # fmt: skip
    assert not other.node.tunnel.drops

    whole = acknowledgement(7)
    for turn in range(1, 4):
        assert carry(acknowledgement(1), acknowledgement(2, "10.1.0.77")) == [acknowledgement(1)]
        assert other.node.tunnel.drops == {VpnDrop.SOURCE_MISMATCH: turn}
        assert carry(whole, whole[:2] + (40).to_bytes(2, "big") + whole[4:]) == [
            whole, whole[:2] + (40).to_bytes(2, "big") + whole[4:40]
        ]  # fmt: skip
        longer, shorter = whole[:2] + (53).to_bytes(2, "big") + whole[4:] + b"x", whole[:2] + b"\0\x33" + whole[4:-1]
        assert carry(longer, shorter) == [longer, shorter]
        assert carry(whole, whole) == [whole, whole]
    other.node.tunnel.table.route(other.node.knows(one.node).peer, frozenset())
    assert carry(whole, whole) == []
    assert other.node.tunnel.drops == {VpnDrop.SOURCE_MISMATCH: 5}


def test_the_second_bundle_of_a_record_is_none_of_the_known(paths: Any, packet: Any) -> None:
    """Its number is one more than the first one's: taken for the first, it would be taken for replayed."""
    one, other = paths
    sealer, good = one.node.knows(other.node).current.sealer, packet(one.node.address, other.node.address)
    for _ in range(3):
        for datagram in sealer.seal_bundles([bundle_of(good)] * 2, 1472, Buffer(1 << 18)):
            one.udp.sendto(datagram, other.udp.getsockname())
            assert other.receive() == [good]
    assert not other.node.tunnel.drops


def test_strange_datagrams_are_dropped_by_name(paths: Any) -> None:
    _, other = paths
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stranger:
        for size in (0, 1, 3, 4, 15, 16, 17, 1472, 1473, 9000, 60000):
            stranger.sendto(b"\xff" * size, other.udp.getsockname())
        stranger.sendto(b"\x09\0\0\0", other.udp.getsockname())
    assert other.receive() == []
    assert other.node.tunnel.drops.total() == 12


def test_records_that_come_cut_altered_twice_and_in_any_order_are_taken_once(paths: Any, packet: Any) -> None:
    one, other = paths
    chance = random.Random(1)
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with line:
        line.bind(("127.0.0.1", 0))
        line.setblocking(False)
        one.node.knows(other.node).peer.endpoint = line.getsockname()
        sent = [packet(one.node.address, other.node.address, bytes([i]) * (1392 if i % 2 else 92)) for i in range(16)]
        for each in sent:  # those of 1412 bytes take two datagrams each
            one.send(each)
        datagrams = [line.recv(1 << 16) for _ in range(24)]
        altered = [datagram[:-1] + bytes([datagram[-1] ^ 1]) for datagram in datagrams if datagram[5] == 1]
        cut = [datagram[: chance.randrange(16, len(datagram))] for datagram in datagrams if datagram[5] == 1]
        twice = datagrams * 2
        chance.shuffle(twice)
        for datagram in (*altered, *cut, *twice):
            line.sendto(datagram, other.udp.getsockname())
            arrived = other.receive()
            assert not set(arrived) - set(sent)
            for each in arrived:
                sent.remove(each)
    assert sent == []
    drops = other.node.tunnel.drops
    assert drops[VpnDrop.UNSEAL] + drops[VpnDrop.TRUNCATED] == 2 * 8
    assert drops[VpnDrop.REPLAYED] >= 8


@pytest.mark.parametrize("size", [4, 10])
def test_datagrams_too_short_for_a_header_that_come_together_are_counted(paths: Any, packet: Any, size: int) -> None:
    """The kernel puts datagrams of any size together; whoever had seen a session's name could end the process."""
    one, other = paths
    index = other.node.knows(one.node).current.index.to_bytes(4, "little")
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stranger:
        segment = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        stranger.sendmsg([index.ljust(size, b"\0") * 50], segment, 0, other.udp.getsockname())
    assert other.receive() == []
    assert other.node.tunnel.drops == {VpnDrop.UNKNOWN_KIND: 50}
    sent = packet(one.node.address, other.node.address)
    one.send(sent)
    assert other.receive() == [sent]


def test_after_small_datagrams_that_came_together_large_ones_come_whole(paths: Any, packet: Any) -> None:
    one, other = paths
    sealer = one.node.knows(other.node).current.sealer
    for size, count in ((20, 3), (1300, 40), (20, 3), (1300, 40)):
        frame = bytes(10) + packet(one.node.address, other.node.address, bytes(size))
        bundles = [len(frame).to_bytes(2, "little") + frame] * count
        one.underlay.send_uneven(sealer.seal_bundles(bundles, 1472, Buffer(1 << 18)), other.udp.getsockname())
        assert other.receive() == [frame[10:]] * count


def test_while_data_flows_the_receiver_reports_once_a_second(paths: Any, packet: Any) -> None:
    one, other = paths
    members = one.node.knows(other.node).peer.members
    for _ in range(3):
        one.send(packet(one.node.address, other.node.address))
        other.receive()
        assert one.receive() == []
    assert 0.0 < members.share < START


def test_the_first_frame_of_a_new_session_confirms_it(wire: Any, packet: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob, is_eager=False)
    bob.meet(alice, is_eager=False)
    wire.lose = lambda sender, datagram: datagram[0] == 4  # the keepalive that would confirm
    alice.say(bob)
    wire.run(0.1)
    peer, session = bob.knows(alice).peer, alice.knows(bob).current
    assert peer.next is not None
    assert peer.current is None
    path = NodePath(bob, Offloads())
    frame = bytes(10) + packet(alice.address, bob.address)
    sealed = session.sealer.seal_bundles([len(frame).to_bytes(2, "little") + frame], 1472, Buffer(1 << 18))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"".join(sealed), path.udp.getsockname())
        assert path.receive() == [frame[10:]]
    assert peer.current is not None
    assert peer.next is None
    path.close()


@pytest.mark.parametrize("size", [60, 64, 104])
@pytest.mark.parametrize("length", [520, 530, 535])
def test_headers_and_datagrams_of_a_receive_are_those_that_were_sent(size: int, length: int) -> None:
    wire = os.urandom(length)
    received, sent = Received.copy(wire, size), [wire[at : at + size] for at in range(0, length, size)]
    assert (received.count, received.tail) == (len(sent), len(sent[-1]))
    assert bytes(received.headers) == b"".join(each[:16] for each in sent if len(each) >= 16)
    assert [bytes(received.datagram(at)) for at in range(received.count)] == sent


@pytest.mark.parametrize(
    ("text", "has"),
    [("flags\t\t: fpu aes avx\n", True), ("Features\t: fp aes\n", True), ("flags: fpu vaes\n", False), ("", False)],
)
def test_the_processor_says_whether_it_has_aes(tmp_path: Path, text: str, has: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert has_aes(file) is has
    assert has_aes(tmp_path / "missing") is False
