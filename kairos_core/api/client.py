"""Speaks to a running agent: what the commands are made of. Standard library only, so that they start fast."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from kairos_core.api.endpoint import Endpoint, find_endpoints
from kairos_core.errors import ConfigError, ControlError

TOKEN_FILE = "/run/kairos/api.token"  # noqa: S105 - a path

ANSWER = 30.0
"""Seconds to wait for an answer; a write is answered when it is saved. Raising it makes a hung agent show later."""

REACH = 3.0
"""Seconds to connect. Raising it waits longer where a firewall swallows what goes to the agent; lowering it gives up an
agent at the far end of a bad line."""

SILENCE = 60.0
"""Seconds of silence after which an event stream counts as broken; the agent sends a sign of life every 15 s."""


class ApiClient:
    """A client of the first endpoint that answers; see `find_endpoints` for which are tried."""

    def __init__(self, api: str | None = None, environment: Mapping[str, str] = os.environ) -> None:
        """Take what --api said, if anything. Raises ConfigError when an endpoint cannot be read."""
        self._endpoints = find_endpoints(api, environment)
        self._environment = environment

    def get(self, *segments: str) -> Any:
        """Return the JSON at a path under /api/v1, given by its segments. Raises ControlError."""
        return _json(*self._request("GET", segments))

    def text(self, *segments: str) -> str:
        """Return the text at a path. Raises ControlError."""
        return self._request("GET", segments)[0].decode()

    def put(self, value: Any, *segments: str) -> Any:
        """Put a JSON value at a path and return the answer. Raises ControlError when the agent refuses it."""
        return _json(*self._request("PUT", segments, json.dumps(value).encode()))

    def post(self, value: Any, *segments: str) -> Any:
        """Post a JSON value to a path and return the answer. Raises ControlError when the agent refuses it."""
        return _json(*self._request("POST", segments, json.dumps(value).encode()))

    def delete(self, *segments: str) -> None:
        """Delete what is at a path. Raises ControlError."""
        self._request("DELETE", segments)

    def changes(self, bucket: str | None = None) -> Generator[dict[str, Any], None, None]:
        """Yield each change of the ledger, `{"bucket", "key", "value"}`, until closed. Raises ControlError."""
        path = _path(("events",)) + (f"?bucket={quote(bucket, safe='')}" if bucket else "")
        connection, endpoint = self._open(SILENCE)
        with closing(connection):
            try:
                response = self._send(connection, endpoint, "GET", path)
                self._expect_success(response, endpoint)
                for line in response:
                    if line.startswith(b"data: "):
                        yield json.loads(line.removeprefix(b"data: "))
            except (OSError, HTTPException, ValueError) as error:
                raise ControlError(f"the agent at {endpoint} went silent: {_reason(error)}. Try again.") from None
        raise ControlError(f"the agent at {endpoint} ended the stream: it stops, or this reader was too slow.")

    def _request(self, method: str, segments: tuple[str, ...], body: bytes | None = None) -> tuple[bytes, Endpoint]:
        path = _path(segments)
        connection, endpoint = self._open(ANSWER)
        with closing(connection):
            try:
                response = self._send(connection, endpoint, method, path, body)
                self._expect_success(response, endpoint)
                return response.read(), endpoint
            except (OSError, HTTPException) as error:
                advice = "Is it an agent of Kairos, and does it still run?"
                raise ControlError(f"the agent at {endpoint} did not answer: {_reason(error)}. {advice}") from None

    def _open(self, timeout: float) -> tuple[HTTPConnection, Endpoint]:
        failures = []
        for endpoint in self._endpoints:
            connection = endpoint.connection(REACH)
            try:
                connection.connect()
                connection.sock.settimeout(timeout)
            except OSError as error:
                failures.append(f"{endpoint} ({_reason(error)})")
            else:
                return connection, endpoint
        advice = "Is `kairos start` or `kairos bridge` running here? Say where it listens with --api or $KAIROS_API."
        raise ControlError(f"no agent answers at {' or '.join(failures)}. {advice}")

    def _send(
        self, connection: HTTPConnection, endpoint: Endpoint, method: str, path: str, body: bytes | None = None
    ) -> HTTPResponse:
        token = self._token(endpoint)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def _token(self, endpoint: Endpoint) -> str | None:
        """Return the token for TCP. The one in the file is for this machine and goes to no other."""
        if endpoint.socket:
            return None
        given = self._environment.get("KAIROS_API_TOKEN")
        if given or not endpoint.is_loopback:
            return given
        try:
            return Path(TOKEN_FILE).read_text().strip()
        except OSError:
            return None  # reading needs none; where it is needed, the agent says so

    def _expect_success(self, response: HTTPResponse, endpoint: Endpoint) -> None:
        if response.status < 300:
            return
        try:
            error = json.loads(response.read(1 << 20))["error"]
            sentence = ". ".join(part.rstrip(".") for part in (error["message"], error.get("advice")) if part)
        except (ValueError, LookupError, TypeError, AttributeError):
            _refuse_stranger(endpoint, f"status {response.status}")
        raise ControlError(f"{sentence}.")


def _json(body: bytes, endpoint: Endpoint) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        _refuse_stranger(endpoint, "no JSON")


def _path(segments: tuple[str, ...]) -> str:
    try:
        if all(segments):
            return "/".join(["/api/v1", *(quote(segment, safe="") for segment in segments)])
    except UnicodeEncodeError:
        raise ConfigError("a name on the command line is not UTF-8; write it in UTF-8.") from None
    raise ConfigError("a bucket, key or node on the command line is empty; give its name.")


def _refuse_stranger(endpoint: Endpoint, what: str) -> NoReturn:
    raise ControlError(f"what answers at {endpoint} is no agent of Kairos ({what}). Say where it listens with --api.")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
