"""`kairos plan`: what would run here, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kairos_core.cli.options import json_option
from kairos_core.cli.output import print_json
from kairos_core.errors import ConfigError
from kairos_core.model import NodePlan, Preview, Role, StepKind

if TYPE_CHECKING:
    from kairos_core.config import Config

_HEADS = {StepKind.ARGUMENT: "arguments", StepKind.VARIABLE: "environment", StepKind.FILE: "files"}


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE|DIRECTORY]...", type=click.Path(path_type=Path))
@click.option("--role", type=click.Choice([role.value for role in Role]), help="Only what this role would run.")
@json_option
def plan(files: tuple[Path, ...], role: str | None, as_json: bool) -> None:
    """Show what this machine would run as Kubernetes, and why, without running it.

    Reads cloud-config files; without any, those of /etc/kairos and /oem. Shows each role that the network may give
    this machine: command, environment and files, each with its reason. Secrets are shown as ***, and what only the
    network will tell stands in angle brackets.
    """
    from kairos_core.runtime.plugins import load_plugins
    from kairos_core.runtime.preview import possible_roles, preview_roles

    plugins = load_plugins()
    config = _read(files, plugins.sections())
    roles = (Role(role),) if role else possible_roles(config, plugins)
    previews = preview_roles(config, plugins, roles)
    if as_json:
        print_json([_document(*each) for each in previews])
        return
    for warning in config.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if not previews:
        click.echo("This machine takes part in the network, and runs no Kubernetes.")
    click.echo("\n\n".join("\n".join(_lines(*each)) for each in previews))


def _read(files: tuple[Path, ...], sections: Any) -> Config:
    from kairos_core.config import parse_config
    from kairos_core.runtime.files import read_documents

    documents = read_documents(files)
    if not documents:
        raise ConfigError("there is no configuration in /etc/kairos or /oem. Name the files to plan with.")
    return parse_config(documents, sections)


def _document(node: NodePlan, preview: Preview) -> dict[str, Any]:
    steps = {head: [{"text": step.text, "why": step.why} for step in preview.steps if step.kind is kind]
             for kind, head in _HEADS.items()}  # fmt: skip
    return {"role": node.role.value, "service": preview.service, "command": preview.command, **steps}


def _lines(node: NodePlan, preview: Preview) -> Iterator[str]:
    yield f"As {node.role}, the service {preview.service} runs: {preview.command}"
    for kind, head in _HEADS.items():
        steps = [step for step in preview.steps if step.kind is kind]
        if steps:
            yield f"  {head}"
            yield from _columns((step.text, step.why) for step in steps)


def _columns(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    listed = list(rows)
    width = min(48, max(len(text) for text, _ in listed))
    for text, why in listed:
        yield f"    {text:<{width}}  {why}"
