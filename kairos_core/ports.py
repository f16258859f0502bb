"""Who holds the ports that something here needs, told from /proc alone: a machine need not have `ss`.

A socket belongs to whoever has it open, so only root learns the holder of another user's. Source: proc(5), and
get_tcp4_sock in linux/net/ipv4/tcp_ipv4.c for the tables.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kairos_core.model import Finding, Verdict

_TABLES = ("tcp", "tcp6", "udp", "udp6")
_LISTENS = "0A"  # TCP_LISTEN, linux/include/net/tcp_states.h
_WORDS = 4
"""Words of a command line in which a program is looked for: an interpreter, its flags and the script go before."""
_ANCESTORS = 16
"""Parents of a process that are looked at, so that a table of processes that changes meanwhile ends."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that is needed on this machine: `protocol` is tcp or udp, `purpose` ends "is needed for …"."""

    protocol: str
    number: int
    purpose: str
    remedy: str = ""  # how to take another one, beside stopping whoever has it

    def __str__(self) -> str:
        return f"{self.protocol.upper()} {self.number}"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a port; `programs` are the names of it, and of those that started it.

    A module that Python runs (`-m one.two`) is known by its whole name and by its last part.
    """

    pid: int
    name: str
    programs: frozenset[str]


def examine_ports(
    check: str, ports: Sequence[Port], ours: Collection[str], root: Path = Path("/"), *, must: bool = True
) -> Finding:
    """Say which ports another process holds than one of `ours`, by the names of programs, and which process.

    What such a program has started counts as ours too. Without `must` a port that is taken is only worth a note.
    """
    taken = [
        (port, holders) for port, holders in _taken(ports, root) if not any(_is_of(ours, each) for each in holders)
    ]
    if not taken:
        listed = ", ".join(map(str, dict.fromkeys(ports)))
        return Finding(check, Verdict.OK, f"{listed}: free, or held by our own" if listed else "none is fixed")
    message = "; ".join(f"{port}, needed for {port.purpose}, is held by {_named(who)}" for port, who in taken)
    remedies = dict.fromkeys(_stop(who) for _, who in taken)
    others = dict.fromkeys(port.remedy for port, _ in taken if port.remedy)
    # Who is no root sees the processes of others, and not what they hold: it may well be ours.
    is_sure = must and (os.geteuid() == 0 or all(who for _, who in taken))
    verdict = Verdict.WRONG if is_sure else Verdict.NOTE
    return Finding(check, verdict, message, ", or ".join(filter(None, (*remedies, *others))))


def _taken(ports: Sequence[Port], root: Path) -> Iterator[tuple[Port, tuple[Holder, ...]]]:
    """Yield each port that has a socket, with who holds it; twice where two sockets of it have different holders."""
    wanted = {(port.protocol, port.number): port for port in ports}
    sockets = {inode: key for key, inode in _sockets(root) if key in wanted}
    holders = _holders(root, sockets) if sockets else {}
    found = dict.fromkeys((wanted[key], holders.get(inode, ())) for inode, key in sockets.items())
    yield from sorted(found, key=lambda each: (each[0].number, each[0].protocol))


def _sockets(root: Path) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield protocol and port of each socket that can be sent to, and its inode."""
    for table in _TABLES:
        for row in [line.split() for line in _text(root / "proc/net" / table).splitlines()[1:]]:
            if len(row) > 9 and (table.startswith("udp") or row[3] == _LISTENS):
                yield (table[:3], int(row[1].rpartition(":")[2], 16)), row[9]


def _holders(root: Path, inodes: Collection[str]) -> Mapping[str, tuple[Holder, ...]]:
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, tuple[Holder, ...]] = {}
    for process in (root / "proc").iterdir():
        if process.name.isdecimal():
            for inode in {wanted[link] for link in _links(process / "fd") if link in wanted}:
                found[inode] = (*found.get(inode, ()), _holder(root, int(process.name)))
    return found


def _links(directory: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for entry in os.scandir(directory):
            with contextlib.suppress(OSError):
                yield os.readlink(entry.path)


def _holder(root: Path, pid: int) -> Holder:
    programs: set[str] = set()
    name, each = "", pid
    for _ in range(_ANCESTORS):
        head, _, tail = _text(root / f"proc/{each}/stat").rpartition(")")
        name = name or head.partition("(")[2]
        # Some programs write all of their arguments into the first, so that none shows.
        words = _text(root / f"proc/{each}/cmdline").replace("\0", " ").split()
        programs.update(Path(word).name for word in words[:_WORDS])
        programs.update(after.rpartition(".")[2] for word, after in pairwise(words[:_WORDS]) if word == "-m")
        parent = tail.split()[1:2]
        if not parent or int(parent[0]) <= 1:  # in a container the agent may be the first, and all others its children
            break
        each = int(parent[0])
    return Holder(pid, name or "?", frozenset(programs))


def _is_of(ours: Collection[str], holder: Holder) -> bool:
    return not holder.programs.isdisjoint(ours)


def _named(holders: Sequence[Holder]) -> str:
    """Name the holders, without their arguments, which may hold a secret."""
    if not holders:
        return "the kernel, or a process that cannot be seen from here"
    return " and ".join(f"{each.name} (process {each.pid})" for each in holders)


def _stop(holders: Sequence[Holder]) -> str:
    if not holders:
        return "look as root, and outside of containers"
    return f"stop {' and '.join(dict.fromkeys(each.name for each in holders))}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
