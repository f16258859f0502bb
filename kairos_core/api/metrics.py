"""Prometheus metrics at /metrics, made from the node's status at each scrape; no global registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from kairos_core.runtime.control import Control, NodeStatus, Traffic


class NodeCollector(Collector):
    """Collects a node's metrics from its `Control`."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families as they are now."""
        status = self._control.status()
        yield from _network(status)
        yield from _node(status)
        traffic = self._control.traffic()
        if traffic is not None:
            yield _traffic(traffic)


def _node(status: NodeStatus) -> Iterator[Metric]:
    info = InfoMetricFamily("kairos_node", "Who this node is")
    role = status.me.role or "undecided"
    info.add_metric([], {"peer": str(status.me.peer), "version": status.me.version, "role": str(role)})
    yield info
    phase = GaugeMetricFamily("kairos_phase", "1 for the phase that this node is in", labels=["phase"])
    phase.add_metric([status.phase], 1)
    yield phase
    milestones = GaugeMetricFamily(
        "kairos_milestone_timestamp_seconds",
        "Unix time at which a milestone was reached",
        labels=["milestone"],
    )
    for name, when in status.milestones.items():
        milestones.add_metric([name], when)
    yield milestones
    networks = GaugeMetricFamily("kairos_network", "What a network counts", labels=["network", "figure"])
    for network, figures in status.networks.items():
        for figure, value in figures.items():
            networks.add_metric([network, figure], value)
    yield networks
    yield GaugeMetricFamily("kairos_warnings", "Warnings that status shows", value=len(status.warnings))


def _network(status: NodeStatus) -> Iterator[Metric]:
    others = [machine for machine in status.machines if machine.peer != status.me.peer]
    alive = sum(machine.alive for machine in others)
    yield GaugeMetricFamily("kairos_peers", "Other nodes of the network", value=len(others))
    yield GaugeMetricFamily("kairos_peers_alive", "Other nodes that answer", value=alive)
    engines = GaugeMetricFamily("kairos_engines", "Nodes by the state of their engine", labels=["state"])
    for state, count in Counter(machine.engine or "none" for machine in status.machines).items():
        engines.add_metric([state], count)
    yield engines
    yield GaugeMetricFamily("kairos_ledger_entries", "Entries in the ledger", value=status.entries)
    drops = CounterMetricFamily("kairos_drops", "What was not taken from peers, by reason", labels=["reason"])
    for reason, count in status.drops.items():
        drops.add_metric([reason], count)
    yield drops


def _traffic(traffic: Traffic) -> Metric:
    family = CounterMetricFamily("kairos_transport_bytes", "Bytes carried by the transport", labels=["direction"])
    family.add_metric(["received"], traffic.received)
    family.add_metric(["sent"], traffic.sent)
    return family


def scrape(control: Control) -> Response:
    """Return the metrics as they are now."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(control))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
