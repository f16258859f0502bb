"""Whatever is asked, the answer is an answer: never a 500, never silence, never a crash."""

import contextlib
import json
import socket
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kairos_core.api.app import OPERATIONS
from kairos_core.api.document import format_json, parse_json
from kairos_core.testing.served import ServedNode

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEGMENT = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=20)
PATH = st.one_of(
    st.lists(SEGMENT, max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.lists(SEGMENT, max_size=4).map(lambda parts: "/api/v1/" + "/".join(parts)),
    st.lists(st.one_of(SEGMENT, st.just("%ff"), st.just("..")), max_size=4).map(lambda p: "/api/ledger/" + "/".join(p)),
    st.sampled_from([each.path for each in OPERATIONS if "events" not in each.path]),
)
METHOD = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@SETTINGS
@given(METHOD, PATH, st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()), st.booleans())
def test_any_request_gets_an_answer_that_is_no_defect(
    shared_agent: ServedNode, method: str, path: str, body: bytes, tcp: bool
) -> None:
    answer = shared_agent.ask(method, path, body, tcp=tcp)
    assert answer.status < 500
    if answer.status >= 400 and method != "HEAD":
        assert set(answer.json["error"]) <= {"code", "message", "advice"}


@SETTINGS
@given(st.binary(max_size=400))
def test_any_bytes_leave_the_server_alive(shared_agent: ServedNode, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(shared_agent.listen.socket))
        client.sendall(data)
    assert shared_agent.ask("GET", "/api/summary").status == 200


@SETTINGS
@given(st.binary(max_size=60))
def test_a_valid_request_followed_by_any_bytes_is_answered(shared_agent: ServedNode, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(shared_agent.listen.socket))
        client.sendall(b"GET /api/summary HTTP/1.1\r\nHost: x\r\n\r\n" + data)
        assert client.recv(12) in (b"HTTP/1.1 200", b"")


@given(JSON)
def test_what_was_parsed_can_be_written_and_read_again(value: Any) -> None:
    try:
        parsed = parse_json(json.dumps(value))
    except ValueError:
        return
    assert parse_json(format_json(parsed)) == parsed


@given(st.text() | st.binary())
def test_any_text_is_parsed_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(ValueError):  # the one way to refuse
        format_json(parse_json(text)).encode("ascii")


@given(JSON)
def test_any_value_of_a_peer_can_be_written(value: Any) -> None:
    json.loads(format_json(value), parse_constant=lambda name: 1 / 0)
