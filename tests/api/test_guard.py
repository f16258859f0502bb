"""Over TCP: web pages, other users of the machine, neighbours, and clients that are too slow or too large."""

import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from kairos_core.api import app, connection
from kairos_core.api.guard import MAX_BODY, Guard, host_name, make_guard
from kairos_core.api.operation import Operation, Refusal
from kairos_core.testing.served import ServedNode


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "localhost.", "[::2]"]
)
def test_a_rebound_name_is_refused_over_tcp(shared_agent: ServedNode, host: str) -> None:
    answer = shared_agent.ask("GET", "/api/v1/status", tcp=True, headers={"Host": host})
    assert (answer.status, answer.code) == (403, "bad_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"])
def test_the_names_of_this_machine_are_taken(shared_agent: ServedNode, host: str) -> None:
    assert shared_agent.ask("GET", "/api/v1/status", tcp=True, headers={"Host": host}).status == 200


def test_a_request_without_a_host_is_refused_over_tcp(shared_agent: ServedNode) -> None:
    assert b"403" in _exchange(shared_agent, b"GET /api/v1/status HTTP/1.0\r\n\r\n").splitlines()[0]


def test_over_the_unix_socket_any_host_will_do(shared_agent: ServedNode) -> None:
    assert shared_agent.ask("GET", "/api/v1/status", headers={"Host": "x"}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_is_refused(shared_agent: ServedNode, headers: dict[str, str]) -> None:
    answer = shared_agent.ask("GET", "/api/v1/status", tcp=True, headers={"Host": "localhost", **headers})
    assert (answer.status, answer.code) == (403, "cross_site")


def test_a_page_of_our_own_is_taken(shared_agent: ServedNode) -> None:
    headers = {"Host": "localhost:8080", "Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"}
    assert shared_agent.ask("GET", "/api/v1/status", tcp=True, headers=headers).status == 200


WRITES = [(each.method, each.path) for each in app.OPERATIONS if each.method != "GET"]


@pytest.mark.parametrize(("method", "path"), [*WRITES, ("GET", "/api/v1/kubeconfig"), ("HEAD", "/api/v1/kubeconfig")])
def test_a_write_or_a_secret_needs_the_token_over_tcp(agent: ServedNode, method: str, path: str) -> None:
    agent.control.config = "secret"
    before = json.dumps(agent.control.buckets)
    for authorization in (None, "", "Bearer", "Bearer x", f"Basic {agent.token}", f"Bearer {agent.token}x", "Bearer é"):
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = agent.ask(method, path, b"1", headers=headers, tcp=True)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert b"secret\n" not in answer.body
        assert agent.token.encode() not in answer.body
    assert json.dumps(agent.control.buckets) == before
    assert agent.control.roles == {}


def test_with_the_token_a_write_goes_through_over_tcp(agent: ServedNode) -> None:
    headers = {"Authorization": f"Bearer {agent.token}"}
    assert agent.ask("PUT", "/api/v1/ledger/b/k", b"1", headers=headers, tcp=True).status == 200
    assert agent.control.buckets["b"] == {"k": 1}


def test_no_header_makes_a_tcp_client_local(shared_agent: ServedNode) -> None:
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host"):
        assert shared_agent.ask("GET", "/api/v1/kubeconfig", headers={name: "127.0.0.1"}, tcp=True).status == 401


def test_the_token_is_new_at_each_start_and_in_no_repr(tmp_path: Path) -> None:
    first, second = make_guard(tmp_path, "127.0.0.1", ()), make_guard(tmp_path, "127.0.0.1", ())
    assert first.token != second.token
    assert len(first.token) >= 43
    assert first.token not in repr(first)


def test_beyond_loopback_reading_needs_the_token_too() -> None:
    operation = Operation("GET", "/x", None, "")  # type: ignore[arg-type]
    for address, is_open in (("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("192.0.2.1", False)):
        guard = make_guard(Path("t"), address, ())
        assert guard.open_reads is is_open
        if not is_open:
            with pytest.raises(Refusal):
                guard.check_token(operation, Headers())
            guard.check_token(operation, Headers({"authorization": f"bearer {guard.token}"}))


def test_configured_names_and_the_bound_address_are_taken_for_hosts() -> None:
    guard = make_guard(Path("t"), "192.0.2.1", ("Edge.Example",))
    for host in ("edge.example", "EDGE.example:80", "192.0.2.1:8080"):
        guard.check_origin(Headers({"host": host}))
    assert "[fd00::1]" in make_guard(Path("t"), "fd00::1", ()).hosts


@pytest.mark.parametrize(
    ("header", "name"),
    [("a:80", "a"), ("A", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a:", "a"), ("a:b", "a:b"), ("", "")],
)
def test_the_name_in_a_host_header_is_what_stands_before_the_port(header: str, name: str) -> None:
    assert host_name(header) == name


def test_two_hosts_in_one_request_must_both_be_ours() -> None:
    headers = Headers(raw=[(b"host", b"localhost"), (b"host", b"evil")])
    with pytest.raises(Refusal):
        Guard("t", Path("f")).check_origin(headers)


def test_a_body_over_the_limit_is_refused_announced_or_not(agent: ServedNode) -> None:
    announced = agent.ask("PUT", "/api/v1/ledger/b/k", b'"' + b"x" * MAX_BODY + b'"')
    assert (announced.status, announced.code) == (413, "too_large")
    chunks = b"".join(b"4000\r\n" + b"x" * 0x4000 + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"
    head = b"PUT /api/v1/ledger/b/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in _exchange(agent, head + chunks, tcp=False).splitlines()[0]
    assert "b" not in agent.control.buckets


def test_a_body_at_the_limit_is_taken(agent: ServedNode) -> None:
    assert agent.ask("PUT", "/api/v1/ledger/b/k", b'"' + b"x" * (MAX_BODY - 2) + b'"').status == 200


def test_a_body_length_that_is_absurd_is_refused_without_reading(agent: ServedNode) -> None:
    head = b"PUT /api/v1/ledger/b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n"
    assert b" 413 " in _exchange(agent, head, tcp=False).splitlines()[0]


@pytest.mark.parametrize("start", [b"", b"GET /api/v1/sta", b"PUT /api/v1/ledger/b/k HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_request_that_never_ends_is_cut_off(agent: ServedNode, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(connection, "SLOW_REQUEST", 0.2)
    began = time.monotonic()
    assert _exchange(agent, start) == b""
    assert time.monotonic() - began < 5


def test_bytes_that_trickle_in_do_not_move_the_deadline(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SLOW_REQUEST", 0.3)
    with socket.create_connection(("127.0.0.1", agent.port)) as client:
        client.settimeout(0.02)
        began = time.monotonic()
        while not _is_cut_off(client):
            assert time.monotonic() - began < 5


def _is_cut_off(client: socket.socket) -> bool:
    try:
        client.send(b"G")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_body_that_trickles_in_is_answered_with_408(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SLOW_WRITER", 0.2)
    head = b"PUT /api/v1/ledger/b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n1"
    assert b" 408 " in _exchange(agent, head, tcp=False).splitlines()[0]


def test_what_is_not_http_gets_a_typed_error(shared_agent: ServedNode) -> None:
    answer = _exchange(shared_agent, b"\x16\x03\x01 nonsense\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "bad_request"


def test_headers_without_end_are_refused(shared_agent: ServedNode) -> None:
    flood = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 40000
    assert b" 400 " in _exchange(shared_agent, flood).splitlines()[0]


def test_a_keep_alive_connection_serves_many_requests(shared_agent: ServedNode) -> None:
    request = b"GET /api/summary HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /api/summary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert _exchange(shared_agent, request * 5 + last).count(b"HTTP/1.1 200") == 6


def test_whoever_takes_all_tcp_connections_does_not_lock_the_commands_out(
    agent: ServedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 3)
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", agent.port)))
            client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        assert _exchange(agent, b"GET /api/summary HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        assert agent.ask("GET", "/api/summary").status == 200
    until = time.monotonic() + 10
    while not _exchange(agent, b"GET /api/summary HTTP/1.0\r\nHost: localhost\r\n\r\n"):
        assert time.monotonic() < until, "the connections were not given back"


def _exchange(agent: ServedNode, data: bytes, *, tcp: bool = True) -> bytes:
    """Send bytes, and return what comes until the server closes."""
    family, where = (socket.AF_INET, ("127.0.0.1", agent.port)) if tcp else (socket.AF_UNIX, str(agent.listen.socket))
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(where)
        received = b""
        try:
            client.sendall(data)
            while chunk := client.recv(65536):
                received += chunk
                if not tcp and b"\r\n\r\n" in received:
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received
