"""What peers say to each other: datagrams (best effort) and stream messages (reliable).

A datagram, inside its seal, is `kind u8 | sender tag 8 B | body`:

    1 PING     nonce u32 | incarnation u32 | census 8 B | news*   are you alive, and do you see the same peers alive?
    2 ACK      nonce u32 | incarnation u32 | digest 8 B | news*   the answer, with its nonce: and do our ledgers agree?
    3 PUSH     (length u16 | entry)*          new entries
    4 HAVE     (short id 8 B)*                new entries that the sender holds, for those who missed the PUSH
    5 PULL     (short id 8 B)*                send me these
    6 BULK     (short id 8 B)*                as HAVE, for entries too large for a datagram: fetch by a stream
    7 COMPARE  start u16 | count u16          send me these cells of your sketch
    8 CELLS    digest 8 B | start u16 | (cell 16 B)*   the answer: cells of the ledger that has this digest; none
                                              while it is being filled by another: ask later
    9 NEWS     news*                          who is suspected, dead, or alive after all
    10 PROBE   nonce u32 | tag 8 B            ping this peer for me: it does not answer me
    11 REACHED nonce u32 | incarnation u32 | tag 8 B   the answer to a PROBE: it answered me
    12 WHO     nonce u32 | incarnation u32 | digest 8 B   an ACK to a stranger's PING: PUSH me your entry in `peers`

and news is `state u8 | incarnation u32 | tag 8 B`. A tag stands for a peer id; it keeps a ping at 58 bytes. Liveness
is believed only from an answer that carries a fresh nonce, so a replayed datagram proves nothing. A census is the
exclusive or of the tags of those that the sender sees alive, in the sample that the nonce draws (`membership`).

A stream message is a msgpack array whose first element is its kind:

    [1, version, port, unix ms]              HELLO    the first message, in both directions
    [2, short ids]                           OFFER    all that the sender holds, for reconciliation
    [3, [entry, …]]                          ENTRIES  entries that the other lacks; may come several times
    [4, short ids]                           WANT     what the sender lacks; ends its turn
    [5]                                      DONE     reconciliation is over
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from kairos_core.errors import ProtocolError
from kairos_core.model import PeerId
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import MAX_ENTRY, SHORT_ID, pack, unpack
from kairos_core.protocol.seal import OVERHEAD
from kairos_core.protocol.sketch import CELL

TAG = 8
MAX_BODY = 1200 - OVERHEAD - 1 - TAG
"""Bytes of body in one datagram: 1158."""

MAX_PUSH = MAX_BODY - 2
"""Bytes of the largest entry that a datagram carries."""

MAX_CELLS = 64
"""Cells in one datagram. More would fit; a power of two keeps the blocks of a sketch apart."""

_PING = struct.Struct("!II8s")
_NEWS = struct.Struct("!BI8s")
_COMPARE = struct.Struct("!HH")
_CELLS = struct.Struct("!8sH")
_PROBE = struct.Struct("!I8s")
_REACHED = struct.Struct("!II8s")
MAX_NEWS = 64
"""Items of news in one datagram: 832 bytes."""

HELLO_VERSION = 1
BATCH_BYTES = 256 * 1024
"""Bytes of entries in one ENTRIES message, under the transport's limit of 1 MiB."""


class Life(IntEnum):
    """How a peer is doing, as far as we know. Only the last three travel."""

    UNKNOWN = 0  # named by the ledger, and not heard of yet
    ALIVE = 1
    SUSPECT = 2  # answered neither us nor those we asked; still counted among the living
    DEAD = 3


@dataclass(frozen=True, slots=True)
class News:
    """What somebody says of a peer's life, as of one of its incarnations (see `membership`)."""

    life: Life
    incarnation: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    nonce: int
    incarnation: int
    census: bytes
    news: tuple[News, ...] = ()


@dataclass(frozen=True, slots=True)
class Ack:
    nonce: int
    incarnation: int
    digest: bytes
    news: tuple[News, ...] = ()


@dataclass(frozen=True, slots=True)
class Push:
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Have:
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bulk:
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Cells:
    digest: bytes
    start: int
    cells: bytes


@dataclass(frozen=True, slots=True)
class Tidings:
    news: tuple[News, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    nonce: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class Reached:
    nonce: int
    incarnation: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class Who:
    nonce: int
    incarnation: int
    digest: bytes


Datagram = Ping | Ack | Push | Have | Pull | Bulk | Compare | Cells | Tidings | Probe | Reached | Who


def tag_of(peer: PeerId, network: bytes) -> bytes:
    """Return the eight bytes that stand for a peer in datagrams of this network."""
    return hashlib.blake2b(peer.public_key, digest_size=TAG, key=network).digest()


def encode_datagram(tag: bytes, message: Datagram) -> bytes:
    """Write a datagram's plaintext."""
    kind, body = _body(message)
    return bytes((kind,)) + tag + body


def _body(message: Datagram) -> tuple[int, bytes]:  # noqa: PLR0911 - one line for each kind
    match message:
        case Ping(nonce, incarnation, census, news):
            return 1, _PING.pack(nonce, incarnation, census) + _joined(news)
        case Ack(nonce, incarnation, digest, news):
            return 2, _PING.pack(nonce, incarnation, digest) + _joined(news)
        case Push(entries):
            return 3, b"".join(len(raw).to_bytes(2) + raw for raw in entries)
        case Have(ids):
            return 4, b"".join(ids)
        case Pull(ids):
            return 5, b"".join(ids)
        case Bulk(ids):
            return 6, b"".join(ids)
        case Compare(start, count):
            return 7, _COMPARE.pack(start, count)
        case Cells(digest, start, cells):
            return 8, _CELLS.pack(digest, start) + cells
        case Tidings(news):
            return 9, _joined(news)
        case Probe(nonce, tag):
            return 10, _PROBE.pack(nonce, tag)
        case Reached(nonce, incarnation, tag):
            return 11, _REACHED.pack(nonce, incarnation, tag)
        case Who(nonce, incarnation, digest):
            return 12, _PING.pack(nonce, incarnation, digest)


def _joined(news: Iterable[News]) -> bytes:
    return b"".join(_NEWS.pack(each.life, each.incarnation, each.tag) for each in news)


def decode_datagram(plaintext: bytes) -> tuple[bytes, Datagram]:
    """Return the sender's tag and the message. Raises ProtocolError (truncated, malformed, unknown_kind)."""
    if len(plaintext) < 1 + TAG:
        raise ProtocolError(Drop.TRUNCATED, "datagram")
    decode = _DECODERS.get(plaintext[0])
    if decode is None:
        raise ProtocolError(Drop.UNKNOWN_KIND, str(plaintext[0]))
    return plaintext[1 : 1 + TAG], decode(plaintext[1 + TAG :])


def _fixed(layout: struct.Struct, body: bytes) -> tuple[Any, ...]:
    if len(body) != layout.size:
        raise ProtocolError(Drop.MALFORMED, "length")
    return layout.unpack(body)


def _headed(layout: struct.Struct, body: bytes) -> tuple[tuple[Any, ...], bytes]:
    if len(body) < layout.size:
        raise ProtocolError(Drop.TRUNCATED, "body")
    return layout.unpack_from(body), body[layout.size :]


def _decode_ping(body: bytes) -> tuple[int, int, bytes, tuple[News, ...]]:
    (nonce, incarnation, sum_of_state), rest = _headed(_PING, body)
    return nonce, incarnation, sum_of_state, _decode_news(rest)


def _decode_news(body: bytes) -> tuple[News, ...]:
    if len(body) % _NEWS.size or len(body) > MAX_NEWS * _NEWS.size:
        raise ProtocolError(Drop.MALFORMED, "news")
    items = list(_NEWS.iter_unpack(body))
    if not all(Life.ALIVE <= life <= Life.DEAD for life, _, _ in items):
        raise ProtocolError(Drop.MALFORMED, "news")
    return tuple(News(Life(life), incarnation, tag) for life, incarnation, tag in items)


def _decode_compare(body: bytes) -> Compare:
    start, count = _fixed(_COMPARE, body)
    if not 0 < count <= MAX_CELLS:
        raise ProtocolError(Drop.MALFORMED, "compare")
    return Compare(start, count)


def _decode_cells(body: bytes) -> Cells:
    (digest, start), cells = _headed(_CELLS, body)
    if len(cells) % CELL or len(cells) > MAX_CELLS * CELL:
        raise ProtocolError(Drop.MALFORMED, "cells")
    return Cells(digest, start, cells)


def _decode_ids(body: bytes) -> tuple[bytes, ...]:
    if not body or len(body) % SHORT_ID:
        raise ProtocolError(Drop.MALFORMED, "ids")
    return tuple(split_ids(body))


def _decode_push(body: bytes) -> Push:
    entries, at = [], 0
    while at < len(body):
        end = at + 2 + int.from_bytes(body[at : at + 2])
        if end > len(body) or end == at + 2:
            raise ProtocolError(Drop.TRUNCATED, "push")
        entries.append(body[at + 2 : end])
        at = end
    return Push(tuple(entries))


_DECODERS: dict[int, Callable[[bytes], Datagram]] = {
    1: lambda body: Ping(*_decode_ping(body)),
    2: lambda body: Ack(*_decode_ping(body)),
    3: _decode_push,
    4: lambda body: Have(_decode_ids(body)),
    5: lambda body: Pull(_decode_ids(body)),
    6: lambda body: Bulk(_decode_ids(body)),
    7: _decode_compare,
    8: _decode_cells,
    9: lambda body: Tidings(_decode_news(body)),
    10: lambda body: Probe(*_fixed(_PROBE, body)),
    11: lambda body: Reached(*_fixed(_REACHED, body)),
    12: lambda body: Who(*_fixed(_PING, body)),
}


def split_ids(joined: bytes) -> Iterator[bytes]:
    """Yield the short ids that were written one after the other."""
    return (joined[at : at + SHORT_ID] for at in range(0, len(joined), SHORT_ID))


def in_datagrams(entries: Iterable[bytes]) -> Iterator[Push]:
    """Pack entries into as few PUSH messages as fit, in order."""
    batch: list[bytes] = []
    size = 0
    for raw in entries:
        if batch and size + 2 + len(raw) > MAX_BODY:
            yield Push(tuple(batch))
            batch, size = [], 0
        batch.append(raw)
        size += 2 + len(raw)
    if batch:
        yield Push(tuple(batch))


@dataclass(frozen=True, slots=True)
class Hello:
    port: int
    unix_ms: int


@dataclass(frozen=True, slots=True)
class Offer:
    ids: bytes


@dataclass(frozen=True, slots=True)
class Entries:
    entries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Want:
    ids: bytes


@dataclass(frozen=True, slots=True)
class Done:
    pass


Message = Hello | Offer | Entries | Want | Done


def encode_message(message: Message) -> bytes:
    """Write a stream message."""
    match message:
        case Hello(port, unix_ms):
            return pack([1, HELLO_VERSION, port, unix_ms])
        case Offer(ids):
            return pack([2, ids])
        case Entries(entries):
            return pack([3, list(entries)])
        case Want(ids):
            return pack([4, ids])
        case Done():
            return pack([5])


def decode_message(raw: bytes) -> Message:
    """Read a stream message. Raises ProtocolError (malformed, version, unknown_kind)."""
    match unpack(raw):
        case [1, int(version), int(port), int(unix_ms)]:
            if version != HELLO_VERSION:
                raise ProtocolError(Drop.VERSION, f"hello {version}")
            if not (0 < port < 65536 and 0 <= unix_ms < 1 << 48):
                raise ProtocolError(Drop.BAD_HELLO)
            return Hello(port, unix_ms)
        case [2, bytes(ids)] if len(ids) % SHORT_ID == 0:
            return Offer(ids)
        case [3, list(entries)] if all(isinstance(raw, bytes) and len(raw) <= MAX_ENTRY for raw in entries):
            return Entries(tuple(entries))
        case [4, bytes(ids)] if len(ids) % SHORT_ID == 0:
            return Want(ids)
        case [5]:
            return Done()
        case [int(kind), *_] if not 1 <= kind <= 5:
            raise ProtocolError(Drop.UNKNOWN_KIND, str(kind))
        case _:
            raise ProtocolError(Drop.MALFORMED, "message")


def in_batches(entries: Iterable[Any]) -> Iterator[Entries]:
    """Pack entries (their raw bytes) into ENTRIES messages of bounded size."""
    batch: list[bytes] = []
    size = 0
    for raw in entries:
        if batch and size + len(raw) > BATCH_BYTES:
            yield Entries(tuple(batch))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw) + 5
    if batch:
        yield Entries(tuple(batch))
