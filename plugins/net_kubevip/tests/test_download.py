import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kairos_net_kubevip import download
from kairos_net_kubevip.download import fetch_manifest

from kairos_core import NetworkError

MANIFEST = "kind: ClusterRole\nmetadata:\n  name: theirs\n"


@asynccontextmanager
async def server(body: bytes, status: str = "200 OK") -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode() + body)
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/rbac.yaml"


async def test_a_manifest_is_fetched_by_http(tmp_path: Path) -> None:
    async with server(MANIFEST.encode()) as url:
        assert await fetch_manifest(url, tmp_path) == MANIFEST


async def test_a_manifest_is_read_from_a_file(tmp_path: Path) -> None:
    source = tmp_path / "mine.yaml"
    source.write_text(MANIFEST)
    assert await fetch_manifest(source.as_uri(), tmp_path) == MANIFEST


async def test_a_server_that_is_gone_at_the_next_start_does_not_matter(tmp_path: Path) -> None:
    async with server(MANIFEST.encode()) as url:
        await fetch_manifest(url, tmp_path)
    assert await fetch_manifest(url, tmp_path) == MANIFEST


async def test_a_server_that_is_gone_at_the_first_start_is_an_error_with_advice(tmp_path: Path) -> None:
    async with server(b"") as url:
        pass
    with pytest.raises(NetworkError, match=rf"cannot fetch the manifest {url}: .*refused.*kubevip\.manifest_url"):
        await fetch_manifest(url, tmp_path)


async def test_a_missing_page_is_an_error(tmp_path: Path) -> None:
    async with server(b"", "404 Not Found") as url:
        with pytest.raises(NetworkError, match="404"):
            await fetch_manifest(url, tmp_path)


@pytest.mark.parametrize(
    "body", [b"<html><a:b></html>", b"\xff\xfe", b"", b"just words", b"- a list", b"a: [", b"x: 1"]
)
async def test_what_is_no_manifest_is_refused(body: bytes, tmp_path: Path) -> None:
    async with server(body) as url:
        with pytest.raises(NetworkError, match=r"is not (YAML|a Kubernetes manifest)"):
            await fetch_manifest(url, tmp_path)


async def test_a_manifest_without_end_is_refused(tmp_path: Path) -> None:
    async with server(b"#" * (download.MAX_SIZE + 1)) as url:
        with pytest.raises(NetworkError, match="more than 1 MB"):
            await fetch_manifest(url, tmp_path)
