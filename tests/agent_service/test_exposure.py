"""Which files show the token to everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core.agent_service.exposure import exposed_files

TOKEN = "b3RwOiBub3QgYSByZWFsIHRva2Vu"


@pytest.mark.parametrize(("mode", "is_exposed"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_file_that_holds_the_token_is_exposed_when_others_may_read_it(
    tmp_path: Path, mode: int, is_exposed: bool
) -> None:
    file = tmp_path / "kairos.yaml"
    file.write_text(f"p2p: {{network_token: {TOKEN}}}\n")
    file.chmod(mode)
    assert exposed_files([(str(file), file.read_text())], TOKEN) == ([str(file)] if is_exposed else [])


def test_a_file_without_the_token_may_be_read_by_everybody(tmp_path: Path) -> None:
    file = tmp_path / "kairos.yaml"
    file.touch(0o644)
    assert exposed_files([(str(file), "p2p: {role: worker}\n"), ("no file", TOKEN)], TOKEN) == []


def test_a_token_over_several_lines_is_found(tmp_path: Path) -> None:
    file = tmp_path / "kairos.yaml"
    file.touch(0o644)
    assert exposed_files([(str(file), f'token: "{TOKEN[:9]}\\\n   {TOKEN[9:]}"'.replace("\\", ""))], TOKEN)
