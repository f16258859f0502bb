"""The running node as its HTTP interface sees it: status, the ledger in JSON, and what an operator may change."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from kairos_core.cluster import addresses, roles
from kairos_core.cluster.diagnosis import Examination, examine
from kairos_core.cluster.election import guarantee
from kairos_core.cluster.kubeconfig import rewrite_kubeconfig, server_address
from kairos_core.cluster.view import Node as NodeEntry
from kairos_core.cluster.view import Report, View
from kairos_core.errors import ControlError, KairosError, NetworkError, StoreError
from kairos_core.interfaces import Network
from kairos_core.model import Finding, PeerId, Role, Verdict
from kairos_core.protocol.buckets import ROLES, Policy, policy_of
from kairos_core.runtime.control import Control, Machine, NodeStatus
from kairos_core.runtime.node import Node
from kairos_core.runtime.orders import order_adoption, order_generation, order_leave

logger = logging.getLogger(__name__)

_EVERYWHERE = IPv4Network("0.0.0.0/0")


class NodeControl(Control):
    """Answers for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pump, self._reconciler = node.pump, node.reconciler

    def status(self) -> NodeStatus:
        view, actions = self._reconciler.look(), self._reconciler.actions
        claims = addresses.read_claims(self._pump.entries())
        held = addresses.without_guests(addresses.holders(claims, _EVERYWHERE), claims)
        machines = tuple(self._machine(view, node, held) for node in view.nodes.values())
        machines = tuple(sorted(machines, key=lambda machine: (machine.name, machine.peer)))
        me = next((machine for machine in machines if machine.peer == view.me), None)
        decision = actions.decision
        return NodeStatus(
            me=me or self._machine(view, NodeEntry(view.me), held),
            network_id=self._reconciler.spec.rules.network_id,
            phase=actions.phase,
            cluster_id=decision.cluster_id if decision else None,
            guarantee=guarantee(view, self._reconciler.spec.rules),
            machines=machines,
            entries=len(self._pump.ledger),
            drops=dict(sorted(self._pump.gossip.drops.items())),
            plugins=tuple(self._plugin_rows()),
            warnings=tuple(self._warnings()),
            milestones=dict(self._reconciler.milestones),
            generation=view.generation,
            digest=self._pump.ledger.digest.hex(),
            networks={name: figures(self._state(name)) for name in self._networks},
        )

    @property
    def _networks(self) -> Mapping[str, Network]:
        made = [network for network, _ in self._node.parts.networks]
        return dict(zip(self._node.parts.chosen.get("network", ()), made, strict=True))

    def network(self, name: str) -> Mapping[str, Any]:
        self._network(name)
        return self._state(name)

    def _state(self, name: str) -> Mapping[str, Any]:
        try:
            return self._networks[name].state()
        except Exception as error:  # a plugin's mistake must not hide the rest of the status
            logger.exception("the network %s cannot say how it does", name)
            return {"failed": 1, "error": f"the network {name} failed with {error!r}; see the agent's log"}

    async def order(self, network: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            answer = await self._network(network).order(order)
            await self._pump.saved()
        except NetworkError as error:
            raise ControlError(str(error)) from error
        except StoreError as error:
            raise ControlError(f"done, but not saved on this machine yet: {error}") from error
        return answer

    def _network(self, name: str) -> Network:
        network = self._networks.get(name)
        if network is None:
            used = ", ".join(self._networks) or "none"
            raise ControlError(f"this node has no network {name!r}; it has: {used}. See: kairos plugins list")
        return network

    def _machine(self, view: View, node: NodeEntry, leases: Mapping[IPv4Address, PeerId]) -> Machine:
        report = self._reconciler.report if node.peer == view.me else view.reports.get(node.peer, Report())
        member = self._pump.gossip.membership.members.get(node.peer)
        held = addresses.held_by(node.peer, leases)
        decision = self._reconciler.actions.decision
        role = Role(report.role) if report.role in set(Role) else None
        if role is None and decision is not None and node.kind == "node":
            role = roles.role_of(view, decision, node.peer)
        return Machine(
            peer=node.peer,
            name=node.name,
            kind=node.kind,
            role=role,
            address=report.address or (str(held) if held else None),
            underlay=str(member.address) if member and member.address else None,
            alive=node.peer in view.alive,
            engine=report.engine,
            message=report.message,
            os=node.os,
            arch=node.arch,
            version=node.version,
        )

    def _plugin_rows(self) -> list[dict[str, str]]:
        chosen = self._node.parts.chosen
        return [
            {
                "kind": record.kind,
                "name": record.name,
                "distribution": record.distribution,
                "version": record.version,
                "state": record.state,
                "reason": record.reason,
                "chosen": "yes" if record.name in chosen.get(record.kind, ()) else "",
            }
            for record in self._node.plugins.records
        ]

    def _warnings(self) -> list[str]:
        clock = self._pump.clock.warning
        return [*self._node.parts.warnings, *([clock] if clock else []), *self._errors()]

    def _errors(self) -> list[str]:
        pump, reconciler = self._pump, self._reconciler
        errors = (reconciler.attachments.error, reconciler.save_error, pump.store_error, pump.store_damage)
        return [sentence for sentence in (*errors, *self._node.discovery_errors.values()) if sentence]

    def doctor(self) -> tuple[Finding, ...]:
        reconciler = self._reconciler
        found = examine(
            Examination(
                view=reconciler.look(),
                spec=reconciler.spec,
                actions=reconciler.actions,
                clock=self._pump.clock.warning,
                plugins=tuple(self._plugin_rows()),
                warnings=[*self._node.parts.warnings, *self._errors()],
            )
        )
        return (*found, *(finding for name in self._networks for finding in self._examined(name)))

    def _examined(self, name: str) -> Sequence[Finding]:
        try:
            return self._networks[name].examine()
        except Exception as error:  # a plugin's mistake must not hide the rest
            logger.exception("the network %s cannot say what is wrong", name)
            return [Finding(name, Verdict.WRONG, f"it failed with {error!r}", "see the agent's log")]

    def ledger(self, bucket: str | None = None) -> Mapping[str, Mapping[str, Any]]:
        tables: dict[str, dict[str, Any]] = {}
        for entry in self._pump.entries():
            if bucket in (None, entry.bucket):
                tables.setdefault(entry.bucket, {})[entry.key] = as_json(entry.content)
        return tables

    async def put(self, bucket: str, key: str, value: Any) -> None:
        if policy_of(bucket) is not Policy.LWW:
            raise ControlError(
                f"the bucket {bucket!r} is not open to writing: each entry of it belongs to the node that its key "
                "names. Programs keep their own values in the bucket 'values'"
            )
        try:
            self._pump.publish(bucket, key, value)
            await self._pump.saved()
        except ValueError as error:
            raise ControlError(str(error)) from error
        except StoreError as error:
            raise ControlError(f"written, but not saved on this machine yet: {error}") from error

    async def delete(self, bucket: str, key: str) -> None:
        await self.put(bucket, key, None)

    async def watch(self) -> AsyncIterator[tuple[str, str, Any]]:
        async for entry in self._pump.watch():
            yield entry.bucket, entry.key, as_json(entry.content)

    async def set_role(self, peer: PeerId, role: Role | None) -> None:
        if peer not in self._reconciler.look().nodes:
            raise ControlError(f"no node of this network is called {peer}. See: kairos role list")
        await self.put(ROLES, str(peer), {"role": role.value} if role else None)

    async def new_generation(self, *, force: bool = False) -> int:
        return await order_generation(self._pump, self._reconciler, force=force)

    async def adopt(self, cluster_id: str) -> None:
        await order_adoption(self._reconciler, cluster_id)

    async def leave(self, *, at_once: bool = False) -> None:
        await order_leave(self._reconciler, at_once=at_once)

    def kubeconfig(self) -> str:
        actions, view = self._reconciler.actions, self._reconciler.look()
        decision = actions.decision
        if decision is None:
            raise ControlError(f"there is no cluster yet: {actions.message or actions.phase}. See: kairos status")
        masters = roles.masters(view, decision)
        order = sorted(masters, key=lambda peer: (peer not in view.alive, peer != decision.init, peer))
        text = self._reconciler.vault.open(decision.cluster_id, "kubeconfig", order)
        if text is None:
            raise ControlError(self._why_none(view))
        servers = {s.peer: s.endpoint for s in view.servers if s.cluster_id == decision.cluster_id}
        endpoint = next((servers[peer] for peer in order if peer in servers), None)
        try:
            name = self._reconciler.spec.rules.network_id
            return rewrite_kubeconfig(text, server_address(endpoint, None, None), name)
        except KairosError as error:
            raise ControlError(str(error)) from error

    def _why_none(self, view: View) -> str:
        role = self._reconciler.actions.role
        if role is Role.WORKER:
            return (
                "this node is a worker, and the kubeconfig is sealed to masters and operators. Run the command on a "
                "master, or beside: kairos bridge"
            )
        ready = [report for report in view.reports.values() if report.engine == "ready"]
        if not ready:
            return "no master is ready yet, so there is no kubeconfig. Watch: kairos status"
        return "no master has sealed the kubeconfig to this node yet; try again in a few seconds"


def figures(state: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a network's state is a number: for the status and for metrics."""
    numbers = {name: value for name, value in state.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if not isinstance(value, bool)}


def as_json(value: Any) -> Any:
    """Return a ledger value with JSON types: bytes become base64 text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value
