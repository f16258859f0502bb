from __future__ import annotations

import base64

import pytest
import yaml

from kairos_core import with_server
from kairos_core.kubernetes.credentials import Credentials, parse_kubeconfig


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


TEXT = yaml.safe_dump(
    {
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": "https://localhost:6444", "certificate-authority-data": _encoded("authority")},
            }
        ],
        "users": [
            {
                "name": "u",
                "user": {"client-certificate-data": _encoded("certificate"), "client-key-data": _encoded(" and key")},
            }
        ],
    }
)


def test_the_administrators_certificate_and_the_server_are_read() -> None:
    credentials = parse_kubeconfig(TEXT)
    assert credentials == Credentials("localhost", 6444, "authority", "certificate and key")
    assert "and key" not in repr(credentials)


@pytest.mark.parametrize(
    ("host", "server"), [("10.1.0.7", "https://10.1.0.7:6444"), ("fd00::7", "https://[fd00::7]:6444")]
)
def test_another_host_keeps_the_port(host: str, server: str) -> None:
    assert yaml.safe_load(with_server(TEXT, host))["clusters"][0]["cluster"]["server"] == server


@pytest.mark.parametrize("text", ["", "a: [", "clusters: []", "clusters: [{cluster: {}}]", "[]"])
def test_what_is_no_kubeconfig_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        parse_kubeconfig(text)
