"""Fetch the manifest of `kubevip.manifest_url`, and keep it for a start without the server."""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.error
import urllib.request
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path

import yaml

from kairos_core import NetworkError

log = logging.getLogger("kairos.network.kubevip")

MAX_SIZE = 1 << 20
"""Bytes of a manifest; kube-vip's has 4 KB. Stops a wrong URL from filling the memory."""

TIMEOUT = 20.0
"""Seconds for the whole download. Raising it delays the start of a master whose server hangs."""

_ADVICE = "Check kubevip.manifest_url, or leave it empty for the built-in manifest"


async def fetch_manifest(url: str, directory: Path) -> str:
    """Return the manifest at an https, http or file URL; the copy of the last time where that fails.

    The copy is kept in `directory`. Raises NetworkError where there is neither.
    """
    kept = directory / f"kubevip-manifest-{sha256(url.encode()).hexdigest()[:16]}.yaml"
    try:
        text = _checked(url, await asyncio.to_thread(_read, url))
    except NetworkError as error:
        if not kept.exists():
            raise
        log.warning("%s. Using the copy of an earlier start: %s", error, kept)
        return kept.read_text()
    fresh = kept.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(kept)
    return text


def _read(url: str) -> bytes:
    deadline = time.monotonic() + TIMEOUT
    data = b""
    try:
        # The settings admit https, http and file only.
        with urllib.request.urlopen(url, timeout=TIMEOUT / 2) as response:  # noqa: S310
            while chunk := response.read(1 << 16):
                data += chunk
                if len(data) > MAX_SIZE:
                    raise NetworkError(f"the manifest at {url} has more than {MAX_SIZE >> 20} MB. {_ADVICE}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not finished after {TIMEOUT:.0f} s")
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise NetworkError(f"cannot fetch the manifest {url}: {error}. {_ADVICE}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error  # it only wraps the cause
        raise NetworkError(f"cannot fetch the manifest {url}: {reason}. {_ADVICE}") from error
    return data


def _checked(url: str, data: bytes) -> str:
    try:
        text = data.decode()
        documents = [one for one in yaml.load_all(text, yaml.CSafeLoader) if one is not None]
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        raise NetworkError(f"what is at {url} is not YAML. {_ADVICE}") from None
    if not documents or not all(isinstance(one, dict) and "kind" in one for one in documents):
        raise NetworkError(f"what is at {url} is not a Kubernetes manifest: it has no kind. {_ADVICE}")
    return text
