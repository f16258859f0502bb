"""What a simulated machine says of itself in `peers`: the parts of a real node's entry that anybody decides by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kairos_core.testing.simulator.node import SimulatedNode


def description_of(node: SimulatedNode) -> dict[str, object]:
    """Return the content of a machine's entry."""
    return {
        "network_id": node.rules.network_id,
        "name": node.spec.name,
        "kind": node.kind,
        "wish": node.wish.value if node.wish else "",
        "incarnation": node.durable.incarnation,
        "serves": node.durable.served,
        "node": node.durable.node_name or "",
        "seal_key": node.vault.public_key,
        "addresses": [str(node.address)],
    }
