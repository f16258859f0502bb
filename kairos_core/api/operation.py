"""One entry of the route table, and what its handler sees and answers.

The table is the source of three things: what the server routes, what openapi.json says, and what a test demands
of docs/reference/api.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp

from kairos_core.api.document import format_json
from kairos_core.runtime.control import Control


class Refusal(Exception):
    """A request that is answered with an error: an HTTP status, a word for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.advice = status, code, message, advice


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a handler sees it: the node, the parameters of path and query, and the body, read already."""

    control: Control
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    stopping: asyncio.Event  # set when the server goes down, so that streams end


Handler = Callable[[Call], Awaitable[ASGIApp]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method and a path template, its handler, and the types (for openapi.json) of what goes in and comes out.

    `is_secret`: reading it over TCP needs the bearer token too. `media` is the type of a 200 answer.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any = None  # whatever pydantic's TypeAdapter takes; None for "no content" or text
    body: Any = None
    is_secret: bool = False
    media: str = "application/json"

    @property
    def takes_body(self) -> bool:
        return self.body is not None

    @property
    def needs_token(self) -> bool:
        return self.is_secret or self.method != "GET"


def json_response(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(format_json(value), status, media_type="application/json")


def error_response(refusal: Refusal) -> Response:
    """Answer with a typed error: `{"error": {"code", "message", "advice"?}}`."""
    error = {"code": refusal.code, "message": refusal.message}
    if refusal.advice:
        error["advice"] = refusal.advice
    response = json_response({"error": error}, refusal.status)
    if refusal.status == 401:  # RFC 9110, section 15.5.2: must say how to authenticate
        response.headers["WWW-Authenticate"] = 'Bearer realm="kairos"'
    return response
