"""Who may ask what. Whoever can open the unix socket may do all; over TCP there are three attackers.

A web page that the operator visits can reach 127.0.0.1: by DNS rebinding (its own name resolves to 127.0.0.1; the
Host header gives it away) and by plain cross-site requests (Origin and Sec-Fetch-Site give them away). Another
user of this machine can connect too: whoever writes, or reads a secret, shows the bearer token, which is in a file
that only the agent's user can read. A neighbour on the LAN reaches us where the operator listens beyond loopback:
then reading needs the token as well.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kairos_core.api.operation import Operation, Refusal, error_response

MAX_BODY = 64 * 1024
"""Bytes in a request body: a ledger value is far smaller. Raising it lets each connection hold more memory."""

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides on requests. `hosts` are the names, as in a Host header without port, under which we are asked."""

    token: str = field(repr=False)
    token_file: Path
    hosts: frozenset[str] = LOCAL_NAMES
    open_reads: bool = True  # False when listening beyond loopback

    def check_origin(self, headers: Headers) -> None:
        """Refuse what a web page of another site sends. Raises Refusal (403)."""
        names = [host_name(value) for value in headers.getlist("host")]
        if not names or not self.hosts.issuperset(names):
            allowed = ", ".join(sorted(self.hosts))
            raise Refusal(403, "bad_host", f"the Host header {', '.join(names)!r} is not one of {allowed}")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host']}":
            raise Refusal(403, "cross_site", "requests from a page of another site are refused")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refusal(403, "cross_site", "requests from a page of another site are refused")

    def check_token(self, operation: Operation, headers: Headers) -> None:
        """Demand the bearer token where the operation needs it. Raises Refusal (401)."""
        if self.open_reads and not operation.needs_token:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        # compare_digest takes no longer for a better guess, and wants bytes for what is not ASCII
        if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self.token.encode()):
            return
        what = "this is a secret" if operation.is_secret else f"{operation.method} may change the cluster"
        advice = f"send 'Authorization: Bearer TOKEN' with the content of {self.token_file}, or use the unix socket"
        raise Refusal(401, "token_needed", f"{what}: over TCP it needs the API token", advice)


class Gate:
    """ASGI middleware around the app: the origin check, what every response says, and paths by segment."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with an error."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_marks()]}
            await send(message)

        # Routes match on the path as sent, so that %2F inside a ledger key is not taken for a separator.
        scope["path"] = scope["raw_path"].decode("ascii")
        try:
            if not is_local(scope):
                self._guard.check_origin(Headers(scope=scope))
        except Refusal as refusal:
            await error_response(refusal)(scope, receive, send_marked)
            return
        await self._app(scope, receive, send_marked)


def _marks() -> list[tuple[bytes, bytes]]:
    return [
        (b"date", formatdate(usegmt=True).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]


def is_local(scope: Mapping[str, object]) -> bool:
    """Say whether the request came through the unix socket. Only `connection.py` sets this, never a header."""
    state = scope.get("state")
    return isinstance(state, dict) and state.get("local") is True


def host_name(header: str) -> str:
    """Return the host of a Host header, without its port, in lower case; an IPv6 address keeps its brackets."""
    host, colon, port = header.strip().lower().rpartition(":")
    return host if colon and (port.isdecimal() or not port) else header.strip().lower()


def make_guard(token_file: Path, bound_to: str | None, names: tuple[str, ...]) -> Guard:
    """Make a guard with a fresh token, for a TCP listener bound to an address (None: there is none)."""
    hosts = LOCAL_NAMES | {name.lower() for name in names}
    loopback = bound_to is None or bound_to == "localhost"
    if bound_to is not None:
        hosts |= {f"[{bound_to}]" if ":" in bound_to else bound_to}
        with suppress(ValueError):
            loopback = ip_address(bound_to).is_loopback
    return Guard(secrets.token_urlsafe(32), token_file, frozenset(hosts), open_reads=loopback)
