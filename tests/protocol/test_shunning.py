from hypothesis import given
from hypothesis import strategies as st

from kairos_core.protocol.shunning import FORGERIES, FORGERY_RATE, MAX_SHUNNED, SHUNNED_FOR, Shunned


def test_a_few_forgeries_are_forgiven_and_one_more_is_not() -> None:
    shunned = Shunned()
    for _ in range(int(FORGERIES) - 1):
        shunned.blame("forger", 100.0)
    assert not shunned.has("forger", 100.0)
    shunned.blame("forger", 100.0)
    assert shunned.has("forger", 100.0 + SHUNNED_FOR - 1)
    assert not shunned.has("forger", 100.0 + SHUNNED_FOR)
    assert not shunned.has("another", 100.0)


@given(st.lists(st.floats(0.0, 3600.0), max_size=200))
def test_no_forger_is_looked_at_more_often_than_its_pace(pauses: list[float]) -> None:
    shunned, now, looked = Shunned(), 0.0, 0
    for pause in pauses:
        now += pause
        if not shunned.has("forger", now):
            shunned.blame("forger", now)
            looked += 1
    assert looked <= FORGERIES + FORGERY_RATE * now + 1


def test_invented_culprits_fill_no_memory() -> None:
    shunned = Shunned()
    for number in range(2 * MAX_SHUNNED):
        for _ in range(int(FORGERIES)):
            shunned.blame(number, 1.0)
    assert len(shunned._until) == MAX_SHUNNED
    assert shunned.has(2 * MAX_SHUNNED - 1, 1.0)
