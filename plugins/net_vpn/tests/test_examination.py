"""What the VPN needs of a machine, found or missing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from kairos_net_vpn.examination import examine
from kairos_net_vpn.lan import Lan
from kairos_net_vpn.settings import VpnSettings

from kairos_core import Verdict

LAN = Lan(("192.168.1.7",), 1500)


def root_of(folder: Path, capabilities: int = 1 << 12, *, device: bool = True) -> Path:
    (folder / "dev/net").mkdir(parents=True)
    if device:
        (folder / "dev/net/tun").symlink_to("/dev/null")
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/status").write_text(f"Name:\tx\nCapEff:\t{capabilities:016x}\n")
    return folder


def wrong(root: Path, lan: Lan = LAN, settings: VpnSettings | None = None) -> set[str]:
    findings = examine(settings or VpnSettings(), lan, root)
    return {each.check for each in findings if each.verdict is Verdict.WRONG}


def test_on_a_machine_that_has_all_nothing_is_wrong(tmp_path: Path) -> None:
    assert wrong(root_of(tmp_path)) == set()


@pytest.mark.parametrize("device", ["missing", "a file"])
def test_without_the_clone_device_there_is_no_tunnel(tmp_path: Path, device: str) -> None:
    root = root_of(tmp_path, device=False)
    if device == "a file":
        (root / "dev/net/tun").write_text("")
    assert wrong(root) == {"tunnel device"}


def test_the_right_to_configure_networks_is_looked_for(tmp_path: Path) -> None:
    assert wrong(root_of(tmp_path, capabilities=0xFFF)) == {"CAP_NET_ADMIN"}


@pytest.mark.parametrize(("mtu", "found"), [(1359, {"MTU"}), (1360, set()), (9000, set())])
def test_a_lan_that_is_too_narrow_is_wrong(tmp_path: Path, mtu: int, found: set[str]) -> None:
    assert wrong(root_of(tmp_path), Lan(("192.168.1.7",), mtu)) == found


def test_without_a_vpn_nothing_is_asked_of_the_machine(tmp_path: Path) -> None:
    assert wrong(tmp_path, settings=VpnSettings(create=False)) == set()


def test_a_fixed_port_that_another_process_holds_is_wrong() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        number = held.getsockname()[1]
        assert wrong(Path("/"), settings=VpnSettings(port=number)) >= {"VPN port"}
    assert "VPN port" not in wrong(Path("/"), settings=VpnSettings(port=number))
