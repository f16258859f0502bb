"""What would run, and why: each argument, variable and file of a launch with its reason. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType

from kairos_core import File, Join, NodePlan, Preview, Step, StepKind
from kairos_engine_k0s.arguments import parse_arguments
from kairos_engine_k0s.launch import Launch, launch_of
from kairos_engine_k0s.settings import ControllerSettings, WorkerSettings
from kairos_engine_k0s.tokens import sample_token

_ARGUMENTS = MappingProxyType(
    {
        "config": "k0s.yaml is made of the plan: addresses, storage, and what k0s.config adds",
        "enable-worker": "a master runs pods too, or a lone one would run none",
        "no-taints": "pods may run on masters",
        "kubelet-extra-args": "the node's name and address in the network; pinned, so that no other address is taken",
        "token-file": "the token of the cluster that is joined; in a file, since every user can read arguments",
    }
)


def showable(plan: NodePlan) -> NodePlan:
    """Return a plan that can be launched on paper: only other machines know the token, so one like it stands for it."""
    return plan if plan.join is None else replace(plan, join=Join("https://master.invalid:6443", sample_token()))


def preview_of(
    plan: NodePlan, settings: tuple[ControllerSettings, WorkerSettings], program: str, files: Iterable[File]
) -> Preview:
    """Explain the launch of a plan; `files` are those of the supervisor. Raises EngineError."""
    launch = launch_of(plan, *settings)
    block, section = (settings[0], "k0s") if plan.role.is_master else (settings[1], "k0s-worker")
    theirs = frozenset(map(str, parse_arguments(block.in_force.args)))
    steps = [
        *(Step(StepKind.ARGUMENT, text, _why(text, theirs, section)) for text in launch.arguments[1:]),
        *(Step(StepKind.VARIABLE, f"{name}=***", f"{section}.env") for name in launch.environment),
        *_files(launch, files),
    ]
    return Preview(launch.service, f"{program} {launch.role}", tuple(steps))


def _why(text: str, theirs: frozenset[str], section: str) -> str:
    name = text.lstrip("-").partition("=")[0]
    if text in theirs or name not in _ARGUMENTS:
        return f"{section}.args"
    return _ARGUMENTS[name]


def _files(launch: Launch, files: Iterable[File]) -> Iterator[Step]:
    reasons = [
        (file, "holds the variables above" if file.path.endswith(".env") else "runs the command") for file in files
    ]
    if launch.configuration is not None:
        reasons.append((launch.configuration, "what --config names"))
    if launch.token is not None:
        reasons.append((launch.token, "what --token-file names"))
    reasons += [(file, "of a network: k0s deploys it") for file in launch.manifests]
    for file, why in reasons:
        yield Step(StepKind.FILE, f"{file.path} {file.mode:04o}", why)
