import pytest

from kairos_core.model import PeerId
from kairos_core.runtime.clock import MAX_CLOCKS, MORE_CLOCKS, TOLERANCE, NetworkTime

DAY = 86_400.0
NOW = 1_800_000_000.0


class Clocks:
    """Our own two clocks, set by hand."""

    def __init__(self, wall: float) -> None:
        self.wall, self.steady = wall, 100.0
        self.time = NetworkTime(lambda: self.wall, lambda: self.steady)

    def hear(self, *walls: float) -> bool:
        """Hear of the clocks of peers 1, 2 …; says whether the last one changed our time."""
        return [self.time.heard(PeerId(bytes([n]) * 32), int(wall * 1000)) for n, wall in enumerate(walls, 1)][-1]


@pytest.mark.parametrize(
    ("own", "others", "goes_by"),
    [
        (NOW, (), NOW),
        (NOW, (NOW + TOLERANCE - 1,), NOW),
        (NOW, (NOW + DAY, NOW), NOW),
        (NOW + DAY, (NOW, NOW), NOW),
        (0.0, (NOW, NOW), NOW),
        (0.0, (NOW,), NOW),  # of two the later wins,
        (NOW, (0.0,), NOW),  # and both say so
        (NOW + 500, (NOW, NOW + DAY), NOW + 500),
    ],
)
def test_the_upper_median_of_all_clocks_is_gone_by(own: float, others: tuple[float, ...], goes_by: float) -> None:
    clocks = Clocks(own)
    if others:
        clocks.hear(*others)
    assert clocks.time.now() == pytest.approx(goes_by)


def test_what_peers_are_told_is_our_own_clock_whatever_we_go_by() -> None:
    clocks = Clocks(NOW - DAY)
    clocks.hear(NOW, NOW)
    assert clocks.time.own_ms() == int((NOW - DAY) * 1000)


def test_a_clock_that_is_set_right_is_gone_by_at_once() -> None:
    clocks = Clocks(NOW - DAY)
    assert clocks.hear(NOW, NOW) is False, "the first changed it already"
    assert clocks.time.warning is not None
    clocks.wall += DAY
    assert clocks.time.now() == NOW
    assert clocks.time.warning is None


def test_time_passes_on_the_network_s_clock_too() -> None:
    clocks = Clocks(NOW - DAY)
    clocks.hear(NOW, NOW)
    clocks.wall += 50
    clocks.steady += 50
    assert clocks.time.now() == pytest.approx(NOW + 50)


@pytest.mark.parametrize(("off", "said"), [(-DAY, "1 days 0 min behind"), (3600 + 120, "1 h 2 min ahead of")])
def test_the_warning_says_how_far_off_the_clock_is_and_what_to_do(off: float, said: str) -> None:
    clocks = Clocks(NOW + off)
    clocks.hear(NOW, NOW)
    assert said in (clocks.time.warning or "")
    assert "timedatectl" in (clocks.time.warning or "")


def test_a_member_that_invents_peers_does_not_fill_our_memory() -> None:
    clocks = Clocks(NOW)
    for number in range(2 * MAX_CLOCKS):
        clocks.time.heard(PeerId(number.to_bytes(32)), int(NOW * 1000))
    assert len(clocks.time._heard) == MAX_CLOCKS


def peers(count: int) -> list[PeerId]:
    return [PeerId(number.to_bytes(32)) for number in range(1, count + 1)]


def test_while_all_clocks_agree_no_further_one_is_asked_for() -> None:
    clocks = Clocks(NOW)
    assert list(clocks.time.unheard(peers(5))) == []
    clocks.time.heard(peers(1)[0], int((NOW + TOLERANCE - 1) * 1000))
    assert list(clocks.time.unheard(peers(5))) == []


def test_where_one_disagrees_those_not_heard_yet_are_asked_for() -> None:
    clocks = Clocks(NOW)
    for peer, wall in zip(peers(2), (NOW, NOW + DAY), strict=True):
        clocks.time.heard(peer, int(wall * 1000))
    assert list(clocks.time.unheard(peers(5))) == peers(5)[2:]


def test_no_more_are_asked_for_than_decide() -> None:
    clocks = Clocks(NOW - DAY)
    everybody = peers(3 * MORE_CLOCKS)
    clocks.time.heard(everybody[0], int(NOW * 1000))
    assert list(clocks.time.unheard(everybody)) == everybody[1:MORE_CLOCKS]
    for peer in everybody[:MORE_CLOCKS]:
        clocks.time.heard(peer, int(NOW * 1000))
    assert list(clocks.time.unheard(everybody)) == []
