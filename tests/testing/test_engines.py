from __future__ import annotations

from dataclasses import replace

import pytest

from kairos_core import SecretStr
from kairos_core.errors import EngineError
from kairos_core.interfaces import Engine
from kairos_core.model import EngineState, EngineStatus, Join, NodePlan, Role
from kairos_core.testing.engines import PLAN, FakeCluster, FakeEngine, FakeService, check_engine


async def test_the_fake_keeps_the_contract_that_it_is_held_to() -> None:
    engine = FakeEngine(delay=2)
    await check_engine(lambda: engine)


async def test_fakes_of_one_cluster_join_with_its_token_only() -> None:
    cluster = FakeCluster()
    master, worker = FakeEngine(cluster), FakeEngine(cluster)
    await master.apply(PLAN)
    token = (await master.status()).join_token
    assert token
    join = Join("https://127.0.0.1:6443", SecretStr("wrong"))
    plan = replace(PLAN, role=Role.WORKER, node_name="worker", join=join)
    await worker.apply(plan)
    assert (await worker.status()).state is EngineState.FAILED
    await worker.apply(replace(plan, join=Join(join.server, token)))
    assert (await worker.status()).state is EngineState.READY
    assert (await master.status()).nodes == ("conformance", "worker")


class _Stubborn(FakeService):
    async def stop(self) -> None:
        """Go on."""


class _Broken(FakeEngine):
    """A fake with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    async def apply(self, plan: NodePlan) -> None:
        if self.fault == "takes any plan" and plan.role is Role.WORKER:
            return
        if self.fault == "shows the token" and plan.role is Role.WORKER:
            raise EngineError(f"no server for {plan.cluster_token and plan.cluster_token.get_secret_value()}")
        await super().apply(plan)

    async def status(self) -> EngineStatus:
        status = await super().status()
        if self.fault == "no kubeconfig":
            return replace(status, kubeconfig=None)
        if self.fault == "forgets its node":
            return replace(status, nodes=())
        return status

    async def service(self) -> FakeService | None:
        service = await super().service()
        if service is not None and self.fault == "its service shows the token" and PLAN.cluster_token:
            service.lines.append(f"joining with {PLAN.cluster_token.get_secret_value()}")
        return _Stubborn() if service is not None and self.fault == "its service does not stop" else service

    async def remove(self) -> None:
        if self.fault != "stays":
            await super().remove()


FAULTS = ["takes any plan", "shows the token", "no kubeconfig", "forgets its node", "stays"]
SERVICE_FAULTS = ["its service shows the token", "its service does not stop"]


@pytest.mark.parametrize("fault", [*FAULTS, *SERVICE_FAULTS])
async def test_the_check_finds_a_fault(fault: str) -> None:
    engine: Engine = _Broken(fault)
    with pytest.raises(AssertionError):
        await check_engine(lambda: engine)
