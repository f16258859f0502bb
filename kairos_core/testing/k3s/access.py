"""The joining side: reads a join token, checks the server's authority against it, and asks the server.

Follows k3s-io/k3s pkg/clientaccess/token.go, its order of checks and its wording.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kairos_core.testing.k3s.authority import authority_hash
from kairos_core.testing.k3s.log import log

TIMEOUT = 5.0
"""Seconds for one request; k3s takes 10. Raising it slows the fail-over to another server."""


class Refusal(Exception):
    """The server, or the check of the server, said no."""


class Unreachable(Exception):
    """The server did not answer."""


def parse_join_token(token: str) -> tuple[str, str]:
    """Return (hash of the authority or "", password) of a full or short join token. Raises Refusal."""
    if not token:
        raise Refusal("token must not be empty")
    if not token.startswith("K10"):
        return "", token
    digest, separator, credentials = token.removeprefix("K10").partition("::")
    if digest and len(digest) != 64:
        raise Refusal("invalid token CA hash length")
    _, colon, password = credentials.partition(":")
    if not separator or not colon or not password:
        raise Refusal("invalid token format")
    return digest, password


class Access:
    """A server as one who joins sees it. `user` is node or server."""

    def __init__(self, url: str, password: str, user: str, authority: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise Refusal(f"only https:// URLs are supported, invalid scheme: {url}")
        self.url, self._authority, self._user, self._password = url.rstrip("/"), authority, user, password
        self._host, self._port = parts.hostname, parts.port or 443
        self._login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._context = ssl.create_default_context(cadata=authority) if authority else _unverified()

    @classmethod
    def validated(cls, url: str, token: str, user: str) -> Access:
        """Fetch the server's authority, check it against the token, and the server against the authority.

        Raises Refusal or Unreachable.
        """
        expected, password = parse_join_token(token)
        try:
            authority = cls(url, "", "", "").ask("GET", "/cacerts", anonymous=True).decode()
        except Unreachable as error:
            raise Unreachable(f"failed to get CA certs: {error}") from None
        found = authority_hash(authority)
        if expected and expected != found:
            raise Refusal(f"token CA hash does not match the Cluster CA certificate hash: {expected} != {found}")
        if not expected:
            log(
                "warning",
                "Cluster CA certificate is not trusted by the host CA bundle, but the token does not "
                "include a CA hash. Use the full token from the server's node-token file to enable "
                "Cluster CA validation.",
            )
        access = cls(url, password, user, authority)
        try:
            access.ask("GET", "/cacerts", anonymous=True)
        except Unreachable as error:
            raise Refusal(f"CA cert validation failed: {error}") from None
        return access

    def certified(self, user: str, password: str) -> Access:
        """Return access with what was handed out at the join, in the place of the token."""
        return Access(self.url, password, user, self._authority)

    def at(self, url: str) -> Access:
        """Return access to another server of the same cluster."""
        return self if url == self.url else Access(url, self._password, self._user, self._authority)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        anonymous: bool = False,
    ) -> bytes:
        """Send one request and return the answer. Raises Refusal with k3s' wording, or Unreachable."""
        sent = dict(headers or {}) | ({} if anonymous else {"Authorization": self._login})
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=self._context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            answer = response.read(1 << 24)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f'{method.title()} "{self.url}{path}": {error}') from None
        finally:
            connection.close()
        if response.status == 403:
            raise Refusal(answer.decode(errors="replace").strip())
        if not 200 <= response.status <= 299:
            raise Refusal(f"{self.url}{path}: {response.status} {response.reason}")
        return answer


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
