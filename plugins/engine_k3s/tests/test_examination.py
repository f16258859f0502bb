"""What the engine finds missing on a machine: the program, unless it will be installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from kairos_engine_k3s.examination import examine

from kairos_core import Verdict


@pytest.mark.parametrize(
    ("program", "installs", "verdict"),
    [("/usr/bin/k3s", False, Verdict.OK), (None, True, Verdict.OK), (None, False, Verdict.WRONG)],
)
def test_a_missing_k3s_is_wrong_unless_it_will_be_installed(
    program: str | None, installs: bool, verdict: Verdict
) -> None:
    [found, *others] = examine(Path("/"), program, installs=installs)
    assert (found.check, found.verdict) == ("k3s", verdict)
    assert {each.check for each in others} == {"cgroups", "kernel modules"}
