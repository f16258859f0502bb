"""A node that is only its `Control`: for tests of whatever speaks to the API, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from kairos_core.errors import ControlError
from kairos_core.model import Finding, PeerId, Role, Verdict
from kairos_core.runtime.control import Control, Machine, NodeStatus, Traffic


def fake_machine(number: int, role: Role | None = Role.WORKER, *, name: str = "", alive: bool = True) -> Machine:
    """Return machine `number` (1 to 250): its peer id and addresses follow from the number."""
    return Machine(
        peer=PeerId(bytes([number]) * 32),
        name=name or f"node-{number}",
        kind="node",
        role=role,
        address=f"10.1.0.{number}",
        underlay=f"192.0.2.{number}:7373",
        alive=alive,
        engine="ready" if alive else "",
        message="",
        os="linux",
        arch="amd64",
        version="0.1.0",
    )


class FakeControl(Control):
    """Three machines and a ledger in memory. Change its attributes to change what the node says."""

    def __init__(self) -> None:
        me = fake_machine(1, Role.MASTER)
        self.node = NodeStatus(
            me=me,
            network_id="kairos",
            phase="ready",
            cluster_id="c1",
            guarantee="at most one cluster: 2 of 3 votes decide",
            machines=(me, fake_machine(2), fake_machine(3, None, alive=False)),
            entries=7,
            drops={"unknown_key": 4},
            plugins=({"kind": "engine", "name": "k3s", "state": "chosen"},),
            warnings=(),
            milestones={"started": 1000.0, "discovered": 1001.5},
            digest="0123456789abcdef",
            networks={"vpn": {"peers": 2}},
        )
        self.buckets: dict[str, dict[str, Any]] = {"role": {"node-2": "worker"}}
        self.roles: dict[PeerId, Role | None] = {}
        self.carried: Traffic | None = None
        self.config: str | None = None
        self.refusal: Exception | None = None
        self.findings: tuple[Finding, ...] = (Finding("clock", Verdict.OK, "the clock is right"),)
        self.adopted: list[str] = []
        self.left: list[bool] = []
        self.states: dict[str, Mapping[str, Any]] = {"vpn": {"peers": 2, "interface": "kairos0"}}
        self.orders: list[tuple[str, dict[str, Any]]] = []
        self.answer: Mapping[str, Any] = {}
        self._watchers: set[asyncio.Queue[tuple[str, str, Any]]] = set()

    @property
    def watchers(self) -> int:
        """How many `watch` iterators are open."""
        return len(self._watchers)

    def change(self, **fields: Any) -> None:
        """Replace fields of the status."""
        self.node = replace(self.node, **fields)

    def status(self) -> NodeStatus:
        """Return `node`."""
        return self.node

    def ledger(self, bucket: str | None = None) -> Mapping[str, Mapping[str, Any]]:
        """Return `buckets`, or the one named."""
        if bucket is None:
            return self.buckets
        return {bucket: self.buckets[bucket]} if bucket in self.buckets else {}

    async def put(self, bucket: str, key: str, value: Any) -> None:
        """Write, or raise `refusal`."""
        self._check()
        self.buckets.setdefault(bucket, {})[key] = value
        self._tell(bucket, key, value)

    async def delete(self, bucket: str, key: str) -> None:
        """Delete, or raise `refusal`."""
        self._check()
        entries = self.buckets.get(bucket, {})
        entries.pop(key, None)
        if not entries:
            self.buckets.pop(bucket, None)
        self._tell(bucket, key, None)

    async def watch(self) -> AsyncIterator[tuple[str, str, Any]]:
        """Yield what `put` and `delete` change."""
        queue: asyncio.Queue[tuple[str, str, Any]] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    async def set_role(self, peer: PeerId, role: Role | None) -> None:
        """Remember the role in `roles`, or raise `refusal`."""
        self._check()
        self.roles[peer] = role

    async def new_generation(self, *, force: bool = False) -> int:
        """Count the generation up, or raise `refusal` unless forced."""
        if not force:
            self._check()
        self.change(generation=self.node.generation + 1)
        return self.node.generation

    async def adopt(self, cluster_id: str) -> None:
        """Remember the cluster in `adopted`, or raise `refusal`."""
        self._check()
        self.adopted.append(cluster_id)

    async def leave(self, *, at_once: bool = False) -> None:
        """Remember whether at once in `left`, and have left; or raise `refusal`."""
        self._check()
        self.left.append(at_once)
        self.change(phase="left")

    def doctor(self) -> tuple[Finding, ...]:
        """Return `findings`."""
        return self.findings

    def network(self, name: str) -> Mapping[str, Any]:
        """Return what `states` has of it. Raises ControlError when it has nothing."""
        if name not in self.states:
            raise ControlError(f"this node has no network {name!r}")
        return self.states[name]

    async def order(self, network: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remember the order in `orders` and answer `answer`, or raise `refusal`."""
        self._check()
        self.orders.append((network, dict(order)))
        return self.answer

    def kubeconfig(self) -> str:
        """Return `config`. Raises ControlError while it is None."""
        if self.config is None:
            raise ControlError("there is no kubeconfig: no master is ready yet. `kairos status` shows the progress.")
        return self.config

    def traffic(self) -> Traffic | None:
        """Return `carried`."""
        return self.carried

    def _check(self) -> None:
        if self.refusal:
            raise self.refusal

    def _tell(self, bucket: str, key: str, value: Any) -> None:
        for queue in self._watchers:
            queue.put_nowait((bucket, key, value))
