"""What `kairos plan` shows of k0s: a reason for everything, and no secret."""

from __future__ import annotations

import pytest
from kairos_engine_k0s import ControllerSettings, K0sEngine

from kairos_core import Attachment, Join, NodePlan, Role, SecretStr, StepKind

HUSH = "hush-hush"


@pytest.mark.parametrize("role", [Role.MASTER, Role.CLUSTER_INIT])
def test_each_step_of_a_master_has_a_reason_and_secrets_are_hidden(role: Role) -> None:
    settings = ControllerSettings.checked({"args": ["--debug"], "env": {"SOME": HUSH}})
    database = SecretStr(f"postgres://u:{HUSH}@db/k")
    plan = NodePlan(role, "edge-7", Attachment("kairos0", "10.1.0.7"), datastore=database)
    preview = K0sEngine(settings).preview(plan)
    assert preview.service == "k0scontroller"
    assert all(step.why for step in preview.steps)
    assert HUSH not in repr(preview)
    by_text = {step.text: step.why for step in preview.steps}
    assert by_text["--debug"] == "k0s.args"
    assert by_text["SOME=***"] == "k0s.env"
    assert [step.text for step in preview.steps if step.kind is StepKind.FILE and "k0s.yaml" in step.text]


@pytest.mark.parametrize("role", [Role.HA, Role.WORKER])
def test_who_joins_is_shown_without_the_token_that_only_other_machines_know(role: Role) -> None:
    join = Join("https://<the address of a master>:6443", SecretStr("<sealed to this node>"))
    preview = K0sEngine().preview(NodePlan(role, "edge-7", Attachment("kairos0", "10.1.0.7"), join=join))
    texts = [step.text for step in preview.steps]
    assert any(text.startswith("--token-file=") for text in texts)
    assert "invalid" not in repr(preview)
