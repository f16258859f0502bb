"""Reconciling two ledgers over a stream, as two machines that answer messages.

The caller OFFERs the ids of all it holds; the listener sends the ENTRIES that the caller lacks and says what it
WANTs; the caller sends those and is DONE. Both sides end with the union. A caller that knows the difference already
(`agreement`) gives and WANTs just that, and the listener is DONE.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kairos_core.errors import ProtocolError
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import SHORT_ID
from kairos_core.protocol.ledger import MAX_ENTRIES, Ledger
from kairos_core.protocol.wire import Done, Entries, Message, Offer, Want, in_batches, split_ids


def offer(ledger: Ledger) -> Offer:
    """Return the caller's first message."""
    return Offer(b"".join(ledger.short_ids()))


def settle(ledger: Ledger, give: Iterable[bytes], want: Iterable[bytes]) -> Iterator[Message]:
    """Yield the messages of a caller that knows what differs."""
    yield from _entries(ledger, give)
    yield Want(b"".join(want))


def answer(ledger: Ledger, message: Message) -> Iterator[Message]:
    """Yield what to say to a peer's message; nothing for ENTRIES and DONE.

    Raises ProtocolError (oversized, malformed).
    """
    match message:
        case Offer(ids):
            if len(ids) > MAX_ENTRIES * SHORT_ID:
                raise ProtocolError(Drop.OVERSIZED, "offer")
            theirs = dict.fromkeys(split_ids(ids))  # in their order: a set's would differ from run to run
            lacking = [i for i in list(ledger.short_ids()) if i not in theirs]
            yield from _entries(ledger, lacking)
            yield Want(b"".join(i for i in theirs if ledger.find(i) is None))
        case Want(ids):
            yield from _entries(ledger, split_ids(ids))
            yield Done()
        case Entries() | Done():
            return
        case _:
            raise ProtocolError(Drop.MALFORMED, "unexpected message")


def _entries(ledger: Ledger, ids: Iterable[bytes]) -> Iterator[Entries]:
    return in_batches(entry.raw for i in ids if (entry := ledger.find(i)))
