"""Taking out of the cluster who leaves it: a master's work, one node after the other, beside everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.view import MAX_SENTENCE, Farewell
from kairos_core.errors import EngineError
from kairos_core.interfaces import Engine

logger = logging.getLogger(__name__)

EXPEL_AGAIN = 10.0
"""Seconds until a node that could not be taken out is tried again."""


class Expeller:
    """Takes out who is named, and tells of each how it went."""

    def __init__(self, engine: Engine, tell: Callable[[Expulsion, Farewell], None]) -> None:
        self._engine, self._tell = engine, tell
        self._wanted: tuple[Expulsion, ...] = ()
        self._named = asyncio.Event()

    def want(self, wanted: tuple[Expulsion, ...]) -> None:
        """Name who is to be taken out from now on; whose farewell was told is named no longer."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._named.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._named.wait()
            self._named.clear()
            failed = False
            for each in self._wanted:
                farewell = await self._expel(each)
                failed |= not farewell.is_done
                self._tell(each, farewell)
            if failed:
                await asyncio.sleep(EXPEL_AGAIN)
                self._named.set()

    async def _expel(self, each: Expulsion) -> Farewell:
        logger.info("taking %s out of the cluster: it leaves", each.node_name)
        try:
            await self._engine.expel(each.node_name)
        except EngineError as error:
            reason = str(error)
        except Exception as error:  # a plugin's mistake must not end the node
            logger.exception("the engine failed")
            reason = f"the engine failed with {error!r}; see the master's log"
        else:
            return Farewell(is_done=True, stopped=each.stopped)
        logger.error("%s", reason)
        return Farewell(is_done=False, message=reason[:MAX_SENTENCE])
