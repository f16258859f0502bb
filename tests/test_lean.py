"""What a process that runs for months must not have loaded: it would be there for nothing."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from kairos_core.protocol.token import format_token, new_token

TOKEN = format_token(new_token(random.Random(1).choice))

FORGONE = ("pydantic", "pydantic_core", "cryptography.x509", "prometheus_client", "urllib.request")

GOSSIP = "import kairos_core.testing.gossiper, kairos_transport_tls"

AGENT = """
from kairos_core.cli.start import _read_config
from kairos_core.runtime.assembly import make_parts
from kairos_core.runtime.node import Node
from kairos_core.runtime.plugins import load_plugins
from pathlib import Path
plugins = load_plugins()
config = _read_config(lambda: [("a.yaml", Path({file!r}).read_text())], plugins)
Node(config, plugins, Path({state!r}))
assert config.settings["p2p.transport"].port == 4711, config.settings
assert config.p2p.network_token.get_secret_value() == {token!r}
"""


def loaded(code: str) -> set[str]:
    """Return the modules that are loaded after some code has run in an interpreter of its own."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_gossip_alone_needs_no_pydantic_and_no_x509() -> None:
    modules = loaded(GOSSIP)
    assert "kairos_core.protocol.gossip" in modules
    assert not modules & {*FORGONE, "click", "starlette", "uvicorn", "sqlite3", "zeroconf"}


def test_an_agent_that_has_read_its_configuration_and_made_its_parts_holds_no_pydantic(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"p2p:\n  network_token: {TOKEN}\n  transport: {{port: 4711}}\n")
    modules = loaded(AGENT.format(file=str(file), state=str(tmp_path / "state"), token=TOKEN))
    assert {"kairos_core.runtime.node", "kairos_transport_tls", "kairos_engine_k3s", "uvicorn"} <= modules
    assert not modules & set(FORGONE)


@pytest.mark.parametrize("module", ["kairos_core.model", "kairos_core.settings", "kairos_core.protocol.token"])
def test_the_values_that_all_share_need_no_pydantic(module: str) -> None:
    assert not loaded(f"import {module}") & {"pydantic", "pydantic_core"}
