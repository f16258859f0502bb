"""Which files show a secret to every user of the machine."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kairos_core.config import Config, parse_config
from kairos_core.model import Verdict
from kairos_core.protocol.token import format_token, new_token
from kairos_core.runtime.exposure import public_documents, secrecy, secret_settings
from kairos_core.runtime.plugins import load_plugins

TOKEN = format_token(new_token(random.Random(7).choice))
P2P = f"p2p: {{network_token: {TOKEN}}}\n"


def read(more: str = "") -> Config:
    return parse_config([("kairos.yaml", P2P), ("more.yaml", more)] if more else [("kairos.yaml", P2P)], SECTIONS)


SECTIONS = load_plugins().sections()


@pytest.mark.parametrize(("mode", "is_public"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_file_is_public_when_every_user_may_read_it(tmp_path: Path, mode: int, is_public: bool) -> None:
    file = tmp_path / "kairos.yaml"
    file.write_text(P2P)
    file.chmod(mode)
    document = str(file), P2P
    assert public_documents([document, ("no file", P2P)]) == ([document] if is_public else [])


def test_a_public_file_with_the_token_is_wrong_and_one_without_a_secret_is_not() -> None:
    found = secrecy([("/oem/a b.yaml", P2P), ("/oem/c.yaml", "p2p: {role: worker}\n")], read())
    assert found.verdict is Verdict.WRONG
    assert found.message == "/oem/a b.yaml holds p2p.network_token, and every user can read it"
    assert found.remedy == "chmod 600 '/oem/a b.yaml'"
    assert secrecy([("/oem/c.yaml", "p2p: {role: worker}\n")], read()).verdict is Verdict.OK


def test_a_token_over_several_lines_is_found() -> None:
    folded = f'token: "{TOKEN[:9]}\n   {TOKEN[9:]}"'
    assert secrecy([("a", folded)], read()).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("block", "setting"),
    [
        ("k3s: {env: {K3S_TOKEN: hush-hush}}", "k3s.env.K3S_TOKEN"),
        ("k3s: {env: {AWS_SECRET_ACCESS_KEY: hush-hush}}", "k3s.env.AWS_SECRET_ACCESS_KEY"),
        ("k3s: {env: {HTTPS_PROXY: 'http://me:hush-hush@proxy:3128'}}", "k3s.env.HTTPS_PROXY"),
        ("k3s: {args: [--token=hush-hush]}", "k3s.args --token"),
        ("k3s: {args: [--agent-token, hush-hush]}", "k3s.args --agent-token"),
        ("k3s: {args: ['--etcd-s3-secret-key hush-hush']}", "k3s.args --etcd-s3-secret-key"),
        ("k3s-agent: {env: {K3S_TOKEN: hush-hush}}", "k3s-agent.env.K3S_TOKEN"),
        ("k3s: {args: ['--datastore-endpoint=postgres://k:hush-hush@db/k3s']}", "k3s.args --datastore-endpoint"),
        ("p2p: {auto: {ha: {external_db: 'mysql://k:hush-hush@tcp(db)/k3s'}}}", "p2p.auto.ha.external_db"),
        ("k0s: {env: {K0S_TOKEN: hush-hush}}", "k0s.env.K0S_TOKEN"),
        ("k0s: {config: {spec: {storage: {kine: {dataSource: 'mysql://k:hush-hush@tcp(db)/k'}}}}}", "dataSource"),
    ],
)
def test_a_public_file_with_another_secret_is_wrong_and_the_setting_is_named(block: str, setting: str) -> None:
    found = secrecy([("/oem/more.yaml", block)], read(block))
    assert found.verdict is Verdict.WRONG
    assert setting in found.message
    assert "hush" not in found.message + found.remedy


@pytest.mark.parametrize(
    "block",
    [
        "k3s: {env: {HTTPS_PROXY: 'http://proxy:3128', NO_PROXY: 10.0.0.0/8, K3S_TOKEN_FILE: /etc/k3s/token}}",
        "k3s: {args: ['--disable=traefik', '--token-file=/etc/k3s/token', --write-kubeconfig-mode, '0600']}",
        "p2p: {auto: {ha: {external_db: 'postgres://db.example/k3s'}}, vpn: {env: {ADDRESS: 10.1.0.5/24}}}",
        "k0s-worker: {args: ['--token-file=/etc/k0s/token']}",
    ],
)
def test_what_every_user_may_know_is_no_secret(block: str) -> None:
    assert secrecy([("/oem/more.yaml", block)], read(block)).verdict is Verdict.OK
    assert set(secret_settings(read(block)).values()) == {"p2p.network_token"}
