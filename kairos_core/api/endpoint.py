"""Where an agent is asked: the one place that knows which endpoint a command speaks to."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit

from kairos_core.errors import ConfigError
from kairos_core.model import Address

DEFAULTS = ("unix:///run/kairos/api.sock", "http://127.0.0.1:8080")
"""Tried in this order when nothing says otherwise: an agent's socket, then what `kairos bridge` serves."""

VARIABLES = ("KAIROS_API", "EDGEVPN_API")
"""Environment variables that name an endpoint; the second is the reference's."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A unix socket, or a TCP address."""

    socket: str | None
    address: Address | None

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `unix:///PATH`, `/PATH`, `http://HOST:PORT` or `HOST:PORT`. Raises ConfigError."""
        if text.startswith(("unix://", "/")):
            path = text.removeprefix("unix://")
            if path.startswith("/") and "\0" not in path:
                return cls(path, None)
        elif not text.startswith("https:"):
            try:
                return cls(None, _address(text))
            except ValueError:
                pass
        raise ConfigError(f"{text!r} is not an endpoint of the API: write unix:///PATH or http://HOST:PORT.")

    @property
    def is_loopback(self) -> bool:
        """Say whether what answers there runs on this machine."""
        return self.address is None or self.address.is_loopback

    def connection(self, timeout: float) -> HTTPConnection:
        """Return a connection that is not open yet."""
        if self.socket:
            return _UnixConnection(self.socket, timeout)
        assert self.address is not None
        return HTTPConnection(self.address.host, self.address.port, timeout=timeout)

    def __str__(self) -> str:
        return f"unix://{self.socket}" if self.socket else f"http://{self.address}"


def find_endpoints(explicit: str | None, environment: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Return the endpoints to try, in order: what --api says, else the environment, else the defaults.

    What is named by --api or the environment is the only one tried. Raises ConfigError.
    """
    named = explicit or next(filter(None, (environment.get(name) for name in VARIABLES)), None)
    return (Endpoint.parse(named),) if named else tuple(map(Endpoint.parse, DEFAULTS))


def _address(text: str) -> Address:
    url = urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme != "http" or not url.hostname or url.path.strip("/") or url.query or url.username:
        raise ValueError(text)
    return Address(url.hostname, url.port or 80 if "://" in text else url.port or 8080)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise
