"""The API of our own, /api/v1: typed answers, typed errors, writes that report their failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp

from kairos_core.api.document import parse_json
from kairos_core.api.events import EventStream
from kairos_core.api.operation import Call, Operation, Refusal, json_response
from kairos_core.api.schema import (
    ClusterWish,
    EntryShape,
    FindingShape,
    GenerationWish,
    LeaveWish,
    MachineShape,
    RoleWish,
    StatusShape,
    finding_document,
    machine_document,
    status_document,
)
from kairos_core.errors import ControlError
from kairos_core.model import PeerId, Role
from kairos_core.runtime.control import Machine


async def _status(call: Call) -> Response:
    return json_response(status_document(call.control.status()))


async def _machines(call: Call) -> Response:
    return json_response([machine_document(machine) for machine in call.control.status().machines])


async def _plugins(call: Call) -> Response:
    return json_response([dict(plugin) for plugin in call.control.status().plugins])


async def _ledger(call: Call) -> Response:
    return json_response(call.control.ledger())


async def _bucket(call: Call) -> Response:
    name = call.parameters["bucket"]
    bucket = call.control.ledger(name).get(name)
    if bucket is None:
        raise Refusal(404, "no_bucket", f"the ledger has no bucket {name!r}", "kairos ledger get lists them")
    return json_response(bucket)


async def _entry(call: Call) -> Response:
    bucket, key = call.parameters["bucket"], call.parameters["key"]
    entries = call.control.ledger(bucket).get(bucket, {})
    if key not in entries:
        advice = f"kairos ledger get {bucket} lists its keys"
        raise Refusal(404, "no_entry", f"the ledger has no entry {key!r} in bucket {bucket!r}", advice)
    return json_response({"bucket": bucket, "key": key, "value": entries[key]})


async def _put(call: Call) -> Response:
    bucket, key, value = call.parameters["bucket"], call.parameters["key"], read_body(call)
    if value is None:
        raise Refusal(400, "bad_body", "null is not a value: in the ledger it means a delete", "use DELETE")
    await call.control.put(bucket, key, value)
    return json_response({"bucket": bucket, "key": key, "value": value})


async def _delete(call: Call) -> Response:
    await call.control.delete(call.parameters["bucket"], call.parameters["key"])
    return Response(status_code=204)


async def _events(call: Call) -> ASGIApp:
    return EventStream(call.control.watch(), call.stopping, call.query.get("bucket"))


async def _kubeconfig(call: Call) -> Response:
    try:
        text = call.control.kubeconfig()
    except ControlError as error:
        raise Refusal(404, "no_kubeconfig", str(error)) from None
    return Response(text, media_type="application/yaml")


async def _set_role(call: Call) -> Response:
    roles = [*Role, "auto"]
    match read_body(call):
        case {"role": str(role), **others} if role in roles and not others:
            pass
        case _:
            raise Refusal(400, "bad_body", f'the body must be {{"role": ROLE}} with one of {", ".join(roles)}')
    peer = find_peer(call.control.status().machines, call.parameters["node"])
    await call.control.set_role(peer, None if role == "auto" else Role(role))
    return json_response({"peer": str(peer), "role": str(role)})


async def _network(call: Call) -> Response:
    try:
        return json_response(dict(call.control.network(call.parameters["network"])))
    except ControlError as error:
        raise Refusal(404, "no_network", str(error)) from None


async def _order(call: Call) -> Response:
    order = read_body(call)
    if isinstance(order, dict):
        return json_response(dict(await call.control.order(call.parameters["network"], order)))
    raise Refusal(400, "bad_body", "the body must be an object: what the network shall do")


async def _doctor(call: Call) -> Response:
    return json_response([finding_document(finding) for finding in call.control.doctor()])


async def _new_generation(call: Call) -> Response:
    match read_body(call):
        case {"force": bool(force), **others} if not others:
            return json_response({"generation": await call.control.new_generation(force=force)})
        case {**others} if not others:
            return json_response({"generation": await call.control.new_generation(force=False)})
    raise Refusal(400, "bad_body", 'the body must be {"force": true} or {"force": false}')


async def _adopt(call: Call) -> Response:
    match read_body(call):
        case {"cluster_id": str(cluster_id), **others} if not others:
            await call.control.adopt(cluster_id)
            return json_response({"cluster_id": cluster_id})
    raise Refusal(400, "bad_body", 'the body must be {"cluster_id": NAME}')


async def _leave(call: Call) -> Response:
    match read_body(call):
        case {"force": bool(force), **others} if not others:
            pass
        case {**others} if not others:
            force = False
        case _:
            raise Refusal(400, "bad_body", 'the body must be {"force": true} or {"force": false}')
    await call.control.leave(at_once=force)
    return json_response({"peer": str(call.control.status().me.peer)})


def read_body(call: Call) -> Any:
    """Return the body as JSON. Raises Refusal."""
    try:
        return parse_json(call.body)
    except ValueError as error:
        raise Refusal(400, "bad_body", f"the body is not a JSON value: {error}") from None


def find_peer(machines: Sequence[Machine], text: str) -> PeerId:
    """Find whom an operator means: by peer id, by its short form (the last eight characters), or by name.

    A peer id is taken also when the node was never seen, so that its role can be set before it joins.
    Raises Refusal when nobody, or more than one, is meant.
    """
    try:
        return PeerId.parse(text)
    except ValueError:
        pass
    found = sorted({machine.peer for machine in machines if text in (machine.name, machine.peer.short)})
    if not found:
        known = ", ".join(f"{machine.name} ({machine.peer.short})" for machine in machines[:20])
        raise Refusal(404, "no_node", f"no node is called {text!r}; known: {known or 'none'}", "give its peer id")
    if len(found) > 1:
        which = ", ".join(map(str, found))
        raise Refusal(409, "ambiguous", f"{text!r} names {len(found)} nodes: {which}", "give the peer id of one")
    return found[0]


_NETWORK = "/api/v1/networks/{network}"
_ENTRY = "/api/v1/ledger/{bucket}/{key}"

OPERATIONS = (
    Operation("GET", "/api/v1/status", _status, "The state of this node and its network", StatusShape),
    Operation("GET", "/api/v1/machines", _machines, "The nodes of the network", list[MachineShape]),
    Operation("GET", "/api/v1/plugins", _plugins, "The plugins of this node", list[dict[str, str]]),
    Operation("GET", "/api/v1/ledger", _ledger, "All buckets", dict[str, dict[str, Any]]),
    Operation("GET", "/api/v1/ledger/{bucket}", _bucket, "The entries of a bucket", dict[str, Any]),
    Operation("GET", _ENTRY, _entry, "One entry", EntryShape),
    Operation("PUT", _ENTRY, _put, "Write an entry; answers when it is saved", EntryShape, Any),
    Operation("DELETE", _ENTRY, _delete, "Delete an entry"),
    Operation("GET", "/api/v1/events", _events, "Changes of the ledger", EntryShape, media="text/event-stream"),
    Operation(
        "GET",
        "/api/v1/kubeconfig",
        _kubeconfig,
        "The cluster's kubeconfig",
        is_secret=True,
        media="application/yaml",
    ),
    Operation("PUT", "/api/v1/roles/{node}", _set_role, "Set a node's role", dict[str, str], RoleWish),
    Operation("GET", _NETWORK, _network, "How a network of this node does", dict[str, Any]),
    Operation("POST", _NETWORK, _order, "Let a network do something", dict[str, Any], dict[str, Any]),
    Operation("GET", "/api/v1/doctor", _doctor, "What is right and wrong here, and what mends it", list[FindingShape]),
    Operation(
        "POST",
        "/api/v1/cluster/new-generation",
        _new_generation,
        "Give up the cluster and decide anew",
        dict[str, int],
        GenerationWish,
    ),
    Operation("POST", "/api/v1/leave", _leave, "Let this machine leave for good", dict[str, str], LeaveWish),
    Operation("POST", "/api/v1/cluster/adopt", _adopt, "Let this node join a cluster", dict[str, str], ClusterWish),
)
