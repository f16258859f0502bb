"""Single values of the configuration: how each is written, and what is said when it is not so.

The message of a validator continues the sentence "FILE, line N: PATH: …".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Annotated, Any, TypeAlias

from kairos_core.config.hostname import render_hostname
from kairos_core.errors import ConfigError
from kairos_core.model import Address, Role
from kairos_core.protocol.token import parse_token
from kairos_core.settings import After, Before, SecretStr, Shown

DEFAULT_TUNNEL = "kairos0"

_NETWORK_ID = re.compile(r"[a-z0-9.-]{1,32}")
_INTERFACE = re.compile(r"[^\s/:%]{1,15}")  # IFNAMSIZ - 1, see netdevice(7) and dev_valid_name() in Linux
_LOG_LEVELS = {  # zap's names, which the reference takes, and Python's
    "debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error",
    "dpanic": "error", "panic": "error", "fatal": "error",
}  # fmt: skip


def _nearest(word: str, known: list[str]) -> str:
    close = get_close_matches(word.lower(), known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _role(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    roles = [role.value for role in Role]
    if value and value not in roles:
        raise ValueError(f"{value!r} is not a role, expected one of {', '.join(roles)}{_nearest(value, roles)}")
    return value or None


def _address(value: Any) -> Any:
    return Address.parse(value) if isinstance(value, str) else value


def _elastic_ip(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return str(ip_address(value)) if value else None
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address, expected one such as 192.168.1.110") from None


def _subnet(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return str(IPv4Network(value))
    except ValueError as error:
        hint = ""
        if "host bits" in str(error):
            hint = f"; the network of this address is {IPv4Network(value, strict=False)}"
        raise ValueError(f"{value!r} is not an IPv4 network, expected one such as 10.1.0.0/24{hint}") from None


def _roomy(network: IPv4Network) -> IPv4Network:
    if network.prefixlen > 30:
        raise ValueError(f"'{network}' has no room for two machines, expected a network of /30 or larger")
    return network


def _network_id(value: str) -> str:
    if value and not _NETWORK_ID.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a network id, expected 1 to 32 lower-case letters, digits, dots and hyphens"
        )
    return value or "kairos"


def _interface(value: str | None) -> str | None:
    if value and (not _INTERFACE.fullmatch(value) or value in (".", "..")):
        raise ValueError(
            f"{value!r} is not the name of an interface, expected up to 15 characters such as 'eth0', "
            "without spaces, slashes and colons"
        )
    return value or None


def _log_level(value: str) -> str:
    if value and value.lower() not in _LOG_LEVELS:
        expected = f"debug, info, warning or error{_nearest(value, list(_LOG_LEVELS))}"
        raise ValueError(f"{value!r} is not a log level, expected {expected}")
    return _LOG_LEVELS[value.lower()] if value else "info"


def _token(value: SecretStr) -> SecretStr:
    try:
        parse_token(value.get_secret_value())
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


def _hostname(value: str | None) -> str | None:
    try:
        if value:
            render_hostname(value, "0123456789abcdef" * 2, lambda length: "r" * length)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value or None


def _secret_or_none(value: SecretStr | None) -> SecretStr | None:
    return value if value is not None and value.get_secret_value() else None


def _text(**schema: Any) -> Shown:
    return Shown({"type": "string", **schema})


NetworkToken: TypeAlias = Annotated[SecretStr, After(_token)]
NetworkId: TypeAlias = Annotated[str, After(_network_id)]
OptionalRole: TypeAlias = Annotated[Role | None, Before(_role), _text(enum=["", *(role.value for role in Role)])]
LogLevel: TypeAlias = Annotated[str, After(_log_level)]
Seed: TypeAlias = Annotated[Address, Before(_address), _text(examples=["192.168.1.10:7373"])]
Subnet: TypeAlias = Annotated[IPv4Network, Before(_subnet), After(_roomy), _text(format="ipv4network")]
TunnelName: TypeAlias = Annotated[str, After(lambda value: _interface(value) or DEFAULT_TUNNEL)]
OptionalInterface: TypeAlias = Annotated[str | None, After(_interface), _text()]
ElasticIp: TypeAlias = Annotated[
    IPv4Address | IPv6Address | None, Before(_elastic_ip), _text(examples=["192.168.1.110"])
]
HostnameTemplate: TypeAlias = Annotated[str | None, After(_hostname), _text()]
OptionalText: TypeAlias = Annotated[str | None, After(lambda value: value or None), _text()]
OptionalSecret: TypeAlias = Annotated[
    SecretStr | None, After(_secret_or_none), _text(format="password", writeOnly=True)
]
Environment: TypeAlias = Mapping[str, Annotated[str, Shown({"type": ["string", "number", "boolean"]})]]
"""Names to values; numbers and booleans become text, as they were written. Values may be secrets."""
