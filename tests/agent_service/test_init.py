"""Which init system a machine has, and what is said when it has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core.agent_service.init import OpenRcInit, SystemdInit, find_init, installed_init, running_init
from kairos_core.errors import ServiceError


@pytest.mark.parametrize(
    ("place", "kind"), [("run/systemd/system", SystemdInit), ("run/openrc", OpenRcInit)], ids=["systemd", "OpenRC"]
)
def test_what_runs_is_found_by_what_it_keeps(tmp_path: Path, place: str, kind: type) -> None:
    (tmp_path / place).mkdir(parents=True)
    assert type(running_init(tmp_path)) is kind
    assert type(find_init(tmp_path, must_run=True)) is kind


@pytest.mark.parametrize(
    ("place", "kind"),
    [("usr/lib/systemd/systemd", SystemdInit), ("sbin/openrc-run", OpenRcInit)],
    ids=["systemd", "OpenRC"],
)
def test_of_an_image_it_is_what_is_installed(tmp_path: Path, place: str, kind: type) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    assert running_init(tmp_path) is None
    assert type(installed_init(tmp_path)) is kind
    assert type(find_init(tmp_path, must_run=False)) is kind


@pytest.mark.parametrize("must_run", [True, False])
def test_without_any_the_error_says_what_to_do_instead(tmp_path: Path, must_run: bool) -> None:
    with pytest.raises(ServiceError, match=r"neither systemd nor OpenRC.*run `kairos start`"):
        find_init(tmp_path, must_run=must_run)


def test_one_that_is_installed_and_does_not_run_is_none_where_it_must(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/systemd").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/systemd").touch()
    with pytest.raises(ServiceError, match="no init system runs"):
        find_init(tmp_path, must_run=True)
