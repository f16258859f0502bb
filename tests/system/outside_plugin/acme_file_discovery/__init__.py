"""Discovery from a file: one HOST:PORT a line, read again whenever it changes. A third party's plugin, for tests."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from kairos_core import Address, Beacon, Discovery, Register, hookimpl

logger = logging.getLogger(__name__)


class FileSettings(BaseModel):
    """The section `p2p.file_discovery`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    every: float = 0.2  # seconds between two looks at the file


class FileDiscovery(Discovery):
    """Reports the addresses in a file. Announces nothing: whoever writes the file does."""

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings

    async def run(self, beacon: Beacon) -> None:
        """Watch the file until cancelled; one that is not there yet is empty."""
        seen = ""
        while True:
            text = await asyncio.to_thread(self._read)
            if text != seen:
                seen = text
                for line in filter(None, map(str.strip, text.splitlines())):
                    _report(line, beacon)
            await asyncio.sleep(self._settings.every)

    def _read(self) -> str:
        try:
            return self._settings.path.read_text()
        except FileNotFoundError:
            return ""


def _report(line: str, beacon: Beacon) -> None:
    try:
        beacon.found(Address.parse(line))
    except ValueError as error:
        logger.warning("%s", error)


@hookimpl
def register_discovery(register: Register[Discovery]) -> None:
    """Offer the discovery `file`."""
    register("file", FileDiscovery, settings=FileSettings, section="p2p.file_discovery")
