"""Kubernetes on a simulated machine: it is ready a while after its start, takes nodes out, and ends when told to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kairos_core.cluster.controller import Actions
from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.view import Farewell
from kairos_core.model import EngineState, EngineStatus, Role
from kairos_core.protocol.buckets import FAREWELLS
from kairos_core.settings import SecretStr

if TYPE_CHECKING:
    from kairos_core.testing.simulator.node import SimulatedNode

START, END, EXPULSION = 1.0, 0.5, 0.8
"""Virtual seconds until it is ready, until it is removed, until a node is out of the cluster."""

RETURNS = 0.3
"""The share of nodes that come back by themselves after they were taken out, while their Kubernetes runs."""

SECRET = SecretStr("simulated")
READY_MASTER = EngineStatus(EngineState.READY, join_token=SECRET, kubeconfig=SECRET)
READY_WORKER = EngineStatus(EngineState.READY)


class SimulatedKubernetes:
    """What runs for as long as the process of its node lives."""

    def __init__(self, node: SimulatedNode) -> None:
        self.is_dismissed = False
        self._node = node
        self._runs: tuple[str | None, bool] | None = None
        self._ready_at: float | None = None
        self._is_ending = False
        self._expelling: set[Expulsion] = set()

    def status(self, before: EngineStatus, role: Role | None) -> EngineStatus:
        """Return how it does; `before` while it is not ready."""
        if self._ready_at is None or self._node.world.now < self._ready_at:
            return before
        return READY_MASTER if role is not None and role.is_master else READY_WORKER

    def carry_out(self, actions: Actions) -> None:
        """Do what the controller wants of it."""
        durable = actions.local.durable
        if actions.plan is not None and self._runs != (durable.runs, durable.serves):
            self._start(actions)
        if actions.dismiss and not self._is_ending:
            self._is_ending = True
            self._node.later(END, self._end)
        for who in actions.expel:
            if who not in self._expelling:
                self._expelling.add(who)
                self._node.later(EXPULSION, partial(self._expel, who))

    def _start(self, actions: Actions) -> None:
        node, durable = self._node, actions.local.durable
        self._runs, self._is_ending, self.is_dismissed = (durable.runs, durable.serves), False, False
        self._ready_at = node.world.now + START
        node.later(START, node.look_soon)
        node.world.watch.started(node, actions)

    def _end(self) -> None:
        self._node.world.watch.ended(self._node)
        self._runs, self._ready_at, self.is_dismissed = None, None, True
        self._node.look_soon()

    def _expel(self, who: Expulsion) -> None:
        node = self._node
        self._expelling.discard(who)
        node.world.watch.expelled(node, who)
        farewell = Farewell(is_done=True, stopped=who.stopped)
        node.publish(FAREWELLS, f"{who.cluster_id}/{who.peer}/{node.peer}", farewell.content)
        node.look_soon()

    def was_expelled(self) -> None:
        """Join anew now and then, as where its init system starts it again before the node has heard that it is out."""
        random = self._node.world.random
        if self._runs is not None and random.random() < RETURNS:
            self._node.later(random.uniform(0.0, 2 * END), self._return)

    def _return(self) -> None:
        if self._runs is not None:
            self._node.world.watch.joined(self._node)
