"""What the attacker of the flood sends, and what the benchmark makes of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from kairos_net_vpn import noise, spec

BENCH = Path(__file__).parents[2] / "bench"
MAC, TARGET = bytes.fromhex("026b61697202"), ("192.168.77.2", 7373)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    import flood
    from tunnels import spoof, trials

    return SimpleNamespace(flood=flood, spoof=spoof, trials=trials)


def one_round(bench: Any, **values: float) -> Any:
    """A round whose tests gave these values each and took one second of two."""
    return {
        name: dict.fromkeys(bench.flood.TESTS, bench.trials.Sample(value, 2.0, 1.0)) for name, value in values.items()
    }


def document(bench: Any, *rounds: Any, oldest: float | None = 121.0, renewal: bool = True) -> Any:
    noted = bench.flood.Noted(list(rounds), [4990.0, 5001.0, 4999.6], {"flood": 9}, {"vpn_cookie": 7}, oldest)
    wish = bench.flood.Wish("default", 5000, 10_000, len(rounds), 2.0, renewal)
    return json.loads(json.dumps(bench.flood.report(noted, wish)))


def verdicts(found: Any) -> dict[str, bool | None]:
    return {each["bound"]: each["met"] for each in found["bounds"]}


# -- the attacker


def test_the_attacker_knows_the_targets_key_and_no_initiation_is_like_another(bench: Any) -> None:
    local = noise.Local(X25519PrivateKey.generate(), bytes(32))
    knocks = [bench.spoof.initiation(local.public, number) for number in range(100)]
    for knock in knocks:
        noise.check(local, knock, spec.INITIATION_SIZE)
        assert knock.endswith(spec.NO_PROOF)
    assert len({knock[8:] for knock in knocks}) == 100


@pytest.mark.parametrize(("number", "address"), [(0, "10.66.0.0"), (9999, "10.66.39.15")])
def test_a_frame_is_a_datagram_from_a_source_of_its_own(bench: Any, number: int, address: str) -> None:
    frame = bench.spoof.frame(b"knock", number, MAC, TARGET)
    ip, udp = frame[14:34], frame[34:]
    assert frame[:6] == MAC
    assert frame[12:14] == b"\x08\0"
    assert ".".join(map(str, ip[12:16])) == address
    assert ".".join(map(str, ip[16:])) == TARGET[0]
    assert struct.unpack("!H", ip[2:4])[0] == len(frame) - 14
    assert bench.spoof.checksum(ip) == 0, "a header with its checksum adds up to nothing"
    assert struct.unpack("!4H", udp[:8]) == (1024 + number, TARGET[1], 13, 0)
    assert udp[8:] == b"knock"


def test_every_source_has_an_address_of_the_route_and_a_port(bench: Any) -> None:
    last = bench.flood.MAX_SOURCES - 1
    frame = bench.spoof.frame(b"", last, MAC, TARGET)
    assert frame[26:28] == bytes([10, 66])
    assert struct.unpack("!H", frame[34:36])[0] == 1024 + last


# -- the figures


def test_ratios_are_of_the_flood_to_each_condition_of_the_same_round(bench: Any) -> None:
    found = document(
        bench,
        one_round(bench, quiet=4.0, control=3.0, flood=3.0),
        one_round(bench, quiet=1.0, control=1.0, flood=0.9),
        one_round(bench, quiet=5.0, control=4.0, flood=3.0),
    )
    assert found["gbits"]["quiet"] == {"tcp1": 4.0, "rev": 4.0}
    assert found["ratio"] == {"quiet": {"tcp1": 0.75, "rev": 0.75}, "control": {"tcp1": 0.9, "rev": 0.9}}
    assert found["cpu"]["flood"]["rev"]["cores"] == 0.5
    assert found["sent"] == 5000


@pytest.mark.parametrize(("flood", "met"), [(2.8, True), (2.79, False)])
def test_the_bound_is_held_to_quiet_and_not_to_the_control(bench: Any, flood: float, met: bool) -> None:
    found = verdicts(document(bench, one_round(bench, quiet=4.0, control=1.0, flood=flood)))
    assert {bound: each for bound, each in found.items() if bound.endswith("quiet")} == {
        "tcp1 >= 0.7 x quiet": met,
        "rev >= 0.7 x quiet": met,
    }
    assert not any("control" in bound for bound in found)


@pytest.mark.parametrize(
    ("oldest", "renewal", "met"), [(121.0, True, True), (141.0, True, False), (None, True, False), (None, False, None)]
)
def test_a_renewal_is_judged_by_how_old_the_session_was(
    bench: Any, oldest: float | None, renewal: bool, met: bool | None
) -> None:
    found = document(bench, one_round(bench, quiet=1.0, control=1.0, flood=1.0), oldest=oldest, renewal=renewal)
    assert verdicts(found)["a session is renewed within 140 s"] is met


def test_the_table_has_each_condition_and_what_the_flood_leaves_of_it(bench: Any) -> None:
    found = document(bench, one_round(bench, quiet=4.0, control=3.5, flood=3.0))
    rows = bench.flood.table(found).splitlines()[2:]
    assert rows == [
        "| quiet | 4.00 (0.75) | 4.00 (0.75) | 0.50 / 0.50 |",
        "| control | 3.50 (0.86) | 3.50 (0.86) | 0.50 / 0.50 |",
        "| flood | 3.00 | 3.00 | 0.50 / 0.50 |",
    ]


# -- renewals


class Aged:
    """A siege whose session has this age."""

    def __init__(self, age: float) -> None:
        self._age = age

    async def age(self) -> float:
        return self._age


async def test_a_session_that_was_made_before_the_flood_is_no_renewal(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.flood, "time", SimpleNamespace(monotonic=lambda: 1010.0))
    for age, oldest in ((10.5, None), (4.0, 116.0 + 10.0 - 4.0)):
        watch = bench.flood.Watch(Aged(age))
        await watch.look(116.0, 1000.0)
        assert watch.oldest == oldest
