"""For authors of engines: a conformance check, and a fake engine that passes it.

async def test_my_engine_keeps_the_contract(tmp_path):
    await check_engine(lambda: MyEngine(root=tmp_path))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace

from kairos_core.errors import EngineError
from kairos_core.interfaces import Engine, EngineService
from kairos_core.model import Attachment, EngineState, EngineStatus, Join, NodePlan, Role
from kairos_core.settings import SecretStr

CLUSTER_TOKEN = "conformance-cluster-token"

PLAN = NodePlan(
    role=Role.MASTER,
    node_name="conformance",
    attachment=Attachment(node_ip="127.0.0.1"),
    cluster_token=SecretStr(CLUSTER_TOKEN),
)
"""The plan that the check applies: a lone master."""


async def check_engine(make: Callable[[], Engine], plan: NodePlan = PLAN, patience: float = 60.0) -> None:
    """Hold an engine to its contract; raise AssertionError where it breaks it.

    `make` returns an engine on a machine where none has run, each time for the same machine. The check runs
    Kubernetes for real, for up to `patience` seconds a start, and removes it again.
    """
    engine = make()
    version = await engine.installed()
    assert version is None or version, "installed() must return None or a version, not an empty text"
    assert (await engine.status()).state is EngineState.ABSENT, "before apply() the state must be absent"
    await _check_impossible_plans(engine, plan)
    try:
        await engine.apply(plan)
        first = await _ready(engine, patience)
        _check_master(first, plan)
        await engine.apply(plan)
        again = await engine.status()
        assert again.state is EngineState.READY, f"applying an equal plan must change nothing: {again.message}"
        assert again.join_token == first.join_token, "applying an equal plan must not change the join token"
        await _check_restarted_agent(make(), plan, first)
        await _check_service(make(), plan, first)
    finally:
        await engine.remove()
    assert (await engine.status()).state is EngineState.ABSENT, "after remove() the state must be absent"
    assert await make().service() is None, "after remove() there must be no service"
    await engine.remove()  # what is gone may be removed again


async def _check_impossible_plans(engine: Engine, plan: NodePlan) -> None:
    for impossible in (
        replace(plan, role=Role.WORKER, join=None),
        replace(plan, role=Role.HA, join=None, datastore=None),
        replace(plan, role=Role.NONE),
    ):
        refusal = await _refusal(engine, impossible)
        assert refusal is not None, f"apply() must refuse the role {impossible.role} with nothing to join"
        assert CLUSTER_TOKEN not in refusal, "an error must not show the cluster's token"
        state = (await engine.status()).state
        assert state is EngineState.ABSENT, "a plan that is refused must leave nothing behind"


async def _refusal(engine: Engine, plan: NodePlan) -> str | None:
    try:
        await engine.apply(plan)
    except EngineError as error:
        return str(error)
    return None


async def _check_restarted_agent(engine: Engine, plan: NodePlan, first: EngineStatus) -> None:
    """A new engine object is what a restarted agent has: it must take over what runs."""
    await engine.apply(plan)
    status = await engine.status()
    assert status.state is EngineState.READY, f"a restarted agent must find what runs: {status.message}"
    assert status.join_token == first.join_token, "a restarted agent must not start another cluster"


async def _check_service(engine: Engine, plan: NodePlan, first: EngineStatus) -> None:
    """An engine object that has applied nothing is what a command beside the agent has."""
    service = await engine.service()
    if service is None:
        return
    assert service.name, "a service must have a name"
    assert await service.is_running(), "the service of a ready engine must run"
    status = await engine.status()
    assert status.state is EngineState.READY, f"who has applied nothing must find what runs: {status.message}"
    async with asyncio.timeout(30):
        lines = [line async for line in service.log(50)]
    for secret in (plan.cluster_token, first.join_token):
        shown = secret is not None and any(secret.get_secret_value() in line for line in lines)
        assert not shown, "a log must not show a secret"
    await service.stop()
    assert not await service.is_running(), "after stop() it must not run"
    status = await engine.status()
    assert status.state is EngineState.FAILED, f"what was stopped is no more {status.state}: {status.message}"
    await service.start()
    await service.start()  # what runs may be started again
    await _runs(service)


async def _runs(service: EngineService) -> None:
    """Wait until it runs: an init system may take its time."""
    for _ in range(100):
        if await service.is_running():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("after start() it must run")


async def _ready(engine: Engine, patience: float) -> EngineStatus:
    status = await engine.status()
    try:
        async with asyncio.timeout(patience):
            while status.state is not EngineState.READY:
                assert status.state is not EngineState.ABSENT, "after apply() the state must not be absent"
                assert status.state is not EngineState.FAILED, f"the engine failed: {status.message}"
                await asyncio.sleep(0.2)
                status = await engine.status()
    except TimeoutError:
        raise AssertionError(f"not ready within {patience:.0f} s: {status.message}") from None
    return status


def _check_master(status: EngineStatus, plan: NodePlan) -> None:
    assert status.join_token is not None, "a ready master must report its join token"
    assert status.kubeconfig is not None, "a ready master must report its kubeconfig"
    assert plan.node_name in status.nodes, f"the cluster must have the node {plan.node_name}: {status.nodes}"
    shown = f"{status!r} {status.message}"
    for secret in (status.join_token, status.kubeconfig, plan.cluster_token):
        assert secret is None or secret.get_secret_value() not in shown, "a status must not show a secret"


@dataclass
class FakeCluster:
    """What the fake engines of one cluster share: its join token, and who is in it."""

    token: str = ""
    nodes: dict[str, Role] = field(default_factory=dict)
    expelled: set[str] = field(default_factory=set)  # they run on, and come back only by a new start


class FakeService(EngineService):
    """The service of a fake engine: a flag, and a log that one can write into."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.name, self.runs, self.lines = "fake", True, list(lines)

    async def is_running(self) -> bool:
        return self.runs

    async def start(self) -> None:
        self.runs = True

    async def stop(self) -> None:
        self.runs = False

    async def log(self, lines: int, *, follow: bool = False) -> AsyncIterator[str]:
        for line in self.lines[-lines:]:
            yield line


class FakeEngine(Engine):
    """An engine without programs: ready at the `delay`-th status, failed with a wrong join token.

    Give the engines of one cluster the same `FakeCluster`. `plans` are those that changed something, in
    order; `removals` counts the removals.
    """

    def __init__(self, cluster: FakeCluster | None = None, delay: int = 1) -> None:
        self.cluster = cluster if cluster is not None else FakeCluster()
        self.plans: list[NodePlan] = []
        self.removals = 0
        self._plan: NodePlan | None = None
        self._service = FakeService(["the fake has started"])
        self._delay, self._asked = delay, 0

    async def installed(self) -> str | None:
        return "fake 1.0"

    async def apply(self, plan: NodePlan) -> None:
        plan.check()
        if plan.join is None and (plan.role is Role.WORKER or (plan.role is Role.HA and not plan.datastore)):
            raise EngineError(f"{plan.role} needs a server to join; the plan has none. Wait for a master.")
        if plan != self._plan:
            self._plan, self._asked = plan, 0
            self.plans.append(plan)
            self.cluster.expelled.discard(plan.node_name)
        self._service.runs = True
        if plan.join is None and not self.cluster.token:
            given = plan.cluster_token.get_secret_value() if plan.cluster_token else "made-by-fake"
            self.cluster.token = f"fake::{given}"

    async def status(self) -> EngineStatus:
        plan = self._plan
        if plan is None:
            return EngineStatus(EngineState.ABSENT)
        if not self._service.runs:
            return EngineStatus(EngineState.FAILED, "the fake was stopped")
        if plan.join and not self._is_admitted(plan.join):
            return EngineStatus(EngineState.FAILED, "401 Unauthorized: the join token is wrong")
        self._asked += 1
        if self._asked < self._delay:
            return EngineStatus(EngineState.STARTING, "the fake takes its time")
        if plan.node_name not in self.cluster.expelled:
            self.cluster.nodes[plan.node_name] = plan.role
        if not plan.role.is_master:
            return EngineStatus(EngineState.READY)
        address = plan.attachment.endpoint or plan.attachment.node_ip
        return EngineStatus(
            EngineState.READY,
            join_token=SecretStr(self.cluster.token),
            kubeconfig=SecretStr(f"apiVersion: v1\nclusters: [{{cluster: {{server: 'https://{address}:6443'}}}}]\n"),
            nodes=tuple(sorted(self.cluster.nodes)),
        )

    async def remove(self) -> None:
        self.removals += 1
        if self._plan is not None:
            self.cluster.nodes.pop(self._plan.node_name, None)
        self._plan = None

    async def expel(self, node_name: str) -> None:
        if self._plan is None or not self._plan.role.is_master:
            raise EngineError("only a master takes a node out of the cluster")
        if self.cluster.nodes.pop(node_name, None) is not None:
            self.cluster.expelled.add(node_name)

    async def service(self) -> FakeService | None:
        return self._service if self._plan is not None else None

    def _is_admitted(self, join: Join) -> bool:
        return join.token.get_secret_value() == self.cluster.token
