"""The blocks of a cloud-config that are ours: `hostname`, `p2p`, `kubevip`, `k3s`, `k3s-agent`.

The keys are the reference's, so its files keep working; what we add is marked "ours". Editors show the
descriptions (`kairos schema`). A field that may hold a secret is a SecretStr or has repr=False: its value
then appears in no error either.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from kairos_core.config.values import (
    DEFAULT_TUNNEL,
    ElasticIp,
    Environment,
    HostnameTemplate,
    LogLevel,
    NetworkId,
    NetworkToken,
    OptionalInterface,
    OptionalRole,
    OptionalSecret,
    OptionalText,
    Seed,
    Subnet,
    TunnelName,
)

DEFAULT_NODES_TO_START = 2
"""Nodes that must see each other before roles are given out, unless `p2p.minimum_nodes` says otherwise."""


class Block(BaseModel):
    """A part of the configuration: frozen, and silent about values when it is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)


class Vpn(Block):
    """The VPN between the nodes."""

    create: bool = Field(default=True, description="Create the VPN. False: the nodes only coordinate.")
    use: bool = Field(default=True, description="Let Kubernetes use the VPN; without effect when none is created.")
    env: Environment = Field(
        default_factory=dict,
        repr=False,
        description="Environment of EdgeVPN, of which ADDRESS, DHCP and others are honoured.",
        examples=[{"ADDRESS": "10.1.0.5/24", "DHCP": "false"}],
    )
    subnet: Subnet = Field(
        default=IPv4Network("10.1.0.0/24"), description="Addresses of the VPN; the same on every node (ours)."
    )
    interface: TunnelName = Field(default=DEFAULT_TUNNEL, description="Name of the tunnel interface (ours).")

    @property
    def used(self) -> bool:
        """Whether Kubernetes runs over the VPN."""
        return self.create and self.use


class Ha(Block):
    """The highly available control plane."""

    enable: bool | None = Field(default=None, description="Turn HA on or off; unset: on if master_nodes is set.")
    master_nodes: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="Masters in addition to the one that initialises the cluster: 2 makes three.",
    )
    external_db: OptionalSecret = Field(
        default=None, description="Datastore endpoint (postgres://…, mysql://…) instead of the embedded etcd."
    )

    @property
    def enabled(self) -> bool:
        """Whether the cluster is started so that further masters can join."""
        return self.master_nodes is not None if self.enable is None else self.enable


class Auto(Block):
    """Automatic roles."""

    enable: bool | None = Field(default=None, description="Decide roles automatically; unset: yes, as a token is set.")
    ha: Ha = Field(default_factory=Ha, description="The highly available control plane.")

    @property
    def enabled(self) -> bool:
        """Whether roles are decided automatically."""
        return self.enable is not False

    @property
    def is_ha(self) -> bool:
        """Whether the first master starts a cluster that further masters can join."""
        return self.enabled and self.ha.enabled

    @property
    def ha_masters(self) -> int:
        """The masters wanted in addition to the first; 0 when HA, or the whole of `auto`, is off."""
        return (self.ha.master_nodes or 0) if self.is_ha else 0


class Plugins(Block):
    """Which of the installed plugins a node uses (ours); `kairos plugins list` shows their names."""

    discovery: tuple[str, ...] | None = Field(default=None, description="Ways to find peers; unset: all installed.")
    transport: OptionalText = Field(default=None, description="How bytes travel between peers; unset: tls.")
    store: OptionalText = Field(default=None, description="Where the ledger is kept; unset: sqlite.")
    networks: tuple[str, ...] | None = Field(
        default=None,
        description="Networks for Kubernetes, in the order in which they are entered; unset: all installed.",
    )
    engine: OptionalText = Field(default=None, description="What runs Kubernetes; unset: k3s.")
    disabled: tuple[str, ...] = Field(default=(), description="Plugins to leave alone, though they are installed.")


class P2P(Block):
    """The network of the nodes: the token and how they coordinate."""

    network_token: NetworkToken = Field(
        description="The secret that all nodes share; make one with: kairos generate-token"
    )
    network_id: NetworkId = Field(
        default="kairos", description="Name of the cluster; several clusters may share one token."
    )
    role: OptionalRole = Field(default=None, description="Force the role of this node; empty: the network decides.")
    dns: bool = Field(default=False, description="Answer DNS for names in the ledger.")
    loglevel: LogLevel = Field(default="info", description="How much is logged: debug, info, warning or error.")
    vpn: Vpn = Field(default_factory=Vpn, description="The VPN between the nodes.")
    minimum_nodes: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="Nodes that must see each other before roles are given out; unset: 2. 1: alone.",
    )
    disable_dht: bool = Field(default=False, description="Find peers without the DHT: in the local network only.")
    auto: Auto = Field(default_factory=Auto, description="Automatic roles.")
    dynamic_roles: bool = Field(default=False, description="Give the roles of dead nodes to others.")
    peers: tuple[Seed, ...] = Field(default=(), description="Addresses to try besides discovery: HOST:PORT (ours).")
    plugins: Plugins = Field(default_factory=Plugins, description="Which installed plugins are used (ours).")

    @property
    def nodes_to_start(self) -> int:
        """The nodes that must see each other before roles are given out."""
        return self.minimum_nodes or DEFAULT_NODES_TO_START


class KubeVip(Block):
    """The elastic IP of the control plane, held by kube-vip."""

    eip: ElasticIp = Field(
        default=None,
        description="The elastic IP, free and outside any DHCP range; setting it enables kube-vip.",
    )
    enable: bool | None = Field(default=None, description="False turns kube-vip off though an elastic IP is set.")
    interface: OptionalInterface = Field(
        default=None, description="Interface that carries the elastic IP; unset: the LAN's."
    )
    manifest_url: OptionalText = Field(default=None, description="Manifest to deploy instead of the built-in one.")
    static_pod: bool = Field(default=False, description="Run kube-vip as a static pod instead of a DaemonSet.")
    version: OptionalText = Field(default=None, description="Version of kube-vip.")
    image: OptionalText = Field(default=None, description="Container image of kube-vip, without its version.")
    config: Mapping[str, Any] = Field(
        default_factory=dict, repr=False, description="Further settings of kube-vip, by its own field names."
    )

    @property
    def enabled(self) -> bool:
        """Whether the control plane has an elastic IP."""
        return self.eip is not None and self.enable is not False


class K3s(Block):
    """What the operator changes in how k3s is run."""

    enabled: bool | None = Field(default=None, description="Run k3s here; with a network token it is implied.")
    env: Environment = Field(default_factory=dict, repr=False, description="Environment variables of k3s.")
    args: tuple[str, ...] = Field(
        default=(), repr=False, description="Arguments of k3s; they win over ours, flag by flag."
    )
    replace_env: bool = Field(default=False, description="Use only `env`, and none of our variables.")
    replace_args: bool = Field(default=False, description="Use only `args`, and none of our arguments.")
    embedded_registry: bool = Field(default=False, description="Share images between nodes (servers only).")


class CloudConfig(Block):
    """What a cloud-config says to Kairos. Other tools' blocks (install, users, stages …) stand beside it."""

    hostname: HostnameTemplate = Field(
        default=None,
        description="Host name, or a template of it with {{ trunc 4 .MachineID }} or {{ trunc 4 .Random }}.",
        examples=["edge-{{ trunc 4 .MachineID }}"],
    )
    p2p: P2P | None = Field(default=None, description="The network of the nodes; without it this machine joins none.")
    kubevip: KubeVip = Field(default_factory=KubeVip, description="The elastic IP of the control plane.")
    k3s: K3s = Field(default_factory=K3s, description="k3s on masters.")
    k3s_agent: K3s = Field(default_factory=K3s, alias="k3s-agent", description="k3s on workers.")


class Config(CloudConfig):
    """The whole configuration of a node: our blocks, the plugins' settings, what the operator should know.

    `settings` holds what the plugins' models made of their sections, by the path of the section ("p2p.vpn").
    """

    settings: Mapping[str, BaseModel] = Field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
