"""What is told of an API server: one of this process, with certificates as Kubernetes has them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kairos_core.kubernetes import health
from kairos_core.kubernetes.health import ServerHealth, ask_kubelet, server_health
from kairos_core.testing.k3s.authority import issue, new_authority
from kairos_core.testing.k3s.kubeconfig import format_kubeconfig

NODES = json.dumps({"items": [{"metadata": {"name": name}} for name in ("b", "a")]})
READY = {"/readyz": (200, "ok"), "/api/v1/nodes": (200, NODES)}
NOT_READY = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]informer-sync failed: x\nreadyz check failed\n"

Answers = dict[str, tuple[int, str]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _answering(answers: Answers) -> Serve:
    """Return a server of HTTP that knows a few paths."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        status, text = answers[path]
        writer.write(f"HTTP/1.0 {status} x\r\n\r\n{text}".encode())
        writer.close()

    return serve


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """Certificates of a server that wants one of its clients, and a kubeconfig without a port."""
    directory: Path = tmp_path_factory.mktemp("tls")
    authority, clients = new_authority("server"), new_authority("client")
    issue(authority, "kube-apiserver", "k", ["127.0.0.1"]).save(directory, "server")
    clients.save(directory, "clients")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "clients.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    admin = issue(clients, "system:admin", "system:masters")
    return context, format_kubeconfig("https://127.0.0.1:{port}", authority.certificate, admin)


@asynccontextmanager
async def _listening(serve: Serve, pairs: tuple[ssl.SSLContext, str]) -> AsyncIterator[str]:
    """Listen, and give the kubeconfig of whoever listens."""
    context, kubeconfig = pairs
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield kubeconfig.replace("{port}", str(server.sockets[0].getsockname()[1]))


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (READY, ServerHealth(nodes=("a", "b"))),
        (READY | {"/readyz": (500, NOT_READY)}, "waiting for etcd, informer-sync"),
        (READY | {"/readyz": (401, "Unauthorized")}, "status 401"),
        (READY | {"/api/v1/nodes": (503, "no leader")}, ServerHealth()),
        (READY | {"/api/v1/nodes": (200, "[]")}, ServerHealth()),
        (READY | {"/api/v1/nodes": (200, "no JSON")}, ServerHealth()),
    ],
)
async def test_a_server_tells_what_it_waits_for_and_then_its_nodes(
    answers: Answers, told: ServerHealth | str, pairs: tuple[ssl.SSLContext, str]
) -> None:
    if isinstance(told, str):
        told = ServerHealth(f"the API server is not ready: {told}")
    async with _listening(_answering(answers), pairs) as kubeconfig:
        assert await server_health(kubeconfig) == told


async def test_what_is_no_http_is_silence(pairs: tuple[ssl.SSLContext, str]) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"good morning")
        writer.close()

    async with _listening(babble, pairs) as kubeconfig:
        assert await server_health(kubeconfig) == ServerHealth("the API server is silent (the answer is not HTTP)")


async def test_a_server_that_never_answers_is_not_waited_for(
    pairs: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.2)

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side has enough
        writer.close()

    async with _listening(wait, pairs) as kubeconfig:
        assert (await server_health(kubeconfig)).trouble.startswith("the API server is silent (")


async def test_nobody_there_and_a_damaged_kubeconfig_are_silence(pairs: tuple[ssl.SSLContext, str]) -> None:
    async with _listening(_answering(READY), pairs) as kubeconfig:
        pass
    assert "Connect call failed" in (await server_health(kubeconfig)).trouble
    assert await server_health("a: [") == ServerHealth("the API server is silent (it is not YAML)")


async def test_a_server_of_another_authority_is_told_no_secret(pairs: tuple[ssl.SSLContext, str]) -> None:
    asked = []

    async def note(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.append(await reader.read())

    other = issue(new_authority("client"), "system:admin", "system:masters")
    async with _listening(note, pairs) as kubeconfig:
        port = kubeconfig.partition("https://127.0.0.1:")[2].partition("\n")[0]
        stranger = format_kubeconfig(f"https://127.0.0.1:{port}", new_authority("server").certificate, other)
        assert "CERTIFICATE_VERIFY_FAILED" in (await server_health(stranger)).trouble
    assert asked == []


@pytest.mark.parametrize(
    ("answers", "is_well"), [({"/healthz": (200, "ok")}, True), ({"/healthz": (500, "no")}, False)]
)
async def test_the_kubelet_says_whether_it_is_well(answers: Answers, is_well: bool) -> None:
    async with await asyncio.start_server(_answering(answers), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await ask_kubelet(port) is is_well
    assert await ask_kubelet(port) is False
