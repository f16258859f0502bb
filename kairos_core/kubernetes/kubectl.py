"""Takes a node out of a cluster by an engine's kubectl: moves its pods away, then deletes it.

Source: kubernetes.io, reference/kubectl/generated/kubectl_drain and kubectl_delete; k8s.io/kubectl, pkg/drain and
pkg/cmd/drain/drain.go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from kairos_core.errors import EngineError
from kairos_core.service.supervisor import complete_program

DRAIN_PATIENCE = 120
"""Seconds for pods to move away until what holds them is told, and all is tried again. Raising it tells later."""

DELETE_PATIENCE = 60
"""Seconds until a deleted node is gone: its finalizers do what is left to do, which takes a moment each."""

ANSWER_PATIENCE = 20
"""Seconds for one answer, and beyond the other patiences for kubectl to end by itself."""

MAX_COMPLAINT = 120
"""Characters of kubectl's own words in an error: with a name and with what to do they must fit a farewell's 256."""

_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
"""What a node may be called (RFC 1123, a subdomain). The attack: a member that leaves as `--selector=all-others`."""

_RETRIED = " (will retry after "


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node as the cluster sees it; `is_silent` when its kubelet has not been heard of for a while."""

    name: str
    addresses: tuple[str, ...] = ()
    is_control_plane: bool = False
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs kubectl as the administrator; `command` is all that goes before its subcommand."""

    command: tuple[str, ...]

    async def node(self, name: str) -> ClusterNode | None:
        """Return a node by the name that its machine has; None when there is none. Raises EngineError.

        A kubelet writes its name in lower case, whatever it is given.
        """
        name = name.lower()
        if not _NAME.fullmatch(name):
            return None
        patience = f"--request-timeout={ANSWER_PATIENCE}s"
        code, output, errors = await self._run("get", "node", name, "--ignore-not-found", "--output=json", patience)
        if code:
            raise EngineError(f"cannot ask the cluster for {name}: {complaint(errors)}")
        try:
            return _parse(json.loads(output)) if output.strip() else None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EngineError(f"cannot ask the cluster for {name}: the answer is no node") from None

    async def drain(self, node: ClusterNode) -> None:
        """Let no pod start on a node any more, and wait until those on it are gone. Raises EngineError when they stay.

        Evictions respect disruption budgets, also on a silent node; pods there are not ready, and so need no budget
        (kubernetes#94381). But none of them ever ends, since their kubelet must confirm it: so they are not waited for.
        """
        flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={DRAIN_PATIENCE}s"]
        if node.is_silent:
            # Both are needed: the time to skip counts from the end of the grace period. Source: cluster-api#10706.
            flags += ["--grace-period=1", "--skip-wait-for-delete-timeout=1"]
        code, _, errors = await self._run("drain", node.name, *flags, timeout=DRAIN_PATIENCE + ANSWER_PATIENCE)
        if code and "(NotFound)" not in errors:
            raise EngineError(
                f"{node.name} cannot be drained: {complaint(errors)}. Mend it (kubectl get pdb -A), or on that "
                "machine: kairos leave --force"
            )

    async def delete(self, name: str, *, kind: str = "node") -> None:
        """Delete an object, and wait until it is gone; none of that name or kind is fine. Raises EngineError."""
        flags = ("--ignore-not-found", "--wait=true", f"--timeout={DELETE_PATIENCE}s")
        code, _, errors = await self._run("delete", kind, name, *flags, timeout=DELETE_PATIENCE + ANSWER_PATIENCE)
        if code and "doesn't have a resource type" not in errors:
            raise EngineError(
                f"the {kind} {name} is deleted and stays: {complaint(errors)}. See finalizers in: "
                f"kubectl get {kind} {name} -o yaml"
            )

    async def _run(self, *arguments: str, timeout: float = 2 * ANSWER_PATIENCE) -> tuple[int, str, str]:
        return await complete_program(*self.command, *arguments, timeout=timeout)


def _parse(document: Any) -> ClusterNode:
    metadata, status = document["metadata"], document["status"]
    ready = [condition["status"] for condition in status.get("conditions", ()) if condition["type"] == "Ready"]
    return ClusterNode(
        name=metadata["name"],
        addresses=tuple(each["address"] for each in status.get("addresses", ()) if each["type"] == "InternalIP"),
        is_control_plane="node-role.kubernetes.io/control-plane" in metadata.get("labels", {}),
        # False is said by a kubelet that lives, and can still end pods; Unknown by the cluster, of one that is silent.
        is_silent=ready == ["Unknown"],
    )


def complaint(errors: str) -> str:
    """Return why kubectl failed, of all that it said: what it tried again and again, else its errors; each once."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    tried = (line.removeprefix("error when ").partition(_RETRIED) for line in lines)
    refused = [f"{head}: {tail.partition(': ')[2]}" for head, mark, tail in tried if mark]
    failed = [line.removeprefix("error: ") for line in lines if line.lower().startswith("error")]
    said = "; ".join(dict.fromkeys(refused or failed[-1:] or lines[-1:])).rstrip(".") or "kubectl said nothing"
    return said if len(said) <= MAX_COMPLAINT else f"{said[:MAX_COMPLAINT]}…"
