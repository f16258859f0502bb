import pytest

from kairos_core import is_lan_interface


@pytest.mark.parametrize(
    "name", ["eth0", "ens18", "enp3s0f1np1", "wlan0", "bond0", "br0", "br-lan", "vmbr0", "eth0.100", "lan1"]
)
def test_an_interface_of_the_machine_is_lan(name: str) -> None:
    assert is_lan_interface(name)


@pytest.mark.parametrize(
    "name",
    [
        "lo",
        "docker0",
        "docker_gwbridge",
        "br-0123456789ab",
        "veth12ab34c",
        "cni0",
        "flannel.1",
        "flannel-v6.1",
        "kairos0",
        "kube-ipvs0",
        "cilium_host",
        "cali0123",
        "virbr0",
        "tun0",
        "tap3",
        "wg0",
        "tailscale0",
        "sit0",
        "edgevpn0",
    ],
)
def test_what_software_made_is_not_lan(name: str) -> None:
    assert not is_lan_interface(name)
