"""The installer with releases on a server of this machine, whose k3s is a script that tells a version."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kairos_engine_k3s import K3sEngine, ServerSettings, download, installer
from kairos_engine_k3s.blocking import in_thread
from kairos_engine_k3s.installer import Installer
from kairos_engine_k3s.launch import HOME
from kairos_engine_k3s.program import PROGRAM
from kairos_engine_k3s.settings import Install

from kairos_core import Attachment, Disk, EngineError, EngineState, NodePlan, Role
from kairos_core.service.child import Child
from kairos_core.testing.releases import Releases, served

OLD, NEW = "v1.30.8+k3s1", "v1.31.4+k3s1"


def script(version: str) -> bytes:
    return f"#!/bin/sh\necho 'k3s version {version} (a562d090)'\n# {'.' * 4000}\n".encode()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(HOME, tmp_path / "root")


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(download, "Patience", lambda: Patience(pauses=(0.0,)))
    with served() as server:
        for version in (OLD, NEW):
            server.add(version, "k3s", script(version))
        server.redirects["/channels/stable"] = f"https://github.com/k3s-io/k3s/releases/tag/{NEW}"
        yield server


Patience = download.Patience


def made(disk: Disk, releases: Releases | None = None, **values: Any) -> Installer:
    places = {"url": releases.url, "channel_url": f"{releases.url}/channels"} if releases else {}
    return Installer(Install.checked({**places, **values}), disk)


def there(disk: Disk, version: str, place: str = PROGRAM) -> Path:
    program = disk.path(place)
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_bytes(script(version))
    program.chmod(0o755)
    return program


def left(disk: Disk) -> set[str]:
    return set(os.listdir(disk.path(PROGRAM).parent))


async def test_a_version_is_downloaded_and_can_be_run(disk: Disk, releases: Releases) -> None:
    installed = await made(disk, releases, version=NEW).provide_program()
    assert Path(installed).read_bytes() == script(NEW)
    assert Path(installed).stat().st_mode & 0o777 == 0o755
    assert disk.state().program == PROGRAM
    assert left(disk) == {"k3s"}


@pytest.mark.parametrize("values", [{"channel": "stable"}, {}])
async def test_a_channel_is_asked_for_its_version_and_a_mirror_alone_means_stable(
    values: dict[str, str], disk: Disk, releases: Releases
) -> None:
    installed = await made(disk, releases, **values).provide_program()
    assert Path(installed).read_bytes() == script(NEW)


async def test_a_k3s_that_is_there_is_never_upgraded_by_a_channel(disk: Disk, releases: Releases) -> None:
    there(disk, OLD)
    await made(disk, releases, channel="stable").provide_program()
    assert disk.path(PROGRAM).read_bytes() == script(OLD)
    assert releases.asked == []


async def test_a_k3s_of_the_wanted_version_is_left_alone(disk: Disk, releases: Releases) -> None:
    there(disk, NEW, "/usr/bin/k3s")
    assert await made(disk, releases, version=NEW).provide_program() == str(disk.path("/usr/bin/k3s"))
    assert releases.asked == []


async def test_a_k3s_of_another_version_is_replaced_where_we_install_it(disk: Disk, releases: Releases) -> None:
    await made(disk, releases, version=OLD).provide_program()
    await made(disk, releases, version=NEW).provide_program()
    assert disk.path(PROGRAM).read_bytes() == script(NEW)
    assert left(disk) == {"k3s"}


async def test_a_k3s_of_another_version_elsewhere_is_in_the_way(disk: Disk, releases: Releases) -> None:
    there(disk, OLD, "/usr/bin/k3s")
    with pytest.raises(EngineError, match=rf"/usr/bin/k3s is k3s v1\.30.*wants {NEW[:5]}.*leaves it alone"):
        await made(disk, releases, version=NEW).provide_program()
    assert not disk.path(PROGRAM).exists()
    assert releases.asked == []


async def test_without_settings_nothing_is_downloaded_and_the_error_names_them(disk: Disk) -> None:
    with pytest.raises(EngineError, match=r"Put the k3s binary.*k3s\.install\.version.*channel.*url.*source"):
        await made(disk).provide_program()


async def test_a_version_that_is_not_there_is_an_error_that_names_it(disk: Disk, releases: Releases) -> None:
    with pytest.raises(EngineError, match=r"404 .*Is there a v9\.9\.9\+k3s1 for this machine \(x86_64\)\?"):
        await made(disk, releases, version="v9.9.9+k3s1").provide_program()
    assert not disk.state().program


async def test_without_a_checksum_nothing_is_installed(disk: Disk, releases: Releases) -> None:
    releases.files["/v1.31.4%2Bk3s1/sha256sum-amd64.txt"] = b"<html>sign in to this network</html>"
    with pytest.raises(EngineError, match="has no checksum of k3s, and none is installed without"):
        await made(disk, releases, version=NEW).provide_program()
    assert not disk.path(PROGRAM).exists()


async def test_a_download_that_broke_off_goes_on_at_the_next_apply(disk: Disk, releases: Releases) -> None:
    engine = made(disk, releases, version=NEW)
    releases.breaks = [1000, 500]
    with pytest.raises(EngineError, match="goes on from there"):
        await engine.provide_program()
    assert left(disk) == {f".k3s.{NEW}.part", f".k3s.{NEW}.part.tag"}
    assert Path(await engine.provide_program()).read_bytes() == script(NEW)
    assert [each["Range"] for each in releases.asked_for("/k3s")] == [None, "bytes=1000-", "bytes=1500-"]


async def test_a_change_of_mind_leaves_no_part(disk: Disk, releases: Releases) -> None:
    releases.breaks = [1000, 500]
    with pytest.raises(EngineError):
        await made(disk, releases, version=OLD).provide_program()
    await made(disk, releases, version=NEW).provide_program()
    assert left(disk) == {"k3s"}


async def test_a_damaged_release_is_not_fetched_again_every_ten_seconds(disk: Disk, releases: Releases) -> None:
    releases.files["/v1.31.4%2Bk3s1/k3s"] = b"damaged" * 100
    engine = made(disk, releases, version=NEW)
    reasons = set()
    for _ in range(3):
        with pytest.raises(EngineError, match=r"is damaged.*after 10 minutes") as caught:
            await engine.provide_program()
        reasons.add(str(caught.value))
    assert len(reasons) == len(releases.asked_for("/k3s")) == 1
    assert left(disk) == set()


async def test_a_damaged_release_is_fetched_again_after_a_while(
    disk: Disk, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "AGAIN", 0.0)
    releases.files["/v1.31.4%2Bk3s1/k3s"] = b"damaged" * 100
    engine = made(disk, releases, version=NEW)
    with pytest.raises(EngineError, match="is damaged"):
        await engine.provide_program()
    releases.files["/v1.31.4%2Bk3s1/k3s"] = script(NEW)
    assert Path(await engine.provide_program()).read_bytes() == script(NEW)


async def test_a_release_that_is_another_version_than_its_name_says_is_refused(disk: Disk, releases: Releases) -> None:
    releases.files["/v1.31.4%2Bk3s1/sha256sum-amd64.txt"] = b""
    releases.add(NEW, "k3s", script(OLD))
    there(disk, OLD)
    with pytest.raises(EngineError, match=r"/k3s is k3s v1\.30.*and not v1\.31"):
        await made(disk, releases, version=NEW).provide_program()
    assert disk.path(PROGRAM).read_bytes() == script(OLD)
    assert left(disk) == {"k3s"}


async def test_a_program_that_does_not_run_here_is_refused(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "k3s").write_bytes(b"\x7fELF of another machine")
    with pytest.raises(EngineError, match="is no k3s for this machine"):
        await made(disk, source=tmp_path / "k3s").provide_program()
    assert left(disk) == set()


async def test_a_source_with_the_wrong_version_is_refused_until_it_has_another(disk: Disk, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "k3s").write_bytes(script(OLD))
    engine = made(disk, source=source, version=NEW)
    for _ in range(2):
        with pytest.raises(EngineError, match="next try is after 10 minutes"):
            await engine.provide_program()
    (source / "k3s").write_bytes(script(NEW) + b"# the right one")
    assert await engine.provide_program() == str(disk.path(PROGRAM))


async def test_a_source_with_images_only_leaves_k3s_to_the_download(
    disk: Disk, releases: Releases, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "k3s-airgap-images-amd64.tar.zst").write_bytes(b"images")
    with pytest.raises(EngineError, match=r"holds no k3s .*Put it there"):
        await made(disk, source=source).provide_program()
    engine = made(disk, releases, source=source, version=NEW)
    await engine.provide_program()
    await engine.provide_images("/data")
    assert disk.path("/data/agent/images/k3s-airgap-images-amd64.tar.zst").read_bytes() == b"images"


async def test_no_source_means_no_images(disk: Disk) -> None:
    await made(disk).provide_images("/data")
    assert not disk.path("/data").exists()


async def test_a_node_that_ends_does_not_wait_for_a_silent_server(disk: Disk, releases: Releases) -> None:
    releases.wait = 0.3
    task = asyncio.create_task(made(disk, releases, version=NEW).provide_program())
    await asyncio.to_thread(releases.reached.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(0.2):
            await task


async def test_the_status_says_how_far_the_download_is_and_the_log_does_not(
    disk: Disk, releases: Releases, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    releases.add("v1.32.0+k3s1", "k3s", b"x" * (4 << 20))
    releases.wait = 0.0001
    install = Install.checked({"url": releases.url, "version": "v1.32.0+k3s1"})
    engine = K3sEngine(ServerSettings(install=install), root=disk.root, supervisor=Child(HOME, disk.root))
    applying = asyncio.create_task(engine.apply(NodePlan(Role.MASTER, "a", Attachment())))
    said = []
    while not applying.done():
        status = await engine.status()
        if status.state is EngineState.STARTING and status.message not in said:
            said.append(status.message)
        await asyncio.sleep(0.002)
    assert applying.exception() is not None, "it is no program"
    assert "downloading k3s v1.32.0+k3s1: 2 of 4 MB" in said
    assert said == sorted(said), "it only grows"
    assert len(said) < 12
    assert (await engine.status()).state is EngineState.ABSENT
    assert [each for each in caplog.messages if "downloading" in each] == []


async def test_what_a_thread_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda stopped: 1 // 0)
    assert await in_thread(lambda stopped: stopped.is_set()) is False
