import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kairos_core.api import client as client_module
from kairos_core.api import endpoint
from kairos_core.api.client import ApiClient
from kairos_core.api.endpoint import Endpoint, find_endpoints
from kairos_core.errors import ConfigError, ControlError
from kairos_core.testing.served import ServedNode


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("/run/x.sock", "unix:///run/x.sock"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:81/", "http://localhost:81"),
        ("http://host", "http://host:80"),
        ("host", "http://host:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_forms_of_an_endpoint_are_read(text: str, shown: str) -> None:
    assert str(Endpoint.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "unix://", "unix://x", "https://a:1", "ftp://a", "http://", "a:b", "a:70000", "http://a/api", "http://u@a"],
)
def test_what_is_no_endpoint_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="write unix:///PATH or http://HOST:PORT"):
        Endpoint.parse(text)


def test_the_flag_comes_before_the_environment_and_that_before_the_defaults() -> None:
    environment = {"KAIROS_API": "a:1", "EDGEVPN_API": "b:2"}
    assert [str(each) for each in find_endpoints("c:3", environment)] == ["http://c:3"]
    assert [str(each) for each in find_endpoints(None, environment)] == ["http://a:1"]
    assert [str(each) for each in find_endpoints(None, {"EDGEVPN_API": "b:2", "KAIROS_API": ""})] == ["http://b:2"]
    assert [str(each) for each in find_endpoints(None, {})] == ["unix:///run/kairos/api.sock", "http://127.0.0.1:8080"]


@pytest.fixture
def defaults(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> ServedNode:
    """The defaults, moved to the test's agent."""
    monkeypatch.setattr(endpoint, "DEFAULTS", (agent.unix, agent.tcp))
    monkeypatch.setattr(client_module, "TOKEN_FILE", str(agent.listen.token_file))
    return agent


def test_where_there_is_no_socket_the_client_goes_to_tcp_with_the_token(defaults: ServedNode) -> None:
    Path(str(defaults.listen.socket)).unlink()
    defaults.control.config = "kind: Config\n"
    client = ApiClient(None, {})
    assert client.text("kubeconfig") == "kind: Config\n"
    assert client.put({"a": 1}, "ledger", "b", "k/ü")["key"] == "k/ü"
    client.delete("ledger", "b", "k/ü")
    assert "b" not in defaults.control.buckets


def test_without_the_token_file_the_refusal_says_where_the_token_is(
    agent: ServedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "TOKEN_FILE", "/nonexistent")
    with pytest.raises(ControlError, match=f"needs the API token. send .* {agent.listen.token_file}"):
        ApiClient(agent.tcp, {}).put(1, "ledger", "b", "k")
    assert ApiClient(agent.tcp, {"KAIROS_API_TOKEN": agent.token}).put(1, "ledger", "b", "k")["value"] == 1


def test_where_nobody_answers_the_error_names_all_that_was_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(endpoint, "DEFAULTS", (f"unix://{tmp_path}/no.sock", f"http://127.0.0.1:{port}"))
    with pytest.raises(ControlError) as caught:
        ApiClient(None, {}).get("status")
    assert str(caught.value) == (
        f"no agent answers at unix://{tmp_path}/no.sock (No such file or directory) or http://127.0.0.1:{port} "
        "(Connection refused). Is `kairos start` or `kairos bridge` running here? "
        "Say where it listens with --api or $KAIROS_API."
    )


@pytest.mark.parametrize("name", ["", "\udcff"])
def test_a_name_that_cannot_be_in_a_path_is_refused_before_it_is_sent(agent: ServedNode, name: str) -> None:
    with pytest.raises(ConfigError, match="on the command line"):
        ApiClient(agent.unix, {}).get("ledger", name)


class _Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen = dict(self.headers)  # type: ignore[attr-defined]
        self.send_response(404 if "missing" in self.path else 200)
        self.end_headers()
        self.wfile.write(b'{"error": "text"}' if "missing" in self.path else b"<html>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_another_program_on_the_port_is_called_a_stranger(stranger: http.server.HTTPServer) -> None:
    client = ApiClient(f"127.0.0.1:{stranger.server_port}", {})
    for path in ("status", "missing"):
        with pytest.raises(ControlError, match=f"127.0.0.1:{stranger.server_port} is no agent of Kairos"):
            client.get(path)


def test_the_token_of_this_machine_is_sent_to_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("mine\n")
    monkeypatch.setattr(client_module, "TOKEN_FILE", str(token_file))
    client = ApiClient("192.0.2.1:80", {})
    assert client._token(Endpoint.parse("192.0.2.1:80")) is None
    assert client._token(Endpoint.parse("unix:///x")) is None
    assert client._token(Endpoint.parse("127.0.0.1:80")) == "mine"


def test_a_stream_that_ends_is_an_error(agent: ServedNode) -> None:
    changes = ApiClient(agent.unix, {}).changes()
    timer = threading.Timer(0.1, agent.stop.set)
    timer.start()
    with pytest.raises(ControlError, match="ended the stream"):
        next(changes)
    timer.join()


def test_what_the_agent_refuses_is_said_as_it_said_it(agent: ServedNode) -> None:
    agent.control.refusal = ControlError("the bucket 'role' is closed. Ask its author.")
    with pytest.raises(ControlError, match=r"^the bucket 'role' is closed\. Ask its author\.$"):
        ApiClient(agent.unix, {}).put(json.loads("1"), "ledger", "role", "k")
