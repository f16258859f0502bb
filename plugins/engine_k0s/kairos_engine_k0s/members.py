"""The members of k0s' etcd: who they are, which of them is a node's, and how one is taken out.

Source: cmd/etcd of k0sproject/k0s (list.go, leave.go, etcd.go); docs.k0sproject.io, remove_controller.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from kairos_core import ClusterNode, EngineError, run_program

CONTROL_NODE = "controlnode.autopilot.k0sproject.io"
"""What k0s' autopilot keeps of each controller; it waits for those that are gone until they are deleted."""

NO_MEMBERS = ("wrong storage type", "does not support external etcd cluster")
"""How k0s says that its storage is no etcd of its own. Source: cmd/etcd/etcd.go."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of etcd: its name, its machine's unless k0s.yaml gives another, and where the others reach it."""

    name: str
    address: str


async def members(program: str, data_directory: str) -> tuple[Member, ...]:
    """Return the members; none where the cluster keeps its state elsewhere. Raises EngineError."""
    try:
        _, output = await run_program(program, "etcd", "member-list", f"--data-dir={data_directory}", timeout=30.0)
    except EngineError as error:
        if any(words in str(error) for words in NO_MEMBERS):
            return ()
        raise
    try:
        found = json.loads(output)["members"].items()
        return tuple(Member(name, urlsplit(url).hostname or "") for name, url in found)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EngineError("cannot list the members of etcd: what 'k0s etcd member-list' says is none.") from None


async def remove_member(program: str, data_directory: str, address: str) -> None:
    """Take the member at an address out of etcd. Raises EngineError, without a quorum for example."""
    arguments = ("etcd", "leave", f"--peer-address={address}", f"--data-dir={data_directory}")
    await run_program(program, *arguments, timeout=60.0)


def member_of(members: Iterable[Member], name: str, node: ClusterNode | None) -> Member | None:
    """Return the member that runs on a node, if any. Pure.

    By its address; else by its name, but never that of a worker, which may be called as a controller's machine is.
    (A controller that began as a worker has no label that says what it is now.)
    """
    by_address = [member for member in members if node is not None and member.address in node.addresses]
    by_name = [member for member in members if member.name.lower() == name.lower()]
    may_be_named = node is None or node.is_control_plane
    return next(iter(by_address or (by_name if may_be_named else ())), None)
