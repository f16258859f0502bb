"""`kairos get-kubeconfig --merge`: into the file that kubectl reads, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from kairos_core.cli.kubeconfig import default_file, get_kubeconfig
from kairos_core.errors import ConfigError
from kairos_core.testing.served import ServedNode, served_node

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: kairos, cluster: {server: "https://10.1.0.7:6443", certificate-authority-data: Q0E=}}]
users: [{name: kairos, user: {client-key-data: S0VZ}}]
contexts: [{name: kairos, context: {cluster: kairos, user: kairos}}]
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[ServedNode]:
    with served_node(tmp_path) as node:
        node.control.config = KUBECONFIG
        yield node


def get(agent: ServedNode, *arguments: str) -> Result:
    return CliRunner().invoke(get_kubeconfig, [*arguments, "--api", agent.unix])


def refused(agent: ServedNode, file: Path) -> str:
    result = get(agent, "--merge", "--file", str(file))
    assert isinstance(result.exception, ConfigError), result.output
    return str(result.exception)


def test_the_kubeconfig_is_merged_into_the_file_of_kubectl(agent: ServedNode, tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles" / "config", tmp_path / "config"
    link.symlink_to(real)
    result = get(agent, "--merge", "--file", str(link))
    assert (result.stdout, "context 'kairos'" in result.stderr) == ("", True)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert get(agent, "--merge", "--file", str(link), "--context", "second").exit_code == 0
    assert yaml.safe_load(real.read_text())["current-context"] == "second"
    assert [each["name"] for each in yaml.safe_load(real.read_text())["contexts"]] == ["kairos", "second"]
    assert [each.name for each in real.parent.iterdir()] == ["config"], "no lock and no draft stay"


def test_a_file_that_cannot_be_merged_into_is_left_as_it_is(agent: ServedNode, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("my notes")
    assert "is not a kubeconfig" in refused(agent, file)
    file.write_bytes(b"\xff\xfe")
    assert "is not text" in refused(agent, file)
    assert file.read_bytes() == b"\xff\xfe"
    file.with_name("config.lock").touch()
    assert "another program is changing" in refused(agent, file)
    assert file.with_name("config.lock").exists(), "the lock of another is not ours to remove"
    assert "cannot merge into" in refused(agent, Path("/proc/version/config"))


def test_kubectl_s_own_variable_says_which_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/one:{tmp_path}/two")
    assert default_file() == tmp_path / "one"
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_file() == tmp_path / ".kube" / "config"


def test_what_belongs_to_merge_needs_merge(agent: ServedNode) -> None:
    result = get(agent, "--context", "x")
    assert (result.exit_code, "belong to --merge" in result.stderr) == (2, True)
