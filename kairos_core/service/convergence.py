"""Makes a service run from the files that it should have, and starts it afresh only where it runs from others."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from kairos_core.service.definition import File
from kairos_core.service.disk import Disk
from kairos_core.service.supervisor import Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedService:
    """What should run, and what the record is to say of it.

    `read_at_start` are the files that it reads when it starts, and then no more; `read_later` those that need no new
    start when they change. `has_news` asks for one although no file tells. `compared`, where it is given, stands for
    `read_at_start` in the question whether what runs is what should: the same files, without what changes meanwhile.
    """

    name: str
    read_at_start: tuple[File, ...]
    read_later: tuple[File, ...] = ()
    compared: tuple[File, ...] | None = None
    has_news: bool = False
    data_directory: str
    kubeconfig: str = ""
    health_port: int = 0


async def converge_service(supervisor: Supervisor, disk: Disk, wanted: WantedService) -> None:
    """Write the files of a service, and see to it that it runs from them. Raises EngineError.

    What it was started from is remembered after the start: a crash in between costs a second start, and never leaves it
    running from old files. A service of another name must have been stopped.
    """
    before = await asyncio.to_thread(disk.state)
    whole = _digest(wanted.read_at_start)
    digest = whole if wanted.compared is None else _digest(wanted.compared)
    await asyncio.to_thread(disk.converge, (*wanted.read_at_start, *wanted.read_later))
    await asyncio.to_thread(
        disk.remember,
        service=wanted.name,
        data_directory=wanted.data_directory,
        kubeconfig=wanted.kubeconfig,
        health_port=wanted.health_port,
    )
    # Of all files, as long as nothing was left out of the comparison.
    if before.service == wanted.name and before.running in (digest, whole) and not wanted.has_news:
        await supervisor.start(wanted.name)
    else:
        await supervisor.restart(wanted.name)
    if before.running != digest:
        await asyncio.to_thread(disk.remember, running=digest)


def _digest(files: Iterable[File]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(json.dumps([file.path, file.content]).encode())
    return whole.hexdigest()
