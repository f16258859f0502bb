"""What a hostile member seals: packets, super-packets, reports, side messages; right but for what an input alters."""

from __future__ import annotations

from ipaddress import ip_address

from choices import Choices
from kairos_net_vpn import sides
from kairos_net_vpn.peer import Peer
from kairos_net_vpn.records import PACKETS, REPORT, SIDE, SUPER
from kairos_net_vpn.sides import Tale
from kairos_net_vpn.vnet import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER, NEEDS_CSUM, PLAIN, TCP, UDP
from member import Member
from victim import LOCAL, MEMBERS

_LENGTHS = (1, 20, 60, 200, 700, 1392)
_PLACES = {4: ("10.1.0.{}", "10.1.0.9"), 6: ("fd00::{}", "fd00::9")}
_BEHIND = {4: ("10.9.0.7", "172.16.0.7"), 6: ("fd00::1", "fd00::9")}


def headers(choices: Choices, number: int, size: int, gso_size: int) -> bytes:
    """Return virtio, IP and transport header of a (super-)packet of a member with `size` bytes of payload."""
    version, protocol = choices.pick((4, 6)), choices.pick((TCP, UDP))
    if protocol == TCP:
        flags = choices.pick((0x18, 0x02, 0x99))
        layer4 = b"\x30\x39\x14\x51\xff\xff\xff\0\0\0\0\0" + bytes([0x60, flags]) + b"\1\0\0\0\0\0\2\4\x23\x28"
    else:
        layer4 = b"\x30\x39\x14\x51" + ((8 + size) & 0xFFFF).to_bytes(2) + b"\0\0"
    texts = (_BEHIND if choices.below(8) == 1 else _PLACES)[version]
    addresses = b"".join(ip_address(text.format(number)).packed for text in texts)
    inner = len(layer4) + size
    if version == 4:
        ip = b"\x45\0" + ((20 + inner) & 0xFFFF).to_bytes(2) + bytes(4) + bytes([64, protocol, 0, 0]) + addresses
    else:
        ip = b"\x60\0\0\0" + (inner & 0xFFFF).to_bytes(2) + bytes([protocol, 64]) + addresses
    kind = GSO_UDP_L4 if protocol == UDP else (GSO_TCPV4 if version == 4 else GSO_TCPV6)
    flags, offset = choices.pick((NEEDS_CSUM, 0)) if not gso_size else NEEDS_CSUM, 16 if protocol == TCP else 6
    virtio = (flags, kind if gso_size else GSO_NONE, len(ip) + len(layer4), gso_size, len(ip), offset)
    return choices.altered(HEADER.pack(*virtio) + ip + layer4)


def frame(choices: Choices, number: int) -> bytes:
    """Return a frame: a packet, a super-packet, or what the input says."""
    if choices.below(8) == 1:
        return choices.octets(choices.below(80))
    size = choices.pick(_LENGTHS)
    gso_size = choices.pick((0, 0, 1, 16, 100))
    whole = headers(choices, number, size, gso_size) + choices.octets(1) * size
    return PLAIN + whole[len(PLAIN) :] if choices.below(8) == 1 else whole


def bundle(choices: Choices, number: int) -> bytes:
    """Return the plaintext of PACKETS."""
    entries = b""
    for _ in range(choices.pick((1, 2, 3, 30))):
        entry = frame(choices, number)
        length = choices.below(1 << 16) if choices.below(8) == 1 else len(entry)
        entries += length.to_bytes(2, "little") + entry
    return entries + choices.octets(choices.pick((0, 0, 0, 1, 5)))


def wish(choices: Choices) -> sides.Wanted:
    """Return datagrams to ask for: of the first records, or of none."""
    number = choices.pick((choices.below(4), choices.below(1 << 48)))
    return sides.Wanted(number, choices.below(3), choices.octets(choices.below(5)))


def side(choices: Choices, peer: Peer, inner: list[bytes]) -> bytes:
    """Return a side message; `inner` are datagrams of the members, to be relayed."""
    kind = choices.pick((sides.PING, sides.PONG, sides.RELAY, sides.RELAYED, sides.REPAIR, 0))
    if kind == sides.PING:
        return choices.altered(sides.encode_ping(choices.octets(8), choices.pick((80, 79, 1400, 20000))))
    if kind == sides.REPAIR:
        wanted = [wish(choices) for _ in range(choices.below(sides.MOST_WANTED + 2))]
        return choices.altered(sides.encode_repair(wanted))
    if kind == sides.PONG:
        asked = list(peer.path.asked)
        token = choices.pick(asked) if asked and choices.chance() else choices.octets(8)
        return sides.encode_pong(token, choices.octets(choices.below(100)).decode("latin-1"))
    if not kind:
        return choices.octets(choices.below(60))
    others = [member.local.public for member in MEMBERS if member.local.public != peer.remote.public]
    key = choices.pick([*others, peer.remote.public, LOCAL.public, bytes(32)])
    return choices.altered(sides.encode_tale(kind, tale(choices, key, inner)), 1)


def tale(choices: Choices, key: bytes, inner: list[bytes]) -> Tale:
    """Return datagrams of one size, the last of which may be shorter, or what is not that."""
    size = choices.pick((17, 60, 148, 700, 1472))
    if inner and choices.chance():
        first = choices.below(len(inner))
        size = len(inner[first])
        alike = [datagram for datagram in inner[first:] if len(datagram) == size]
        wire = b"".join(alike[: 1 + choices.below(len(alike))])
    else:
        wire = choices.altered(choices.octets(16)) * choices.pick((2, 20, 1000, 4200)) + choices.octets(8)
    return Tale(key, choices.below(1 << 16) if choices.below(8) == 1 else size, wire)


def plaintext(choices: Choices, kind: int, member: Member, peer: Peer, inner: list[bytes]) -> bytes:
    """Return the plaintext of a group of a kind that is no super-packet, usually of its format."""
    if choices.below(8) == 1:
        return choices.octets(choices.below(200))
    if kind == PACKETS:
        return bundle(choices, member.number)
    if kind == REPORT:
        return choices.octets(choices.pick((8, 7, 9)))
    assert kind in (SIDE, SUPER)
    return side(choices, peer, inner) if kind == SIDE else frame(choices, member.number)
