"""From a node's plan to the program to run: arguments, environment, files. Pure, golden-tested as a matrix.

Decisions worth knowing:
- A controller runs pods too (`--enable-worker --no-taints`), as k3s' servers do: else a lone master would run none.
- The kubelet gets the plan's name and address (`--hostname-override`, `--node-ip`): k0s has no flags of its own for
  them, and kube-router takes its address from the node's.
- The token joins at the address that the plan names, which may be another master's than the one that made the token.
- Storage is etcd for a lone master too, and so further masters can join it later; `--single` is never used.
- Masters of an external database join like all others: that is how k0s hands out the cluster's authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

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
from kairos_engine_k0s.arguments import KUBELET, is_on, kubelet_value, merge_arguments, parse_arguments
from kairos_engine_k0s.configuration import cluster_config
from kairos_engine_k0s.flags import TOKEN_VARIABLES
from kairos_engine_k0s.settings import ControllerSettings, WorkerSettings
from kairos_engine_k0s.tokens import token_for, with_host

HOME = Home(state="/var/lib/kairos/engine_k0s", settings="/etc/k0s")
DATA_DIRECTORY = "/var/lib/k0s"
CONFIG = "/etc/k0s/k0s.yaml"
TOKEN = "/etc/k0s/token"  # noqa: S105 - where it is
STACK = "kairos"
"""The directory below `manifests` that is ours: k0s deletes from the cluster what is deleted from a directory."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run. `arguments` start with controller or worker; the program's path is not part of it.

    k0s reads `configuration` when it starts, `token` when it joins, and `manifests` all the time.
    """

    service: str
    arguments: tuple[str, ...]
    environment: Mapping[str, SecretStr]
    configuration: File | None = None
    token: File | None = None
    manifests: tuple[File, ...] = ()

    @property
    def role(self) -> str:
        return self.arguments[0]

    @property
    def is_controller(self) -> bool:
        return self.role == "controller"

    @property
    def runs_pods(self) -> bool:
        return not self.is_controller or is_on(self.arguments, "enable-worker") or is_on(self.arguments, "single")

    @property
    def is_joinable(self) -> bool:
        """Whether others may join; the operator's `--single` makes a cluster of one, without tokens."""
        return self.is_controller and not is_on(self.arguments, "single")

    @property
    def data_directory(self) -> str:
        return argument_value(self.arguments, "data-dir") or DATA_DIRECTORY

    @property
    def node_name(self) -> str | None:
        """The name that the node has in Kubernetes; None when the operator leaves it to the host."""
        return kubelet_value(self.arguments, "hostname-override")

    @property
    def health_port(self) -> int:
        """The port on 127.0.0.1 where the kubelet answers /healthz. Source: KubeletConfiguration v1beta1."""
        port = kubelet_value(self.arguments, "healthz-port") or "10248"
        return int(port) if port.isdecimal() else 10248

    @property
    def definition(self) -> Service:
        """What the supervisor runs."""
        return Service(
            self.service,
            self.arguments,
            self.environment,
            title=f"k0s ({self.role})",
            documentation="https://docs.k0sproject.io",
            block="k0s" if self.is_controller else "k0s-worker",
        )


def launch_of(plan: NodePlan, controller: ControllerSettings, worker: WorkerSettings) -> Launch:
    """Return what runs this plan. Raises EngineError for a plan that cannot run."""
    plan.check()
    role, block = _role(plan), block_of(plan, controller, worker)
    arguments = arguments_of(plan, block)
    given = parse_arguments(block.args)
    ours = frozenset(arguments[1:]) - frozenset(str(argument) for argument in given if argument.name)
    token = _token(plan, role, [argument.value or "" for argument in given if not argument.name], ours)
    _check_join(plan, block, arguments)
    return Launch(
        service=service_of(plan),
        arguments=arguments,
        environment=MappingProxyType({name: block.env[name] for name in sorted(block.env)}),
        configuration=_configuration(plan, block) if f"--config={CONFIG}" in ours else None,
        token=token,
        manifests=_manifests(plan, argument_value(arguments, "data-dir") or DATA_DIRECTORY),
    )


def launch_on(disk: Disk) -> Launch | None:
    """Return what runs by the record on the disk, as far as looking after it needs; None when nothing was started.

    Raises EngineError.
    """
    state = disk.state()
    if not state.service:
        return None
    arguments = [state.service.removeprefix("k0s"), f"--data-dir={state.data_directory}"]
    arguments += [f"--{KUBELET}=--healthz-port={state.health_port}"] if state.health_port else []
    environment = {name: SecretStr(value) for name, value in disk.environment().items()}
    token = disk.read(TOKEN)
    return Launch(
        state.service, tuple(arguments), MappingProxyType(environment), token=File(TOKEN, token) if token else None
    )


def block_of(plan: NodePlan, controller: ControllerSettings, worker: WorkerSettings) -> ServiceSettings:
    """Return what the operator set for this role; nothing when the block is disabled."""
    return controller.in_force if plan.role.is_master else worker.in_force


def arguments_of(plan: NodePlan, block: ServiceSettings) -> tuple[str, ...]:
    """Return the role of k0s and its flags; also of a plan whose token is not known yet."""
    theirs = tuple(argument for argument in parse_arguments(block.args) if argument.name)
    merged = theirs if block.replace_args else merge_arguments(_arguments(plan, block), theirs)
    return (_role(plan), *map(str, merged))


def service_of(plan: NodePlan) -> str:
    """Return the service that runs a plan."""
    return f"k0s{_role(plan)}"


def _role(plan: NodePlan) -> str:
    return "controller" if plan.role.is_master else "worker"


def _has_token(block: ServiceSettings) -> bool:
    return any(name in block.env for name in TOKEN_VARIABLES)


def _arguments(plan: NodePlan, block: ServiceSettings) -> list[Argument]:
    arguments = []
    if plan.role.is_master:
        arguments += [Argument("config", CONFIG), Argument("enable-worker"), Argument("no-taints")]
    found = (("hostname-override", plan.node_name), ("node-ip", plan.attachment.node_ip))
    arguments.append(Argument(KUBELET, " ".join(f"--{name}={value}" for name, value in found if value)))
    # k0s refuses two sources of a token; a word among the operator's arguments is one, and goes into our file.
    joins = plan.join is not None or any(not argument.name for argument in parse_arguments(block.args))
    if joins and not _has_token(block):
        arguments.append(Argument("token-file", TOKEN))
    return arguments


def _token(plan: NodePlan, role: str, words: list[str], ours: frozenset[str]) -> File | None:
    """Return the file that k0s is to read the token from, if that one is ours."""
    if f"--token-file={TOKEN}" not in ours:
        return None
    if words or plan.join is None:
        return File(TOKEN, words[-1])
    host = urlsplit(plan.join.server).hostname or ""
    token = token_for(role, plan.join.token)
    return File(TOKEN, with_host(token, host) if host else token)


def _check_join(plan: NodePlan, block: ServiceSettings, arguments: tuple[str, ...]) -> None:
    """Refuse to join nothing. Without automatic roles the operator's own arguments may say what to join."""
    if plan.role not in (Role.WORKER, Role.HA) or plan.join is not None:
        return  # whoever replaces our arguments knows why
    if argument_value(arguments, "token-file") is None and not _has_token(block):
        raise EngineError(
            f"{plan.role} needs a join token; neither the plan nor the operator's arguments have one. Wait for a "
            f"master, or set --token-file in the args of {'k0s-worker' if plan.role is Role.WORKER else 'k0s'}."
        )


def _configuration(plan: NodePlan, block: ServiceSettings) -> File:
    return File(CONFIG, cluster_config(plan, block.config if isinstance(block, ControllerSettings) else {}))


def _manifests(plan: NodePlan, data_directory: str) -> tuple[File, ...]:
    """Return the networks' manifests, which k0s deploys from a directory of its controllers."""
    files = []
    for manifest in plan.attachment.manifests if plan.role.is_master else ():
        if "/" in manifest.name or not manifest.name.endswith(".yaml"):
            raise EngineError(
                f"{manifest.name!r} is no name for a manifest: k0s reads *.yaml of one directory. Rename it in the "
                "network that offers it."
            )
        if manifest.static_pod:
            raise EngineError(
                f"{manifest.name} is a static pod, and k0s' kubelet reads none. Set kubevip.static_pod: false; "
                "kube-vip then runs as a DaemonSet."
            )
        files.append(File(f"{data_directory}/manifests/{STACK}/{manifest.name}", manifest.content))
    return tuple(files)
