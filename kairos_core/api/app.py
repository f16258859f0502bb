"""The ASGI application: from the route table to answers, with every failure as a typed error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kairos_core.api import reference, v1
from kairos_core.api.guard import MAX_BODY, Gate, Guard, is_local
from kairos_core.api.openapi import openapi_operation
from kairos_core.api.operation import Call, Operation, Refusal, error_response
from kairos_core.errors import ControlError, KairosError
from kairos_core.runtime.control import Control

log = logging.getLogger(__name__)


async def _metrics(call: Call) -> Response:
    from kairos_core.api.metrics import scrape  # noqa: PLC0415 - 1.5 MB, which a node that is not scraped goes without

    return scrape(call.control)


_METRICS = Operation("GET", "/metrics", _metrics, "Metrics for Prometheus", media="text/plain")
_LISTED = (*v1.OPERATIONS, *reference.OPERATIONS, _METRICS)
OPERATIONS: tuple[Operation, ...] = (*_LISTED, openapi_operation(_LISTED))
"""The route table."""

SLOW_WRITER = 10.0
"""Seconds in which a request body must arrive. Raising it lets slow clients hold connections for longer."""


def build_app(control: Control, guard: Guard, stopping: asyncio.Event) -> ASGIApp:
    """Build the application. `stopping`, once set, ends the event streams."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes = [
        Route(path, _Endpoint(control, guard, stopping, methods), methods=list(methods))
        for path, methods in by_path.items()
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_route})
    app.router.redirect_slashes = False  # it would send clients to whatever the Host header says
    return Gate(app, guard)


class _Endpoint:
    """The operations of one path, as an ASGI app."""

    def __init__(
        self, control: Control, guard: Guard, stopping: asyncio.Event, methods: Mapping[str, Operation]
    ) -> None:
        self._control, self._guard, self._stopping, self._methods = control, guard, stopping, methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except Refusal as refusal:
            response = error_response(refusal)
        except KairosError as error:
            response = error_response(_refusal(error))
        except Exception:
            log.exception("%s %s failed: a defect in Kairos", request.method, scope["path"])
            response = error_response(Refusal(500, "defect", "the agent failed to answer; its log says why"))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        operation = self._methods["GET" if request.method == "HEAD" else request.method]
        if not is_local(request.scope):
            self._guard.check_token(operation, request.headers)
        call = Call(
            self._control,
            {name: _unquote(text) for name, text in request.path_params.items()},
            dict(request.query_params),
            await _read(request) if operation.takes_body else b"",
            self._stopping,
        )
        return await operation.handler(call)


def _refusal(error: KairosError) -> Refusal:
    """Map an error of the node: what it refuses is a conflict (409), what it cannot do now is 503."""
    if isinstance(error, ControlError):
        return Refusal(409, "refused", str(error))
    return Refusal(503, type(error).__name__.removesuffix("Error").lower(), str(error))


def _unquote(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Refusal(400, "bad_path", f"the path segment {segment!r} is not UTF-8") from None


async def _read(request: Request) -> bytes:
    """Read the body. Raises Refusal when it is too large (before reading it, where that is announced) or slow."""
    announced = request.headers.get("content-length", "0")
    if len(announced) > 9 or int(announced) > MAX_BODY:
        _refuse_size()
    body = bytearray()
    try:
        async with asyncio.timeout(SLOW_WRITER):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    _refuse_size()
    except TimeoutError:
        raise Refusal(408, "slow", f"the body did not arrive within {SLOW_WRITER:.0f} s") from None
    return bytes(body)


def _refuse_size() -> NoReturn:
    raise Refusal(413, "too_large", f"the body is larger than {MAX_BODY} bytes")


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer where the table has nothing: an unknown path (404), or a path without this method (405)."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        response = error_response(Refusal(405, "bad_method", f"{request.method} is not possible on {path}"))
        response.headers["Allow"] = allowed
        return response
    advice = "GET /api/v1/openapi.json lists all paths"
    return error_response(Refusal(error.status_code, "no_path", f"there is nothing at {path}", advice))
