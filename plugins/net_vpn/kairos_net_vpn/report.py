"""How the VPN does, for operators: JSON types without secrets. Figures are those of the last upkeep."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kairos_core import NetworkHost
from kairos_net_vpn.desk import Here, names_of
from kairos_net_vpn.guests import Admission
from kairos_net_vpn.messages import PeerStats, SetPeer, Stats
from kairos_net_vpn.roster import TOPIC
from kairos_net_vpn.spec import Timing


@dataclass(frozen=True, slots=True)
class Reading:
    """What the data plane has been told of peers, and what it last said of them, `age` seconds ago."""

    peers: Mapping[bytes, SetPeer]
    stats: Stats | None
    age: float
    timing: Timing


def report(host: NetworkHost, here: Here, admitted: Mapping[bytes, Admission], reading: Reading) -> dict[str, Any]:
    """Say how this end does, and each of its peers."""
    stats = reading.stats
    found = {each.key: each for each in stats.peers} if stats else {}
    whose = _names(host, admitted)
    members = [
        {
            **whose.get(key, _NOBODY),
            **describe(peer, found.get(key), reading.age, reading.timing),
            **_way(found.get(key), whose),
        }
        for key, peer in reading.peers.items()
    ]
    end = {"interface": here.interface, "address": str(here.address), "port": here.port, "mtu": here.mtu}
    said = {"drops": dict(stats.drops) if stats else {}, "path": _path(stats) if stats else {}}
    return {**end, **figures(stats, reading.timing), **said, "members": sorted(members, key=_by_name)}


_NOBODY = {"name": "", "kind": "node", "peer": None, "admitted_by": None}


def _names(host: NetworkHost, admitted: Mapping[bytes, Admission]) -> dict[bytes, dict[str, Any]]:
    """Return who has which public key."""
    names, whose = names_of(host), {}
    for peer, entry in host.published(TOPIC).items():
        if isinstance(entry.get("key"), bytes):
            name = names.get(peer) or peer.short
            whose[entry["key"]] = {**_NOBODY, "name": name, "peer": str(peer)}
    for key, admission in admitted.items():
        whose[key] = {"name": admission.name, "kind": "guest", "peer": None, "admitted_by": str(admission.by)}
    return whose


def _path(stats: Stats) -> dict[str, Any]:
    """Say which shortcuts of the kernel the packets take, and what records are sealed with."""
    used = [name for name, is_used in asdict(stats.offloads).items() if is_used and name != "aes"]
    return {"offloads": used, "cipher": stats.offloads.cipher}


def _way(stats: PeerStats | None, whose: Mapping[bytes, Mapping[str, Any]]) -> dict[str, Any]:
    """Say how a peer is reached: directly, or through which other; and the path's MTU once it is known."""
    if stats is None or stats.path is None:
        return {"path": None, "path_mtu": None}
    kind, _, key = stats.path.partition(" ")
    relay = whose.get(base64.b64decode(key), _NOBODY)["name"] or key[:8] if key else ""
    return {"path": f"{kind} {relay}".rstrip(), "path_mtu": stats.mtu}


def _by_name(member: Mapping[str, Any]) -> tuple[str, str]:
    return member["name"], member["key"]


def describe(peer: SetPeer, stats: PeerStats | None, age: float, timing: Timing) -> dict[str, Any]:
    """Say how one peer does, in JSON types. `age` is that of the statistics, in seconds."""
    handshake = None if stats is None or stats.handshake is None else round(stats.handshake + age, 1)
    if handshake is None:
        state = "waiting" if peer.eager else "idle"
    else:
        state = "up" if handshake < timing.reject_after else "idle"
    return {
        "key": base64.b64encode(peer.key).decode(),
        "addresses": list(peer.addresses),
        "state": state,
        "endpoint": stats.endpoint if stats else None,
        "handshake": handshake,
        "sent": stats.sent if stats else 0,
        "received": stats.received if stats else 0,
        "dropped": stats.refused if stats else 0,
    }


def figures(stats: Stats | None, timing: Timing) -> dict[str, int]:
    """Return the counts that become metrics."""
    peers = stats.peers if stats else ()
    live = [each for each in peers if each.handshake is not None and each.handshake < timing.reject_after]
    return {
        "peers": len(peers),
        "sessions": len(live),
        "bytes_sent": sum(each.sent for each in peers),
        "bytes_received": sum(each.received for each in peers),
    }
