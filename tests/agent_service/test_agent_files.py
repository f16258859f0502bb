"""The files that make the agent a service, against golden copies and the programs that read them.

Regenerate with: python tests/agent_service/test_agent_files.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kairos_core.agent_service.agent_script import openrc_parts
from kairos_core.agent_service.agent_unit import format_unit, systemd_parts
from kairos_core.agent_service.parts import AgentService, File, Part, read_record

GOLDEN = Path(__file__).parent / "golden"
PLAIN = AgentService(("/opt/kairos/bin/kairos",))
TRICKY = AgentService(
    ("/opt/my kairos/bin/kairos",),
    configs=("/etc/kairos/50%.yaml", '/srv/$HOME/it\'s "mine".yaml'),
    state="/srv/state",
    api="127.0.0.1:8080",
)
WORDS = (
    "start",
    "--config=/etc/kairos/50%.yaml",
    '--config=/srv/$HOME/it\'s "mine".yaml',
    "--state=/srv/state",
    "--api=127.0.0.1:8080",
)


def _shown(parts: tuple[Part, ...]) -> str:
    texts = []
    for part in parts:
        if isinstance(part, File):
            texts.append(f"== {part.path} {part.mode:o}\n{part.content}")
        else:
            texts.append(f"== {part.path} -> {part.target}\n")
    return "\n".join(texts)


def _rendered() -> dict[str, str]:
    return {
        "systemd.txt": _shown(systemd_parts(PLAIN)),
        "systemd-options.txt": _shown(systemd_parts(TRICKY)),
        "openrc.txt": _shown(openrc_parts(PLAIN)),
        "openrc-options.txt": _shown(openrc_parts(TRICKY)),
    }


@pytest.mark.parametrize("name", sorted(_rendered()))
def test_files_are_as_they_were(name: str) -> None:
    assert _rendered()[name] == (GOLDEN / name).read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("service", [PLAIN, TRICKY], ids=["plain", "options"])
def test_systemd_takes_the_unit_without_a_word(service: AgentService, tmp_path: Path) -> None:
    unit = tmp_path / "kairos.service"
    unit.write_text(format_unit(replace(service, program=("/bin/true",))))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert done.returncode == 0, done.stderr
    assert "kairos.service" not in done.stderr


def test_a_shell_takes_the_init_script_and_gets_the_arguments_unchanged(tmp_path: Path) -> None:
    [script] = [part for part in openrc_parts(TRICKY) if isinstance(part, File) and part.path.startswith("/etc/init.d")]
    file = tmp_path / "kairos"
    file.write_text(script.content)
    subprocess.run(["sh", "-n", str(file)], check=True)
    lines = [line for line in script.content.splitlines() if line.startswith(("command=", "command_args="))]
    # As OpenRC does it: eval, and no quotes around the variables.
    shown = "\n".join([*lines, "eval set -- $command $command_args", 'printf "%s\\n" "$@"'])
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.splitlines()) == ("/opt/my kairos/bin/kairos", *WORDS)


def test_what_is_as_start_has_it_by_itself_is_not_said() -> None:
    assert PLAIN.command() == ("/opt/kairos/bin/kairos", "start")
    assert TRICKY.command()[1:] == WORDS


@pytest.mark.parametrize("service", [PLAIN, TRICKY], ids=["plain", "options"])
@pytest.mark.parametrize("parts", [systemd_parts, openrc_parts])
def test_a_service_says_what_it_was_made_from(service: AgentService, parts: object) -> None:
    assert callable(parts)
    definition = next(part for part in parts(service) if isinstance(part, File) and not part.yours)
    assert read_record(definition.content) == service


@pytest.mark.parametrize("text", ["", "[Unit]", "# Installed as: {", "# Installed as: {}", "# Installed as: [1]"])
def test_what_is_not_ours_has_no_record(text: str) -> None:
    assert read_record(text) is None


if __name__ == "__main__":
    for golden, content in _rendered().items():
        (GOLDEN / golden).write_text(content)
