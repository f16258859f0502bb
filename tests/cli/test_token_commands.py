"""Tokens from the command line."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner, Result

from kairos_core.cli import kairos
from kairos_core.config import parse_config
from kairos_core.protocol.token import parse_token


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kairos, arguments)


def test_generate_token_prints_a_token_and_nothing_else() -> None:
    result = run("generate-token")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    token = parse_token(result.stdout)
    assert token.otp.dht.interval == token.otp.crypto.interval == 3600
    assert token.kairos is not None
    assert token.kairos.quorum is None


def test_each_token_is_another() -> None:
    assert run("generate-token").output != run("generate-token").output


@pytest.mark.parametrize(("nodes", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (1999, 1000)])
def test_the_expected_number_of_nodes_puts_a_majority_into_the_token(nodes: int, quorum: int) -> None:
    token = parse_token(run("generate-token", "600", "--nodes", str(nodes)).output)
    assert token.otp.crypto.interval == 600
    assert token.kairos is not None
    assert token.kairos.quorum == quorum
    assert nodes <= 2 * quorum - 1 or nodes == 2 * quorum - 2, "at most 2q-1 nodes vote"


def test_json_has_the_token_and_its_terms() -> None:
    data = json.loads(run("generate-token", "--nodes", "3", "--json").output)
    assert set(data) == {"token", "interval", "quorum"}
    assert (data["interval"], data["quorum"]) == (3600, 2)
    parse_token(data["token"])


def test_the_longest_interval_never_rotates_as_in_the_reference() -> None:
    assert parse_token(run("g", str(2**63 - 1)).output).otp.dht.interval == 2**63 - 1


@pytest.mark.parametrize(
    "arguments", [("0",), ("-5",), (str(2**63),), ("soon",), ("--nodes", "0"), ("--nodes", "2000")]
)
def test_a_wrong_argument_is_an_error_with_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = run("generate-token", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_create_config_prints_a_configuration_that_is_valid_as_it_is() -> None:
    text = run("create-config", "--nodes", "5").output
    assert text.startswith("#cloud-config\n")
    config = parse_config([("created", text)])
    assert config.p2p is not None
    token = parse_token(config.p2p.network_token.get_secret_value())
    assert token.kairos is not None
    assert token.kairos.quorum == 3
    assert list(yaml.safe_load(text)) == ["p2p"]


def test_help_says_what_the_number_of_nodes_is_for() -> None:
    assert "never two clusters" in " ".join(run("generate-token", "--help").output.split())
