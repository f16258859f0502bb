import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.errors import ProtocolError
from kairos_core.protocol.sketch import CELL, CELLS, Sketch, decode_cells

NETWORK = b"n" * 16
IDS = st.sets(st.binary(min_size=8, max_size=8), max_size=60)


def sketch_of(ids: set[bytes], network: bytes = NETWORK) -> Sketch:
    sketch = Sketch(network)
    for short_id in ids:
        sketch.toggle(short_id)
    return sketch


@given(IDS, IDS)
def test_the_difference_of_two_sets_is_read_from_their_sketches(ours: set[bytes], theirs: set[bytes]) -> None:
    cells = decode_cells(sketch_of(theirs).encode(0, CELLS))
    assert sketch_of(ours).difference(cells) == ours ^ theirs


@given(IDS, st.randoms())
def test_adding_and_removing_in_any_order_leaves_the_same_sketch(ids: set[bytes], shuffler: random.Random) -> None:
    more = [*ids, *ids, *ids]
    shuffler.shuffle(more)
    sketch = Sketch(NETWORK)
    for short_id in more:
        sketch.toggle(short_id)
    assert sketch.encode(0, CELLS) == sketch_of(ids).encode(0, CELLS)


@pytest.mark.parametrize(
    ("differences", "cells", "least"), [(1, 16, 200), (10, 32, 190), (40, 128, 195), (300, 512, 195)]
)
@pytest.mark.simulation
def test_how_many_cells_a_difference_takes(differences: int, cells: int, least: int) -> None:
    draw = random.Random(differences)
    empty = decode_cells(Sketch(NETWORK).encode(0, cells))
    found = 0
    for _ in range(200):
        ids = {draw.randbytes(8) for _ in range(differences)}
        difference = sketch_of(ids).difference(empty)
        assert difference in (ids, None), "never wrong, at worst too short"
        found += difference == ids
    assert found >= least


def test_too_few_cells_say_so() -> None:
    ids = {bytes([n]) * 8 for n in range(100)}
    assert sketch_of(ids).difference(decode_cells(Sketch(NETWORK).encode(0, 32))) is None


def test_networks_map_ids_to_different_cells() -> None:
    ids = {bytes([n]) * 8 for n in range(5)}
    assert sketch_of(ids).encode(1, 31) != sketch_of(ids, b"m" * 16).encode(1, 31)


@given(st.binary(max_size=CELL * 80))
def test_cells_of_no_set_end_within_bounds(raw: bytes) -> None:
    ours = sketch_of({bytes([n]) * 8 for n in range(20)})
    cells = decode_cells(raw)
    try:
        difference = ours.difference(cells)
    except ProtocolError as error:
        assert error.drop == "bad_sketch"
    else:
        assert difference is None or len(difference) <= len(cells)


@given(st.integers(0, 511), st.integers(0, 511))
def test_an_honest_cell_in_a_wrong_place_is_found_out_or_undecodable(one: int, other: int) -> None:
    cells = decode_cells(sketch_of({b"an id 01"}).encode(0, CELLS))
    cells[one], cells[other] = cells[other], cells[one]
    try:
        assert Sketch(NETWORK).difference(cells) in (None, {b"an id 01"})
    except ProtocolError as error:
        assert error.drop == "bad_sketch"


def test_a_prefix_takes_fewer_ids_the_further_it_goes() -> None:
    draw = random.Random(2)
    empty = bytes(CELL)
    filled = [0] * 8
    for _ in range(300):
        row = sketch_of({draw.randbytes(8)}).encode(0, CELLS)
        for eighth in range(8):
            part = row[eighth * 64 * CELL : (eighth + 1) * 64 * CELL]
            filled[eighth] += sum(part[at : at + CELL] != empty for at in range(0, len(part), CELL))
    assert all(earlier > later for earlier, later in pairwise(filled[:4]))
    assert 9 < sum(filled) / 300 < 13, "about 2 ln 257 cells for each id"
