"""Sees to it that k3s is on this machine, in the version that the operator wants: found, copied, or downloaded."""

from __future__ import annotations

import asyncio
import logging
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kairos_core import Disk, EngineError
from kairos_engine_k3s.airgap import copy_images, copy_verified, images_in, program_in
from kairos_engine_k3s.blocking import in_thread
from kairos_engine_k3s.part import remove_parts
from kairos_engine_k3s.program import MISSING, PROGRAM, UnfitError, find_program, program_version, put_program
from kairos_engine_k3s.progress import Progress
from kairos_engine_k3s.release import (
    CHANNELS,
    RELEASES,
    STABLE,
    asset_url,
    assets_of,
    channel_url,
    parse_sums,
    version_told,
)
from kairos_engine_k3s.settings import Install

AGAIN = 600.0
"""Seconds until the same unfit file is tried again. The engine is applied every ten seconds: each would cost 70 MB."""

_log = logging.getLogger(__name__)


class Installer:
    """Provides k3s, and its images where there is no network to pull them from.

    Without `install.version` a k3s that is there is good, whatever its version: a channel moves, and a node must
    not be upgraded because its agent was started again.
    """

    def __init__(self, install: Install, disk: Disk) -> None:
        self._install, self._disk = install, disk
        self._machine = platform.machine()
        self._assets = assets_of(self._machine)
        self.progress: Progress | None = None  # of the download, while there is one
        self._refused: dict[str, tuple[float, str]] = {}  # what was unfit: until when it is left alone, and why

    async def provide_program(self) -> str:
        """Return the path of k3s, after it was installed or replaced if need be. Raises EngineError."""
        install = self._install
        found = await asyncio.to_thread(find_program, self._disk.root)
        if found is not None and (not install.version or await self._is_wanted(found)):
            return found
        if found is None and install.source is None and not install.is_download:
            raise EngineError(MISSING)
        source = await asyncio.to_thread(program_in, install.source, self._assets)
        if source is not None:
            return await self._copied(source)
        if install.is_download:
            return await self._downloaded()
        raise EngineError(
            f"{install.source} holds no k3s (neither {self._assets.program} nor k3s). Put it there, or set "
            "k3s.install.version or k3s.install.channel to download it."
        )

    async def provide_images(self, data_directory: str) -> None:
        """Put the images of an air-gap directory where k3s imports them. Raises EngineError."""
        disk, assets = self._disk, self._assets
        archive = await asyncio.to_thread(images_in, self._install.source, assets)
        if archive is not None:
            with self._trying(await asyncio.to_thread(_signature, archive)):
                await in_thread(lambda stopped: copy_images(archive, data_directory, disk, assets, stopped))

    async def _is_wanted(self, found: str) -> bool:
        """Say whether a k3s has the version that is wanted. Raises EngineError if it has not, and is not ours."""
        told = await program_version(found)
        if version_told(told) == self._install.version:
            return True
        if found != str(self._disk.path(PROGRAM)):
            raise EngineError(
                f"{found} is k3s {told}, and k3s.install.version wants {self._install.version}. Kairos did not install "
                "it and leaves it alone. Remove or replace that file, or leave the setting out."
            )
        return False

    async def _copied(self, source: Path) -> str:
        draft = self._disk.path(PROGRAM).with_name(".k3s.new")
        with self._trying(await asyncio.to_thread(_signature, source)):
            await in_thread(lambda stopped: copy_verified(source, draft, self._assets, stopped))
            return await self._put(draft, self._install.version, str(source))

    async def _downloaded(self) -> str:
        version = self._install.version or await in_thread(self._ask_channel)
        url = asset_url(self._install.url or RELEASES, version, self._assets.program)
        draft = self._disk.path(PROGRAM).with_name(f".k3s.{version}.part")
        with self._trying(url):
            _log.info("installing k3s %s from %s", version, url)
            self.progress = progress = Progress(version)
            try:
                await in_thread(lambda stopped: self._fetch(progress, url, draft, stopped))
            finally:
                self.progress = None
            return await self._put(draft, version, url)

    def _ask_channel(self, stopped: threading.Event) -> str:
        from kairos_engine_k3s.download import Downloader  # noqa: PLC0415 - an HTTP client, rarely asked for

        channel = self._install.channel or STABLE
        url = channel_url(self._install.channel_url or CHANNELS, channel)
        advice = f"Check k3s.install.channel ({channel}) and k3s.install.channel_url, or set k3s.install.version."
        return Downloader(stopped).channel(url, advice)

    def _fetch(self, progress: Progress, url: str, draft: Path, stopped: threading.Event) -> None:
        from kairos_engine_k3s.download import Downloader  # noqa: PLC0415 - as above

        version = progress.version
        advice = (
            f"Is there a {version} for this machine ({self._machine})? Check k3s.install.version and k3s.install.url."
        )
        remove_parts(draft.parent, but=draft)
        downloader = Downloader(stopped, progress=progress)
        sums = asset_url(self._install.url or RELEASES, version, self._assets.sums)
        digest = parse_sums(downloader.text(sums, advice)).get(self._assets.program)
        if digest is None:
            raise EngineError(
                f"{sums} has no checksum of {self._assets.program}, and none is installed without. {advice}"
            )
        downloader.file(url, draft, digest, advice)

    async def _put(self, draft: Path, version: str, origin: str) -> str:
        """Put a draft into its place, if it runs and is the version that was asked for. Raises EngineError."""
        try:
            await asyncio.to_thread(draft.chmod, 0o755)  # its checksum was right
            told = await self._told(draft, origin)
            if version and version_told(told) != version:
                raise UnfitError(f"{origin} is k3s {told}, and not {version}. Check what is in k3s.install.")
        except UnfitError:
            await asyncio.to_thread(draft.unlink, missing_ok=True)
            raise
        return await asyncio.to_thread(put_program, draft, self._disk)

    async def _told(self, draft: Path, origin: str) -> str:
        try:
            return await program_version(str(draft))
        except EngineError as error:
            raise UnfitError(f"{origin} is no k3s for this machine ({self._machine}): {error}") from None

    @contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """Leave alone for a while what has turned out unfit. Raises EngineError."""
        until, reason = self._refused.get(what, (0.0, ""))
        if time.monotonic() < until:
            raise EngineError(reason)
        try:
            yield
        except UnfitError as error:
            reason = f"{error} The next try is after {AGAIN / 60:.0f} minutes, or when the agent starts."
            self._refused[what] = time.monotonic() + AGAIN, reason
            raise UnfitError(reason) from None


def _signature(file: Path) -> str:
    """Name a file as it is now: one that was replaced is worth another try."""
    try:
        state = file.stat()
    except OSError:
        return str(file)
    return f"{file} {state.st_size} {state.st_mtime_ns}"
