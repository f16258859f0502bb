import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

import pytest

from kairos_core.errors import NetworkError
from kairos_core.interfaces import Network, NetworkHost
from kairos_core.model import Attachment
from kairos_core.protocol.buckets import LEASES
from kairos_core.protocol.otp import Keyring
from kairos_core.runtime import hosts as hosts_module
from kairos_core.runtime import networks as networks_module
from kairos_core.runtime.networks import NetworkRunner
from kairos_core.testing.transports import token_for_test

POOL = IPv4Network("10.1.0.0/24")
LAN = Attachment("eth0", "192.0.2.7")


class PlayedNetwork(Network):
    """A network without devices: it takes a lease if it has a pool, and fails as often as it is told."""

    def __init__(self, name: str, log: list[str], *failures: Exception, attachment: Attachment | None = None) -> None:
        self.name, self.log, self.failures, self.attachment = name, log, list(failures), attachment

    @asynccontextmanager
    async def attach(self, host: NetworkHost) -> AsyncIterator[Attachment]:
        if self.failures:
            self.log.append(f"{self.name} fails")
            raise self.failures.pop(0)
        attachment = self.attachment or Attachment("vpn0", str(await host.lease(POOL)))
        self.log.append(f"{self.name} up")
        yield attachment
        self.log.append(f"{self.name} down")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(hosts_module, "INTRODUCTION", 0.01)
    monkeypatch.setattr(hosts_module, "LEASE_PAUSE", 0.001)
    monkeypatch.setattr(networks_module, "ATTACH_AGAIN", 0.01)
    monkeypatch.setattr(networks_module, "lan_attachment", lambda towards: LAN)


@pytest.fixture
async def run(world, tmp_path):
    """Give a function that runs networks on a node, and returns them and what they are to the node."""
    tasks = []

    async def start(*networks: tuple[Network, bool]):
        peer = await world.peer("one")
        runner = NetworkRunner(peer.pump, Keyring(token_for_test()), networks, tmp_path)
        runner.attachments.changed = peer.pump.wake
        tasks.append(asyncio.create_task(runner.run()))
        return peer, runner.attachments

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_networks_are_entered_in_order_and_the_first_gives_the_address(run):
    log: list[str] = []
    eip = PlayedNetwork("eip", log, attachment=Attachment("eth0", "192.0.2.7", endpoint="192.0.2.99"))
    peer, attachments = await run((PlayedNetwork("vpn", log), True), (eip, True))
    await peer.until(lambda: attachments.used)
    assert log == ["vpn up", "eip up"]
    assert (attachments.used.interface, attachments.used.endpoint) == ("vpn0", "192.0.2.99")
    assert attachments.address == attachments.used.node_ip
    assert attachments.address.startswith("10.1.0.")


async def test_a_network_that_kubernetes_does_not_use_gives_people_an_address_and_kubernetes_the_lan(run):
    peer, attachments = await run((PlayedNetwork("vpn", []), False))
    await peer.until(lambda: attachments.used)
    assert attachments.used == LAN
    assert attachments.address.startswith("10.1.0.")


async def test_without_any_network_the_lan_is_used(run):
    peer, attachments = await run()
    await peer.until(lambda: attachments.used)
    assert (attachments.used, attachments.address) == (LAN, LAN.node_ip)


@pytest.mark.parametrize("failure", [NetworkError("no tunnel here"), RuntimeError("a mistake of the plugin")])
async def test_a_network_that_fails_is_told_and_tried_again_and_those_before_it_are_taken_down(run, failure):
    log: list[str] = []
    networks = PlayedNetwork("vpn", log, attachment=Attachment("vpn0", "10.1.0.1")), PlayedNetwork("eip", log, failure)
    told: list[str | None] = []
    peer, attachments = await run(*((network, True) for network in networks))
    attachments.changed = lambda: (told.append(attachments.error), peer.pump.wake())
    await peer.until(lambda: attachments.used)
    assert log[:2] == ["vpn up", "eip fails"]
    assert log[-2:] == ["vpn up", "eip up"]
    assert str(failure) in (told[0] or "")
    assert attachments.error is None


async def test_a_lost_address_is_left_and_another_taken(run, world):
    log: list[str] = []
    peer, attachments = await run((PlayedNetwork("vpn", log), True))
    await peer.until(lambda: attachments.used)
    before = attachments.address
    other = await world.peer("other")
    other.pump.publish(LEASES, f"{before}/{other.id}", {"renewals": 9})
    await world.meet(peer, other)
    await peer.until(lambda: attachments.address not in (None, before))
    assert log == ["vpn up", "vpn down", "vpn up"]


async def test_without_a_lan_address_it_waits_and_says_what_is_missing(run, monkeypatch):
    monkeypatch.setattr(networks_module, "lan_attachment", lambda towards: Attachment())
    peer, attachments = await run()
    await peer.until(lambda: attachments.error)
    assert "plug in a cable" in attachments.error
    assert attachments.used is None
