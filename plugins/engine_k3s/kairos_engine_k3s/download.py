"""Fetches from k3s' releases or a mirror: a short text, the version of a channel, a large file. Blocking.

Imported only where something is fetched: an agent holds no HTTP client otherwise. urllib honours HTTPS_PROXY,
HTTP_PROXY and NO_PROXY.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from kairos_core import EngineError
from kairos_engine_k3s.part import Part, check_room, opened_part
from kairos_engine_k3s.program import UnfitError
from kairos_engine_k3s.progress import Progress
from kairos_engine_k3s.release import parse_channel

LARGEST = 512 << 20
"""Bytes of a program; k3s has 70 MB. Stops a wrong or hostile server from filling the disk."""

LARGEST_TEXT = 64 << 10
"""Bytes of a checksum file; k3s' have 300. Stops a wrong URL from filling the memory."""

TEXT_TIME = 60.0
"""Seconds for a short text, all tries together. Stops a server that sends a byte now and then."""

_BUSY = (408, 425, 429)
"""With all from 500: answers that may be another a second later. Source: RFC 9110 and 6585."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for, in seconds.

    `silence`: without a byte; raising it delays a new try. `total`: for one file, all tries together; 30 minutes
    are 40 kB/s for k3s, and a slower line goes on where it was, after an error that tells the operator. `pauses`:
    between tries; more of them ride over longer outages before that error.
    """

    silence: float = 20.0
    total: float = 1800.0
    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)


class Downloader:
    """Fetches until `stopped` is set. `advice` ends each error that no second try mends: what to do about it.

    How far a file is stands in `progress`.
    """

    def __init__(
        self, stopped: threading.Event, patience: Patience | None = None, progress: Progress | None = None
    ) -> None:
        self._stopped, self._patience = stopped, patience or Patience()
        self._progress = progress or Progress("")

    def text(self, url: str, advice: str) -> str:
        """Return a short text. Raises EngineError."""

        def attempt(deadline: float) -> str:
            with self._opened(url, advice, _Redirects()) as response:
                return self._short(url, response, deadline)

        return self._persist(url, attempt, TEXT_TIME)

    def channel(self, url: str, advice: str) -> str:
        """Return the version that a channel has now, without following its server to a page. Raises EngineError."""

        def attempt(deadline: float) -> str:
            with self._opened(url, advice, _Redirects(to_version=True)) as response:
                return response.headers["Location"] or self._short(url, response, deadline)

        version = parse_channel(self._persist(url, attempt, TEXT_TIME))
        if version is None:
            raise EngineError(f"{url} names no version of k3s, neither by a redirect nor as its text. {advice}")
        return version

    def file(self, url: str, path: Path, digest: str, advice: str) -> None:
        """Fetch a file into a part that stays 0600, from where it ended the last time; it is whole and right then.

        Raises UnfitError, and deletes the part, if its SHA-256 is not `digest`; EngineError otherwise, and keeps it.
        """
        with opened_part(path) as part:
            found = self._fetched(url, part, advice)
            if found != digest and part.is_resumed:  # halves of two files, perhaps
                part.restart()
                found = self._fetched(url, part, advice)
            if found != digest:
                part.discard()
                raise UnfitError(
                    f"{url} is damaged: the SHA-256 of what came is {found}, its checksum file says {digest}. "
                    "It was deleted. Check the mirror, or whatever stands between it and this machine."
                )
            part.finish()

    def _fetched(self, url: str, part: Part, advice: str) -> str:
        self._persist(url, lambda deadline: self._continue(url, part, deadline, advice))
        return part.digest()

    def _continue(self, url: str, part: Part, deadline: float, advice: str) -> None:
        with self._opened(url, advice, _Redirects(), part.headers()) as response:
            if response.status == 416:
                return  # there is no more; the checksum tells whether that is all
            if response.status != 206:
                part.restart(response.headers["ETag"])
            elif not part.resume(response.headers["Content-Range"]):
                part.restart()
                raise _BrokenError("the server sent another part of the file than was asked for")
            length = _length(response) or 0
            if part.size + length > LARGEST:
                raise EngineError(f"{url} has {length >> 20} MB, which is too much to be k3s. {advice}")
            check_room(part.path.parent, length)
            self._progress.done, self._progress.total = part.size, part.size + length if length else 0
            for chunk in self._chunks(response, deadline):
                part.append(chunk)
                self._progress.done = part.size
                if part.size > LARGEST:
                    part.discard()
                    raise EngineError(f"{url} does not end after {LARGEST >> 20} MB: it is not k3s. {advice}")

    def _persist(self, url: str, attempt: Callable[[float], T], limit: float = math.inf) -> T:
        """Try, and try again when the connection breaks. Raises EngineError."""
        deadline = time.monotonic() + min(self._patience.total, limit)
        for pause in (*self._patience.pauses, None):
            try:
                return attempt(deadline)
            except _BrokenError as error:
                if pause is None or time.monotonic() + pause > deadline:
                    raise EngineError(
                        f"cannot fetch {url}: {error}. Check the network and the server; what has come of a program is "
                        "kept, and the next attempt goes on from there."
                    ) from None
                _log.info("fetching %s again in %.0f s: %s", url, pause, error)
                self._stopped.wait(pause)
                self._check_wanted()
        raise AssertionError("the last pause is None")

    @contextmanager
    def _opened(
        self, url: str, advice: str, redirects: _Redirects, headers: dict[str, str] | None = None
    ) -> Iterator[Any]:
        request = Request(url, headers={"User-Agent": "kairos", **(headers or {})})  # noqa: S310 - the settings
        try:  # admit https, http and file only
            with _reading():
                response = build_opener(redirects).open(request, timeout=self._patience.silence)
        except HTTPError as error:
            if not redirects.has_version and not (error.code == 416 and headers):
                error.close()  # it holds the connection
                if error.code in _BUSY or error.code >= 500:
                    raise _BrokenError(f"{error.code} {error.reason}") from None
                # The reason of a redirect names its target, whose query may hold a key.
                reason = "a redirect that leads nowhere" if error.code < 400 else error.reason
                raise EngineError(f"cannot fetch {url}: {error.code} {reason}. {advice}") from None
            response = error
        except _FinalError as error:
            raise EngineError(f"cannot fetch {url}: {error}. {advice}") from None
        with response:
            yield response

    def _short(self, url: str, response: Any, deadline: float) -> str:
        data = b""
        for chunk in self._chunks(response, deadline):
            data += chunk
            if len(data) > LARGEST_TEXT:
                raise EngineError(f"{url} has more than {LARGEST_TEXT >> 10} kB: it is no file of k3s' releases.")
        return data.decode(errors="replace")

    def _chunks(self, response: Any, deadline: float) -> Iterator[bytes]:
        """Yield what comes as it comes, so that nothing of it is lost to a server that is slow, or breaks off."""
        length, received = _length(response), 0
        while True:
            self._check_wanted()
            if time.monotonic() > deadline:
                raise _BrokenError(f"it took too long; {received} bytes have come since the last try")
            with _reading():
                chunk = response.read1(1 << 16)
            if not chunk:
                break
            received += len(chunk)
            yield chunk
        if length is not None and received < length:
            raise _BrokenError(f"the connection ended after {received} of {length} bytes")

    def _check_wanted(self) -> None:
        if self._stopped.is_set():
            raise EngineError("the download was stopped with the agent.")


class _BrokenError(Exception):
    """The connection broke, or the server is not well: worth another try."""


class _FinalError(Exception):
    """No second try will do better."""


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but not from TLS to none, and not from a channel to the page of its version."""

    def __init__(self, to_version: bool = False) -> None:
        self._to_version, self.has_version = to_version, False

    def redirect_request(  # noqa: PLR0913, PLR0917 - urllib's own
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if self._to_version and parse_channel(newurl):
            self.has_version = True
            return None
        fp.close()  # else its text is read to the end, were it without one
        scheme = urlsplit(newurl).scheme
        if scheme not in ("https", req.type):
            raise _FinalError(f"it redirects from {req.type} to {scheme}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _reading() -> Iterator[None]:
    """Tell what may be tried again from what may not."""
    try:
        yield
    except HTTPError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        reason: Any = error.reason if isinstance(error, URLError) else error  # it only wraps the cause
        if isinstance(reason, ssl.SSLCertVerificationError):
            # The system's authorities count, and those of SSL_CERT_FILE.
            raise _FinalError(
                f"{reason.verify_message}; is the clock right, and does this machine know who signed the certificate?"
            ) from None
        if isinstance(reason, FileNotFoundError | IsADirectoryError | PermissionError | NotADirectoryError):
            raise _FinalError(reason.strerror) from None  # of a file URL
        raise _BrokenError(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__) from None


def _length(response: Any) -> int | None:
    text = response.headers["Content-Length"] or ""
    return int(text) if text.isdecimal() else None
