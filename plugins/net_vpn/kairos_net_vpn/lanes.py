"""What is known of packets that come and go all the time: one look-up takes the place of all that led to it. Pure.

It follows from routes, sessions and what was examined once. Who changes one of these forgets all of it (`Lanes.forget`,
by table.py); what changes by itself - time, endpoints, the sizes of datagrams and groups - is compared each time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from kairos_net_vpn.datagrams import WORD, Received
from kairos_net_vpn.lone import Lone, recognise
from kairos_net_vpn.mould import Mould
from kairos_net_vpn.opening import Opener
from kairos_net_vpn.peer import Peer
from kairos_net_vpn.records import Decrypt, Sealer
from kairos_net_vpn.session import Session
from kairos_net_vpn.shape import Alike, Shape
from kairos_net_vpn.small import SmallCipher
from kairos_net_vpn.vnet import GSO_ECN, GSO_TCPV4, GSO_UDP_L4, PLAIN_IPV4, VNET_HEADER

MOST = 64
"""Courses and arrivals that are known, 1 KB each. Raising it helps where many streams have many sizes."""
MOST_LONES = 8
"""Lengths known of datagrams of small packets under a mark, 2 KB each. Raising it helps conversations of many sizes."""
HOST = struct.Struct("<10xc15x4s")
"""Of a frame: the first byte of its packet, and where the destination is in IPv4."""
SHORTEST = HOST.size
TCP_TRAITS = struct.Struct("<11s8xB6x4s12xB")
UDP_TRAITS = struct.Struct("<11s8xB6x4s13x")
"""All that decides where a super-packet with IPv4 goes and how it is cut, but its length: virtio header and the first
byte of its packet, protocol, destination, and the byte in which TCP says how long its header is."""
TCP_ADMITTED = struct.Struct("<14s5xB2x8s12xB")
UDP_ADMITTED = struct.Struct("<14s5xB2x8s13x")
"""All that decides whether a super-packet with IPv4 may come in, but its length: the same with both addresses, and the
length that the packet says."""
_KINDS = frozenset({GSO_TCPV4, GSO_TCPV4 | GSO_ECN, GSO_UDP_L4})

Key: TypeAlias = tuple[int, tuple[bytes | int, ...]]


class Lane(NamedTuple):
    """The session that carries packets for a host, to its peer, until it is time for another."""

    session: Session
    peer: Peer
    until: float


class Course(NamedTuple):
    """Where super-packets go that are alike in all that matters, and how they are cut: in groups of `members`.

    It holds until `until`, while the peer's datagrams and groups are of this size.
    """

    session: Session
    peer: Peer
    until: float
    sealer: Sealer
    members: int
    mould: Mould


class Arrival(NamedTuple):
    """What receives of one length that began with the same word were: a super-packet of one group, and admitted."""

    session: Session
    opener: Opener
    peer: Peer
    until: float
    alike: Alike
    decrypt: Decrypt
    traits: struct.Struct
    admitted: tuple[bytes | int, ...]

    def admits(self, session: Session, frame: memoryview) -> bool:
        """Say whether a frame of a session, from a record of this length, may come in as that one did."""
        return session is self.session and self.traits.unpack_from(frame) == self.admitted


class Mark(NamedTuple):
    """The session of datagrams that begin with the same word: each is small packets, the first group of its record."""

    session: Session
    opener: Opener
    peer: Peer
    until: float
    cipher: SmallCipher
    lones: dict[int, Lone | None]
    """How they were made up, by their lengths; None for a length that came once."""


class Lanes:
    """What is known now. Each is looked up directly, since a call would cost more than the look-up."""

    __slots__ = ("arrivals", "courses", "has_routes", "hosts", "marks")

    def __init__(self, *, has_routes: bool) -> None:
        self.has_routes = has_routes
        """Whether there are networks behind this node: then each packet is looked at."""
        self.hosts: dict[tuple[bytes, ...], Lane] = {}
        self.courses: dict[Key, Course] = {}
        self.arrivals: dict[tuple[int, int, int], Arrival] = {}
        """By the first word of a receive, its length, and that of its datagrams."""
        self.marks: dict[int, Mark] = {}
        """By the first word of a datagram: the session's name, and all else of a header but the number."""

    def forget(self) -> None:
        self.hosts.clear()
        self.courses.clear()
        self.arrivals.clear()
        self.marks.clear()

    def learn_course(self, frame: memoryview, key: Key, course: Course) -> None:
        """Remember the course of a super-packet whose host has a lane, if its key says all else that it depends on."""
        if is_plain(frame):
            if len(self.courses) >= MOST:
                self.courses.clear()
            self.courses[key] = course

    def learn_mark(self, wire: Received, session: Session, until: float) -> None:
        """Remember whose a datagram is that is a whole group of small packets, if it is the first of its record."""
        peer, (kind, _, _, group) = session.peer, wire.octets[4:WORD]
        if session is peer.current and not group:
            if len(self.marks) >= MOST:
                self.marks.clear()
            opener = session.opener
            self.marks[wire.words[0]] = Mark(session, opener, peer, until, opener.small_of(kind), {})

    def learn_lone(self, mark: Mark, lone: Lone, length: int, frames: Sequence[memoryview]) -> None:
        """Remember how a datagram is made up whose frames were admitted as they are, once its length comes again."""
        lones = mark.lones
        if length in lones:
            is_simple = mark.peer.sources is None and not self.has_routes
            lones[length] = recognise(lone, frames) if is_simple else None
        else:
            if len(lones) >= MOST_LONES:
                lones.clear()
            lones[length] = None

    def learn_arrival(self, wire: Received, what: tuple[Session, float, Shape], frame: memoryview) -> None:
        """Remember what a receive was, if it was one group, and its traits say all that `frame` was admitted for."""
        session, until, shape = what
        peer = session.peer
        is_simple = peer.sources is None and not self.has_routes and is_plain(frame) and session is peer.current
        if shape.groups > 1 or not is_simple:
            return
        if len(self.arrivals) >= MOST:
            self.arrivals.clear()
        opener = session.opener
        traits = UDP_ADMITTED if frame[1] == GSO_UDP_L4 else TCP_ADMITTED
        self.arrivals[wire.words[0], wire.length, wire.size] = Arrival(
            session,
            opener,
            peer,
            until,
            shape.alike(wire, len(frame)),
            opener.decrypt_of(shape.kind),
            traits,
            traits.unpack_from(frame),
        )


def is_plain(frame: memoryview) -> bool:
    """Say whether a super-packet is of a kind that its traits say everything of."""
    return len(frame) >= TCP_ADMITTED.size and frame[1] in _KINDS and frame[VNET_HEADER] == PLAIN_IPV4


def key_of(octets: memoryview, at: int, length: int) -> Key:
    """Return what tells courses apart; there are 43 bytes or more from `at` on, whatever the frame has."""
    return length, (UDP_TRAITS if octets[at + 1] == GSO_UDP_L4 else TCP_TRAITS).unpack_from(octets, at)
