"""The race course: two machines of a lab and the cable between them.

Without loss the cable is one veth pair. With loss a bridge in a namespace of its own is between the two, and drops
there, each way: at the sender nftables would act before segmentation and at the receiver after GRO, where one drop
takes a whole buffer of 64 KiB. For the same reason loss implies the profile `wire`. On the bridge there is room for a
third machine too.

default   the cable as the kernel makes it: buffers of 64 KiB cross it whole
wire      TSO, GSO and USO off and GRO on, at both ends: nothing longer than 1500 bytes crosses it
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kairos_core.testing.lab import Lab, LabError, Machine
from kairos_core.testing.lab.link import ipv4_of, ipv6_of, mac_of
from kairos_core.testing.lab.namespaces import must_run

PROFILES = ("default", "wire")
CABLE = "eth0"
_WIRE = ("tso", "off", "gso", "off", "tx-udp-segmentation", "off")
"""For each end of a cable. A veth hands on to GRO only what comes from an end without TSO
(drivers/net/veth.c, veth_skb_is_eligible_for_gro), so the bridge's ends need it too."""

_NO_FIREWALL = 'for switch in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$switch" ] || echo 0 >"$switch"; done'
"""Where the kernel has br_netfilter, each frame would pass iptables, which is no part of a cable."""


_NEIGHBOURS = ("meta protocol arp accept", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept")
"""Never lost: where a machine has a new address, the kernel asks who has its neighbour's, and again after a second
(retrans_time_ms). That second is the kernel's, whatever runs above it."""


@dataclass(frozen=True, slots=True)
class Course:
    """Two machines that reach each other by `CABLE`; the first is the client of each test.

    `congestion` is the congestion control of TCP streams, `window` the buffer of UDP sockets as iperf3 takes it (2M);
    nothing takes the machine's.
    """

    one: Machine
    two: Machine
    congestion: str = ""
    window: str = ""

    @property
    def machines(self) -> tuple[Machine, Machine]:
        return self.one, self.two

    @property
    def hosts(self) -> tuple[str, str]:
        """Their addresses on the cable."""
        return self.one.ipv4, self.two.ipv4


def congestion_here() -> str:
    """Return the congestion control that this machine's TCP takes unless told otherwise (tcp(7))."""
    return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


async def lay(lab: Lab, profile: str, *, lossy: bool, congestion: str = "", window: str = "") -> Course:
    """Add two machines to the lab and lay the cable. Raises LabError."""
    course = Course(await lab.add("left"), await lab.add("right"), congestion, window)
    if not lossy:
        await _join_directly(course)
    if profile == "wire":
        for machine in course.machines:
            await machine.run("ethtool", "-K", CABLE, *_WIRE, "gro", "on")
        if lossy:
            for port in await _ports(course):
                await must_run(_in_hub(course, "ethtool", "-K", port, *_WIRE))
    if lossy:
        await must_run(_in_hub(course, "sh", "-c", _NO_FIREWALL))
    return course


async def lose(course: Course, percent: float) -> None:
    """Lose this share of the frames that enter the bridge from either machine, but for `_NEIGHBOURS`; 0 ends it.

    Handshakes that are answered (WireGuard's type 2) are counted on the way, before the loss; see `answers`.
    Raises LabError on a course that was laid without loss in mind.
    """
    ports = [f'"{port}"' for port in await _ports(course)]
    if len(ports) != len(course.machines):
        raise LabError(f"the course has {len(ports)} ports on its bridge, not two: lay it with lossy=True")
    # Declaring the table first lets the delete succeed when there was none; nft applies a file as one change.
    rules = (
        "table netdev course",
        "delete table netdev course",
        "table netdev course {",
        "counter answers { }",
        "chain cable {",
        f"type filter hook ingress devices = {{ {', '.join(ports)} }} priority 0; policy accept;",
        # Type 2 and three zeros, 92 bytes, behind the 8 of UDP.
        "meta l4proto udp udp length 100 @th,64,32 0x02000000 counter name answers",
        *_NEIGHBOURS,
        f"numgen random mod 100000 < {round(percent * 1000)} drop" if percent else "",
        "}",
        "}",
        "",
    )
    await must_run(_in_hub(course, "nft", "-f", "-"), stdin="\n".join(rules))


async def answers(course: Course) -> int:
    """Return how many handshakes were answered since `lose` was called last."""
    shown = json.loads(await must_run(_in_hub(course, "nft", "-j", "list", "counters", "table", "netdev", "course")))
    return next(int(each["counter"]["packets"]) for each in shown["nftables"] if "counter" in each)


async def roam(machine: Machine, old: int, new: int) -> None:
    """Give a machine other addresses on its cable, as a new lease does; it is without any for some milliseconds."""
    commands = [
        f"address del {ipv4_of(old)}/24 dev {CABLE}",
        f"address del {ipv6_of(old)}/64 dev {CABLE}",
        f"address add {ipv4_of(new)}/24 brd + dev {CABLE}",
        f"address add {ipv6_of(new)}/64 dev {CABLE} nodad",
    ]
    file = machine.path("/run/roam")
    file.write_text("\n".join([*commands, ""]))
    await machine.run("ip", "-batch", "/run/roam")


async def _ports(course: Course) -> list[str]:
    shown = await must_run(_in_hub(course, "ip", "-json", "link", "show", "master", "br0"))
    return [str(link["ifname"]) for link in json.loads(shown)]


def _in_hub(course: Course, *words: str) -> list[str]:
    return [*course.one.link.hub.enter("net"), *words]


async def _join_directly(course: Course) -> None:
    """Replace the cables to the bridge by one between the two machines."""
    ends = []
    for machine in course.machines:
        await machine.run("ip", "link", "delete", CABLE)
        ends.append(f"{CABLE} address {mac_of(machine.link.host)} netns {machine.pid}")
    hub = course.one.link.hub
    await must_run([*hub.enter("net"), "ip", "link", "add", *f"{ends[0]} type veth peer name {ends[1]}".split()])
    for machine in course.machines:
        host = machine.link.host
        # Duplicate address detection would cost a second; addresses are unique by number.
        for words in (
            f"link set {CABLE} addrgenmode none",
            f"address add {ipv4_of(host)}/24 brd + dev {CABLE}",
            f"address add {ipv6_of(host)}/64 dev {CABLE} nodad",
            f"address add fe80::{host:x}/64 dev {CABLE} nodad",
            f"link set {CABLE} up",
        ):
            await machine.run("ip", *words.split())
