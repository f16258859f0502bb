"""What the benchmark of the VPN reads from iperf3 and ping, and what it makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"

TCP = {
    "end": {
        "sum_sent": {"seconds": 1.001448, "bytes": 3984588800, "bits_per_second": 31830619662.7, "retransmits": 4},
        "sum_received": {"seconds": 1.000033, "bytes": 3982294987, "bits_per_second": 31857308604.8},
    }
}
"""What iperf3 3.12 printed, shortened."""

UDP = {
    "end": {
        "sum_sent": {"seconds": 1.000024, "bytes": 21313280, "packets": 333020, "lost_packets": 0},
        "sum_received": {"seconds": 1.000069, "bytes": 20772736, "packets": 333020, "lost_packets": 8446},
    }
}

PING = """PING 10.20.0.2 (10.20.0.2) 56(84) bytes of data.
64 bytes from 10.20.0.2: icmp_seq=1 ttl=64 time=1.07 ms
64 bytes from 10.20.0.2: icmp_seq=2 ttl=64 time=0.088 ms
64 bytes from 10.20.0.2: icmp_seq=4 ttl=64 time=0.092 ms

--- 10.20.0.2 ping statistics ---
4 packets transmitted, 3 received, 25% packet loss, time 30ms
rtt min/avg/max/mdev = 0.088/0.416/1.070/0.462 ms
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the benchmark, which are found beside its program."""
    monkeypatch.syspath_prepend(str(BENCH))
    import vpn
    from tunnels import figures, iperf, trials
    from tunnels.tunnel import Traffic

    return SimpleNamespace(vpn=vpn, figures=figures, iperf=iperf, trials=trials, Traffic=Traffic)


def rounds(bench: Any, *each: dict[str, dict[str, float]]) -> Any:
    """Rounds whose tests took two seconds and one second of processor time."""
    return [
        {name: {test: bench.trials.Sample(value, 2.0, 1.0) for test, value in row.items()} for name, row in one.items()}
        for one in each
    ]


# -- iperf3 and ping


def test_throughput_is_what_the_receiver_got(bench: Any) -> None:
    assert bench.iperf.gbits(TCP) == pytest.approx(31.857, abs=1e-3)


def test_datagrams_are_counted_where_they_arrive(bench: Any) -> None:
    assert bench.iperf.kpps(UDP, 64) == pytest.approx((333020 - 8446) / 1.000069 / 1e3)


@pytest.mark.parametrize(
    "document",
    [
        {"end": {}, "error": "control socket has closed unexpectedly"},
        {"end": {"sum": {}}},
        {},
        {"end": {"sum_received": {"seconds": 0, "bytes": 0}}},
    ],
)
def test_a_failed_measurement_is_never_a_figure(bench: Any, document: Any) -> None:
    with pytest.raises(ValueError, match="iperf3"):
        bench.iperf.kpps(document, 64)


def test_the_round_trip_is_the_median_of_the_pings_that_came_back(bench: Any) -> None:
    assert bench.iperf.median_round_trip(PING) == pytest.approx(92.0)


def test_pings_without_an_answer_are_never_a_figure(bench: Any) -> None:
    with pytest.raises(ValueError, match="100% packet loss"):
        bench.iperf.median_round_trip("4 packets transmitted, 0 received, 100% packet loss")


# -- from rounds to figures


def test_ratios_are_of_the_same_round_and_only_then_is_the_median_taken(bench: Any) -> None:
    found = rounds(
        bench,
        {"ours": {"tcp1": 6.0}, "bare": {"tcp1": 12.0}},
        {"ours": {"tcp1": 1.0}, "bare": {"tcp1": 10.0}},
        {"ours": {"tcp1": 4.0}, "bare": {"tcp1": 5.0}},
    )
    assert bench.figures.values(found) == {"ours": {"tcp1": 4.0}, "bare": {"tcp1": 10.0}}
    assert bench.figures.ratios(found) == {"bare": {"tcp1": 0.5}}


def test_round_trips_are_told_beyond_the_bare_cables_and_compared_whole(bench: Any) -> None:
    found = rounds(bench, {"ours": {"rtt": 80.0}, "bare": {"rtt": 10.0}, "wireguard-go": {"rtt": 100.0}})
    assert bench.figures.values(found) == {"ours": {"rtt": 70.0}, "bare": {"rtt": 10.0}, "wireguard-go": {"rtt": 90.0}}
    assert bench.figures.ratios(found)["wireguard-go"] == {"rtt": 0.8}


def test_a_peer_that_carries_nothing_makes_an_infinite_ratio_and_no_division_by_zero(bench: Any) -> None:
    found = rounds(bench, {"ours": {"udp64": 30.0}, "nebula": {"udp64": 0.0}})
    assert bench.figures.ratios(found) == {"nebula": {"udp64": float("inf")}}


def test_the_daemons_cost_is_their_processors_and_what_one_of_these_moves(bench: Any) -> None:
    found = rounds(bench, {"ours": {"tcp1": 3.0, "rtt": 80.0}, "bare": {"tcp1": 9.0, "rtt": 10.0}})
    assert bench.figures.costs(found) == {"ours": {"tcp1": {"cores": 0.5, "gbit_per_core": 6.0}, "rtt": {"cores": 0.5}}}


# -- bounds


def verdicts(bench: Any, found: Any, profile: str = "default", loss: float = 0.0) -> dict[str, Any]:
    told = bench.figures.verdicts(found, bench.figures.bounds_of(profile, loss))
    return {each["bound"]: each["met"] for each in told}


def test_each_bound_of_the_default_profile_is_judged_at_its_limit(bench: Any) -> None:
    good = {"wireguard-go": {"tcp1": 9.0, "udp64": 4.0, "udpmix": 1.5, "rtt": 1.0}, "bare": {"tcp1": 0.25}}
    bad = {"wireguard-go": {"tcp1": 8.9, "udp64": 3.9, "udpmix": 1.4, "rtt": 1.1}, "bare": {"tcp1": 0.24}}
    assert set(verdicts(bench, good).values()) == {True}
    assert set(verdicts(bench, bad).values()) == {False}
    assert len(verdicts(bench, bad)) == 5


def test_what_was_not_measured_is_neither_met_nor_missed(bench: Any) -> None:
    assert set(verdicts(bench, {"nebula": {"tcp1": 99.0}}).values()) == {None}


def test_the_wire_profile_has_a_bound_of_its_own(bench: Any) -> None:
    assert verdicts(bench, {"bare": {"tcp1": 0.45}}, "wire")["tcp1 >= 0.45 x bare"] is True
    assert verdicts(bench, {"bare": {"tcp1": 0.44}}, "wire")["tcp1 >= 0.45 x bare"] is False


@pytest.mark.parametrize(
    ("bare", "wireguard", "met"), [(1.2, 1.0, True), (0.1, 4.5, True), (1.1, 4.4, False), (None, 4.4, None)]
)
def test_with_loss_one_of_two_is_enough(bench: Any, bare: float | None, wireguard: float, met: bool | None) -> None:
    found = {"wireguard-go": {"tcp1": wireguard}} | ({} if bare is None else {"bare": {"tcp1": bare}})
    assert list(verdicts(bench, found, "wire", 1.0).values()) == [met]


def test_a_share_of_loss_that_was_not_agreed_upon_has_no_bound(bench: Any) -> None:
    assert verdicts(bench, {"bare": {"tcp1": 1.0}}, "wire", 0.1) == {}


# -- what one VPN carries for another


def grown(bench: Any, **octets: int) -> dict[str, Any]:
    return {name.replace("_", "-"): bench.Traffic(count, 0.0) for name, count in octets.items()}


def test_a_vpn_that_runs_through_another_is_found_out(bench: Any) -> None:
    before = grown(bench, ours=100, bare=100, wireguard_go=100)
    apart = grown(bench, ours=10_100, bare=11_100, wireguard_go=400)
    through = grown(bench, ours=10_100, bare=12_100, wireguard_go=11_100)
    assert bench.trials.strays("ours", before, apart) is None
    assert bench.trials.strays("ours", before, through) == "wireguard-go"


# -- the whole


def test_the_document_and_the_table_name_every_vpn_and_test(bench: Any) -> None:
    names, tests = ("ours", *bench.vpn.PEERS), tuple(bench.trials.TESTS)
    found = rounds(bench, {name: dict.fromkeys(tests, 2.0) for name in names})
    wish = bench.vpn.Wish("default", 0.0, tests, tuple(bench.vpn.PEERS), 1, 2.0, "cubic", "2M")
    document = json.loads(json.dumps(bench.vpn.report(found, wish)))
    assert set(document["ours"]) == set(tests)
    assert set(document["ratio"]) == set(bench.vpn.PEERS)
    assert all(set(row) == set(tests) for row in document["ratio"].values())
    shown = bench.figures.table(bench.figures.values(found), document["ratio"], document["cpu"])
    assert all(f"\n| {name} |" in shown for name in names)


def test_an_unknown_test_is_refused_with_the_known_ones(bench: Any) -> None:
    import click

    with pytest.raises(click.BadParameter, match=r"tcp9: not one of tcp1, .*rtt"):
        bench.vpn.words(list(bench.trials.TESTS))(None, None, "tcp1,tcp9")
