"""The blocks of a cloud-config that are ours: `hostname`, `p2p`, `kubevip`, `k3s`, `k3s-agent`.

The keys are the reference's, so its files keep working; what we add is marked "ours". Editors show the
descriptions (`kairos schema`). A field that may hold a secret is a SecretStr or has repr=False: its value
then appears in no error either.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

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
from kairos_core.settings import Settings, setting

DEFAULT_NODES_TO_START = 2
"""Nodes that must see each other before roles are given out, unless `p2p.minimum_nodes` says otherwise."""


class Vpn(Settings):
    """The VPN between the nodes."""

    create: bool = setting(default=True, description="Create the VPN. False: the nodes only coordinate.")
    use: bool = setting(default=True, description="Let Kubernetes use the VPN; without effect when none is created.")
    env: Environment = setting(
        default_factory=dict,
        repr=False,
        description="Environment of EdgeVPN, of which ADDRESS, DHCP and others are honoured.",
        examples=[{"ADDRESS": "10.1.0.5/24", "DHCP": "false"}],
    )
    subnet: Subnet = setting(
        default=IPv4Network("10.1.0.0/24"), description="Addresses of the VPN; the same on every node (ours)."
    )
    interface: TunnelName = setting(default=DEFAULT_TUNNEL, description="Name of the tunnel interface (ours).")

    @property
    def used(self) -> bool:
        """Whether Kubernetes runs over the VPN."""
        return self.create and self.use


class Ha(Settings):
    """The highly available control plane."""

    enable: bool | None = setting(default=None, description="Turn HA on or off; unset: on if master_nodes is set.")
    master_nodes: int | None = setting(
        default=None,
        ge=0,
        le=1000,
        description="Masters in addition to the one that initialises the cluster: 2 makes three.",
    )
    external_db: OptionalSecret = setting(
        default=None, description="Datastore endpoint (postgres://…, mysql://…) instead of the embedded etcd."
    )

    replace_after: int = setting(
        default=300,
        ge=10,
        le=86400,
        description="Seconds of silence after which a master is lost for good, and another node takes its place.",
    )

    @property
    def enabled(self) -> bool:
        """Whether the cluster is started so that further masters can join."""
        return self.master_nodes is not None if self.enable is None else self.enable


class Auto(Settings):
    """Automatic roles."""

    enable: bool | None = setting(
        default=None, description="Decide roles automatically; unset: yes, as a token is set."
    )
    ha: Ha = setting(default_factory=Ha, description="The highly available control plane.")

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


class Plugins(Settings):
    """Which of the installed plugins a node uses (ours); `kairos plugins list` shows their names."""

    discovery: tuple[str, ...] | None = setting(default=None, description="Ways to find peers; unset: all installed.")
    transport: OptionalText = setting(default=None, description="How bytes travel between peers; unset: tls.")
    store: OptionalText = setting(default=None, description="Where the ledger is kept; unset: sqlite.")
    networks: tuple[str, ...] | None = setting(
        default=None,
        description="Networks for Kubernetes, in the order in which they are entered; unset: all installed.",
    )
    engine: OptionalText = setting(default=None, description="What runs Kubernetes; unset: k3s.")
    disabled: tuple[str, ...] = setting(default=(), description="Plugins to leave alone, though they are installed.")


class P2P(Settings):
    """The network of the nodes: the token and how they coordinate."""

    network_token: NetworkToken = setting(
        description="The secret that all nodes share; make one with: kairos generate-token"
    )
    network_id: NetworkId = setting(
        default="kairos", description="Name of the cluster; several clusters may share one token."
    )
    role: OptionalRole = setting(default=None, description="Force the role of this node; empty: the network decides.")
    dns: bool = setting(default=False, description="Answer DNS for names in the ledger.")
    loglevel: LogLevel = setting(default="info", description="How much is logged: debug, info, warning or error.")
    vpn: Vpn = setting(default_factory=Vpn, description="The VPN between the nodes.")
    minimum_nodes: int | None = setting(
        default=None,
        ge=1,
        le=1000,
        description="Nodes that must see each other before roles are given out; unset: 2. 1: alone.",
    )
    disable_dht: bool = setting(default=False, description="Find peers without the DHT: in the local network only.")
    auto: Auto = setting(default_factory=Auto, description="Automatic roles.")
    dynamic_roles: bool = setting(default=False, description="Give the roles of dead nodes to others.")
    peers: tuple[Seed, ...] = setting(default=(), description="Addresses to try besides discovery: HOST:PORT (ours).")
    plugins: Plugins = setting(default_factory=Plugins, description="Which installed plugins are used (ours).")

    @property
    def nodes_to_start(self) -> int:
        """The nodes that must see each other before roles are given out."""
        return self.minimum_nodes or DEFAULT_NODES_TO_START


class KubeVip(Settings):
    """The elastic IP of the control plane, held by kube-vip."""

    eip: ElasticIp = setting(
        default=None,
        description="The elastic IP, free and outside any DHCP range; setting it enables kube-vip.",
    )
    enable: bool | None = setting(default=None, description="False turns kube-vip off though an elastic IP is set.")
    interface: OptionalInterface = setting(
        default=None, description="Interface that carries the elastic IP; unset: the LAN's."
    )
    manifest_url: OptionalText = setting(default=None, description="Manifest to deploy instead of the built-in one.")
    static_pod: bool = setting(default=False, description="Run kube-vip as a static pod instead of a DaemonSet.")
    version: OptionalText = setting(default=None, description="Version of kube-vip.")
    image: OptionalText = setting(default=None, description="Container image of kube-vip, without its version.")
    config: Mapping[str, Any] = setting(
        default_factory=dict, repr=False, description="Further settings of kube-vip, by its own field names."
    )

    @property
    def enabled(self) -> bool:
        """Whether the control plane has an elastic IP."""
        return self.eip is not None and self.enable is not False


class K3s(Settings):
    """What the operator changes in how k3s is run."""

    enabled: bool | None = setting(default=None, description="Run k3s here; with a network token it is implied.")
    env: Environment = setting(default_factory=dict, repr=False, description="Environment variables of k3s.")
    args: tuple[str, ...] = setting(
        default=(), repr=False, description="Arguments of k3s; they win over ours, flag by flag."
    )
    replace_env: bool = setting(default=False, description="Use only `env`, and none of our variables.")
    replace_args: bool = setting(default=False, description="Use only `args`, and none of our arguments.")
    embedded_registry: bool = setting(default=False, description="Share images between nodes (servers only).")


class CloudConfig(Settings):
    """What a cloud-config says to Kairos. Other tools' blocks (install, users, stages …) stand beside it."""

    hostname: HostnameTemplate = setting(
        default=None,
        description="Host name, or a template of it with {{ trunc 4 .MachineID }} or {{ trunc 4 .Random }}.",
        examples=["edge-{{ trunc 4 .MachineID }}"],
    )
    p2p: P2P | None = setting(default=None, description="The network of the nodes; without it this machine joins none.")
    kubevip: KubeVip = setting(default_factory=KubeVip, description="The elastic IP of the control plane.")
    k3s: K3s = setting(default_factory=K3s, description="k3s on masters.")
    k3s_agent: K3s = setting(default_factory=K3s, alias="k3s-agent", description="k3s on workers.")


class Config(CloudConfig):
    """The whole configuration of a node: our blocks, the plugins' settings, what the operator should know.

    `settings` holds what the plugins' models made of their sections, by the path of the section ("p2p.vpn").
    """

    settings: Mapping[str, Any] = setting(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
