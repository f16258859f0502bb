"""The node under attack: the real packet path between a device and a socket that a test holds, on virtual time.

Two members may be hostile, alone or together: `alice` and `carol`. `dave` is honest, and must never notice.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from frames import check_frame, is_made_of
from kairos_net_vpn import tun
from kairos_net_vpn.carriage import Carriage
from kairos_net_vpn.datagrams import Buffer
from kairos_net_vpn.endpoints import Endpoints
from kairos_net_vpn.handshakes import Sources
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.noise import Local, SessionKeys
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.order import MOST
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.parts import MOST_HELD, Buffers
from kairos_net_vpn.path import MAX_ASKED, Via
from kairos_net_vpn.paths import Underground
from kairos_net_vpn.peer import NEVER, Endpoint, Peer
from kairos_net_vpn.prefixes import Inside
from kairos_net_vpn.records import PACKETS
from kairos_net_vpn.relaying import MAX_PAIRS
from kairos_net_vpn.runs import MAX_WAITING
from kairos_net_vpn.session import Session
from kairos_net_vpn.sides import MAX_TEXT
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.tunnel import PeerState, Tunnel
from kairos_net_vpn.vnet import MAX_SEGMENTS, PLAIN
from kernel import Device, Port
from member import BEHIND, SESSIONS, Head, Member

OFFERED = ip_network("172.16.0.0/12")
"""The network behind the victim, where it has one."""
STALE = b"\xc5\x3a\x91\x7e\x08\xd2"
"""What lies in the victim's buffers: somebody else's, so it may come out nowhere."""
ALICE, CAROL, DAVE = MEMBERS = tuple(Member(number) for number in (1, 2, 3))
LOCAL = Local(X25519PrivateKey.from_private_bytes(bytes([9]) * 32), bytes(32))
NOWHERE = 1 << 30
"""A descriptor that no process has: what is written goes to `Device`."""
SLACK = 4096
"""Bytes that the victim may send without having received as many: handshakes it begins, reports."""


class StaleBuffers(Buffers):
    """Buffers in which something lay before, whoever takes one."""

    __slots__ = ()

    def take(self) -> Buffer:
        buffer = super().take()
        _make_stale(buffer.octets)
        return buffer


def _make_stale(memory: memoryview) -> None:
    memory[:] = (STALE * (len(memory) // len(STALE) + 1))[: len(memory)]


class Victim:
    """A node with three members. `check` says whether it bears what it got."""

    way_out: Outbound | None = None

    def __init__(
        self, *, vnet: bool = True, offloads: bool = True, behind: bool = False, relayed: bool = False
    ) -> None:
        self.now, self.behind, self.vnet = 1000.0, behind, vnet
        self.addresses = frozenset(ip_address(text).packed for text in ("10.1.0.9", "fd00::9"))
        self.tunnel = self._tunnel()
        self.tunnel._buffers = StaleBuffers()
        self.port: Any = Port()
        self.device = Device()
        allowed = Offloads()
        with patch.object(tun, "FileIO", self.device.file):
            self.tun = tun.Tun(NOWHERE, allowed, self.tunnel.drops)
        self.tun.vnet, self.tun.tso, self.tun.uso = vnet, vnet and offloads, vnet and offloads
        self.carriage = Carriage(self.port, allowed, self.tunnel, lambda: self.now)
        self.outbound = self._outbound()
        self.inbound = Inbound(self.tunnel, self.tun, self.carriage, self.outbound)
        for stale in (self.inbound._out, self.inbound._wire.octets):
            _make_stale(stale)
        for member in MEMBERS:
            self._meet(member)
        if relayed:
            self.peer(ALICE).endpoint = Via(CAROL.local.public, ALICE.local.public)
        self.reached: set[str] = set()
        """What an input brought about: else the fuzzer might find nothing because all is refused."""
        self.heard_of_dave = self.received = self.answered = 0
        self.written = self.allowed = 0
        """Frames that receives have brought to the device, and the most that all of them may: some wait for others."""

    def _tunnel(self) -> Tunnel:
        endpoints = Endpoints(socket.AF_INET)
        routes = (OFFERED,) if self.behind else ()
        inside = Inside(self.addresses, (ip_network("10.1.0.0/24"), ip_network("fd00::/64")), routes, 7000)
        return Tunnel(
            LOCAL,
            inside=inside,
            mtu=1420,
            timing=Timing(),
            sources=Sources(random.Random(1).randbytes, lambda: 1.7e9 + self.now, endpoints.host_of),
            underground=Underground(
                headers=endpoints.header_size,
                describe=endpoints.format,
                loops=lambda endpoint: inside.holds(endpoints.address_of(endpoint)),
            ),
        )

    def _outbound(self) -> Outbound:
        """Return the way out, its buffers taken over from the victim before: 8 MB would cost more than all the rest."""
        outbound = Victim.way_out
        if outbound is None:
            outbound = Victim.way_out = Outbound(self.tunnel, self.tun, self.carriage)
        outbound._tunnel, outbound._tun, outbound._underlay = self.tunnel, self.tun, self.carriage
        outbound._courses, outbound._hosts = self.tunnel.lanes.courses, self.tunnel.lanes.hosts
        return outbound

    def _meet(self, member: Member) -> None:
        member.forget()
        routes = (BEHIND,) if self.behind and member is ALICE else ()
        state = PeerState(member.local.public, (member.endpoint,), member.addresses, True, routes, records=True)
        self.tunnel.set_peer(state, self.now)
        self.tunnel.take_outbox()
        peer = self.peer(member)
        peer.endpoint = member.endpoint
        for number in range(SESSIONS):
            keys = SessionKeys(bytes(32), member.keys[number], number + 1)
            session = Session(peer, keys, index=member.indices[number], is_initiator=number == 1, now=self.now)
            if number == SESSIONS - 1:
                self.tunnel.table.stand_by(session)
            else:
                self.tunnel._handshakes.confirm(session, self.now)

    def peer(self, member: Member) -> Peer:
        peer = self.tunnel.table.find(member.local.public)
        assert peer is not None
        return peer

    # -- what happens to it

    def receive(self, wire: bytes, size: int, source: Endpoint) -> None:
        """Take what one receive brings: datagrams of `size` bytes, the last of which may be shorter."""
        assert len(wire) <= 65535
        self.port.waiting.append((wire, max(1, size), source))
        before, sent = len(self.device.frames), len(self.port.sent)
        self._act(lambda: self.inbound.read(self.now))
        datagrams = -(-len(wire) // max(1, size))
        self.written += len(self.device.frames) - before
        self.allowed += max(MAX_SEGMENTS, len(wire)) * max(1, datagrams)
        assert self.written <= self.allowed, "more than all that came can stand for"
        self.received += len(wire)
        for length, endpoint in self.port.sent[sent:]:
            self.answered += length
            self.reached.add("answered" if endpoint == source else "relayed")
        assert self.answered <= 2 * self.received + SLACK, "it amplifies"

    def receive_each(self, datagrams: Iterable[bytes], source: Endpoint) -> None:
        for datagram in datagrams:
            self.receive(datagram, len(datagram), source)

    def say(self, member: Member) -> None:
        """Send the member a small packet."""
        addresses = ip_address("10.1.0.9").packed + ip_address(f"10.1.0.{member.number}").packed
        packet = b"\x45\0\0\x1b\0\0\0\0\x40\xfd\0\0" + addresses + b"payload"
        self._act(lambda: self.outbound._send_small([memoryview(bytearray(PLAIN + packet))], self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.tunnel.wake <= self.now:
            self._act(lambda: self.tunnel.handle_timer(self.now))
        if self.inbound.wake <= self.now:
            self._act(lambda: self.inbound.handle_timer(self.now))

    def _act(self, action: Any) -> None:
        with patch.object(tun, "os", self.device):
            action()
            self.carriage.flush(self.tunnel.take_outbox())

    # -- how it bears it

    def check(self) -> None:
        """Fail when a frame came out that may not, or when something holds more than it may."""
        for frame in self.device.frames:
            self._check_frame(frame)
            self.reached.add("super-packets" if self.vnet and frame[1] else "packets")
        self.device.frames.clear()
        self.port.sent.clear()
        self._check_bounds()

    def _check_frame(self, frame: bytes) -> None:
        whole = frame if self.vnet else PLAIN + frame
        source, destination = check_frame(whole)
        assert destination in self.addresses or (self.behind and ip_address(destination) in OFFERED), "not ours"
        senders = [member for member in MEMBERS if member.owns(source, behind=self.behind)]
        assert senders, "nobody owns its source"
        assert STALE not in frame, "what lay in a buffer"
        assert not self.tun.tso or is_made_of(whole, senders[0].sealed), "nobody sealed this"

    def _check_bounds(self) -> None:
        table = self.tunnel.table
        assert len(table) == len(MEMBERS)
        assert len(table.sessions) <= SESSIONS * len(MEMBERS)
        assert len(table.pending) <= len(MEMBERS)
        assert len(self.tunnel.relaying._quota) <= MAX_PAIRS
        assert all(len(text) <= MAX_TEXT for text in self.tunnel.paths.reflexive.values())
        for peer in table:
            assert len(peer.path.asked) <= MAX_ASKED
        buffers = list(self.tunnel._buffers._spare)
        for session in table.sessions.values():
            opener = session._opener
            if opener is not None:
                assert not opener.sides
                groups = opener.waiting.values()
                assert len(groups) <= MAX_WAITING
                assert all(len(parts.buffer.octets) == MOST_HELD for parts in groups)
                assert len(opener.order) <= MOST
                assert not opener.order or self.inbound.wake < NEVER
                buffers += [parts.buffer for parts in groups]
                buffers += [held.buffer for held in opener.order if held.buffer is not None]
                assert len(opener.gatherer.repaired) <= MAX_WAITING
                assert len(opener.gatherer.undecided) <= MAX_WAITING
        assert len(set(map(id, buffers))) == len(buffers), "two use one buffer"

    def check_dave(self) -> None:
        """Fail when the honest member has noticed anything, or when it no longer gets through."""
        peer = self.peer(DAVE)
        assert peer.endpoint == DAVE.endpoint
        if not (peer.current and self.tunnel._handshakes.has_session(peer, self.now)):
            return
        self.heard_of_dave += 1
        addresses = ip_address("10.1.0.3").packed + ip_address("10.1.0.9").packed
        packet = b"\x45\0\0\x18\0\0\0\0\x40\xfd\0\0" + addresses + self.heard_of_dave.to_bytes(4)
        entry = (len(packet) + 10).to_bytes(2, "little") + PLAIN + packet
        self.device.frames.clear()
        self.receive_each(DAVE.seal_true(1, Head(PACKETS), entry, 1456), DAVE.endpoint)
        assert [frame[-len(packet) :] for frame in self.device.frames] == [packet]
