"""A kubeconfig of ours put into another that holds further clusters: `~/.kube/config` of whoever uses kubectl. Pure."""

from __future__ import annotations

from typing import Any

from kairos_core.cluster.kubeconfig import (
    SECTIONS,
    NotAKubeconfig,
    format_yaml,
    of_the_engine,
    parse,
    records_of,
    require_cluster,
)
from kairos_core.errors import ConfigError


def merge_kubeconfig(existing: str, ours: str, name: str, *, replace: bool = False) -> str:
    """Return `existing` with the cluster of `ours` under `name`, as the current context; all else is kept.

    An entry of that name is replaced if it is of the same cluster (the same certificate authority), as after a new
    address or a renewed certificate; of another cluster only with `replace`. Raises ConfigError when it is not to be
    replaced or `existing` is no kubeconfig, EngineError when `ours` is none. No message shows any of either.
    """
    with of_the_engine():
        new = _named(parse(ours), name)
    try:
        merged: dict[str, Any] = parse(existing) if existing.strip() else {"apiVersion": "v1", "kind": "Config"}
        if not replace:
            _require_same(merged, new, name)
        for section, body in SECTIONS.items():
            kept = [record for record in records_of(merged, section, body) if record["name"] != name]
            merged[section] = [*kept, *new[section]]
    except NotAKubeconfig as reason:
        raise ConfigError(
            f"the file to merge into is not a kubeconfig: {reason}. Mend it; it was not changed."
        ) from None
    merged["current-context"] = name
    return format_yaml(merged)


def _named(config: dict[str, Any], name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the first cluster and user of a kubeconfig, and a context of both, each under a name."""
    require_cluster(config)
    first = {section: records_of(config, section, body)[:1] for section, body in SECTIONS.items()}
    context = first["contexts"][0]["context"] if first["contexts"] else {}
    return {
        "clusters": [{**record, "name": name} for record in first["clusters"]],
        "users": [{**record, "name": name} for record in first["users"]],
        "contexts": [{"context": {**context, "cluster": name, "user": name}, "name": name}],
    }


def _require_same(merged: dict[str, Any], new: dict[str, list[dict[str, Any]]], name: str) -> None:
    ours = new["clusters"][0]["cluster"].get("certificate-authority-data")
    for record in records_of(merged, "clusters", "cluster"):
        authority = record["cluster"].get("certificate-authority-data")
        if record["name"] == name and authority != ours:
            raise ConfigError(
                f"another cluster is called {name!r} there already. Merge under another name with --context NAME, or "
                "replace that one with --replace."
            )
