"""Where the time of a data plane goes: what the probe notes, and what is made of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    from tunnels import stages

    return stages


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The probe under another name than that by which Python imports it, with a clock that a test sets."""
    spec = importlib.util.spec_from_file_location("probe", BENCH / "tunnels" / "probe" / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock = SimpleNamespace(now=0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter_ns=lambda: clock.now))
    return SimpleNamespace(module=module, clock=clock)


def spend(probe: Any, ns: int) -> None:
    probe.clock.now += ns


def test_time_between_two_calls_belongs_to_the_first(probe: Any) -> None:
    watch = probe.module.Stopwatch()
    read, send = watch.around("tun_read", lambda: spend(probe, 7)), watch.around("udp_send", lambda: spend(probe, 20))
    spend(probe, 1)
    for _ in range(3):
        read()
        spend(probe, 5)
        send()
        spend(probe, 2)
    assert watch.stages["start"] == [0, 0, 1]
    assert watch.stages["tun_read"] == [3, 21, 15]
    assert watch.stages["udp_send"] == [3, 60, 4], "what follows the last call is not known yet"


def test_a_call_that_fails_is_noted_and_still_fails(probe: Any) -> None:
    def refuse() -> None:
        spend(probe, 4)
        raise BlockingIOError

    watch = probe.module.Stopwatch()
    with pytest.raises(BlockingIOError):
        watch.around("tun_read", refuse)()
    assert watch.stages["tun_read"] == [1, 4, 0]


def test_a_timed_cipher_seals_and_opens_like_the_real_one(probe: Any) -> None:
    watch, key, nonce = probe.module.Stopwatch(), bytes(32), bytes(12)
    cipher = probe.module.timed_cipher(watch, AESGCM)(key)
    sealed = cipher.encrypt(nonce, b"packet", b"header")
    assert sealed == AESGCM(key).encrypt(nonce, b"packet", b"header")
    assert cipher.decrypt(nonce, sealed, b"header") == b"packet"
    assert watch.stages["seal"][0] == watch.stages["open"][0] == 1


def reading(**stages: list[int]) -> dict[str, Any]:
    return {"stages": stages, "own_cost": [100.0, 50.0], "now": stages["wait"][1] * 2}


def test_the_difference_of_two_readings_is_told_for_each_unit_without_the_probes_own_cost(stages: Any) -> None:
    before = reading(wait=[1, 1_000_000, 500], seal=[10, 5_000, 5_000])
    after = reading(wait=[3, 9_000_000, 10_600], seal=[50, 65_000, 29_000])
    found = stages.between(before, after, 4)
    assert found["seal"] == stages.Stage(inside=(60_000 - 40 * 100) / 4e3, python=(24_000 - 40 * 50) / 4e3, calls=10)
    assert found["wait"].inside == 0, "waiting costs nobody anything"
    assert found["wait"].python == pytest.approx(10_000 / 4e3)
    assert found["open"] == stages.Stage(0, 0, 0)


def test_the_table_has_a_line_for_each_stage_and_their_sum(stages: Any) -> None:
    side = {name: stages.Stage(inside=2.0, python=1.0, calls=1.0) for name in stages.STAGES}
    shown = stages.table({"left": side, "right": side}, "60 kB")
    assert shown.count("2.0 + 1.0 (1.0 calls)") == 2 * len(stages.STAGES)
    assert f"| **all** | {2.0 * len(stages.STAGES)} + {1.0 * len(stages.STAGES)} =" in shown


def test_the_share_that_is_idle_is_what_was_waited_of_what_has_passed(stages: Any) -> None:
    before, after = reading(wait=[1, 100, 0]), reading(wait=[2, 400, 0])
    assert stages.share_idle(before, after) == pytest.approx(300 / 600)
