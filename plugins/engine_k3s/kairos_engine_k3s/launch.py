"""From a node's plan to the program to run: arguments, environment, files. Pure, golden-tested as a matrix.

Decisions worth knowing:
- `--node-name` is always given and `--with-node-id` never: the plan's name is stable and unique in the
  network, so the node is called in Kubernetes what its operator calls it, and a re-imaged node keeps its
  name.
- `--node-ip` is always given when the networks know it, so that an elastic IP never becomes a node's address.
- No secret is in argv: join token and datastore go through the environment file, and so do secrets that the
  operator wrote as arguments.
- `--cluster-init` only for `master/clusterinit`: a lone `master` keeps its state in SQLite, k3s' default.
- Once another master is up, `--server` takes its place: k3s removes the data of a server whose node was deleted, and
  would then begin another, empty cluster of the same name (k3s#13623). Where its data is, k3s needs neither of them.
- Servers with an external datastore meet there: they get neither `--cluster-init` nor `--server`.
- Whoever joins gets the full token, K10 and the hash of the cluster's authority: k3s then shows it to no other cluster.
  The hash is that of the authority and not of an address, so it holds through the VPN and an elastic IP too. The
  initialiser gets the password alone: at its first start there is no authority yet, and later it is on its own disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from kairos_core import (
    Argument,
    Disk,
    EngineError,
    File,
    Home,
    NodePlan,
    Role,
    SecretStr,
    Service,
    ServiceSettings,
    argument_value,
)
from kairos_engine_k3s.arguments import component_value, merge_arguments, parse_arguments, take_secrets
from kairos_engine_k3s.settings import AgentSettings, ServerSettings
from kairos_engine_k3s.tokens import password

DATA_DIRECTORY = "/var/lib/rancher/k3s"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
_INITIALISES = "--cluster-init"
HOME = Home(state="/var/lib/kairos/engine_k3s", settings="/etc/rancher/k3s")


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run. `arguments` start with server or agent; the program's path is not part of it.

    `passing` are arguments and variables that k3s needs only until it has joined, by their names: when one of them
    changes, what runs may run on. So does the first master when `rejoins` stands in the place of `--cluster-init`.
    """

    service: str
    arguments: tuple[str, ...]
    environment: Mapping[str, SecretStr]
    manifests: tuple[File, ...] = ()
    passing: frozenset[str] = frozenset()
    rejoins: str = ""

    @property
    def is_server(self) -> bool:
        return self.service == "k3s"

    @property
    def has_etcd(self) -> bool:
        """Whether it is a server that keeps the cluster's state in an etcd of its own."""
        is_shared = bool(self._variable("K3S_DATASTORE_ENDPOINT"))
        joins = _INITIALISES in self.arguments or argument_value(self.arguments, "server") is not None
        return self.is_server and joins and not is_shared

    @property
    def definition(self) -> Service:
        """What the supervisor runs."""
        return Service(
            self.service,
            self.arguments,
            self.environment,
            title=f"Lightweight Kubernetes ({self.arguments[0]})",
            documentation="https://k3s.io",
            block="k3s" if self.is_server else "k3s-agent",
            notifies=self.is_server,
        )

    @property
    def lasting(self) -> Service:
        """What decides whether it must be started afresh."""
        return replace(
            self.definition,
            arguments=tuple(
                _INITIALISES if text == self.rejoins else text
                for text in self.arguments
                if text.partition("=")[0] not in self.passing
            ),
            environment={name: value for name, value in self.environment.items() if name not in self.passing},
        )

    @property
    def data_directory(self) -> str:
        return argument_value(self.arguments, "data-dir") or self._variable("K3S_DATA_DIR") or DATA_DIRECTORY

    @property
    def kubeconfig(self) -> str:
        given = argument_value(self.arguments, "write-kubeconfig") or self._variable("K3S_KUBECONFIG_OUTPUT")
        return given or KUBECONFIG

    @property
    def health_port(self) -> int:
        """The port on 127.0.0.1 where the kubelet answers /healthz. Source: KubeletConfiguration v1beta1."""
        port = component_value(self.arguments, "kubelet-arg", "healthz-port") or "10248"
        return int(port) if port.isdecimal() else 10248

    def _variable(self, name: str) -> str:
        return self.environment[name].get_secret_value() if name in self.environment else ""


def launch_of(plan: NodePlan, server: ServerSettings, agent: AgentSettings) -> Launch:
    """Return what runs this plan. Raises EngineError for a plan that cannot run."""
    plan.check()
    ours = our_arguments(plan, server)
    secrets = _datastore(plan)
    block = block_of(plan, server, agent)
    theirs, their_secrets = take_secrets(parse_arguments(block.args))
    merged = theirs if block.replace_args else merge_arguments(ours, theirs)
    environment = {} if block.replace_env else _join_environment(plan)
    environment |= {name: secret.get_secret_value() for name, secret in block.env.items()}
    environment |= their_secrets if block.replace_args else secrets | their_secrets
    launch = Launch(
        service="k3s" if plan.role.is_master else "k3s-agent",
        arguments=("server" if plan.role.is_master else "agent", *map(str, merged)),
        environment=MappingProxyType({name: SecretStr(environment[name]) for name in sorted(environment)}),
        passing=_passing(plan, {str(argument) for argument in merged}, environment),
        rejoins=f"--server={plan.rejoin}" if plan.rejoin else "",
    )
    _check_join(plan, launch)
    return _with_manifests(launch, plan)


def launch_on(disk: Disk) -> Launch | None:
    """Return what runs by the record on the disk, as far as looking after it needs; None when nothing was started.

    Raises EngineError.
    """
    state = disk.state()
    if not state.service:
        return None
    arguments = ["server" if state.kubeconfig else "agent", f"--data-dir={state.data_directory}"]
    arguments += [f"--write-kubeconfig={state.kubeconfig}"] if state.kubeconfig else []
    arguments += [f"--kubelet-arg=healthz-port={state.health_port}"] if state.health_port else []
    environment = {name: SecretStr(value) for name, value in disk.environment().items()}
    return Launch(state.service, tuple(arguments), MappingProxyType(environment))


def block_of(plan: NodePlan, server: ServerSettings, agent: AgentSettings) -> ServiceSettings:
    """Return what the operator set for this role; nothing when the block is disabled."""
    return server.in_force if plan.role.is_master else agent.in_force


def our_arguments(plan: NodePlan, server: ServerSettings) -> list[Argument]:
    """Return the arguments that the plan asks for, before the operator's."""
    return _server_arguments(plan, server) if plan.role.is_master else _node_arguments(plan)


def _check_join(plan: NodePlan, launch: Launch) -> None:
    """Refuse to join nothing. Without automatic roles the operator's own arguments may say what to join."""
    if plan.join is not None:
        return  # whoever replaces our arguments or environment knows why
    server = argument_value(launch.arguments, "server") or launch.environment.get("K3S_URL")
    token = argument_value(launch.arguments, "token-file") or launch.environment.get("K3S_TOKEN")
    needs_server = plan.role is Role.WORKER or (plan.role is Role.HA and plan.datastore is None)
    if needs_server and not server:
        alternative = " or an external database" if plan.role is Role.HA else ""
        raise EngineError(
            f"{plan.role} needs a server to join{alternative}; neither the plan nor the operator's arguments name one. "
            "Wait for a master, or set K3S_URL in k3s-agent.env (a worker) or --server in k3s.args (a master)."
        )
    if (needs_server or (plan.role is Role.HA and plan.cluster_token is None)) and not token:
        raise EngineError(
            f"{plan.role} needs the cluster's token; neither the plan nor the operator's settings have it. Wait for a "
            "master, or set K3S_TOKEN in the env of k3s-agent (a worker) or k3s (a master)."
        )


def _node_arguments(plan: NodePlan) -> list[Argument]:
    place = plan.attachment
    found = (("node-name", plan.node_name), ("node-ip", place.node_ip), ("flannel-iface", place.interface))
    return [Argument(name, value) for name, value in found if value]


def _server_arguments(plan: NodePlan, server: ServerSettings) -> list[Argument]:
    names = (plan.attachment.endpoint, plan.attachment.node_ip, *plan.tls_names)
    arguments = _node_arguments(plan)
    arguments += [Argument("tls-san", name) for name in dict.fromkeys(names) if name]
    if server.embedded_registry and server.enabled is not False:
        arguments.append(Argument("embedded-registry"))
    if plan.datastore is None and plan.join is not None:
        arguments.append(Argument("server", plan.join.server))
    if plan.datastore is None and plan.role is Role.CLUSTER_INIT:
        arguments.append(Argument("server", plan.rejoin) if plan.rejoin else Argument("cluster-init"))
    return arguments


def _passing(plan: NodePlan, arguments: set[str], environment: Mapping[str, str]) -> frozenset[str]:
    """Name those of our settings that are about joining. What the operator set instead counts like all that he sets."""
    token = _join_environment(plan).get("K3S_TOKEN")
    server = plan.join is not None and f"--server={plan.join.server}" in arguments
    names = {"K3S_TOKEN": token is not None and environment.get("K3S_TOKEN") == token, "--server": server}
    return frozenset(name for name, is_ours in names.items() if is_ours)


def _datastore(plan: NodePlan) -> dict[str, str]:
    if plan.datastore is None or not plan.role.is_master:
        return {}
    return {"K3S_DATASTORE_ENDPOINT": plan.datastore.get_secret_value()}


def token_of(plan: NodePlan) -> str:
    """Return the token of a plan as it stands there; nothing when it has none."""
    token = plan.join.token if plan.join else plan.cluster_token
    return token.get_secret_value() if token else ""


def with_token(plan: NodePlan, token: str) -> NodePlan:
    """Return the plan with another token in the place of its own."""
    if plan.join:
        return replace(plan, join=replace(plan.join, token=SecretStr(token)))
    return replace(plan, cluster_token=SecretStr(token))


def _join_environment(plan: NodePlan) -> dict[str, str]:
    token = token_of(plan)
    joins = plan.join is not None or plan.rejoin is not None
    environment = {"K3S_TOKEN": token if joins else password(token)} if token else {}
    if plan.role is Role.WORKER and plan.join:
        environment["K3S_URL"] = plan.join.server
    return environment


def _with_manifests(launch: Launch, plan: NodePlan) -> Launch:
    """Add the networks' manifests: k3s deploys those of one directory, its kubelet runs the static pods of another."""
    if not plan.role.is_master:
        return launch
    files = []
    for manifest in plan.attachment.manifests:
        if "/" in manifest.name or not manifest.name.endswith((".yaml", ".yml", ".json")):
            raise EngineError(
                f"{manifest.name!r} is no name for a manifest: k3s reads *.yaml, *.yml and *.json of one "
                "directory. Rename it in the network that offers it."
            )
        directory = "agent/pod-manifests" if manifest.static_pod else "server/manifests"
        files.append(File(f"{launch.data_directory}/{directory}/{manifest.name}", manifest.content))
    return replace(launch, manifests=tuple(files))
