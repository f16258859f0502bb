"""Which address of this machine Kubernetes is given where there is no VPN."""

from __future__ import annotations

import pytest

from kairos_core.model import Address, Attachment
from kairos_core.runtime import lan
from kairos_core.runtime.lan import LanAddress, lan_attachment

ADDRESSES = [
    LanAddress("eth0", "192.168.1.7"),
    LanAddress("eth1", "10.0.0.7"),
    LanAddress("eth0", "fd00::7"),
    LanAddress("eth1", "fd01::7"),
]
ROUTES = {"192.168.1.8": "192.168.1.7", "fd00::8": "fd00::7", "10.0.0.8": "10.0.0.7", "fd01::8": "fd01::7"}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "lan_addresses", lambda: list(ADDRESSES))
    monkeypatch.setattr(lan, "_source_of_route", lambda towards: ROUTES.get(towards.host))


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        ([], Attachment("eth0", "192.168.1.7")),
        (["192.168.1.8"], Attachment("eth0", "192.168.1.7")),
        (["fd00::8"], Attachment("eth0", "192.168.1.7")),  # met by IPv6 this time, and the same all the same
        (["fd01::8"], Attachment("eth1", "10.0.0.7")),
        (["10.0.0.8", "fd00::8"], Attachment("eth0", "192.168.1.7")),
        (["fd00::8", "10.0.0.8"], Attachment("eth0", "192.168.1.7")),
        (["203.0.113.1"], Attachment("eth0", "192.168.1.7")),
    ],
)
def test_the_address_does_not_depend_on_how_a_peer_was_met(peers: list[str], expected: Attachment) -> None:
    assert lan_attachment(Address(peer, 7373) for peer in peers) == expected


def test_a_machine_with_ipv6_only_has_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "lan_addresses", lambda: [LanAddress("eth0", "fd00::7")])
    assert lan_attachment([Address("fd00::8", 7373)]) == Attachment("eth0", "fd00::7")


def test_a_machine_without_a_lan_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "lan_addresses", list)
    assert lan_attachment([Address("192.168.1.8", 7373)]) == Attachment()
