"""What would run, and why: each argument, variable and file of a launch with its reason. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType

from kairos_core import Argument, File, NodePlan, Preview, Role, Step, StepKind
from kairos_engine_k3s.arguments import parse_arguments, take_secrets
from kairos_engine_k3s.flags import ADDING
from kairos_engine_k3s.launch import Launch, block_of, launch_of, our_arguments
from kairos_engine_k3s.settings import AgentSettings, ServerSettings

HIDDEN = "***"

_ARGUMENTS = MappingProxyType(
    {
        "node-name": "the machine's name in the network; it stays when the machine is installed anew",
        "node-ip": "the address by which other nodes reach this one; pinned, so that no elastic IP is taken for it",
        "flannel-iface": "pods reach those of other nodes through this interface",
        "embedded-registry": "k3s.embedded_registry",
        "server": "the API server of the cluster that is joined",
        "cluster-init": "the first of several masters starts etcd, which the others join",
    }
)
_SHARED = "p2p.auto.ha.external_db, where all masters keep the cluster's state; in a file, since it holds a password"


def preview_of(
    plan: NodePlan, settings: tuple[ServerSettings, AgentSettings], program: str, files: Iterable[File]
) -> Preview:
    """Explain the launch of a plan; `files` are those of the supervisor. Raises EngineError."""
    launch = launch_of(plan, *settings)
    steps = (*_arguments(plan, launch, settings), *_variables(plan, launch, settings), *_files(launch, files))
    return Preview(launch.service, f"{program} {launch.arguments[0]}", steps)


def _arguments(plan: NodePlan, launch: Launch, settings: tuple[ServerSettings, AgentSettings]) -> Iterator[Step]:
    block = block_of(plan, *settings)
    theirs, _ = take_secrets(parse_arguments(block.args))
    ours = {str(argument): argument for argument in our_arguments(plan, settings[0])}
    given = {str(argument) for argument in theirs}
    for text in launch.arguments[1:]:
        why = _operators(text, theirs, list(ours.values()), _section(plan)) if text in given else _why(ours[text], plan)
        yield Step(StepKind.ARGUMENT, text, why)


def _operators(text: str, theirs: Sequence[Argument], ours: Sequence[Argument], section: str) -> str:
    name = next(argument.name for argument in theirs if str(argument) == text)
    replaced = [str(argument) for argument in ours if argument.name == name and name not in ADDING]
    return f"{section}.args" + (f", in place of {' '.join(replaced)}" if replaced and replaced != [text] else "")


def _why(argument: Argument, plan: NodePlan) -> str:
    if argument.name == "server" and plan.rejoin:
        return "another master, which this first one joins should its data be gone: it begins no second cluster"
    if argument.name != "tls-san":
        return _ARGUMENTS[argument.name]
    place = plan.attachment
    kind = "the elastic IP" if argument.value == place.endpoint else "the node's address"
    kind = kind if argument.value in (place.endpoint, place.node_ip) else "a further address of this machine"
    return f"the API server's certificate is valid for {kind}"


def _variables(plan: NodePlan, launch: Launch, settings: tuple[ServerSettings, AgentSettings]) -> Iterator[Step]:
    block, section = block_of(plan, *settings), _section(plan)
    _, secrets = take_secrets(parse_arguments(block.args))
    ours = {
        "K3S_TOKEN": "the join token, which a master has sealed to this node in the ledger"
        if plan.join
        else "the cluster's secret, derived from the network token and the cluster's id",
        "K3S_URL": _ARGUMENTS["server"],
        "K3S_DATASTORE_ENDPOINT": _SHARED,
    }
    for name in launch.environment:
        if name in secrets:
            why = f"{section}.args, moved here since every user of the machine can read arguments"
        elif name in block.env:
            why = f"{section}.env"
        else:
            why = ours[name]
        # What an operator set may be a secret whatever its name.
        value = launch.environment[name].get_secret_value() if name == "K3S_URL" else HIDDEN
        yield Step(StepKind.VARIABLE, f"{name}={value}", why)


def _files(launch: Launch, files: Iterable[File]) -> Iterator[Step]:
    for file in files:
        why = "holds the variables above" if file.mode == 0o600 and file.path.endswith(".env") else "runs the command"
        yield Step(StepKind.FILE, f"{file.path} {file.mode:04o}", why)
    for file in launch.manifests:
        runner = "the kubelet runs it by itself" if "/pod-manifests/" in file.path else "k3s deploys it"
        yield Step(StepKind.FILE, f"{file.path} {file.mode:04o}", f"of a network: {runner}")


def _section(plan: NodePlan) -> str:
    return "k3s" if plan.role is not Role.WORKER else "k3s-agent"
