"""Orders of operators: admit, show, remove; and the file that comes out."""

from __future__ import annotations

import base64
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import pytest
from kairos_net_vpn import guests, wgquick
from kairos_net_vpn.desk import Desk, Here
from kairos_net_vpn.messages import PeerStats, SetPeer, Stats
from kairos_net_vpn.report import describe, figures
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.ula import ula_address

from kairos_core import NetworkError
from kairos_core.testing.networks import FakeNetworkHost, SharedLedger

POOL = IPv4Network("10.1.0.0/29")
KEY = base64.b64encode(bytes([9]) * 32).decode()
OTHER_KEY = base64.b64encode(bytes([10]) * 32).decode()


def make_desk(ledger: SharedLedger, number: int) -> tuple[Desk, FakeNetworkHost]:
    host, address = ledger.host(number), IPv4Address(f"10.1.0.{number}")
    ledger.lease(POOL, address, host.identity.peer_id)
    hosts = ["bad\nPostUp = true", f"192.0.2.{number}"]
    said = {"key": bytes([number]) * 32, "port": 7000, "address": str(address), "hosts": hosts}
    host.publish("vpn", said)
    host.publish("peers", {"name": f"node-{number}\nPostUp = reboot"})
    return Desk(host, Here("kairos0", address, POOL, 7000, 1420, host.secret("vpn psk"))), host


@pytest.fixture
def ledger() -> SharedLedger:
    return SharedLedger()


@pytest.fixture
def desk(ledger: SharedLedger) -> Desk:
    make_desk(ledger, 2)
    return make_desk(ledger, 1)[0]


async def add(desk: Desk, name: str = "phone", key: str = KEY, **wish: Any) -> dict[str, Any]:
    return await desk.order({"peer_add": {"name": name, "key": key, **wish}})


async def test_an_admitted_peer_has_an_address_a_secret_and_the_nodes(desk: Desk, ledger: SharedLedger) -> None:
    answer = await add(desk, keepalive=25)
    assert answer["addresses"] == ["10.1.0.3/29"]
    assert base64.b64decode(answer["psk"]) == guests.guest_psk(ledger.secret("vpn psk"), bytes([9]) * 32)
    assert [(node["endpoint"], node["allowed"]) for node in answer["nodes"]] == [
        ("192.0.2.1:7000", ["10.1.0.1/32"]),
        ("192.0.2.2:7000", ["10.1.0.2/32"]),
    ]
    (entry,) = ledger.topics[guests.TOPIC].values()
    assert guests.parse_guests(entry)["phone"].keepalive == 25


async def test_where_there_is_ipv6_the_peer_has_an_address_of_it_too(ledger: SharedLedger) -> None:
    _, host = make_desk(ledger, 1)
    said = host.published("vpn")[host.identity.peer_id]
    host.publish("vpn", {**said, "ipv6": True})
    ula = IPv6Network("fd00:1:2:3::/64")
    here = Here("kairos0", IPv4Address("10.1.0.1"), POOL, 7000, 1420, host.secret("vpn psk"), ula)
    answer = await add(Desk(host, here))
    assert answer["addresses"] == ["10.1.0.2/29", f"{ula_address(ula, IPv4Address('10.1.0.2'))}/64"]
    assert answer["nodes"][0]["allowed"] == ["10.1.0.1/32", f"{ula_address(ula, IPv4Address('10.1.0.1'))}/128"]


async def test_the_same_name_again_changes_the_peer_and_keeps_its_address(desk: Desk) -> None:
    first = await add(desk)
    await add(desk, "tablet", OTHER_KEY)
    again = await add(desk, endpoint="192.0.2.77:51820")
    assert again["addresses"] == first["addresses"]
    assert desk.own()["phone"].endpoint == "192.0.2.77:51820"
    assert (await desk.order({"peer_show": {"name": "phone"}})) == again


async def test_a_wanted_address_is_taken_or_refused(desk: Desk) -> None:
    assert (await add(desk, address="10.1.0.5"))["addresses"] == ["10.1.0.5/29"]
    for address in ("10.1.0.0", "10.1.0.7", "10.2.0.1", "five"):
        with pytest.raises(NetworkError, match=address):
            await add(desk, "tablet", OTHER_KEY, address=address)


async def test_a_removed_peer_leaves_neither_entry_nor_lease(desk: Desk, ledger: SharedLedger) -> None:
    await add(desk)
    await desk.order({"peer_remove": {"name": "phone"}})
    assert not ledger.topics[guests.TOPIC]
    assert IPv4Address("10.1.0.3") not in ledger.leases[POOL]
    with pytest.raises(NetworkError, match="no peer is called 'phone'"):
        await desk.order({"peer_remove": {"name": "phone"}})


async def test_only_who_admitted_a_peer_removes_it(desk: Desk, ledger: SharedLedger) -> None:
    other, host = make_desk(ledger, 2)
    await add(desk)
    with pytest.raises(NetworkError, match="was admitted by 12D3KooW"):
        await other.order({"peer_remove": {"name": "phone"}})
    assert host.published(guests.TOPIC)


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"name": "My Phone"}, "lower-case"),
        ({"key": "short"}, "32 bytes"),
        ({"key": base64.b64encode(bytes([2]) * 32).decode()}, "belongs to the node"),
        ({"endpoint": "router.example:51820"}, "IP address"),
        ({"keepalive": 9999}, "keepalive 9999"),
        ({"psk": "mine"}, "a peer has no 'psk'"),
    ],
)
async def test_what_cannot_be_is_said(desk: Desk, wish: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NetworkError, match=sentence):
        await desk.order({"peer_add": {"name": "phone", "key": KEY, **wish}})
    assert not desk.own()


async def test_one_key_is_admitted_once(desk: Desk) -> None:
    await add(desk)
    with pytest.raises(NetworkError, match="is that of the peer 'phone'"):
        await add(desk, "tablet")


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"peer_add": {}},
        {"peer_add": 5},
        {"peer_remove": {"name": "a", "b": 1}},
        {"x": 1},
        {"peer_show": {"name": 1}},
    ],
)
async def test_an_unknown_order_lists_the_known(desk: Desk, order: dict[str, Any]) -> None:
    with pytest.raises(NetworkError, match="peer_add"):
        await desk.order(order)


async def test_the_file_is_what_wg_quick_reads_and_no_name_gets_a_line_of_its_own(desk: Desk) -> None:
    private, public = wgquick.generate_key()
    answer = await add(desk, key=public, keepalive=25)
    text = wgquick.format_file(answer, private)
    assert "PostUp" not in {line.split(" ")[0] for line in text.splitlines()}
    sections = text.split("[Peer]")
    assert f"PrivateKey = {private}\n" in sections[0]
    assert "Address = 10.1.0.3/29\n" in sections[0]
    assert len(sections) == 3
    for section, endpoint in zip(sections[1:], ("192.0.2.1:7000", "192.0.2.2:7000"), strict=True):
        assert f"Endpoint = {endpoint}\n" in section
        assert "PersistentKeepalive = 25\n" in section
        assert f"PresharedKey = {answer['psk']}\n" in section
    assert wgquick.PLACEHOLDER in wgquick.format_file(answer)


@pytest.mark.parametrize(
    ("handshake", "eager", "state"),
    [(None, True, "waiting"), (None, False, "idle"), (10.0, True, "up"), (175.0, True, "idle")],
)
def test_a_peer_is_up_while_its_session_holds(handshake: float | None, eager: bool, state: str) -> None:
    peer = SetPeer(bytes(32), (), ("10.1.0.2",), eager=eager)
    stats = PeerStats(bytes(32), None, handshake, 1, 2)
    assert describe(peer, stats, 6.0, Timing())["state"] == state


def test_figures_count_peers_sessions_and_bytes() -> None:
    stats = Stats((PeerStats(bytes(32), None, 5.0, 10, 20), PeerStats(bytes(31), None, None, 1, 2)), {})
    assert figures(stats, Timing()) == {"peers": 2, "sessions": 1, "bytes_sent": 11, "bytes_received": 22}
    assert set(figures(None, Timing()).values()) == {0}


def test_the_secret_is_in_no_repr() -> None:
    here = Here("kairos0", IPv4Address("10.1.0.1"), POOL, 1, 1420, b"secret-secret")
    assert "secret" not in repr(here)
