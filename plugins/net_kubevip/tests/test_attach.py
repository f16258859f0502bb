"""The elastic IP on real interfaces, with real ARP between two namespaces."""

import asyncio
import ctypes
import logging
import os
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
from kairos_net_kubevip import KubeVip, KubeVipSettings

from kairos_core import Attachment, NetworkError

_CLONE_NEWNET = 0x40000000
EIP = "10.66.0.110"


async def attach(host: Any, **settings: Any) -> Attachment:
    async with KubeVip(KubeVipSettings(**settings)).attach(host) as attachment:
        return attachment


async def test_without_an_elastic_ip_the_attachment_is_empty(host) -> None:
    assert await attach(host) == Attachment()
    assert await attach(host, eip=EIP, enable=False) == Attachment()
    assert host.published("kubevip") == {}


async def test_turning_it_off_withdraws_what_was_published(host) -> None:
    host.publish("kubevip", {"eip": EIP})
    await attach(host)
    assert host.published("kubevip") == {}


async def test_enabled_without_an_address_is_said(host, caplog) -> None:
    caplog.set_level(logging.WARNING)
    assert await attach(host, enable=True) == Attachment()
    assert "kubevip.eip is empty" in caplog.text


class Machine:
    """A network namespace that stands for a machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments)

    def do(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine in a thread of its own that is in this namespace."""
        result: Future[Any] = Future()

        def enter() -> None:
            try:
                handle = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
                assert ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) == 0, ctypes.get_errno()
                os.close(handle)
                result.set_result(asyncio.run(main()))
            except BaseException as error:
                result.set_exception(error)

        Thread(target=enter, name=self.name).start()
        return result.result(30)


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


@pytest.fixture
def lan() -> Iterator[tuple[Machine, Machine]]:
    """Two machines on one wire: 10.66.0.1 and 10.66.0.2, both `eth0`."""
    names = [f"kvip{os.getpid()}{letter}" for letter in "ab"]
    try:
        first, second = (Machine(name) for name in names)
        first.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", second.name)
        for number, machine in enumerate((first, second), 1):
            machine.ip("link", "set", "lo", "up")
            machine.ip("addr", "add", f"10.66.0.{number}/24", "dev", "eth0")
            machine.ip("link", "set", "eth0", "up")
        yield first, second
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.system
class TestOnALan:
    def test_a_free_address_gives_the_endpoint_and_pins_the_address_of_the_node(self, lan, host) -> None:
        attachment = lan[0].do(lambda: attach(host, eip=EIP))
        assert (attachment.interface, attachment.node_ip, attachment.endpoint) == ("eth0", "10.66.0.1", EIP)
        assert [manifest.name for manifest in attachment.manifests] == [
            "kubevipmanifest.yaml",
            "kubevip.yaml",
        ]
        assert "value: eth0" in attachment.manifests[1].content
        assert host.published("kubevip") == {host.identity.peer_id: {"eip": EIP}}

    def test_an_address_in_use_is_refused_with_the_mac_of_its_user(self, lan, host) -> None:
        lan[1].ip("addr", "add", f"{EIP}/32", "dev", "eth0")
        mac = lan[1].ip("-br", "link", "show", "eth0").split()[2]
        with pytest.raises(NetworkError, match=rf"{EIP} is in use: .*{mac} answers on 'eth0'.*[Cc]hoose a free"):
            lan[0].do(lambda: attach(host, eip=EIP))
        assert host.published("kubevip") == {}

    def test_the_elastic_ip_of_our_own_cluster_is_no_conflict(self, lan, host, other) -> None:
        lan[0].do(lambda: attach(host, eip=EIP))
        lan[1].ip("addr", "add", f"{EIP}/32", "dev", "eth0")  # kube-vip holds it, on the other master
        assert lan[0].do(lambda: attach(host, eip=EIP)).endpoint == EIP  # after a restart
        assert lan[0].do(lambda: attach(other, eip=EIP)).endpoint == EIP  # a further master

    def test_a_change_to_an_address_in_use_is_refused_on_a_running_cluster(self, lan, host) -> None:
        lan[0].do(lambda: attach(host, eip=EIP))
        with pytest.raises(NetworkError, match=r"10\.66\.0\.2 is in use"):
            lan[0].do(lambda: attach(host, eip="10.66.0.2"))

    def test_nodes_that_start_at_once_do_not_take_each_others_question_for_a_conflict(self, lan, host, other) -> None:
        other.ledger = {}  # the two have not met yet
        results: list[Any] = []
        threads = [
            Thread(target=lambda m=machine, h=who: results.append(m.do(lambda: attach(h, eip=EIP))))
            for machine, who in zip(lan, (host, other), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [result.endpoint for result in results] == [EIP, EIP]

    def test_the_question_takes_about_a_second(self, lan, host) -> None:
        started = time.monotonic()
        lan[0].do(lambda: attach(host, eip=EIP))
        assert time.monotonic() - started < 2

    def test_our_own_address_is_refused(self, lan, host) -> None:
        with pytest.raises(NetworkError, match=r"10\.66\.0\.1 is the address of this machine's own 'eth0'"):
            lan[0].do(lambda: attach(host, eip="10.66.0.1"))

    def test_the_elastic_ip_that_this_master_holds_is_not_taken_for_the_nodes_address(self, lan, host) -> None:
        host.publish("kubevip", {"eip": EIP})
        lan[0].ip("addr", "add", f"{EIP}/32", "dev", "eth0")
        assert lan[0].do(lambda: attach(host, eip=EIP)).node_ip == "10.66.0.1"

    def test_the_interface_of_the_subnet_is_taken_before_that_of_the_default_route(self, lan, host) -> None:
        for name, address in (("docker0", "10.66.0.50/24"), ("eth1", "172.20.0.1/24")):
            lan[0].ip("link", "add", name, "type", "bridge")
            lan[0].ip("addr", "add", address, "dev", name)
            lan[0].ip("link", "set", name, "up")
        lan[0].ip("route", "add", "default", "via", "172.20.0.254", "dev", "eth1")
        assert lan[0].do(lambda: attach(host, eip=EIP)).interface == "eth0"
        elsewhere = lan[0].do(lambda: attach(host, eip="192.168.77.7"))
        assert (elsewhere.interface, elsewhere.node_ip) == ("eth1", "172.20.0.1")

    def test_without_any_hint_the_interface_is_left_to_kube_vip(self, lan, host) -> None:
        attachment = lan[0].do(lambda: attach(host, eip="192.168.77.7"))
        assert (attachment.interface, attachment.node_ip) == (None, None)
        assert "vip_interface" not in attachment.manifests[1].content

    def test_a_configured_interface_must_exist_and_have_an_address(self, lan, host) -> None:
        with pytest.raises(NetworkError, match=r"kubevip\.interface is 'ens18', but this machine has only eth0, lo"):
            lan[0].do(lambda: attach(host, eip=EIP, interface="ens18"))
        lan[0].ip("link", "add", "eth1", "type", "bridge")
        with pytest.raises(NetworkError, match=r"'eth1' of kubevip\.interface has no IPv4 address"):
            lan[0].do(lambda: attach(host, eip=EIP, interface="eth1"))

    def test_an_interface_that_is_down_is_an_error_with_advice(self, lan, host) -> None:
        lan[0].ip("link", "set", "eth0", "down")
        with pytest.raises(NetworkError, match="Is the interface up"):
            lan[0].do(lambda: attach(host, eip=EIP, interface="eth0"))

    def test_an_ipv6_address_is_pinned_to_the_global_address_of_the_node(self, lan, host) -> None:
        lan[0].ip("addr", "add", "fd66::1/64", "dev", "eth0", "nodad")
        attachment = lan[0].do(lambda: attach(host, eip="fd66::110"))
        assert (attachment.interface, attachment.node_ip) == ("eth0", "fd66::1")
        assert "value: '128'" in attachment.manifests[1].content

    def test_nodes_with_different_addresses_are_warned(self, lan, host, other, caplog) -> None:
        caplog.set_level(logging.WARNING)
        lan[0].do(lambda: attach(other, eip="10.66.0.111"))
        lan[0].do(lambda: attach(host, eip=EIP))
        assert f"node {other.identity.peer_id.short} has kubevip.eip '10.66.0.111'" in caplog.text
