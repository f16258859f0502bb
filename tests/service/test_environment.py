from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kairos_core import SecretStr
from kairos_core.service.environment import format_environment, parse_environment

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
