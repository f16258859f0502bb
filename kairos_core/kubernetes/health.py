"""Asks Kubernetes how it is: the API server with the administrator's certificate, the kubelet in clear."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from dataclasses import dataclass
from functools import lru_cache

from kairos_core.kubernetes.credentials import Credentials, parse_kubeconfig

PATIENCE = 2.0
"""Seconds for one answer; a healthy server on this machine needs milliseconds, a busy one a second."""

MAX_ANSWER = 8 << 20
"""Bytes of one answer: a list of the names of 5,000 nodes has about 6 MiB."""

# Names alone where the server can do that (Kubernetes >= 1.15), whole objects else.
_NAMES = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """How an API server does: why it cannot serve yet (nothing: it does), and then the names of the cluster's nodes."""

    trouble: str = ""
    nodes: tuple[str, ...] = ()


async def server_health(kubeconfig: str) -> ServerHealth:
    """Ask the API server of an administrator's kubeconfig how it is. Silence, or a damaged file, is trouble too."""
    try:
        credentials = parse_kubeconfig(kubeconfig)
        answer = await readiness(credentials)
        nodes = await node_names(credentials) if answer == "ok" else ()
    except (OSError, ValueError) as error:
        return ServerHealth(f"the API server is silent ({error})")
    return ServerHealth("" if answer == "ok" else f"the API server is not ready: {answer}", nodes)


async def ask_server(credentials: Credentials, path: str) -> tuple[int, str]:
    """Return the status code and text of the API server's answer. Raises OSError or TimeoutError."""
    context = _context(credentials)
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(
            credentials.host, credentials.port, ssl=context, server_hostname=credentials.host
        )
        return await _ask(reader, writer, f"{credentials.host}:{credentials.port}", path)


async def readiness(credentials: Credentials) -> str:
    """Return "ok", or what the API server says that it still waits for. Raises OSError or TimeoutError."""
    status, text = await ask_server(credentials, "/readyz")
    failed = [line[3:].split(" ")[0] for line in text.splitlines() if line.startswith("[-]")]
    return "ok" if status == 200 else f"waiting for {', '.join(failed)}" if failed else f"status {status}"


async def ask_kubelet(port: int) -> bool:
    """Say whether the kubelet on this machine is well."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            status, _ = await _ask(reader, writer, f"127.0.0.1:{port}", "/healthz")
    except (OSError, ValueError):
        return False
    return status == 200


async def node_names(credentials: Credentials) -> tuple[str, ...]:
    """Return the names of the cluster's nodes; none when the server does not say. Raises OSError."""
    status, text = await ask_server(credentials, "/api/v1/nodes")
    if status != 200:
        return ()
    try:
        return tuple(sorted(str(item["metadata"]["name"]) for item in json.loads(text)["items"]))
    except (ValueError, KeyError, TypeError):
        return ()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> tuple[int, str]:
    try:
        # HTTP/1.0: the answer comes in one piece and ends with the connection.
        request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {_NAMES}\r\n\r\n"
        writer.write(request.encode())
        answer = bytearray()
        while len(answer) < MAX_ANSWER and (part := await reader.read(1 << 16)):
            answer += part
    finally:
        writer.transport.abort()  # nobody waits for a closing handshake
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError("the answer is not HTTP")
    return int(words[1]), body.decode(errors="replace")


@lru_cache(maxsize=4)
def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=credentials.authority)
    # Kubernetes' authorities lack extensions that OpenSSL's strict mode (the default from Python 3.13 on)
    # demands.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # load_cert_chain reads files only; the key must touch no disk.
    descriptor = os.memfd_create("client-certificate")
    with open(descriptor, "w") as memory:
        memory.write(credentials.client)
        memory.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context
