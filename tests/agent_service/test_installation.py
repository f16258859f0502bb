"""Installing and removing the agent's service: idempotent, convergent, and with respect for what others wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kairos_core.agent_service.installation import OWED, Installation
from kairos_core.agent_service.parts import AgentService
from kairos_core.errors import ServiceError

SERVICE = AgentService(("/opt/kairos/bin/kairos",))
OTHER = replace(SERVICE, api="127.0.0.1:8080")
UNIT = "etc/systemd/system/kairos.service"
WANTED = "etc/systemd/system/multi-user.target.wants/kairos.service"
ENVIRONMENT = "etc/kairos/agent.env"


@pytest.fixture
def live(tmp_path: Path, init: Any) -> Installation:
    (tmp_path / "run").mkdir()
    return Installation(init, tmp_path, is_live=True)


def files(root: Path) -> dict[str, tuple[int, str]]:
    """Return all files under a root with their modes, and what they hold."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode & 0o7777, path.read_text())
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_the_first_installation_writes_enables_and_starts(live: Installation, tmp_path: Path, init: Any) -> None:
    outcome = live.install(SERVICE, now=True)
    assert (outcome.started, outcome.owed) == ("started", False)
    assert [str(Path(path).relative_to(tmp_path)) for path in outcome.written] == [ENVIRONMENT, UNIT, WANTED]
    assert init.told == ["reload", "start"]
    assert (tmp_path / WANTED).readlink() == Path("/") / UNIT
    assert live.installed() == SERVICE


def test_a_second_one_changes_nothing(live: Installation, tmp_path: Path, init: Any) -> None:
    live.install(SERVICE, now=True)
    before = files(tmp_path)
    init.told.clear()
    outcome = live.install(SERVICE, now=True)
    assert (outcome.written, outcome.started) == ((), "")
    assert init.told == ["start"]  # which systemd answers at once, as it runs
    assert files(tmp_path) == before


def test_other_options_change_the_unit_alone_and_start_the_agent_afresh(
    live: Installation, tmp_path: Path, init: Any
) -> None:
    live.install(SERVICE, now=True)
    init.told.clear()
    outcome = live.install(OTHER, now=True)
    assert outcome.written == (str(tmp_path / UNIT),)
    assert init.told == ["reload", "restart"]
    assert live.installed() == OTHER
    assert not (tmp_path / OWED[1:]).exists()


def test_a_change_that_was_not_taken_is_owed_and_taken_the_next_time(live: Installation, init: Any) -> None:
    live.install(SERVICE, now=True)
    assert live.install(OTHER, now=False).owed
    init.told.clear()
    outcome = live.install(OTHER, now=True)
    assert (outcome.written, outcome.started, outcome.owed) == ((), "restarted", False)
    assert init.told == ["restart"]


def test_a_start_that_fails_is_owed_still(live: Installation, init: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*, afresh: bool) -> None:
        raise ServiceError("'systemctl restart kairos.service' failed")

    live.install(SERVICE, now=True)
    with monkeypatch.context() as broken:
        broken.setattr(init, "start", fail)
        with pytest.raises(ServiceError):
            live.install(OTHER, now=True)
    assert live.install(OTHER, now=True).started == "restarted"


def test_a_service_that_was_disabled_is_enabled_without_a_restart(
    live: Installation, tmp_path: Path, init: Any
) -> None:
    live.install(SERVICE, now=True)
    (tmp_path / WANTED).unlink()
    init.told.clear()
    assert live.install(SERVICE, now=True).written == (str(tmp_path / WANTED),)
    assert init.told == ["reload", "start"]


def test_a_link_that_systemctl_wrote_in_another_way_is_the_same(live: Installation, tmp_path: Path) -> None:
    live.install(SERVICE, now=True)
    (tmp_path / WANTED).unlink()
    (tmp_path / WANTED).symlink_to("../kairos.service")
    assert live.install(SERVICE, now=True).written == ()
    live.uninstall(purge=False)
    assert not (tmp_path / WANTED).is_symlink()


def test_the_environment_file_is_for_root_alone_and_its_text_is_the_operators(
    live: Installation, tmp_path: Path
) -> None:
    live.install(SERVICE, now=True)
    file = tmp_path / ENVIRONMENT
    assert file.stat().st_mode & 0o7777 == 0o600
    file.write_text('HTTPS_PROXY="http://joe:secret@proxy:3128"\n')
    file.chmod(0o644)
    live.install(OTHER, now=True)
    assert file.read_text() == 'HTTPS_PROXY="http://joe:secret@proxy:3128"\n'
    assert file.stat().st_mode & 0o7777 == 0o600
    live.uninstall(purge=False)
    assert file.exists()
    live.uninstall(purge=True)
    assert not file.exists()


def test_a_unit_by_another_hand_is_set_aside_and_comes_back(live: Installation, tmp_path: Path, init: Any) -> None:
    unit = tmp_path / UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/local/bin/kairos start\n")
    live.install(SERVICE, now=True)
    live.install(OTHER, now=True)
    assert live.installed() == OTHER
    done = live.uninstall(purge=False)
    assert f"removed {unit}, and put back the one that was there before" in done
    assert unit.read_text().startswith("[Service]")
    init.running = True
    assert live.uninstall(purge=False) == []
    assert init.running
    assert live.uninstall(purge=True) == ["stopped the agent"]
    assert unit.exists()


def test_removal_stops_the_agent_and_leaves_no_file_and_a_second_one_does_nothing(
    live: Installation, tmp_path: Path, init: Any
) -> None:
    live.install(OTHER, now=True)
    init.told.clear()
    done = live.uninstall(purge=False)
    assert done[0] == "stopped the agent"
    assert init.told == ["stop", "reload"]
    assert files(tmp_path) == {}
    assert live.uninstall(purge=False) == []
    assert init.told == ["stop", "reload"]


def test_an_image_gets_files_and_nothing_is_started(tmp_path: Path, init: Any) -> None:
    image = Installation(init, tmp_path, is_live=False)
    assert image.install(SERVICE, now=True).started == ""
    assert (tmp_path / WANTED).is_symlink()
    image.uninstall(purge=False)
    assert files(tmp_path) == {}
    assert init.told == []


def test_what_cannot_be_written_is_said_with_the_way_out(tmp_path: Path, init: Any) -> None:
    (tmp_path / "etc").write_text("no directory")
    with pytest.raises(ServiceError, match=r"cannot read .*kairos.agent.env: Not a directory"):
        Installation(init, tmp_path, is_live=True).install(SERVICE, now=True)
