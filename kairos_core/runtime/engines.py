"""Running the Kubernetes engine: apply the plan, look how it is doing, tell of changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from kairos_core.errors import EngineError
from kairos_core.interfaces import Engine
from kairos_core.model import EngineState, EngineStatus, NodePlan

logger = logging.getLogger(__name__)

LOOK_STARTING = 0.25
"""Seconds between looks while Kubernetes starts; what waits for it is told that much late."""

LOOK_RUNNING = 3.0
"""Seconds between looks at a Kubernetes that runs. Lowering it notices failures sooner and costs CPU at rest."""

LOOK_APPLYING = 1.0
"""Seconds between looks at an engine that applies a plan, which lasts where it downloads. Lowering it costs CPU."""

APPLY_AGAIN = 10.0
"""Seconds until a plan that could not be applied is tried again."""


class EngineRunner:
    """Makes one engine follow the plan it is given."""

    def __init__(self, engine: Engine) -> None:
        self.status = EngineStatus(EngineState.ABSENT)
        self.changed: Callable[[], None] = lambda: None
        self.is_dismissed = False
        """Whether Kubernetes was removed from this machine, and nothing else has been planned since."""
        self._engine = engine
        self._plan: NodePlan | None = None
        self._is_dismissing = False
        self._new_plan = asyncio.Event()

    def follow(self, plan: NodePlan) -> None:
        """Take the plan that the node should run from now on."""
        if plan != self._plan:
            if self._plan is not None and (plan.role, plan.join) != (self._plan.role, self._plan.join):
                self.status = EngineStatus(EngineState.STARTING)  # what is ready is what ran before
            self._plan, self._is_dismissing, self.is_dismissed = plan, False, False
            self._new_plan.set()

    def dismiss(self) -> None:
        """Remove Kubernetes from this machine, with all that it has made here."""
        if not self._is_dismissing:
            self._plan, self._is_dismissing = None, True
            self._new_plan.set()

    async def run(self) -> None:
        """Run until cancelled. Kubernetes goes on when the agent ends."""
        await self._new_plan.wait()
        while True:
            if self._new_plan.is_set():
                self._new_plan.clear()
                if not await (self._apply(self._plan) if self._plan is not None else self._remove()):
                    await self._pause(APPLY_AGAIN)
                    self._new_plan.set()
                    continue
            if self._plan is None:
                await self._new_plan.wait()
                continue
            self._set(await self._look())
            await self._pause(LOOK_RUNNING if self.status.state is EngineState.READY else LOOK_STARTING)

    async def _apply(self, plan: NodePlan) -> bool:
        logger.info("starting Kubernetes as %s", plan.role)
        return await self._attempt(self._applied(plan))

    async def _remove(self) -> bool:
        logger.info("removing Kubernetes")
        is_removed = await self._attempt(self._engine.remove())
        if is_removed and self._is_dismissing:
            self.is_dismissed = True
            self.status = EngineStatus(EngineState.ABSENT)
            self.changed()
        return is_removed

    async def _attempt(self, work: Awaitable[None]) -> bool:
        """Let the engine do something; when it fails, that is its status. Say whether it went well."""
        try:
            await work
        except EngineError as error:
            return self._failed(str(error))
        except Exception as error:  # a plugin's mistake must not end the node
            logger.exception("the engine failed")
            return self._failed(f"the engine failed with {error!r}; see the agent's log")
        return True

    async def _applied(self, plan: NodePlan) -> None:
        """Apply a plan, and tell meanwhile what that waits for, a download say. Raises what the engine does."""
        watching = asyncio.create_task(self._watch())
        try:
            await self._engine.apply(plan)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        """Take over that it is starting, and how far it is; all else may still be what ran before."""
        while True:
            await asyncio.sleep(LOOK_APPLYING)
            with contextlib.suppress(Exception):  # what is wrong with the engine is told when the plan is applied
                status = await self._engine.status()
                if status.state is EngineState.STARTING:
                    self._set(status)

    def _failed(self, reason: str) -> bool:
        failure = EngineStatus(EngineState.FAILED, reason)
        if failure != self.status:
            logger.error("%s", reason)
        self._set(failure)
        return False

    async def _look(self) -> EngineStatus:
        try:
            return await self._engine.status()
        except Exception as error:
            failure = EngineStatus(EngineState.FAILED, f"the engine cannot say how it is: {error!r}")
            if failure != self.status:
                logger.exception("the engine failed")
            return failure

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until the next plan."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._new_plan.wait()

    def _set(self, status: EngineStatus) -> None:
        if status != self.status:
            self.status = status
            self.changed()
