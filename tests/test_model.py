from __future__ import annotations

from dataclasses import replace

import pytest

from kairos_core import Attachment, EngineError, Join, NodePlan, Role, SecretStr

PLAN = NodePlan(Role.MASTER, "a", Attachment())
JOIN = Join("https://10.1.0.2:6443", SecretStr("hidden"))


def test_a_plan_that_no_engine_can_run_is_refused_with_the_reason() -> None:
    with pytest.raises(EngineError, match="nothing to apply"):
        replace(PLAN, role=Role.NONE).check()
    with pytest.raises(EngineError, match=r"joins https://10\.1\.0\.2:6443 at once") as caught:
        replace(PLAN, role=Role.CLUSTER_INIT, join=JOIN).check()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.NONE])
def test_what_some_engine_can_run_is_for_each_to_judge(role: Role) -> None:
    replace(PLAN, role=role).check()
    if role is not Role.CLUSTER_INIT:
        replace(PLAN, role=role, join=JOIN).check()
