"""One network namespace for all agents: they meet on its loopback, each on a port of its own.

So no bridge, no address resolution and no distance are measured, only the software. The loopback has the MTU of an
Ethernet. The benchmark runs inside too: when it ends, however it ends, the kernel ends every process of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

_INSIDE = "KAIROS_BENCH_INSIDE"

_RULES = """
table inet arena
delete table inet arena
table inet arena {{
{counters}
  chain sent {{
    type filter hook output priority 0;
{counts}
  }}
  chain received {{
    type filter hook input priority 0;
{losses}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """The listening ports of one kind of agents; what comes from or goes to them is counted and lost."""

    name: str
    first: int
    last: int

    def of(self, number: int) -> int:
        """Return the port of an agent. Raises ValueError when there is none left."""
        if not self.first <= self.first + number <= self.last:
            raise ValueError(f"{self.name} has no port for agent {number}: {self.first} to {self.last} are its")
        return self.first + number


def enter() -> None:
    """Run this program again in fresh network and process namespaces, unless it is inside already."""
    if os.environ.get(_INSIDE) == "1":
        _run("ip", "link", "set", "lo", "mtu", "1500", "up")
        return
    if os.geteuid() != 0:
        sys.exit("this benchmark makes network namespaces: run it as root: sudo ./run bench NAME")
    need(unshare="util-linux", ip="iproute2", nft="nftables")
    os.environ[_INSIDE] = "1"
    words = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, *sys.argv]
    os.execvp(words[0], words)


def need(**packages: str) -> None:
    """Install the Debian packages whose programs are missing, and say so."""
    missing = sorted({package for program, package in packages.items() if shutil.which(program) is None})
    if not missing:
        return
    print(f"installing {', '.join(missing)}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"cannot install {', '.join(missing)}: {done.stderr.strip()[-300:]}")


class Wire:
    """The loopback between the agents: what it counts and what it loses."""

    def __init__(self, *kinds: Ports) -> None:
        self._kinds = kinds
        self.lose(0)

    def lose(self, percent: int) -> None:
        """Lose this share of all packets to an agent's or from an agent's port; counters begin anew."""
        counters = "".join(f"  counter {kind.name} {{ }}\n" for kind in self._kinds)
        rules = [
            (f"th {side} {kind.first}-{kind.last}", kind.name) for kind in self._kinds for side in ("sport", "dport")
        ]
        counts = "".join(
            f"    meta l4proto {{ tcp, udp }} {match} counter name {name} accept\n" for match, name in rules
        )
        chance = "drop" if percent >= 100 else f"numgen random mod 100 < {percent} drop"
        losses = "".join(f"    meta l4proto {{ tcp, udp }} {match} goto chance\n" for match, _ in rules)
        text = _RULES.format(counters=counters, counts=counts, losses=losses if percent else "")
        if percent:
            # A chain of its own: a packet between two agents matches twice, and must be lost by one chance.
            text = text.replace("  chain sent", f"  chain chance {{ {chance}\n  }}\n  chain sent", 1)
        _run("nft", "-f", "-", stdin=text)

    def sent(self) -> dict[str, int]:
        """Return the bytes that each kind of agents has sent so far, IP headers included."""
        found = json.loads(_run("nft", "-j", "list", "counters", "table", "inet", "arena"))["nftables"]
        return {each["counter"]["name"]: int(each["counter"]["bytes"]) for each in found if "counter" in each}


def _run(*words: str, stdin: str | None = None) -> str:
    return subprocess.run(words, input=stdin, check=True, capture_output=True, text=True).stdout
