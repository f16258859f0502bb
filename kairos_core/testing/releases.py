"""A server of k3s' releases on 127.0.0.1 that misbehaves as it is told to."""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Headers = dict[str, str | None]


@dataclass
class Releases:
    """What the server holds and does, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)  # one for each request; then all is well
    breaks: list[int] = field(default_factory=list)  # bytes of a body until the connection ends, for each request
    tag: str | None = '"one"'
    ranges: bool = True  # False: Range is ignored
    shift: int = 0  # added to where a partial answer begins
    wait: float = 0.0  # seconds between pieces of a body
    length: bool = True  # False: the body ends with the connection
    asked: list[tuple[str, Headers]] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)  # it was asked something
    url: str = ""

    def add(self, version: str, name: str, content: bytes, sums: str = "sha256sum-amd64.txt") -> None:
        """Add a file to a release, and its line to the checksums."""
        place = f"/{version.replace('+', '%2B')}"
        self.files[f"{place}/{name}"] = content
        line = f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        self.files[f"{place}/{sums}"] = self.files.get(f"{place}/{sums}", b"") + line.encode()

    def asked_for(self, name: str) -> list[Headers]:
        """Return the headers of each request for a file."""
        return [headers for path, headers in self.asked if path.endswith(name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    releases: Releases

    def do_GET(self) -> None:
        told = self.releases
        told.asked.append((self.path, {name: self.headers[name] for name in ("Range", "If-Range")}))
        told.reached.set()
        statuses = told.statuses.get(self.path, [])
        if statuses:
            self._answer(statuses.pop(0), b"no\n")
        elif self.path in told.redirects:
            self._answer(302, b"elsewhere\n", Location=told.redirects[self.path])
        elif self.path not in told.files:
            self._answer(404, b"not here\n")
        else:
            self._send(told.files[self.path])

    def _send(self, content: bytes) -> None:
        told, asked = self.releases, self.headers["Range"]
        tag = {"ETag": told.tag} if told.tag else {}
        is_same = self.headers["If-Range"] in (None, told.tag)
        if not asked or not told.ranges or not is_same:
            return self._answer(200, content, **tag)
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            return self._answer(416, b"", **{"Content-Range": f"bytes */{len(content)}"})
        place = f"bytes {start + told.shift}-{len(content) - 1}/{len(content)}"
        return self._answer(206, content[start + told.shift :], **tag, **{"Content-Range": place})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        told = self.releases
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header(*(("Content-Length", str(len(body))) if told.length else ("Connection", "close")))
        self.end_headers()
        whole = len(body)
        if status in (200, 206) and told.breaks and len(body) > 200:
            body = body[: told.breaks.pop(0)]
        with suppress(OSError):  # the other side has gone
            for start in range(0, len(body), 1000 if told.wait else max(len(body), 1)):
                self.wfile.write(body[start : start + 1000] if told.wait else body)
                time.sleep(told.wait)
        self.close_connection = self.close_connection or len(body) < whole

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(certificate: Path | None = None) -> Iterator[Releases]:
    """Serve releases in a thread; `url` is where. With a file of a certificate and its key: by TLS."""
    releases = Releases()
    handler = type("Handler", (_Handler,), {"releases": releases})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    releases.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    try:
        yield releases
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
