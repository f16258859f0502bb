from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_engine_k3s.environment import format_environment, parse_environment
from kairos_engine_k3s.settings import ServerSettings
from pydantic import ValidationError

from kairos_core import SecretStr

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
HARD = {
    "PLAIN": "abc",
    "QUOTES": "a'b\"c",
    "SHELL": "$HOME `id` $(id) \\ \\\\ !",
    "SPACES": "  # no comment ",
    "LINES": "one\ntwo\n",
    "EMPTY": "",
    "URL": "postgres://u:p%40@h/db?x=1&y=2",
}


def _text(values: dict[str, str]) -> str:
    return format_environment({name: SecretStr(value) for name, value in values.items()})


@given(st.dictionaries(NAMES, st.text(max_size=40), max_size=5))
def test_what_is_written_is_read_back(values: dict[str, str]) -> None:
    assert parse_environment(_text(values)) == values


def test_a_shell_reads_the_same(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(_text(HARD))
    for name, value in HARD.items():
        script = f'. {file}; printf %s "${name}"'
        assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == value


def test_names_that_no_environment_has_are_refused() -> None:
    with pytest.raises(ValidationError, match="no name for a variable"):
        ServerSettings.checked({"env": {"A-B": "1"}})


def test_values_are_text_and_shown_nowhere() -> None:
    settings = ServerSettings.checked({"env": {"A": 1, "B": True, "C": "hidden"}, "args": ["--token=x9x"]})
    assert [secret.get_secret_value() for secret in settings.env.values()] == ["1", "true", "hidden"]
    assert "hidden" not in repr(settings)
    assert "x9x" not in repr(settings)
