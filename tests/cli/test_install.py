"""`kairos install` and `kairos uninstall`, into the directory of an image: as on a machine, but nothing is started."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kairos_core.agent_service.parts import read_record
from kairos_core.cli import kairos
from kairos_core.protocol.token import format_token, new_token

TOKEN = format_token(new_token(lambda alphabet: alphabet[3]))
PROGRAM = Path(sys.executable).with_name("kairos")
UNIT = "etc/systemd/system/kairos.service"


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(kairos, arguments, input=answer)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with systemd, with Kairos where it runs from here, and with a configuration."""
    root = tmp_path / "image"
    for path in (root / "usr/lib/systemd/systemd", root / PROGRAM.relative_to("/"), root / "etc/kairos/kairos.yaml"):
        path.parent.mkdir(parents=True)
        path.touch(0o600)
    (root / "etc/kairos/kairos.yaml").write_text(f"#cloud-config\np2p:\n  network_token: {TOKEN}\n")
    return root


def made(root: Path) -> dict[str, Path]:
    """Return the files of the service."""
    places = ("etc/systemd", "etc/kairos/agent.env", "etc/init.d", "etc/runlevels")
    found = [
        path
        for place in places
        for path in ([root / place] if (root / place).is_file() else root.glob(f"{place}/**/*"))
    ]
    return {str(path.relative_to(root)): path for path in found if path.is_file() or path.is_symlink()}


def test_the_service_is_written_enabled_and_said(image: Path) -> None:
    result = run("install", "--root", str(image))
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if line.startswith("wrote")] == [
        f"wrote {image}/etc/kairos/agent.env",
        f"wrote {image}/{UNIT}",
        f"wrote {image}/etc/systemd/system/multi-user.target.wants/kairos.service",
    ]
    assert "starts at the next boot, under systemd" in result.stdout
    assert f"ExecStart={PROGRAM} \\\n    start\n" in (image / UNIT).read_text()


def test_openrc_gets_a_script(image: Path) -> None:
    (image / "usr/lib/systemd/systemd").unlink()
    (image / "sbin").mkdir()
    (image / "sbin/openrc-run").touch()
    assert run("install", "--root", str(image)).exit_code == 0
    assert set(made(image)) == {"etc/kairos/agent.env", "etc/init.d/kairos", "etc/runlevels/default/kairos"}
    assert os.access(image / "etc/init.d/kairos", os.X_OK)


def test_the_second_time_nothing_changes_and_other_options_converge(image: Path) -> None:
    run("install", "--root", str(image))
    before = {path: file.lstat().st_mtime_ns for path, file in made(image).items()}
    assert run("install", "--root", str(image)).stdout == "nothing to change\n"
    assert {path: file.lstat().st_mtime_ns for path, file in made(image).items()} == before
    options = ("--config", "/etc/kairos/kairos.yaml", "--state", "/srv/kairos", "--api", "127.0.0.1:8080")
    result = run("install", "--root", str(image), *options)
    assert result.stdout.startswith(f"wrote {image}/{UNIT}\n")
    agent = read_record((image / UNIT).read_text())
    assert agent is not None
    assert (agent.configs, agent.state, agent.api) == (("/etc/kairos/kairos.yaml",), "/srv/kairos", "127.0.0.1:8080")


def test_no_file_of_the_service_holds_the_token_and_only_units_may_be_read_by_all(image: Path) -> None:
    run("install", "--root", str(image), "--config", "/etc/kairos/kairos.yaml")
    for path, file in made(image).items():
        assert TOKEN not in file.read_text() if not file.is_symlink() else True
        assert file.is_symlink() or path == UNIT or file.stat().st_mode & 0o077 == 0


def test_a_broken_configuration_is_refused_with_what_validate_says(image: Path) -> None:
    file = image / "etc/kairos/kairos.yaml"
    file.write_text("p2p:\n  peer: 1\n  minimum_nodes: x\n")
    result = run("install", "--root", str(image))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{file}, line 2: p2p.peer is an unknown key; did you mean peers?" in result.stderr
    assert result.stderr.removeprefix("Error: ") in run("validate", str(file)).stderr.replace("Error: ", "")
    assert made(image) == {}


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("hostname: node-1\n", (), "no p2p block"),
        (f"p2p: {{network_token: {TOKEN}}}\n", ("--api", "nonsense"), "--api: "),
        (f"p2p: {{network_token: {TOKEN}}}\n", ("--config", "kairos.yaml"), "must begin with a slash"),
        (f"p2p: {{network_token: {TOKEN}}}\n", ("--config", "/missing.yaml"), "cannot be read: No such file"),
    ],
    ids=["no network", "address", "relative", "missing"],
)
def test_what_start_would_refuse_is_refused(image: Path, text: str, options: tuple[str, ...], reason: str) -> None:
    (image / "etc/kairos/kairos.yaml").write_text(text)
    result = run("install", "--root", str(image), *options)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert made(image) == {}


def test_a_token_that_everybody_can_read_is_warned_of(image: Path) -> None:
    file = image / "etc/kairos/kairos.yaml"
    assert "every user can read" not in run("install", "--root", str(image)).stderr
    file.chmod(0o644)
    result = run("install", "--root", str(image))
    assert (
        f"Warning: {file} holds p2p.network_token, and every user can read it. Set: chmod 600 {file}" in result.stderr
    )
    assert TOKEN not in result.output


def _said_by_doctor(file: Path, *checks: str) -> list[tuple[str, str]]:
    findings = json.loads(run("doctor", "--json", "--config", str(file)).stdout)
    return [(each["message"], each["remedy"]) for each in findings if each["check"] in checks]


@pytest.mark.parametrize(
    ("mode", "more", "is_warned"),
    [
        (0o600, "", False),
        (0o640, "", False),
        (0o644, "", True),
        (0o644, "k3s: {env: {K3S_TOKEN: hush-hush}, args: ['--agent-token hush-hush-too']}\n", True),
    ],
)
def test_of_a_file_that_others_read_install_and_doctor_say_the_same(
    image: Path, mode: int, more: str, is_warned: bool
) -> None:
    file = image / "etc/kairos/kairos.yaml"
    file.write_text(file.read_text() + more)
    file.chmod(mode)
    [(message, remedy)] = _said_by_doctor(file, "secrecy")
    stderr = run("install", "--root", str(image)).stderr
    assert (f"Warning: {message}. Set: {remedy}\n" in stderr) is is_warned
    assert ("Warning" in stderr) is is_warned
    assert "hush" not in message + stderr


def test_of_warnings_and_errors_of_the_configuration_install_and_doctor_say_the_same(image: Path) -> None:
    file = image / "etc/kairos/kairos.yaml"
    good = file.read_text()
    file.write_text(good + "k3s-agent: {embedded_registry: true}\n")
    warnings = [message for message, _ in _said_by_doctor(file, "configuration")]
    stderr = run("install", "--root", str(image)).stderr
    assert warnings
    assert [line.removeprefix("Warning: ") for line in stderr.splitlines()] == warnings
    file.write_text(good + "  unheard_of: 1\n  loglevel: loud\n")
    errors = [message for message, _ in _said_by_doctor(file, "configuration")]
    assert len(errors) == 2
    stderr = run("install", "--root", str(image)).stderr
    assert [error for error in errors if error not in stderr] == []


def test_an_image_may_get_its_configuration_later(image: Path) -> None:
    (image / "etc/kairos/kairos.yaml").unlink()
    result = run("install", "--root", str(image))
    assert result.exit_code == 0
    assert "the image has no configuration yet" in result.stderr
    assert UNIT in made(image)


def test_without_an_init_system_the_error_names_the_other_way(image: Path) -> None:
    (image / "usr/lib/systemd/systemd").unlink()
    result = run("install", "--root", str(image))
    assert result.exit_code == 1
    assert "neither systemd nor OpenRC" in result.stderr
    assert "make `kairos start` its program" in result.stderr


def test_removal_leaves_the_image_as_it_was(image: Path) -> None:
    before = {str(path) for path in image.rglob("*") if path.is_file()}
    run("install", "--root", str(image))
    result = run("uninstall", "--root", str(image))
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)
    assert {str(path) for path in image.rglob("*") if path.is_file()} == before
    assert run("uninstall", "--root", str(image)).stdout == "nothing to remove\n"


def test_an_image_cannot_be_purged(image: Path) -> None:
    assert run("uninstall", "--purge", "--root", str(image)).exit_code == 2


def test_purge_says_what_goes_and_asks_first(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    result = run("uninstall", "--purge", "--state", str(state), answer="n\n")
    assert result.exit_code == 1
    assert f"identity, promises and ledger in {state}" in result.stderr
    assert "nothing was changed" in result.stderr
    assert state.is_dir()
