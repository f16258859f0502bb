"""The one TLS port of a server: from bytes to an answer of `Api`."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

from kairos_core.testing.k3s import VERSION
from kairos_core.testing.k3s.api import Answer, Api
from kairos_core.testing.k3s.log import Fatal, log

MAX_BODY = 1 << 20
"""Bytes in a request; stops a stranger from filling our memory."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request, from the bytes to an answer of `Api`."""

    api: ClassVar[Api]
    authority: ClassVar[str]
    timeout = 10
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "k3s stand-in", ""

    def setup(self) -> None:
        self.request.settimeout(self.timeout)
        self.request.do_handshake()  # here and not at accept, so that a silent client holds up nobody else
        super().setup()

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET

    def _answer(self) -> None:
        try:
            text, status = self._route(self.path.partition("?")[0]), HTTPStatus.OK
        except Answer as answer:
            status, text = answer.status, answer.text or _status(answer.status)
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if text[:1] in "{[" else "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _route(self, path: str) -> str:
        body = self._body()
        if path in ("/ping", "/cacerts"):
            return "pong" if path == "/ping" else self.authority
        if path.startswith("/v1-k3s/"):
            return self._supervisor(path.removeprefix("/v1-k3s/"), body)
        if not self._is_administrator():
            raise Answer(HTTPStatus.UNAUTHORIZED)
        return self._administration(path, body)

    def _administration(self, path: str, body: Mapping[str, Any]) -> str:
        if path in ("/readyz", "/livez", "/healthz"):
            return self.api.health(path)
        if path == "/version":
            return json.dumps({"major": "1", "minor": "0", "gitVersion": VERSION})
        if path == "/api/v1/nodes":
            return json.dumps(self.api.nodes())
        if path.startswith("/api/v1/nodes/"):
            return self._one_node(path.removeprefix("/api/v1/nodes/"), body)
        if path == "/stand-in/members":
            return self._members(body)
        raise Answer(HTTPStatus.NOT_FOUND)

    def _one_node(self, name: str, body: Mapping[str, Any]) -> str:
        found = [item for item in self.api.nodes()["items"] if item["metadata"]["name"] == name]
        if not found:
            raise Answer(HTTPStatus.NOT_FOUND)
        if self.command == "DELETE":
            self.api.delete_node(name)
        if self.command == "PATCH" and body == {"spec": {"unschedulable": True}}:
            self.api.store.cordon(name)
        return json.dumps(found[0])

    def _members(self, body: Mapping[str, Any]) -> str:
        """Answer with the members of etcd; on DELETE without the one that the body names."""
        self.api.nodes()  # without a quorum they are no more told than nodes are
        if self.command == "DELETE":
            self.api.store.remove_member(str(body.get("name")))
        return json.dumps(self.api.store.members())

    def _supervisor(self, path: str, body: Mapping[str, Any]) -> str:
        user, name = "node" if path == "node" else "server", self.headers.get("k3s-Node-Name", "")
        if not self.api.is_admitted(user, self.headers.get("Authorization", ""), name):
            log(
                "error",
                f"Failed to authenticate request from {self.client_address[0]}: invalid username/password",
            )
            raise Answer(HTTPStatus.UNAUTHORIZED)
        if path == "node" and self.command == "POST":
            headers = {name.lower(): value for name, value in self.headers.items()}
            return json.dumps(self.api.beat(headers, body))
        if path in ("server-bootstrap", "state"):
            return json.dumps(self.api.store.copy())
        if path == "member" and self.command == "POST":
            self.api.add_member(str(body.get("name")), str(body.get("url")))
            return json.dumps(self.api.store.copy())
        if path == "token" and self.command == "PUT":
            self.api.rotate(str(body.get("newToken", "")))
            return ""
        raise Answer(HTTPStatus.NOT_FOUND)

    def _body(self) -> Mapping[str, Any]:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            body = json.loads(self.rfile.read(int(length)) or b"{}")
        except (ValueError, RecursionError):
            raise Answer(HTTPStatus.BAD_REQUEST) from None
        return body if isinstance(body, dict) else {}

    def _is_administrator(self) -> bool:
        certificate = self.connection.getpeercert() or {}
        subject = [pair for name in certificate.get("subject", ()) for pair in name]
        return ("organizationName", "system:masters") in subject

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: k3s logs no requests."""


def _status(status: HTTPStatus) -> str:
    reason = status.phrase.replace(" ", "")
    return json.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": status.phrase,
            "reason": reason,
            "code": int(status),
        }
    )


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    context: ssl.SSLContext

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client that breaks off, or that is no TLS client, is its own affair."""


class _DualListener(_Listener):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def listen(bind: str, port: int, api: Api, tls: Path) -> http.server.ThreadingHTTPServer:
    """Open the TLS port; on all addresses of both families unless `bind` names one. Raises Fatal."""
    authority = (tls / "server-ca.crt").read_text()
    handler = type("Handler", (_Handler,), {"api": api, "authority": authority})
    dual = (not bind and Path("/proc/net/if_inet6").exists()) or ":" in bind
    try:
        listener = (_DualListener if dual else _Listener)((bind, port), handler)
    except OSError as error:
        raise Fatal(f"failed to listen on {bind or '0.0.0.0'}:{port}: listen tcp: bind: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls / "client-ca.crt"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(tls / "serving-kube-apiserver.crt", tls / "serving-kube-apiserver.key")
    listener.context = context
    return listener
