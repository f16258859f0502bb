"""What the plugin and its data-plane process say to each other: a JSON object per line, over a socket pair.

The keys travel here and only here: never in arguments or the environment, where other processes could read
them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.spec import Timing

VERSION = 1
MAX_LINE = 4 << 20
"""Bytes in one line; the statistics of 4096 peers fit."""


class OtherVersion(ValueError):
    """A message, but of another version."""


@dataclass(frozen=True, slots=True)
class Configure:
    """The first message: who this node is. `address` is its inner one, `subnet` what lies inside the tunnel.

    `ipv6` is both for IPv6 (`fd12:3456:789a::a01:5/64`), empty without it; `routes` are networks behind this node.
    `interface` and `port` (0: any) are what the agent asked for: a data plane with others is not taken over.
    """

    private_key: bytes = field(repr=False)
    psk: bytes = field(repr=False)
    address: str
    subnet: str
    mtu: int
    timing: Timing = field(default_factory=Timing)
    ipv6: str = ""
    routes: tuple[str, ...] = ()
    allowed: Offloads = field(default_factory=Offloads)
    interface: str = ""
    port: int = 0

    def digest(self) -> bytes:
        """Return what two agents have in common whose configuration is the same; it tells nobody the keys."""
        return hashlib.blake2s(encode(self)).digest()


@dataclass(frozen=True, slots=True)
class SetPeer:
    """A peer, or what it has become: its public key, where it may be, which inner addresses are its own.

    Packets for `routes` go to it; packets from `standby` may come from it.
    `psk` is a secret of its own in place of the network's; `keepalive` the seconds after which it hears from us even
    when there is nothing to say (0: never).
    """

    key: bytes
    endpoints: tuple[str, ...]
    addresses: tuple[str, ...]
    eager: bool = True
    routes: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    records: bool = False
    psk: bytes | None = field(default=None, repr=False)
    keepalive: float = 0.0


@dataclass(frozen=True, slots=True)
class ForgetPeer:
    key: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """This machine has other addresses now: peers must hear from it where it is."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for Stats; each question gets one answer, in order."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The agent ends in order; so does the data plane, at once."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A new agent wants the data plane that runs: `digest` is that of its own configuration."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The data plane is configured and carries packets. `code` names the program that it runs."""

    code: str = ""


@dataclass(frozen=True, slots=True)
class PeerStats:
    """`handshake` is the age of the newest session in seconds (None: none yet), `sent` and `received` bytes, `refused`
    datagrams and packets under its sessions that were not taken.

    `path` is `direct`, or `relay` and the public key of the peer that relays (None: not reached yet); `mtu` is the
    path's, from the IP header on (None: not found out).
    """

    key: bytes
    endpoint: str | None
    handshake: float | None
    sent: int
    received: int
    refused: int = 0
    path: str | None = None
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the process started."""

    peers: tuple[PeerStats, ...]
    drops: Mapping[str, int]
    offloads: Offloads = field(default_factory=Offloads)
    """What the packet path uses now."""
    seen: tuple[str, ...] = ()
    """Endpoints from which peers see this node's datagrams come."""


Message: TypeAlias = Configure | SetPeer | ForgetPeer | Moved | Ask | Leave | Claim | Ready | Stats

_KINDS: dict[str, type[Any]] = {
    "configure": Configure,
    "set": SetPeer,
    "forget": ForgetPeer,
    "moved": Moved,
    "ask": Ask,
    "leave": Leave,
    "claim": Claim,
    "ready": Ready,
    "stats": Stats,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_NESTED = {"timing": Timing, "peers": PeerStats, "allowed": Offloads, "offloads": Offloads}
_HINTS = {kind: get_type_hints(kind) for kind in (*_KINDS.values(), *_NESTED.values())}
_BYTES = frozenset({"private_key", "psk", "key", "digest"})


def encode(message: Message) -> bytes:
    """Write a message as one line."""
    document = {"v": VERSION, "kind": _NAMES[type(message)], **_plain(message)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Read a line. Raises ValueError without showing it: it may hold a key. Raises OtherVersion.

    The version differs when the package was upgraded under a running agent, whose data plane then restarted.
    """
    try:
        document = json.loads(line.decode())  # of bytes it would guess the encoding
        version, kind = document.pop("v"), _KINDS[document.pop("kind")]
        if version == VERSION:
            message: Message = _typed(kind, document)
            return message
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("a line between the plugin and its data plane is not a message") from None
    shown = version if type(version) is int else "something else"
    raise OtherVersion(f"the data plane speaks version {VERSION}, the other end {shown}: restart the agent")


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
    return value


def _typed(kind: type[Any], document: Mapping[str, Any]) -> Any:
    made = kind(**{name: _field(name, value) for name, value in document.items()})
    if not all(_fits(getattr(made, name), hint) for name, hint in _HINTS[kind].items()):
        raise ValueError(f"a field of {kind.__name__} has a wrong type")
    return made


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a value is of the type that its field is written with."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(_fits(value, each) for each in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(_fits(item, inner[1]) for item in value.values())
    return type(value) is hint or (hint is float and type(value) is int)


def _field(name: str, value: Any) -> Any:
    if name in _BYTES and value is not None:
        return base64.b64decode(value, validate=True)
    if name in _NESTED and isinstance(value, dict):
        return _typed(_NESTED[name], value)
    if isinstance(value, list):
        return tuple(_typed(_NESTED[name], item) if name in _NESTED else item for item in value)
    return value
