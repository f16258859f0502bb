"""IPv6 inside the tunnel, networks behind nodes, and the router, with real devices and the kernel's routes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kairos_core.protocol.identity import Identity

pytestmark = pytest.mark.system

SITE, SITE6 = "192.168.50.0/24", "2001:db8:50::/64"
HOST, HOST6 = "192.168.50.100", "2001:db8:50::100"
SERVE = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 7001), family=family)
peer, source = listener.accept()
data = bytearray()
while part := peer.recv(1 << 16):
    data += part
peer.sendall(f"{len(data)} from {source[0]}".encode())
"""
SEND = """
import socket, sys, time
for _ in range(50):
    try:
        peer = socket.create_connection((sys.argv[1], 7001), timeout=5)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
peer.sendall(bytes(1 << 20))
peer.shutdown(socket.SHUT_WR)
print(peer.recv(100).decode())
"""


class Site:
    """A network behind nodes: a switch, and a host with an address in it."""

    def __init__(self, lab: Any, run: Callable[..., str]) -> None:
        self.lab, self._run = lab, run
        self.namespace = f"{lab.prefix}-host"
        run("ip", "-n", lab.switch, "link", "add", "site", "type", "bridge")
        run("ip", "-n", lab.switch, "link", "set", "site", "up")
        run("ip", "netns", "add", self.namespace)
        self._plug(self.namespace, "host", 100)

    def join(self, machine: Any) -> None:
        """Give a machine a second interface, in the site."""
        self._plug(machine.namespace, f"s{machine.number}", machine.number)

    def leave_through(self, machine: Any) -> None:
        """Make a machine the host's gateway."""
        for family, gateway in (("-4", f"192.168.50.{machine.number}"), ("-6", f"2001:db8:50::{machine.number}")):
            self.run("ip", family, "route", "replace", "default", "via", gateway)

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command on the host."""
        return self._run("ip", "netns", "exec", self.namespace, *command, check=check)

    def close(self) -> None:
        self._run("ip", "netns", "delete", self.namespace, check=False)

    def _plug(self, namespace: str, port: str, number: int) -> None:
        run = self._run
        run("ip", "-n", self.lab.switch, "link", "add", port, "type", "veth",
            "peer", "name", "site0", "netns", namespace)  # fmt: skip
        run("ip", "-n", self.lab.switch, "link", "set", port, "master", "site", "up")
        run("ip", "-n", namespace, "addr", "add", f"192.168.50.{number}/24", "dev", "site0")
        run("ip", "-n", namespace, "addr", "add", f"2001:db8:50::{number}/64", "dev", "site0", "nodad")
        run("ip", "-n", namespace, "link", "set", "site0", "up")


@pytest.fixture
def site(lab: Any, run: Any) -> Iterator[Site]:
    site = Site(lab, run)
    try:
        yield site
    finally:
        site.close()


def pings(machine: Any, address: str, *options: str) -> bool:
    return " 0% packet loss" in machine.run("ping", "-n", "-W1", "-c1", *options, address, check=False)


def ipv6_of(machine: Any) -> str:
    lines = machine.run("ip", "-6", "-o", "addr", "show", "dev", "kairos0").splitlines()
    (address,) = (line.split()[3].partition("/")[0] for line in lines)
    return str(address)


def routes_of(machine: Any) -> list[str]:
    shown = [machine.run("ip", family, "route", "show", "proto", "75") for family in ("-4", "-6")]
    return [line.split()[0] for text in shown for line in text.splitlines()]


# -- IPv6


def test_ipv6_between_nodes_carries_pings_of_all_sizes_and_tcp(three: Any, start: Any) -> None:
    alice, bob, carol = three
    addresses = [ipv6_of(machine) for machine in three]
    assert len({address.rpartition(":a01:")[0] for address in addresses}) == 1
    for machine in three:
        for address in addresses:
            assert pings(machine, address)
            assert pings(machine, address, "-s1372", "-Mdo")  # 1372 + 48 = 1420, the whole MTU
    server = start(bob, SERVE, addresses[1])
    assert alice.python(SEND, addresses[1]) == f"{1 << 20} from {addresses[0]}\n"
    assert server.wait(10) == 0
    assert not [name for name in carol.status["drops"] if "mismatch" in name or "not_ours" in name]


def test_a_forged_ipv6_source_is_dropped_and_counted(three: Any, wait: Any) -> None:
    eve, bob, _ = three
    prefix = ipv6_of(bob).rpartition(":a01:")[0]
    eve.run("ip", "addr", "add", f"{prefix}:a01:4d/128", "dev", "lo")
    pings(eve, ipv6_of(bob), "-c3", "-i0.2", "-I", f"{prefix}:a01:4d")
    wait(lambda: bob.drops("vpn_source_mismatch") == 3, 5, f"three packets dropped ({bob.status})")


@pytest.mark.parametrize("how", ["by the operator", "by the kernel"])
def test_a_node_without_ipv6_is_reached_by_ipv4_and_says_so(lab: Any, how: str) -> None:
    alice, bob = lab.add(), lab.add()
    if how == "by the kernel":
        alice.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    alice.start(**({"ipv6": False} if how == "by the operator" else {}))
    bob.start()
    bob.reaches(alice)
    assert "inet6" not in alice.run("ip", "addr", "show", "dev", "kairos0")
    assert alice.entry["ipv6"] is False
    assert not pings(bob, ipv6_of(bob).replace(":a01:2", ":a01:1"))
    assert ("goes without IPv6" in alice.log.read_text()) == (how == "by the kernel")


# -- networks behind nodes


def test_a_host_behind_a_node_is_reached_and_reaches_back(lab: Any, site: Any, wait: Any, start: Any) -> None:
    alice, bob = lab.add(), lab.add()
    site.join(bob)
    site.leave_through(bob)
    bob.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    bob.start(routes=[SITE], forward=True)
    alice.start(accept_routes=["192.168.0.0/16"])
    wait(lambda: pings(alice, HOST), 5, "the host answers")
    assert routes_of(alice) == [SITE]
    server = start(site, SERVE, HOST)
    assert alice.python(SEND, HOST) == f"{1 << 20} from {alice.address}\n"
    assert server.wait(10) == 0
    assert pings(site, alice.address)
    server = start(alice, SERVE, alice.address)
    assert site.run(sys.executable, "-c", SEND, alice.address) == f"{1 << 20} from {HOST}\n"  # its MTU is 1500
    assert server.wait(10) == 0
    alice.stop()
    assert routes_of(alice) == []


def test_nothing_is_accepted_unless_the_policy_says_so(lab: Any, site: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    site.join(bob)
    site.leave_through(bob)
    bob.start(routes=[SITE], forward=True)
    alice.start()
    alice.reaches(bob)
    assert routes_of(alice) == []
    assert not pings(alice, HOST)
    wait(lambda: "accept_routes does not allow it" in alice.log.read_text(), 5, "it says why")
    assert not pings(site, alice.address, "-c2", "-i0.2")
    wait(lambda: alice.drops("vpn_source_mismatch") == 2, 5, f"what comes from there is dropped ({alice.status})")


def test_a_node_that_is_in_the_network_itself_does_not_route_it_into_the_tunnel(lab: Any, site: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    site.join(alice)
    site.join(bob)
    bob.start(routes=[SITE], forward=True)
    alice.start(accept_routes="all")
    alice.reaches(bob)
    wait(lambda: "a network of this machine (site0)" in alice.log.read_text(), 5, "it says why")
    assert routes_of(alice) == []


def test_a_node_that_cannot_forward_says_so(lab: Any) -> None:
    bob = lab.add()
    bob.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    bob.start(routes=[SITE])
    assert "Set p2p.vpn.forward: true" in bob.log.read_text()
    assert bob.run("sysctl", "-n", "net.ipv4.ip_forward") == "0\n"


def test_another_node_takes_over_when_the_first_dies_and_answers_come_by_either(lab: Any, site: Any, wait: Any) -> None:
    alice, *routers = machines = [lab.add() for _ in range(3)]
    first, second = sorted(routers, key=lambda machine: Identity(bytes([machine.number]) * 32).peer_id)
    for machine in routers:
        site.join(machine)
        machine.start(routes=[SITE], forward=True)
    site.leave_through(second)  # so answers never come from the one that the question went to
    alice.start(accept_routes="all")
    wait(lambda: pings(alice, HOST), 5, "the host answers")
    wait(lambda: f"through peer {Identity(bytes([first.number]) * 32).peer_id}" in alice.log.read_text(), 5, "lowest")
    first.cut_power()
    (lab.directory / f"{first.number}.dead").touch()
    wait(lambda: pings(alice, HOST), 5, "the host answers again")
    assert routes_of(alice) == [SITE]
    second.stop()  # leaves in order: it says that it routes nothing any more. The dead one did not
    wait(
        lambda: f"through peer {Identity(bytes([first.number]) * 32).peer_id}" in alice.log.read_text()[-300:],
        5,
        "back",
    )
    assert routes_of(alice) == [SITE]  # rather lost than sent to whoever has this network in the LAN
    assert len(machines) == 3


def test_routes_outlive_the_data_plane_and_come_back_with_a_new_device(lab: Any, site: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    site.join(bob)
    site.leave_through(bob)
    bob.start(routes=[SITE], forward=True)
    alice.start(accept_routes="all")
    wait(lambda: pings(alice, HOST), 5, "the host answers")
    pid = alice.status["pid"]
    os.kill(pid, signal.SIGKILL)
    assert routes_of(alice) == [SITE]
    wait(lambda: alice.status["pid"] not in (pid, None), 5, "a new process")
    wait(lambda: pings(alice, HOST), 5, "the host answers again")
    alice.run("ip", "link", "del", "kairos0")
    wait(lambda: routes_of(alice) == [SITE], 5, "the route is back")
    wait(lambda: pings(alice, HOST), 5, "and the host answers")
    alice.run("ip", "route", "del", SITE)
    wait(lambda: routes_of(alice) == [SITE], 5, "and again")


def test_routes_outlive_the_agent_and_packets_to_them_go_on(lab: Any, site: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    site.join(bob)
    site.leave_through(bob)
    bob.start(routes=[SITE], forward=True)
    alice.start(accept_routes="all")
    wait(lambda: pings(alice, HOST), 5, "the way to the host")
    ping = ["ip", "netns", "exec", alice.namespace, "ping", "-n", "-q", "-i0.05", "-W1", "-c80", HOST]
    under_way = subprocess.Popen(ping, stdout=subprocess.PIPE, text=True)
    for machine, settings in ((alice, {"accept_routes": "all"}), (bob, {"routes": [SITE], "forward": True})):
        pid = machine.status["pid"]
        machine.kill()
        assert routes_of(alice) == [SITE]
        machine.start(**settings)
        assert machine.status["pid"] == pid
    said = under_way.communicate(timeout=30)[0]
    assert 80 - int(said.split(" packets transmitted, ")[1].split()[0]) <= 1, said
    assert routes_of(alice) == [SITE]
    assert "another route there" not in alice.log.read_text()


def test_a_route_of_somebody_else_is_left_alone(lab: Any, site: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    site.join(bob)
    alice.run("ip", "route", "add", SITE, "via", bob.underlay)
    bob.start(routes=[SITE], forward=True)
    alice.start(accept_routes="all")
    wait(lambda: "another route there" in alice.log.read_text(), 5, "it says why")
    assert routes_of(alice) == []
    alice.stop()
    assert bob.underlay in alice.run("ip", "route", "show", SITE)


def test_a_host_behind_a_node_is_reached_by_ipv6_too(lab: Any, site: Any, wait: Any, start: Any) -> None:
    alice, bob = lab.add(), lab.add()
    site.join(bob)
    site.leave_through(bob)
    bob.start(routes=[SITE6], forward=True)
    alice.start(accept_routes=["2001:db8::/32"])
    wait(lambda: pings(alice, HOST6), 5, "the host answers")
    assert routes_of(alice) == [SITE6]
    for server, client, address in ((site, alice, HOST6), (alice, site, ipv6_of(alice))):
        serving = start(server, SERVE, address)
        source = ipv6_of(alice) if client is alice else HOST6
        assert client.run(sys.executable, "-c", SEND, address) == f"{1 << 20} from {source}\n"
        assert serving.wait(10) == 0
    bob.stop()
    wait(lambda: routes_of(alice) == [], 5, "who leaves takes its routes along")


# -- the router


def test_packets_without_another_way_go_to_the_router(lab: Any, site: Any, wait: Any) -> None:
    alice, bob, carol = (lab.add() for _ in range(3))
    site.join(bob)
    site.leave_through(bob)
    bob.start(routes=["0.0.0.0/0"], forward=True)
    carol.start(accept_routes="all")
    alice.start(env={"ADDRESS": alice.address, "ROUTER": bob.address})
    alice.reaches(bob)
    alice.run("ip", "route", "add", "192.168.0.0/16", "dev", "kairos0")
    carol.run("ip", "route", "add", "192.168.0.0/16", "dev", "kairos0")
    wait(lambda: pings(alice, HOST), 5, "the host answers")
    assert alice.pings(carol)
    assert not pings(carol, HOST)  # she named no router, and a default route is taken from nobody
    assert carol.drops("vpn_no_route") >= 1


def test_a_node_that_does_not_offer_to_is_nobodys_router(lab: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    bob.start()
    alice.start(env={"ADDRESS": alice.address, "ROUTER": bob.address})
    alice.reaches(bob)
    wait(lambda: "does not offer 0.0.0.0/0" in alice.log.read_text(), 5, "it says why")
    alice.run("ip", "route", "add", "192.168.0.0/16", "dev", "kairos0")
    assert not pings(alice, HOST)


def test_a_tunnel_routed_into_itself_does_not_feed_itself(lab: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    bob.start(routes=["0.0.0.0/0"], forward=True)
    alice.start(env={"ADDRESS": alice.address, "ROUTER": bob.address})
    alice.reaches(bob)
    alice.run("ip", "route", "add", f"{bob.underlay}/32", "dev", "kairos0")  # a slip of the operator
    before = alice.drops("vpn_no_route")
    assert not alice.pings(bob)
    wait(lambda: alice.drops("vpn_no_route") > before, 5, "counted")
    assert alice.drops("vpn_no_route") - before < 50
    alice.run("ip", "route", "del", f"{bob.underlay}/32")
    alice.reaches(bob)
