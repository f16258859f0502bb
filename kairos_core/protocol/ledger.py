"""The ledger: a map from (bucket, key) to a signed entry, merged with what peers hold.

Time enters only here at the edge: an entry past its lease is refused, and so is one from too far ahead; else a
member could write what nobody can replace for years. One that we hold and that lies ahead since our clock was
set back is hidden, gives way to any other, and its author signs it again. The digest changes with every entry
and does not depend on order, so two nodes compare their whole state by eight bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from kairos_core.errors import ProtocolError
from kairos_core.model import PeerId
from kairos_core.protocol.buckets import check_value, is_writer, merge
from kairos_core.protocol.clock import MAX_AHEAD, HybridClock
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import (
    LEASE,
    SHORT_ID,
    TOMBSTONE,
    Entry,
    decode_entry,
    is_authentic,
    pack,
    sign_entry,
)
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.pace import Pace
from kairos_core.protocol.sketch import Sketch

MAX_ENTRIES = 65_536
"""Entries in the ledger. Stops a member from filling every node's memory with small entries."""

MAX_BYTES = 32 << 20
"""Bytes of all entries. Stops a member from filling every node's memory with large entries."""

MAX_PER_AUTHOR = 4096
"""Entries of one author. Stops one member from taking the whole ledger; raising it lets it."""

AUTHOR_RATE, AUTHOR_BURST = 20.0, 256.0
"""Entries that one author may replace (or have pushed at us unasked) each second, and at once. Stops a member from
keeping every node busy with signatures to verify and news to pass on; raising it lets it. New keys that we asked for
are free: there are at most MAX_PER_AUTHOR of them, and a node that has just joined needs them all."""

MAX_RENEWALS = 256
"""Entries signed again in one go, so that renewals stay within AUTHOR_BURST of those who read them."""

_DIGEST_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Change:
    """An entry that has just become the one that stays, and the one it replaced."""

    entry: Entry
    previous: Entry | None


class Follower(Protocol):
    """Who keeps something of its own in step with the ledger; it must neither raise nor write."""

    def __call__(self, entry: Entry, *, stands: bool) -> None: ...


class Notary:
    """Reads entries and checks their signatures. Ledgers of one process may share one that remembers."""

    def decode(self, raw: bytes, network: bytes) -> Entry:
        """Return the entry. Raises ProtocolError."""
        return decode_entry(raw, network)

    def is_authentic(self, entry: Entry, network: bytes) -> bool:
        """Say whether the entry is signed by its author."""
        return is_authentic(entry, network)


class Ledger:
    """All entries that this node knows. Holds no clock: the wall time is an argument."""

    def __init__(self, network: bytes, notary: Notary | None = None) -> None:
        self.network = network
        self._notary = notary or Notary()
        self.clock = HybridClock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._by_short_id: dict[bytes, Entry] = {}
        self._per_author: Counter[PeerId] = Counter()
        self.sketch = Sketch(network)
        self._pace = Pace(AUTHOR_RATE, AUTHOR_BURST)
        self._digest = 0
        self._bytes = 0
        self._followers: list[Follower] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def digest(self) -> bytes:
        """Eight bytes that two ledgers share if (and practically only if) they hold the same entries."""
        return self._digest.to_bytes(SHORT_ID)

    def short_ids(self) -> Iterator[bytes]:
        """Yield the first eight bytes of every entry's id."""
        return iter(self._by_short_id)

    def find(self, short_id: bytes) -> Entry | None:
        """Return an entry by the first eight bytes of its id."""
        return self._by_short_id.get(short_id)

    def take(self, raw: bytes, unix_now: float, *, is_ours: bool = False, is_asked: bool = True) -> Change | None:
        """Take an entry as a peer sent it; None when we hold it already.

        `is_ours` says that it was saved by this machine: it is then taken from ahead too, since a machine
        without a clock battery may start with a clock that is behind its own disk. `is_asked` says that we asked
        for it: then its author's pace counts only for what replaces another.

        Raises ProtocolError. The cheap checks come first: a signature is verified only for an entry that would
        change something.
        """
        entry = self._notary.decode(raw, self.network)
        if entry.short_id in self._by_short_id:
            return None
        if entry.expires_at <= unix_now:
            raise ProtocolError(Drop.EXPIRED)
        if not is_ours and _is_ahead(entry, unix_now):
            raise ProtocolError(Drop.AHEAD, entry.bucket)
        if not is_writer(entry.bucket, entry.key, entry.author):
            raise ProtocolError(Drop.FORGED_AUTHOR, entry.bucket)
        check_value(entry)
        current = self._standing(entry, unix_now)
        if current is not None and merge(current, entry) is current:
            raise ProtocolError(Drop.STALE)
        self._check_room(entry, current)
        is_paced = not is_ours and (current is not None or not is_asked)
        if is_paced and not self._pace.has(entry.author, 1.0, unix_now):
            raise ProtocolError(Drop.TOO_FAST)
        if not self._notary.is_authentic(entry, self.network):
            raise ProtocolError(Drop.BAD_SIGNATURE, entry.bucket)
        if is_paced:  # only now: a forged entry must not cost the author it names
            self._pace.spend(entry.author, 1.0, unix_now)
        self.clock.observe(entry.hlc, unix_now)
        return self._place(entry)

    def write(self, identity: Identity, entry: Entry, unix_now: float) -> Change:
        """Sign and place an entry of our own; its stamp is set here.

        Raises ValueError when the bucket's policy or a limit forbids it.
        """
        current = self._standing(entry, unix_now)
        if not is_writer(entry.bucket, entry.key, entry.author) or entry.author != identity.peer_id:
            raise ValueError(f"only the node that the key names may write {entry.bucket}/{entry.key}")
        if current is not None:
            self.clock.observe(current.hlc, unix_now)
        signed = sign_entry(replace(entry, hlc=self.clock.tick(unix_now)), identity, self.network)
        try:
            check_value(signed)
            self._check_room(signed, current)
        except ProtocolError as error:
            raise ValueError(f"cannot write {entry.bucket}/{entry.key}: {error}") from error
        if current is not None and merge(current, signed) is current:
            raise ValueError(f"{entry.bucket}/{entry.key} already holds an entry that stays before this one")
        return self._place(signed)

    def held(self, bucket: str, key: str) -> Entry | None:
        """Return the entry that we hold under a key, whatever a reader sees of it now."""
        return self._entries.get((bucket, key))

    def get(self, bucket: str, key: str, unix_now: float) -> Entry | None:
        """Return what a reader sees under a key: not deleted, not expired, not from too far ahead."""
        entry = self._entries.get((bucket, key))
        return entry if entry is not None and is_visible(entry, unix_now) else None

    def read(self, unix_now: float) -> Iterator[Entry]:
        """Yield all entries that a reader sees."""
        return (entry for entry in self._entries.values() if is_visible(entry, unix_now))

    def follow(self, note: Follower) -> None:
        """Call `note(entry, stands=...)` for each entry that stands now, and whenever one comes or goes."""
        for entry in self._entries.values():
            note(entry, stands=True)
        self._followers.append(note)

    def expire(self, unix_now: float) -> list[Entry]:
        """Forget the entries past their lease and return them."""
        over = [entry for entry in self._entries.values() if entry.expires_at <= unix_now]
        for entry in over:
            self._remove(entry)
        return over

    def renewals(self, peer: PeerId, unix_now: float) -> list[Entry]:
        """Return the live entries that this node has to sign again, now that they are due; MAX_RENEWALS at a time.

        Its own, and what others set for it (its role, say): whoever set that may be gone by then. Due is what is
        older than a quarter of its lease, or lies ahead since our clock was set back.
        """
        live = (entry for entry in self._entries.values() if not entry.is_deleted)
        mine = (entry for entry in live if entry.author == peer or entry.key == str(peer))
        due = (e for e in mine if unix_now > e.signed_at + e.ttl / 4 or _is_ahead(e, unix_now))
        return list(islice(due, MAX_RENEWALS))

    def _standing(self, entry: Entry, unix_now: float) -> Entry | None:
        """Return what another entry of the same key has to beat."""
        current = self._entries.get((entry.bucket, entry.key))
        return None if current is None or _is_ahead(current, unix_now) else current

    def _check_room(self, entry: Entry, current: Entry | None) -> None:
        freed = len(current.raw) if current else 0
        is_new = current is None
        if is_new and (len(self) >= MAX_ENTRIES or self._per_author[entry.author] >= MAX_PER_AUTHOR):
            raise ProtocolError(Drop.LEDGER_FULL, "entries")
        if self._bytes - freed + len(entry.raw) > MAX_BYTES:
            raise ProtocolError(Drop.LEDGER_FULL, "bytes")

    def _place(self, entry: Entry) -> Change:
        previous = self._entries.get((entry.bucket, entry.key))
        if previous is not None:
            self._remove(previous)
        self._entries[entry.bucket, entry.key] = entry
        self._by_short_id[entry.short_id] = entry
        self._account(entry, 1)
        return Change(entry, previous)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.bucket, entry.key]
        self._by_short_id.pop(entry.short_id, None)
        self._account(entry, -1)

    def _account(self, entry: Entry, sign: int) -> None:
        self.sketch.toggle(entry.short_id)
        self._digest = (self._digest + sign * int.from_bytes(entry.short_id)) & _DIGEST_MASK
        self._bytes += sign * len(entry.raw)
        self._per_author[entry.author] += sign
        for note in self._followers:
            note(entry, stands=sign > 0)


def is_visible(entry: Entry, unix_now: float) -> bool:
    """Say whether readers see an entry: it is no deletion, and neither past its lease nor from too far ahead."""
    return not entry.is_deleted and shown_from(entry) <= unix_now < entry.expires_at


def shown_from(entry: Entry) -> float:
    """Return the wall time until which an entry counts as from too far ahead."""
    return entry.signed_at - MAX_AHEAD


def _is_ahead(entry: Entry, unix_now: float) -> bool:
    return unix_now < shown_from(entry)


def draft(author: PeerId, bucket: str, key: str, value: Any, *, epoch: int = 0) -> Entry:
    """Return an unsigned entry for `Ledger.write`; value None makes a tombstone."""
    if value is None:
        return Entry(bucket, key, b"", author, 0, TOMBSTONE, LEASE, epoch)
    return Entry(bucket, key, pack(value), author, 0, 0, LEASE, epoch)
