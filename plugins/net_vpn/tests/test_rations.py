"""How often something may be done."""

from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import rations
from kairos_net_vpn.rations import Bucket, Rations


def test_a_bucket_gives_a_second_at_once_and_then_its_rate() -> None:
    bucket = Bucket(100)
    assert sum(bucket.take(5.0) for _ in range(500)) == 100
    assert sum(bucket.take(5.0 + step / 1000) for step in range(1, 1001)) == 100


def test_a_full_bucket_holds_no_more_after_an_hour() -> None:
    bucket = Bucket(10)
    bucket.take(0.0)
    assert sum(bucket.take(3600.0) for _ in range(50)) == 10


@given(st.lists(st.floats(0, 3), max_size=300))
def test_no_bucket_gives_more_than_its_burst_and_rate(times: list[float]) -> None:
    bucket = Bucket(50)
    given_out = [now for now in sorted(times) if bucket.take(now)]
    for now in given_out:
        assert sum(now - 1 < other <= now for other in given_out) <= 100


@given(st.lists(st.floats(0, 3), max_size=300))
def test_a_bucket_says_before_whether_it_gives(times: list[float]) -> None:
    bucket = Bucket(20)
    for now in sorted(times):
        assert bucket.has(now) == bucket.has(now) == bucket.take(now)


def test_each_host_has_its_own_ration() -> None:
    hosts = Rations()
    assert [hosts.take(b"one", 1.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert hosts.take(b"two", 1.0)
    assert hosts.take(b"one", 1.06)
    assert not hosts.take(b"one", 1.06)


def test_hosts_are_bounded_and_forgotten() -> None:
    hosts = Rations()
    taken = [hosts.take(number.to_bytes(4), 1.0) for number in range(rations.MAX_HOSTS + 100)]
    assert sum(taken) == len(hosts) == rations.MAX_HOSTS
    assert hosts.take(b"late", 2.0)
    assert len(hosts) == 1
