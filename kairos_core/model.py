"""Value types that every layer shares. Pure: no clock, no file, no socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address

from kairos_core.errors import EngineError
from kairos_core.settings import SecretStr

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# libp2p: identity multihash (0x00, 36 bytes) of the protobuf {type: Ed25519 (1), data: 32 bytes}
_LIBP2P_PREFIX = bytes.fromhex("002408011220")


class Role(StrEnum):
    """What a node does in the Kubernetes cluster. The words are the reference's, so its files keep working."""

    MASTER = "master"  # the only server, or (forced) one that may initialise
    CLUSTER_INIT = "master/clusterinit"  # the first server of an HA control plane
    HA = "master/ha"  # a further server of an HA control plane
    WORKER = "worker"
    NONE = "none"  # takes part in the network only

    @property
    def is_master(self) -> bool:
        return self.value.startswith("master")


@dataclass(frozen=True, slots=True, order=True)
class PeerId:
    """The Ed25519 public key of a node (32 bytes), written as libp2p writes it: `12D3KooW…`."""

    public_key: bytes

    def __post_init__(self) -> None:
        if len(self.public_key) != 32:
            raise ValueError(f"a peer id has 32 bytes, not {len(self.public_key)}")

    def __hash__(self) -> int:  # the bytes remember theirs; a hash of all fields is made anew each time
        return hash(self.public_key)

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Read `12D3KooW…`. Raises ValueError for anything else."""
        return _parse_peer_id(text)

    @property
    def short(self) -> str:
        """The last eight characters: enough for a log line or a table."""
        return str(self)[-8:]

    def __str__(self) -> str:
        return _format_peer_id(self.public_key)

    def __repr__(self) -> str:
        return f"PeerId({self})"


@lru_cache(maxsize=4096)
def _format_peer_id(public_key: bytes) -> str:
    raw = _LIBP2P_PREFIX + public_key
    number, digits = int.from_bytes(raw), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits


@lru_cache(maxsize=4096)
def _parse_peer_id(text: str) -> PeerId:
    number = 0
    if not text.startswith("1") or len(text) > 60:
        raise ValueError(f"{text[:60]!r} is not a peer id: it should look like 12D3KooW…")
    for letter in text:
        digit = _BASE58.find(letter)
        if digit < 0:
            raise ValueError(f"{text!r} is not a peer id: {letter!r} is not a base58 character")
        number = number * 58 + digit
    raw = number.to_bytes(64).lstrip(b"\0")
    peer = PeerId(raw[-32:]) if len(raw) == 37 else None
    if peer is None or str(peer) != text:
        raise ValueError(f"{text!r} is not the peer id of an Ed25519 key")
    return peer


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a peer listens: an IP address (or host name, for static seeds) and a port for UDP and TCP alike."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `10.0.0.1:7373`, `[fe80::1%eth0]:7373` or `edge.example:7373`. Raises ValueError."""
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not host or (":" in host and not bracketed) or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not an address: write HOST:PORT, or [IPV6]:PORT")
        return cls(host, int(port))

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @property
    def is_loopback(self) -> bool:
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A Kubernetes manifest that a network wants deployed: a file name and its YAML.

    A `static_pod` is not for the API server: the kubelet of each master runs it by itself.
    """

    name: str
    content: str = field(repr=False)  # long, and it may hold a password (of a BGP peer)
    static_pod: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a network gives this node, as data: all that the engine learns of it.

    `interface` and `node_ip` say where Kubernetes binds; `endpoint` is the host under which the control plane
    is reached (an elastic IP), None for "the address of the master itself"; `manifests` go to masters.
    """

    interface: str | None = None
    node_ip: str | None = None
    endpoint: str | None = None
    manifests: tuple[Manifest, ...] = ()

    def merged(self, later: Attachment) -> Attachment:
        """Fill what is unset here from a network later in the order; manifests of both are kept."""
        return Attachment(
            interface=self.interface or later.interface,
            node_ip=self.node_ip or later.node_ip,
            endpoint=self.endpoint or later.endpoint,
            manifests=self.manifests + later.manifests,
        )


@dataclass(frozen=True, slots=True)
class Join:
    """How to join a running cluster: its API server (`https://10.1.0.7:6443`) and the join token."""

    server: str
    token: SecretStr


@dataclass(frozen=True, slots=True)
class NodePlan:
    """All that an engine needs to run Kubernetes on this node; equal plans mean nothing to do.

    `cluster_token` is the secret that the initialising master starts the cluster with (None: the engine makes one).
    `join` is None for that master and set for everyone else. `rejoin` is the API server of another master that is up
    (a URL, as in `Join`), which that master has once there is one: should its data be gone when Kubernetes starts
    again, it joins there and begins no second cluster. `tls_names` are further names and addresses under which the API
    server is reached. What the operator overrides is in the engine's own settings.
    """

    role: Role
    node_name: str
    attachment: Attachment
    cluster_token: SecretStr | None = None
    join: Join | None = None
    rejoin: str | None = None
    datastore: SecretStr | None = None
    tls_names: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse a plan that no engine can run, whatever its settings. Raises EngineError."""
        if self.role is Role.NONE:
            raise EngineError("role 'none' runs no Kubernetes, so there is nothing to apply. Remove the engine.")
        if self.role is Role.CLUSTER_INIT and self.join is not None:
            raise EngineError(
                f"the plan initialises a cluster and joins {self.join.server} at once. Give the node the role "
                "master/ha to join, or take the server out of the plan."
            )


class StepKind(StrEnum):
    """What an engine sets for a plan."""

    ARGUMENT = "argument"
    VARIABLE = "variable"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that an engine sets for a plan, and why. It is to be shown: a secret's place is taken by `***`."""

    kind: StepKind
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What an engine would run for a plan: the service, its command without the arguments, and all that it sets."""

    service: str
    command: str
    steps: tuple[Step, ...]


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `remedy` is a command, or what to do; "" where there is nothing to do."""

    check: str
    verdict: Verdict
    message: str
    remedy: str = ""


class EngineState(StrEnum):
    """How far Kubernetes has come on this node."""

    ABSENT = "absent"  # no plan has been applied
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine reports: its state, one sentence for people, and on a ready master what others need."""

    state: EngineState
    message: str = ""
    join_token: SecretStr | None = field(default=None)
    kubeconfig: SecretStr | None = field(default=None)
    nodes: tuple[str, ...] = ()
