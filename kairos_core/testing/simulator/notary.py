"""One reading of each entry for all nodes of a world: a thousand ledgers share the entries that they hold."""

from __future__ import annotations

from kairos_core.protocol.entry import Entry
from kairos_core.protocol.ledger import Notary


class SharedNotary(Notary):
    """Remembers what it has read and checked. Both follow from the bytes alone, so sharing changes no outcome."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._verdicts: dict[tuple[bytes, bytes], bool] = {}
        self._vouched: set[bytes] = set()

    def decode(self, raw: bytes, network: bytes) -> Entry:
        """Return the entry. Raises ProtocolError."""
        entry = self._entries.get(raw)
        if entry is None:
            entry = self._entries[raw] = super().decode(raw, network)
        return entry

    def vouch(self, entry: Entry) -> None:
        """Remember an entry that an honest node of this world has just signed: verifying it again would say so too."""
        self._entries[entry.raw] = entry
        self._verdicts[entry.id, entry.signature] = True
        self._vouched.add(entry.id)

    def has_vouched(self, entry: Entry) -> bool:
        """Say whether an honest node of this world has signed this entry."""
        return entry.id in self._vouched

    def is_authentic(self, entry: Entry, network: bytes) -> bool:
        """Say whether the entry is signed by its author."""
        place = (entry.id, entry.signature)
        verdict = self._verdicts.get(place)
        if verdict is None:
            verdict = self._verdicts[place] = super().is_authentic(entry, network)
        return verdict
