"""How the benchmarks that make network devices begin and end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from kairos_core.errors import KairosError

T = TypeVar("T")


def tell(line: str) -> None:
    """Say how far it is, beside the figures."""
    click.echo(line, err=True)


def run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run until done; Ctrl-C and SIGTERM clean up and exit with 130 and 143, a KairosError becomes one line."""

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    if os.geteuid() != 0:
        work.close()
        raise click.ClickException("this benchmark makes network devices: run it as root: sudo ./run bench NAME")
    try:
        return asyncio.run(interruptible())
    except KairosError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
