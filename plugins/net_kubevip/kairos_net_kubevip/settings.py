"""The section `kubevip` of the configuration, with the keys of the reference. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any

from kairos_core import After, Before, Settings, setting
from kairos_net_kubevip.fields import environment_of

VERSION = "v1.2.3"
IMAGE = "ghcr.io/kube-vip/kube-vip"

Ip = IPv4Address | IPv6Address


def _empty_is_unset(value: object) -> object:
    return "" if value is None else value.strip() if isinstance(value, str) else value


def _are_addresses(value: str) -> str:
    for text in filter(None, value.split(",")):
        _parse_ip(text)
    return value


def _is_fetchable(value: str) -> str:
    if value and not value.startswith(("https://", "http://", "file://")):
        raise ValueError(f"{value!r} is no https, http or file URL")
    return value


def _are_fields(value: dict[str, Any]) -> dict[str, Any]:
    environment_of(value)
    return value


_Text = Annotated[str, Before(_empty_is_unset)]


class KubeVipSettings(Settings):
    """An elastic IP for the control plane."""

    eip: Annotated[_Text, After(_are_addresses)] = setting(
        default="",
        description="A free address of your LAN outside its DHCP range; one IPv4 and one IPv6 with a comma. "
        "Enables the elastic IP.",
    )
    enable: bool | None = setting(default=None, description="false turns the elastic IP off although eip is set.")
    interface: _Text = setting(default="", description="Interface that carries the eip. Empty: found by itself.")
    manifest_url: Annotated[_Text, After(_is_fetchable)] = setting(
        default="", description="https, http or file URL of a manifest to use instead of the built-in RBAC."
    )
    static_pod: bool = setting(default=False, description="A static Pod on each master instead of a DaemonSet.")
    version: Annotated[_Text, After(lambda value: value or VERSION)] = setting(
        default=VERSION, description="Version (image tag) of kube-vip."
    )
    image: Annotated[_Text, After(lambda value: value or IMAGE)] = setting(
        default=IMAGE, description="Image of kube-vip."
    )
    config: Annotated[dict[str, Any], After(_are_fields)] = setting(
        default_factory=dict, repr=False, description="Any further field of kube-vip's own configuration."
    )

    @property
    def addresses(self) -> tuple[Ip, ...]:
        """The elastic IP addresses: usually one, one of each family for dual stack."""
        return tuple(_parse_ip(text) for text in filter(None, self.eip.split(",")))

    @property
    def is_enabled(self) -> bool:
        return self.enable is not False and bool(self.eip)

    @property
    def is_routed(self) -> bool:
        """Whether routers are told of the elastic IP (BGP, routing table) instead of neighbours (ARP)."""
        given = environment_of(self.config)
        routed = "true" in (given.get("bgp_enable"), given.get("vip_routingtable"))
        return routed and given.get("vip_arp") != "true"


def _parse_ip(text: str) -> Ip:
    try:
        ip = ip_address(text.strip())
    except ValueError:
        raise ValueError(f"{text.strip()!r} is no IP address; write one like 192.168.1.110") from None
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified:
        raise ValueError(f"{ip} cannot be an elastic IP; choose a free address of your LAN")
    return ip
