"""Which address a node gets in the tunnel, and what it says when it cannot have the one it wants."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import network
from kairos_net_vpn.lan import Connected, Lan
from kairos_net_vpn.network import Vpn
from kairos_net_vpn.settings import VpnSettings
from kairos_net_vpn.ula import ula_address, ula_subnet

from kairos_core import NetworkError
from kairos_core.testing.networks import FakeNetworkHost, SharedLedger

POOL = IPv4Network("10.1.0.0/24")
TAKEN = IPv4Address("10.1.0.5")


def test_a_network_has_a_prefix_of_its_own_and_each_lease_an_address_in_it() -> None:
    subnet = ula_subnet(bytes.fromhex("123456789aff"))
    assert subnet == IPv6Network("fd12:3456:789a::/64")
    assert ula_address(subnet, TAKEN) == IPv6Address("fd12:3456:789a::a01:5")


@given(st.binary(min_size=32, max_size=32), st.sets(st.ip_addresses(v=4), max_size=20))
def test_different_leases_have_different_addresses_all_of_them_local(secret: bytes, leases: set[IPv4Address]) -> None:
    subnet = ula_subnet(secret)
    addresses = {ula_address(subnet, lease) for lease in leases}
    assert len(addresses) == len(leases)
    assert all(address in subnet and address in IPv6Network("fd00::/8") for address in addresses)


class StrictHost(FakeNetworkHost):
    """A host that, as the real one, refuses a wanted address which another holds."""

    async def lease(self, pool: IPv4Network, wanted: IPv4Address | None = None) -> IPv4Address:
        holder = self.leases(pool).get(wanted) if wanted is not None else None
        if holder not in (None, self.identity.peer_id):
            raise NetworkError(f"the address {wanted} is held by the node {holder}")
        return await super().lease(pool, wanted)


@pytest.fixture(params=[FakeNetworkHost, StrictHost])
def host(request: Any, tmp_path: Any) -> FakeNetworkHost:
    """A host beside another node that holds 10.1.0.5."""
    ledger = SharedLedger()
    ledger.lease(POOL, TAKEN, ledger.host(2).identity.peer_id)
    made: FakeNetworkHost = request.param(ledger, ledger.host(1).identity, tmp_path)
    return made


async def test_with_dhcp_a_taken_address_is_replaced_by_a_free_one(host: FakeNetworkHost) -> None:
    address = await Vpn(VpnSettings(env={"ADDRESS": str(TAKEN)}))._lease(host)
    assert address != TAKEN
    assert host.leases(POOL)[address] == host.identity.peer_id


async def test_without_dhcp_a_taken_address_is_an_error_that_names_the_holder(host: FakeNetworkHost) -> None:
    with pytest.raises(NetworkError) as error:
        await Vpn(VpnSettings(env={"ADDRESS": str(TAKEN), "DHCP": "false"}))._lease(host)
    assert str(host.leases(POOL)[TAKEN]) in str(error.value)
    assert "10.1.0.5" in str(error.value)


@pytest.mark.parametrize("prefix", ["10.1.0.0/16", "10.1.0.128/25", "10.1.0.0/24", "0.0.0.0/1"])
async def test_a_pool_that_overlaps_a_network_of_this_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, host: FakeNetworkHost, prefix: str
) -> None:
    lan = Lan(("10.1.0.9",), 1500, (Connected("eth7", IPv4Network(prefix)),))
    monkeypatch.setattr(network, "read_lan", lambda tunnel: lan)
    with pytest.raises(NetworkError) as error:
        async with Vpn().attach(host):
            pass
    for part in (prefix, "eth7", "10.1.0.0/24", "Set another p2p.vpn.subnet"):
        assert part in str(error.value)
    assert host.identity.peer_id not in host.leases(POOL).values()  # nothing was taken for it
