"""Which ports k0s needs of this machine. Source: docs.k0sproject.io, pages networking and configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from kairos_core import Disk, EngineError, Finding, NodePlan, Port, ServiceSettings, examine_ports
from kairos_engine_k0s.arguments import is_on, kubelet_value
from kairos_engine_k0s.configuration import cluster_config
from kairos_engine_k0s.launch import arguments_of, block_of, service_of
from kairos_engine_k0s.settings import ControllerSettings, WorkerSettings

_OURS = frozenset(("k0s",))
"""Its API server, etcd and kubelet are processes that k0s starts."""


def examine_plans(disk: Disk, plans: Sequence[NodePlan], blocks: tuple[ControllerSettings, WorkerSettings]) -> Finding:
    """Look who holds the ports that any of these plans needs; only those of the service that is here, if one is."""
    here = [plan for plan in plans if service_of(plan) == _service_on(disk)]
    ports = dict.fromkeys(port for plan in here or plans for port in ports_of(plan, block_of(plan, *blocks)))
    return examine_ports("Kubernetes ports", tuple(ports), _OURS, disk.root)


def ports_of(plan: NodePlan, block: ServiceSettings) -> Iterator[Port]:
    """Yield the ports that k0s is going to listen on, as far as k0s.yaml is ours."""
    arguments = arguments_of(plan, block)
    is_lone = is_on(arguments, "single")
    if not plan.role.is_master or is_lone or is_on(arguments, "enable-worker"):
        remedy = "set --port=NUMBER in --kubelet-extra-args of its args"
        yield Port("tcp", _number(kubelet_value(arguments, "port"), 10250), "the kubelet", remedy)
    if plan.role.is_master:
        given = block.config if isinstance(block, ControllerSettings) else {}
        spec: Mapping[str, Any] = yaml.load(cluster_config(plan, given), yaml.CSafeLoader)["spec"]
        yield from _controller_ports(spec, has_etcd=_part(spec, "storage").get("type") == "etcd" and not is_lone)


def _controller_ports(spec: Mapping[str, Any], *, has_etcd: bool) -> Iterator[Port]:
    api, konnectivity = _part(spec, "api"), _part(spec, "konnectivity")
    yield Port("tcp", _number(api.get("port"), 6443), "the Kubernetes API", "set k0s.config.spec.api.port")
    yield Port("tcp", _number(api.get("k0sApiPort"), 9443), "those who join", "set k0s.config.spec.api.k0sApiPort")
    tunnel = _number(konnectivity.get("agentPort"), 8132)
    yield Port("tcp", tunnel, "the way to the nodes", "set k0s.config.spec.konnectivity.agentPort")
    if has_etcd:
        yield from (Port("tcp", number, "etcd") for number in (2379, 2380))


def _part(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = spec.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(value: Any, usual: int) -> int:
    return int(value) if str(value).isdecimal() else usual


def _service_on(disk: Disk) -> str:
    """Return the service that the record names; none where it cannot be read, as by who is no root."""
    try:
        return disk.state().service
    except EngineError:
        return ""
