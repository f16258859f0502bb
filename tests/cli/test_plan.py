"""`kairos plan` for the example configurations of the reference's documents, and for what operators get wrong.

Regenerate the golden files with: python tests/cli/test_plan.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from kairos_core import Attachment
from kairos_core.cli.plan import plan
from kairos_core.protocol.token import format_token, new_token

HERE = Path(__file__).parent
PLANS = HERE / "plans"
TOKEN = format_token(new_token(lambda alphabet: alphabet[0]))
P2P = 'hostname: edge-7\np2p:\n  network_token: "TOKEN"\n'
EXAMPLES = {
    "minimal": P2P,
    "ha": f"{P2P}  disable_dht: true\n  auto:\n    ha:\n      enable: true\n      master_nodes: 2\n",
    "elastic-ip": f"{P2P}  vpn:\n    create: false\n    use: false\nkubevip:\n  eip: 192.168.1.110\n"
    '  manifest_url: ""\n  enable: true\n  interface: ens18\n',
    "full": (HERE.parent / "config" / "full_example.yaml")
    .read_text()
    .replace("YOUR_TOKEN_GOES_HERE", "TOKEN")
    .replace("kubevip-{{ trunc 4 .MachineID }}", "edge-7"),
}
HUSH = "hush-hush"


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """A machine that is the same everywhere: systemd, one LAN address, k3s not installed."""
    with same_machine():
        yield


def same_machine() -> ExitStack:
    from kairos_core.service.systemd import Systemd

    stack = ExitStack()
    lan = Attachment("eth0", "192.168.1.7")
    stack.enter_context(patch("kairos_core.runtime.preview.lan_attachment", lambda: lan))
    stack.enter_context(patch("kairos_engine_k3s.engine.detect_supervisor", lambda *_: Systemd()))
    stack.enter_context(patch("kairos_engine_k3s.engine.find_program", lambda _: None))
    return stack


def planned(folder: Path, text: str, *options: str) -> Result:
    file = folder / "config.yaml"
    file.write_text(text.replace("TOKEN", TOKEN))
    return CliRunner().invoke(plan, [str(file), *options])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_plan_of_each_example_is_as_it_was(name: str, tmp_path: Path) -> None:
    result = planned(tmp_path, EXAMPLES[name])
    assert result.exit_code == 0, result.output
    assert result.stdout == (PLANS / f"{name}.txt").read_text(), "regenerate as the head of this file says"


@pytest.mark.parametrize("name", EXAMPLES)
def test_everything_has_a_reason(name: str, tmp_path: Path) -> None:
    for document in json.loads(planned(tmp_path, EXAMPLES[name], "--json").stdout):
        steps = [step for head in ("arguments", "environment", "files") for step in document[head]]
        assert steps
        assert all(step["why"] for step in steps)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    text = f"{P2P}  auto: {{ha: {{enable: true, external_db: 'postgres://u:{HUSH}@db/k'}}}}\n"
    text += f"k3s:\n  args: [--token={HUSH}, --debug]\n  env: {{SECRET: {HUSH}}}\n"
    for options in ((), ("--json",)):
        output = planned(tmp_path, text, *options).output
        assert HUSH not in output
        assert TOKEN not in output
        assert "K3S_DATASTORE_ENDPOINT=***" in output


def test_what_the_operator_gives_says_what_it_replaces(tmp_path: Path) -> None:
    result = planned(tmp_path, f"{P2P}k3s: {{args: [--node-ip=9.9.9.9, --tls-san=extra.example]}}\n", "--role=master")
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("    --")}
    assert "k3s.args, in place of --node-ip=<an address of 10.1.0.0/24>" in lines["--node-ip=9.9.9.9"]
    assert lines["--tls-san=extra.example"].endswith("k3s.args"), "names add up"


def test_a_forced_role_is_the_only_one_that_is_shown(tmp_path: Path) -> None:
    documents = json.loads(planned(tmp_path, f"{P2P}  role: worker\n", "--json").stdout)
    assert [document["role"] for document in documents] == ["worker"]


def test_a_node_without_kubernetes_says_so(tmp_path: Path) -> None:
    assert "runs no Kubernetes" in planned(tmp_path, f"{P2P}  role: none\n").stdout


def test_a_plan_that_cannot_run_is_refused_with_its_reason(tmp_path: Path) -> None:
    result = planned(tmp_path, f"{P2P}  auto: {{enable: false}}\n  role: worker\n")
    assert result.exit_code == 1
    assert "needs a server to join" in str(result.exception)


def main() -> None:
    import tempfile

    with same_machine(), tempfile.TemporaryDirectory() as folder:
        for name, text in EXAMPLES.items():
            (PLANS / f"{name}.txt").write_text(planned(Path(folder), text).stdout)


if __name__ == "__main__":
    main()
