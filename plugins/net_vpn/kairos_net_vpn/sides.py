"""Side messages: what two nodes say to each other within a session beside packets. Pure.

Each is the plaintext of a SIDE group (records.py), so nobody but the peer can have written it:

    PING     [1][token 8][padding]            answer to where this came from; the padding makes it as large as wanted
    PONG     [2][token 8][text]               the answer, and the endpoint that the PING was seen to come from
    RELAY    [3][public key 32][u16 size][datagrams]   pass these on to the peer with this key
    RELAYED  [4][public key 32][u16 size][datagrams]   these are from the peer with this key
    REPAIR   [5] and up to 16 times [number 6][group][u8 n][member, n times]   send these datagrams again, of the
             record with this number under the session that this came in

Relayed datagrams have `size` bytes each, little endian; the last may be shorter; there are at most 128. They are
sealed end to end: a relay replaces the first 33 bytes and can read nothing behind them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from kairos_net_vpn.datagrams import MAX_DATAGRAMS
from kairos_net_vpn.drops import Refused, VpnDrop

PING, PONG, RELAY, RELAYED, REPAIR = 1, 2, 3, 4, 5
TOKEN = 8
_TALE = struct.Struct("<B32sH")
TALE = _TALE.size
"""Bytes before the datagrams of RELAY and RELAYED."""
LEAST_PING = 80
"""Bytes of a PING at least. No PONG is larger than its PING: who forges a source gains nothing."""
MAX_TEXT = LEAST_PING - 1 - TOKEN
LEAST_SIZE = 17
"""Bytes of the smallest datagram: the last of a group may have one byte behind its header."""
MOST_WANTED = 16
"""Groups in a REPAIR."""
NUMBER = 6
"""Bytes of a record's number."""
_ONE = 1 + NUMBER + 3
"""Bytes of a REPAIR that asks for one datagram."""
MOST_DATAGRAMS = MAX_DATAGRAMS
"""Datagrams in a RELAY or RELAYED: what one send has. Bounds the work that 64 KiB can ask for: each is compared with
those that follow it."""


class Tale(NamedTuple):
    """Datagrams for or from the peer with a key."""

    key: bytes
    size: int
    wire: bytes


class Wanted(NamedTuple):
    """Datagrams of one group: the number of its record, which group of it, which members."""

    number: int
    group: int
    members: bytes


def kind_of(plain: bytes) -> int:
    """Return the type of a side message. Raises Refused (malformed) for one that does not exist."""
    if not plain or not PING <= plain[0] <= REPAIR:
        raise Refused(VpnDrop.MALFORMED)
    return plain[0]


def is_data(plain: bytes) -> bool:
    """Say whether a side message carries others' datagrams."""
    return plain[:1] in (b"\3", b"\4")


def encode_ping(token: bytes, size: int = LEAST_PING) -> bytes:
    """Write a PING of `size` bytes, at least LEAST_PING."""
    return (bytes([PING]) + token).ljust(max(size, LEAST_PING), b"\0")


def encode_pong(token: bytes, seen: str) -> bytes:
    return bytes([PONG]) + token + seen.encode()[:MAX_TEXT]


def token_of(plain: bytes) -> bytes:
    """Return the token of a PING or PONG. Raises Refused (malformed)."""
    least = LEAST_PING if plain[0] == PING else 1 + TOKEN
    if len(plain) < least or (plain[0] == PONG and len(plain) > LEAST_PING):
        raise Refused(VpnDrop.MALFORMED)
    return plain[1 : 1 + TOKEN]


def text_of(plain: bytes) -> str:
    """Return the endpoint in a PONG, as the peer wrote it."""
    return plain[1 + TOKEN :].decode("ascii", "replace")


def encode_tale(kind: int, tale: Tale) -> bytes:
    return _TALE.pack(kind, tale.key, tale.size) + tale.wire


def decode_tale(plain: bytes) -> Tale:
    """Read a RELAY or RELAYED. Raises Refused (malformed)."""
    if len(plain) < TALE + LEAST_SIZE:
        raise Refused(VpnDrop.MALFORMED)
    _, key, size = _TALE.unpack_from(plain)
    wire = plain[TALE:]
    if not LEAST_SIZE <= size <= len(wire) <= size * MOST_DATAGRAMS:
        raise Refused(VpnDrop.MALFORMED)
    return Tale(key, size, wire)


def encode_repair(wanted: Sequence[Wanted]) -> bytes:
    """Write a REPAIR of at most MOST_WANTED groups."""
    plain = bytearray([REPAIR])
    for number, group, members in wanted:
        plain += number.to_bytes(NUMBER, "little") + bytes((group, len(members))) + members
    return bytes(plain)


def decode_repair(plain: bytes) -> list[Wanted]:
    """Read a REPAIR. Raises Refused (malformed)."""
    if len(plain) == _ONE and plain[-2] == 1:  # one datagram, as usual
        return [Wanted(int.from_bytes(plain[1 : 1 + NUMBER], "little"), plain[1 + NUMBER], plain[-1:])]
    wanted: list[Wanted] = []
    at = 1
    while at < len(plain):
        head, start = plain[at : at + NUMBER + 2], at + NUMBER + 2
        if len(head) < NUMBER + 2 or len(wanted) == MOST_WANTED:
            raise Refused(VpnDrop.MALFORMED)
        at = start + head[-1]
        members = plain[start:at]
        if len(members) < head[-1]:
            raise Refused(VpnDrop.MALFORMED)
        wanted.append(Wanted(int.from_bytes(head[:NUMBER], "little"), head[NUMBER], members))
    return wanted
