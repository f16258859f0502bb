"""The paths of EdgeVPN's API, with its PascalCase shapes and its status codes, so that its clients work.

Where its answer was wrong by defect, ours is true: `Connected` and the peer store's `Online` say whether the peer
answers, and a write that fails is an error rather than "Announcing". Source: mudler/edgevpn, api/api.go and
api/types, as documented in its docs/reference/api.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from starlette.responses import Response

from kairos_core.api.document import format_json
from kairos_core.api.operation import Call, Operation, Refusal, json_response
from kairos_core.api.schema import (
    Announced,
    Bandwidth,
    Block,
    DnsRow,
    MachineRow,
    PeerRow,
    ServiceRow,
    Summary,
    UserRow,
)
from kairos_core.api.v1 import read_body
from kairos_core.runtime.control import Machine


async def _summary(call: Call) -> Response:
    status, ledger = call.control.status(), call.control.ledger()
    summary = Summary(
        Files=len(ledger.get("files", {})),
        Machines=len(status.machines),
        Users=len(ledger.get("users", {})),
        Services=len(ledger.get("services", {})),
        BlockChain=status.entries,
        OnChainNodes=sum(machine.alive for machine in status.machines if machine.peer != status.me.peer),
        Peers=len(status.machines),
        NodeID=str(status.me.peer),
    )
    return json_response(asdict(summary))


async def _machines(call: Call) -> Response:
    return json_response([asdict(_machine_row(machine)) for machine in call.control.status().machines])


def _machine_row(machine: Machine) -> MachineRow:
    return MachineRow(
        PeerID=str(machine.peer),
        Hostname=machine.name,
        OS=machine.os,
        Arch=machine.arch,
        Address=machine.address or "",
        Version=machine.version,
        Connected=machine.alive,
        OnChain=machine.alive,
        Online=machine.alive,
    )


async def _nodes(call: Call) -> Response:
    machines = call.control.status().machines
    return json_response([{"ID": str(machine.peer), "Online": True} for machine in machines if machine.alive])


async def _peerstore(call: Call) -> Response:
    machines = call.control.status().machines
    return json_response([{"ID": str(machine.peer), "Online": machine.alive} for machine in machines])


async def _users(call: Call) -> Response:
    return json_response(_rows(call, "users", ("PeerID", "Timestamp")))


async def _services(call: Call) -> Response:
    return json_response(_rows(call, "services", ("PeerID", "Name")))


async def _files(call: Call) -> Response:
    return json_response(_rows(call, "files", ("PeerID", "Name")))


def _rows(call: Call, bucket: str, names: tuple[str, ...]) -> list[dict[str, str]]:
    """Show the entries of a bucket under fixed names; what a peer wrote in another shape is left out."""
    values = call.control.ledger(bucket).get(bucket, {}).values()
    rows = [value for value in values if isinstance(value, Mapping)]
    return [{name: str(row.get(name, "")) for name in names} for row in rows]


async def _dns(call: Call) -> Response:
    entries = call.control.ledger("dns").get("dns", {})
    rows = [
        {"Regex": regex, "Records": {str(kind): str(value) for kind, value in records.items()}}
        for regex, records in entries.items()
        if isinstance(records, Mapping)
    ]
    return json_response(rows)


async def _put_dns(call: Call) -> Response:
    match read_body(call):
        case {"Regex": str(regex), "Records": dict(records)} if regex:
            await call.control.put("dns", regex, records)
            return json_response({"State": "Announcing"})
    raise Refusal(400, "bad_body", 'the body must be {"Regex": "…", "Records": {"A": "1.2.3.4"}}')


def _storage(call: Call) -> dict[str, dict[str, str]]:
    """Return the live values, each as JSON text in a string: the reference stores text."""
    ledger = call.control.ledger()
    return {name: {key: format_json(value) for key, value in bucket.items()} for name, bucket in ledger.items()}


async def _blockchain(call: Call) -> Response:
    storage = _storage(call)
    block = Block(
        Index=call.control.status().entries,
        Timestamp=datetime.now(UTC).isoformat(),
        Storage=storage,
        Hash=hashlib.sha256(format_json(storage).encode()).hexdigest(),
        PrevHash="",  # our ledger is a map, not a chain
    )
    return json_response(asdict(block))


async def _ledger(call: Call) -> Response:
    return json_response(_storage(call))


async def _bucket(call: Call) -> Response:
    name = call.parameters["bucket"]
    bucket = call.control.ledger(name).get(name)
    return json_response(None if bucket is None else {key: format_json(value) for key, value in bucket.items()})


async def _entry(call: Call) -> Response:
    name, key = call.parameters["bucket"], call.parameters["key"]
    bucket = call.control.ledger(name).get(name, {})
    return json_response(format_json(bucket[key]) if key in bucket else "")


async def _put(call: Call) -> Response:
    await call.control.put(call.parameters["bucket"], call.parameters["key"], call.parameters["value"])
    return json_response({"State": "Announcing"})


async def _delete(call: Call) -> Response:
    await call.control.delete(call.parameters["bucket"], call.parameters["key"])
    return json_response({"State": "Announcing"})


async def _delete_bucket(call: Call) -> Response:
    name = call.parameters["bucket"]
    for key in list(call.control.ledger(name).get(name, {})):
        await call.control.delete(name, key)
    return json_response({"State": "Announcing"})


async def _metrics(call: Call) -> Response:
    traffic = call.control.traffic()
    if traffic is None:  # as the reference answers without a bandwidth counter
        raise Refusal(404, "not_counted", "this node's transport does not count its traffic", "see /metrics")
    bandwidth = Bandwidth(
        TotalIn=traffic.received,
        TotalOut=traffic.sent,
        RateIn=traffic.receive_rate,
        RateOut=traffic.send_rate,
    )
    return json_response(asdict(bandwidth))


_TEXTS = dict[str, str]

OPERATIONS = (
    Operation("GET", "/api/summary", _summary, "Counts, and this node's peer id", Summary),
    Operation("GET", "/api/machines", _machines, "The nodes of the network", list[MachineRow]),
    Operation("GET", "/api/nodes", _nodes, "The nodes that answer", list[PeerRow]),
    Operation("GET", "/api/peerstore", _peerstore, "The nodes ever met", list[PeerRow]),
    Operation("GET", "/api/users", _users, "Bucket users", list[UserRow]),
    Operation("GET", "/api/services", _services, "Bucket services", list[ServiceRow]),
    Operation("GET", "/api/files", _files, "Bucket files", list[ServiceRow]),
    Operation("GET", "/api/dns", _dns, "Bucket dns", list[DnsRow]),
    Operation("POST", "/api/dns", _put_dns, "Write DNS records", Announced, DnsRow),
    Operation("GET", "/api/blockchain", _blockchain, "The whole ledger in the form of a block", Block),
    Operation("GET", "/api/ledger", _ledger, "All values, each as JSON text", dict[str, _TEXTS]),
    Operation("GET", "/api/ledger/{bucket}", _bucket, "A bucket; null when unknown", _TEXTS | None),
    Operation("GET", "/api/ledger/{bucket}/{key}", _entry, 'A value as JSON text; "" when unknown', str),
    Operation("PUT", "/api/ledger/{bucket}/{key}/{value}", _put, "Write the text of the last segment", Announced),
    Operation("DELETE", "/api/ledger/{bucket}/{key}", _delete, "Delete an entry", Announced),
    Operation("DELETE", "/api/ledger/{bucket}", _delete_bucket, "Delete all entries of a bucket", Announced),
    Operation("GET", "/api/metrics", _metrics, "Bytes carried; 404 when not counted", Bandwidth),
)
