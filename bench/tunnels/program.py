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
    """Run until done; Ctrl-C and SIGTERM clean up and exit with 130 and 143, a KairosError becomes one line.

    Both are handled here: whoever starts us in the background may have had SIGINT ignored for us.
    """
    caught: list[signal.Signals] = []

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop(number: signal.Signals) -> None:
            caught.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await work

    if os.geteuid() != 0:
        work.close()
        raise click.ClickException("this benchmark makes network devices: run it as root: sudo ./run bench NAME")
    try:
        return asyncio.run(interruptible())
    except KairosError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:  # before the handlers were there
        sys.exit(128 + signal.SIGINT)
    except asyncio.CancelledError:
        if not caught:
            raise
        sys.exit(128 + caught[0])
