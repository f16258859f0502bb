"""The bytes of a journal: a head, a snapshot, and a record for each batch saved since. Opens no file.

    head      magic 8 | format u32 | mark 16 | end of the snapshot u64 | checksum 16
    record    mark 16 | length of the changes u32 | checksum 16 | changes
    change    kind u8 | lengths of bucket, key and entry u32 each | bucket | key | entry

All numbers are big-endian; checksums are BLAKE2b-128 (RFC 7693). The mark is drawn at random for each file and
also keys the checksums of its records: what peers wrote into the ledger can never pass for a record.

The snapshot is whole before the file gets its name, and each batch is on the disk before the next is begun. So
what a crash can leave is one unfinished record at the end: the torn tail, which was never acknowledged. Anything
else that is not as it was written is damage: in the head, in the snapshot, or with a whole record behind it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kairos_core import StoreBatch

FORMAT = 1
"""The version of the layout. A newer one is refused, not guessed at; its head must stay as it is."""

MARK = 16
_MAGIC = b"KairosLJ"
_CHECKSUM = 16
_HEAD = struct.Struct(f">8sI{MARK}sQ")
HEAD = _HEAD.size + _CHECKSUM
"""Bytes of the head, its checksum included."""

_FRAME = struct.Struct(f">{MARK}sI{_CHECKSUM}s")
_CHANGE = struct.Struct(">BIII")
_PUT, _DELETE = 1, 2
SNAPSHOT_RECORD = 1 << 20
"""Bytes after which a snapshot begins another record. Raising it loses more entries to one damaged byte."""

Place = tuple[str, str]
"""Where an entry is: its bucket and key."""


class Damage(Exception):
    """The file is not what was written. `entries` are those of the records that are whole all the same."""

    def __init__(self, why: str, entries: dict[Place, bytes] | None = None) -> None:
        super().__init__(why)
        self.entries = entries or {}


class NewerFormat(Exception):
    """The file was written by a later version of this program."""

    def __init__(self, version: int) -> None:
        super().__init__(f"format {version}")
        self.version = version


@dataclass
class Journal:
    """What a file holds. `end` is where the next record goes; what lies behind it is a torn tail."""

    mark: bytes
    snapshot: int
    end: int
    entries: dict[Place, bytes] = field(default_factory=dict, repr=False)


def encode_snapshot(entries: dict[Place, bytes], mark: bytes) -> bytes:
    """Return a whole file that holds these entries and no batch yet; `mark` is 16 random bytes."""
    records = bytearray()
    changes = bytearray()
    for (bucket, key), signed in entries.items():
        changes += _change(_PUT, bucket, key, signed)
        if len(changes) >= SNAPSHOT_RECORD:
            records += _record(mark, bytes(changes))
            changes.clear()
    if changes:
        records += _record(mark, bytes(changes))
    head = _HEAD.pack(_MAGIC, FORMAT, mark, HEAD + len(records))
    return head + _checksum(head) + bytes(records)


def encode_batch(batch: StoreBatch, mark: bytes) -> bytes:
    """Return the record of a batch: its deletions first, so that a key both deleted and put is put."""
    deletions = [_change(_DELETE, bucket, key, b"") for bucket, key in batch.delete]
    return _record(mark, b"".join([*deletions, *[_change(_PUT, *each) for each in batch.put]]))


def apply_batch(batch: StoreBatch, entries: dict[Place, bytes]) -> None:
    """Change `entries` as reading the record of this batch would."""
    for place in batch.delete:
        entries.pop(place, None)
    entries.update({(bucket, key): signed for bucket, key, signed in batch.put})


def decode_journal(data: bytes) -> Journal:
    """Read a whole file; the cost grows with its size alone. Raises Damage, NewerFormat."""
    journal = _decode_head(data)
    bad = 0
    while (found := _next_record(data, journal.end, journal.mark)) is not None:
        bad += found - journal.end
        length = _FRAME.unpack_from(data, found)[1]
        journal.end = found + _FRAME.size + length
        _apply(data[journal.end - length : journal.end], journal.entries)
    if bad:
        raise Damage(f"{bad} bytes before {journal.end} are not what was written", journal.entries)
    if journal.end < journal.snapshot:
        raise Damage(f"its snapshot breaks off at byte {journal.end} of {journal.snapshot}", journal.entries)
    return journal


def _decode_head(data: bytes) -> Journal:
    if len(data) < HEAD:
        raise Damage(f"it has {len(data)} bytes, less than its head")
    magic, version, mark, snapshot = _HEAD.unpack_from(data)
    if magic != _MAGIC or data[_HEAD.size : HEAD] != _checksum(data[: _HEAD.size]):
        raise Damage("its head is not what was written")
    if version > FORMAT:
        raise NewerFormat(version)
    return Journal(mark, snapshot, HEAD)


def _next_record(data: bytes, at: int, mark: bytes) -> int | None:
    """Return where the next whole record begins, None when there is none."""
    while (at := data.find(mark, at)) >= 0:
        if _is_record(data, at, mark):
            return at
        at += 1
    return None


def _is_record(data: bytes, at: int, mark: bytes) -> bool:
    if len(data) - at < _FRAME.size:
        return False
    _, length, checksum = _FRAME.unpack_from(data, at)
    changes = data[at + _FRAME.size : at + _FRAME.size + length]
    return len(changes) == length and bool(checksum == _checksum(changes, mark))


def _apply(changes: bytes, entries: dict[Place, bytes]) -> None:
    for kind, place, signed in _decode_changes(changes):
        if kind == _PUT:
            entries[place] = signed
        else:
            entries.pop(place, None)


def _decode_changes(changes: bytes) -> Iterator[tuple[int, Place, bytes]]:
    """Yield (kind, place, entry). The checksum has passed: these bytes are ours, and need no further check."""
    at = 0
    while at < len(changes):
        kind, *lengths = _CHANGE.unpack_from(changes, at)
        at += _CHANGE.size
        bucket, key, signed = _parts(changes, at, lengths)
        at += sum(lengths)
        yield kind, (bucket.decode(), key.decode()), signed


def _parts(data: bytes, at: int, lengths: Iterable[int]) -> Iterator[bytes]:
    for length in lengths:
        yield data[at : at + length]
        at += length


def _record(mark: bytes, changes: bytes) -> bytes:
    return _FRAME.pack(mark, len(changes), _checksum(changes, mark)) + changes


def _change(kind: int, bucket: str, key: str, signed: bytes) -> bytes:
    parts = (bucket.encode(), key.encode(), signed)
    return b"".join((_CHANGE.pack(kind, *map(len, parts)), *parts))


def _checksum(content: bytes, key: bytes = b"") -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM, key=key).digest()
