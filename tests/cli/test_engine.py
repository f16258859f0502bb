"""`kairos engine`: the orders reach the service of the engine that the configuration names."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kairos_core.cli import kairos
from kairos_core.protocol.token import format_token, new_token
from kairos_core.testing.engines import FakeService

TOKEN = format_token(new_token(lambda alphabet: alphabet[5]))
ENGINE = """
    from kairos_core import hookimpl
    from kairos_core.testing.engines import FakeEngine, FakeService

    SERVICE = FakeService(["one", "two", "three\\x1b[2J"])

    class Acme(FakeEngine):
        async def service(self):
            return SERVICE

    class Bare(FakeEngine):
        "Has applied nothing."

    @hookimpl
    def register_engine(register):
        register("acme", Acme)
        register("bare", Bare)
"""


@pytest.fixture
def service(install: Any) -> FakeService:
    install("acme-engine", ENGINE)
    found: FakeService = import_module("acme_engine").SERVICE
    return found


@pytest.fixture
def config(tmp_path: Path) -> str:
    return write_config(tmp_path, "acme")


def write_config(directory: Path, engine: str) -> str:
    file = directory / "kairos.yaml"
    file.write_text(f"p2p:\n  network_token: {TOKEN}\n  plugins: {{engine: {engine}}}\n")
    return str(file)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kairos, ["engine", *arguments])


def _running(config: str) -> object:
    return json.loads(run("status", "--json", "--config", config).stdout)["running"]


def test_status_shows_the_service_and_its_program(service: FakeService, config: str) -> None:
    assert run("status", "--config", config).stdout == "service  fake: running\nprogram  fake 1.0\n"
    service.runs = False
    shown = json.loads(run("status", "--json", "--config", config).stdout)
    assert shown == {"service": "fake", "running": False, "version": "fake 1.0"}


def test_stop_start_and_restart_are_obeyed(service: FakeService, config: str) -> None:
    stopped = run("stop", "--config", config)
    assert stopped.stdout.startswith("stopped fake. It stays so until: kairos engine start")
    assert _running(config) is False
    assert run("start", "--config", config).stdout == "started fake\n"
    assert _running(config) is True
    service.runs = False
    assert run("restart", "--config", config).stdout == "restarted fake\n"
    assert _running(config) is True


def test_logs_are_printed_without_what_a_terminal_would_obey(service: FakeService, config: str) -> None:
    assert run("logs", "-n", "2", "--config", config).stdout == "two\nthree\\x1b[2J\n"
    assert len(run("logs", "--follow", "--config", config).stdout.splitlines()) == 3


@pytest.mark.parametrize("order", ["status", "logs", "start", "stop", "restart"])
def test_without_a_service_every_order_says_so(order: str, service: FakeService, tmp_path: Path) -> None:
    result = run(order, "--config", write_config(tmp_path, "bare"))
    assert result.exit_code == 1
    assert "there is no Kubernetes on this machine" in result.stderr


def test_an_engine_that_is_not_installed_is_named(service: FakeService, tmp_path: Path) -> None:
    result = run("stop", "--config", write_config(tmp_path, "kubeadm"))
    assert result.exit_code == 1
    assert "no engine is called 'kubeadm'" in result.stderr


def test_a_broken_configuration_keeps_nobody_from_asking(service: FakeService, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("p2p:\n  peer: 1\n")
    result = run("status", "--config", str(file))
    assert "Warning: going on with the default engine, since" in result.stderr
