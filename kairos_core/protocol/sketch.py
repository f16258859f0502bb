"""A sketch of a set of ids from which the difference to another set is decoded, at a cost of the difference alone.

Source: Yang, Gilad, Alizadeh 2024, "Practical Rateless Set Reconciliation" (SIGCOMM; arXiv:2402.02668). An endless
row of cells, each the sum of the ids that are mapped to it; cell i takes an id with probability 1 / (1 + i / 2). Of
any prefix long enough (1.4 to 1.7 cells for each difference) the difference is peeled: where only one id is left
in a cell, it is read there and taken out of its other cells, which leaves others alone.

A cell here is 16 bytes, `xor of ids 8 | xor of their checks 8`, and a number of 128 bits in memory: adding and
removing are the same exclusive or. The paper's count of ids is left out: the check finds a cell with one id just as
surely (wrong once in 2^64), and whose id it is, each side knows from its own set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, sqrt

from kairos_core.errors import ProtocolError
from kairos_core.protocol.drops import Drop

CELLS = 512
"""Cells that are kept up to date. Decodes differences of up to about 350 ids; raising it makes each new entry dearer
by 2 cells for each e-fold, and what is larger goes over a stream better anyway."""

CELL = 16
ID = 8
_MULTIPLIER = 0xDA942042E4DD58B5  # of a Lehmer generator; the one in the paper's own program
_MASK = (1 << 64) - 1


class Sketch:
    """The first CELLS cells of a set that changes. `network` keys the mapping, so no stranger can aim at a cell."""

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._cells = [0] * CELLS

    def toggle(self, short_id: bytes) -> None:
        """Add an id, or remove one that is in the set. Costs about 11 cells, 5 us."""
        word, places = _map(short_id, self._network, CELLS)
        for place in places:
            self._cells[place] ^= word

    def encode(self, start: int, count: int) -> bytes:
        """Write some cells, 16 bytes each; fewer than asked for at the end."""
        return b"".join(cell.to_bytes(CELL) for cell in self._cells[start : start + count])

    def difference(self, theirs: Sequence[int]) -> set[bytes] | None:
        """Return the ids in one set and not in the other, None when these cells are too few to tell.

        `theirs` is a prefix of the other's cells. Bounded: at most one id for each cell. Raises ProtocolError
        (bad_sketch) for cells that are of no set.
        """
        cells = [one ^ other for one, other in zip(self._cells, theirs, strict=False)]
        return _peel(cells, self._network)


def decode_cells(raw: bytes) -> list[int]:
    """Read cells, as many as there are whole ones."""
    return [int.from_bytes(raw[at : at + CELL]) for at in range(0, len(raw) - CELL + 1, CELL)]


def _peel(cells: list[int], network: bytes) -> set[bytes] | None:
    found: set[bytes] = set()
    waiting = [place for place, cell in enumerate(cells) if cell]
    while waiting:
        at = waiting.pop()
        cell = cells[at]
        short_id = (cell >> 64).to_bytes(ID)
        word, places = _map(short_id, network, len(cells))
        if not cell or word != cell:
            continue
        # No honest set leads here: an id alone in a cell that is not its own, or left after it was taken out.
        if at not in places or short_id in found:
            raise ProtocolError(Drop.BAD_SKETCH)
        found.add(short_id)
        for place in places:
            cells[place] ^= word
        waiting.extend(place for place in places if cells[place])
    return None if any(cells) else found


@lru_cache(maxsize=1024)  # what is renewed leaves the cells it came to, and nodes of one process share their entries
def _map(short_id: bytes, network: bytes, size: int) -> tuple[int, tuple[int, ...]]:
    """Return an id with its check, as a cell holds it, and the cells below `size` that it is in, in order.

    The steps of the paper's section 5.3, in floating point as IEEE 754 rounds it, the same everywhere.
    """
    digest = hashlib.blake2b(short_id, digest_size=16, key=network, person=b"kairos sketch").digest()
    word = int.from_bytes(short_id + digest[:8])
    state = int.from_bytes(digest[8:]) | 1
    place, places = 0, []
    while place < size:
        places.append(place)
        state = state * _MULTIPLIER & _MASK
        place += ceil((place + 1.5) * (4294967296.0 / sqrt(state + 1.0) - 1.0))
    return word, tuple(places)
