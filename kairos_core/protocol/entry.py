"""A ledger entry: what is signed, how it is written, and what is refused before any signature is checked.

The body is the canonical msgpack array `[1, bucket, key, value, author 32 B, hlc u64, flags u8, ttl u32 s,
epoch u32]`; on the wire and on disk it is followed by the 64-byte Ed25519 signature over
`"kairos entry 1" | network id (16 B) | body`. An entry that is not byte for byte what encoding it again gives is
refused, so one content has one id: the keyed BLAKE2b-128 of the body.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import msgpack

from kairos_core.errors import ProtocolError
from kairos_core.model import PeerId
from kairos_core.protocol.clock import unix_time
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.identity import Identity, is_signed_by

FORMAT = 1
MAX_BUCKET = 32
MAX_KEY = 128
MAX_VALUE = 16 * 1024
"""Bytes in a value. Raising it lets one entry cost every node more memory and bandwidth."""

MAX_ENTRY = MAX_VALUE + MAX_BUCKET + MAX_KEY + 160
MAX_DEPTH = 32
"""Levels of lists and maps in a value. Stops a member from ending every program that walks through one by recursion."""

SIGNATURE = 64
SHORT_ID = 8
LEASE = 24 * 3600
"""Seconds that an entry lives after it was signed (T). Its author signs it again each T/4. Raising it keeps the
traces of vanished nodes longer; lowering it costs more renewals and forgets nodes that were off for a while."""

TOMBSTONE = 1
_CONTEXT = b"kairos entry 1"


@dataclass(frozen=True)
class Entry:
    """One signed entry. `value` holds msgpack; a tombstone (deleted) has an empty one.

    `hlc` is when it was signed; `ttl` how long it lives (seconds, at most LEASE); `epoch` counts how often its
    author began anew under this key, for the buckets that need it.
    """

    bucket: str
    key: str
    value: bytes
    author: PeerId
    hlc: int
    flags: int = 0
    ttl: int = LEASE
    epoch: int = 0
    signature: bytes = field(default=b"", repr=False)
    id: bytes = field(default=b"", repr=False)

    @property
    def is_deleted(self) -> bool:
        return bool(self.flags & TOMBSTONE)

    @property
    def short_id(self) -> bytes:
        return self.id[:SHORT_ID]

    @property
    def signed_at(self) -> float:
        """Wall seconds of the author's clock."""
        return unix_time(self.hlc)

    @property
    def expires_at(self) -> float:
        """Wall seconds from which the entry is refused everywhere."""
        return self.signed_at + self.ttl

    @property
    def body(self) -> bytes:
        """What is signed. Made anew each time; canonical as it is, since a flat list has no maps to be sorted."""
        fields = (self.bucket, self.key, self.value, self.author.public_key, self.hlc)
        return _written([FORMAT, *fields, self.flags, self.ttl, self.epoch])

    @cached_property
    def raw(self) -> bytes:
        """The body and the signature: what travels and what is saved."""
        return self.body + self.signature

    @cached_property
    def content(self) -> Any:
        """The decoded value; None for a tombstone or a value that is not msgpack, or nested over MAX_DEPTH."""
        try:
            value = None if self.is_deleted else unpack(self.value)
        except ProtocolError:
            return None
        return value if _is_flat_enough(value) else None


def _is_flat_enough(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        nested = [each for each in level if isinstance(each, (list, tuple, dict))]
        level = [item for each in nested for item in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return True
    return False


def pack(value: Any) -> bytes:
    """Write a value as canonical msgpack: maps with sorted keys, the shortest form of each number.

    Raises ValueError for what msgpack cannot hold, or nested over MAX_DEPTH.
    """
    if not _is_flat_enough(value):
        raise ValueError(f"the value is nested over {MAX_DEPTH} levels; write it flatter")
    return _written(_sorted(value))


def _written(value: Any) -> bytes:
    try:
        return bytes(msgpack.packb(value, use_bin_type=True))
    except OverflowError:
        raise ValueError("the value has a whole number of over 64 bits; write it as text") from None


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, (list, tuple)) else value


def unpack(raw: bytes) -> Any:
    """Read one msgpack value. Raises ProtocolError (malformed). Bounded by the length of `raw`."""
    limit = len(raw)
    try:
        return msgpack.unpackb(
            raw, raw=False, strict_map_key=True, use_list=True,
            max_str_len=limit, max_bin_len=limit, max_array_len=limit, max_map_len=limit, max_ext_len=0,
        )  # fmt: skip
    except (ValueError, RecursionError, TypeError, msgpack.UnpackException):
        raise ProtocolError(Drop.MALFORMED, "msgpack") from None


def sign_entry(entry: Entry, identity: Identity, network: bytes) -> Entry:
    """Return the entry with its signature and id. Raises ValueError when it is over a limit (our own mistake)."""
    body = entry.body
    raw = body + identity.sign(_CONTEXT + network + body)
    try:
        return decode_entry(raw, network)
    except ProtocolError as error:
        raise ValueError(f"cannot write {entry.bucket}/{entry.key}: {error}") from error


def decode_entry(raw: bytes, network: bytes) -> Entry:
    """Read an entry without checking its signature.

    Raises ProtocolError (truncated, oversized, malformed, version, not_canonical).
    """
    if len(raw) <= SIGNATURE:
        raise ProtocolError(Drop.TRUNCATED, "entry")
    if len(raw) > MAX_ENTRY:
        raise ProtocolError(Drop.OVERSIZED, "entry")
    body, signature = raw[:-SIGNATURE], raw[-SIGNATURE:]
    fields = unpack(body)
    if not isinstance(fields, list) or not fields:
        raise ProtocolError(Drop.MALFORMED, "entry")
    if fields[0] != FORMAT:
        raise ProtocolError(Drop.VERSION, "entry")
    entry = Entry(*_checked(fields), signature=signature, id=entry_id(body, network))
    if entry.body != body:
        raise ProtocolError(Drop.NOT_CANONICAL, "entry")
    vars(entry)["raw"] = raw  # as cached_property would: these very bytes, not a copy
    return entry


def _checked(fields: list[Any]) -> tuple[str, str, bytes, PeerId, int, int, int, int]:
    if len(fields) != 9:
        raise ProtocolError(Drop.MALFORMED, "entry")
    _, bucket, key, value, author, hlc, flags, ttl, epoch = fields
    is_text = isinstance(bucket, str) and isinstance(key, str)
    is_bytes = isinstance(value, bytes) and isinstance(author, bytes) and len(author) == 32
    numbers = (hlc, flags, ttl, epoch)
    if not (is_text and is_bytes and all(type(number) is int for number in numbers)):
        raise ProtocolError(Drop.MALFORMED, "entry")
    if len(bucket) > MAX_BUCKET or len(key) > MAX_KEY or len(value) > MAX_VALUE or not (bucket and key):
        raise ProtocolError(Drop.OVERSIZED, "entry")
    bounds = (1 << 64, 1 << 8, LEASE + 1, 1 << 32)
    if not all(0 <= number < bound for number, bound in zip(numbers, bounds, strict=True)):
        raise ProtocolError(Drop.MALFORMED, "entry")
    return _shared(bucket), key, value, _author(author), hlc, flags, ttl, epoch


# Many entries have the same bucket and author: one object for all of them spares a ledger 200 bytes an entry.


@lru_cache(maxsize=64)
def _shared(bucket: str) -> str:
    return bucket


@lru_cache(maxsize=4096)
def _author(public_key: bytes) -> PeerId:
    return PeerId(public_key)


def entry_id(body: bytes, network: bytes) -> bytes:
    """Return the 16 bytes that name an entry. Keyed with the network id, so ids of two networks never meet."""
    return hashlib.blake2b(body, digest_size=16, key=network).digest()


def is_authentic(entry: Entry, network: bytes) -> bool:
    """Say whether the entry is signed by its author. Costs about 140 us."""
    return is_signed_by(entry.author, _CONTEXT + network + entry.raw[:-SIGNATURE], entry.signature)
