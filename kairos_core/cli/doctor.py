"""`kairos doctor`: what is right and wrong here, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.columns import print_json, printable
from kairos_core.cli.options import api_option, config_option, json_option
from kairos_core.errors import ConfigError, ControlError, KairosError
from kairos_core.model import Finding, Verdict

_MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}
_STATE = Path("/var/lib/kairos")


@click.command()
@config_option("Cloud-config of this machine; may be repeated.  [default: /etc/kairos and /oem]")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what helpers need to see, without secrets, to this file (tar.gz).",
)
@api_option
@json_option
def doctor(paths: tuple[Path, ...], bundle: Path | None, api: str | None, as_json: bool) -> None:
    """Check this node and its network, and say what mends what is wrong.

    Looks at this machine (unless --api names an agent without --config) and asks the agent.
    """
    answer = _agent(api)
    agent = [_document(answer)] if isinstance(answer, Finding) else answer
    machine = [] if api and not paths else _machine(paths, has_agent=answer is agent)
    # Of a network that it could not bring up, the agent finds what was found here.
    findings = [*machine, *(finding for finding in agent if finding not in machine)]
    if bundle is not None:
        _write(bundle, paths, findings, api)
    if as_json:
        print_json(findings)
    else:
        click.echo("\n".join(line for finding in findings for line in _lines(finding)))
    if any(finding["verdict"] == "wrong" for finding in findings):
        raise SystemExit(1)


def _machine(paths: tuple[Path, ...], *, has_agent: bool) -> list[dict[str, Any]]:
    """Examine this machine; on one without configuration, as an operator's, there is nothing to examine."""
    from kairos_core.runtime.files import read_documents

    try:
        documents = read_documents(paths)
    except ConfigError as error:
        return [_document(Finding("configuration", Verdict.WRONG, str(error), "kairos validate"))]
    return [_document(finding) for finding in _examined(documents, has_agent=has_agent)] if documents else []


def _examined(documents: list[tuple[str, str]], *, has_agent: bool) -> Iterator[Finding]:
    from kairos_core.config import parse_config
    from kairos_core.runtime.checkup import examine_health, examine_machine, examine_peer_ports, examine_plugins, look
    from kairos_core.runtime.plugins import load_plugins

    plugins = load_plugins()
    try:
        config = parse_config(documents, plugins.sections())
    except ConfigError as error:
        yield from (
            Finding("configuration", Verdict.WRONG, line, "kairos validate") for line in str(error).splitlines()
        )
        return
    if config.p2p is None:
        yield Finding("configuration", Verdict.WRONG, "there is no p2p block, so no network", "kairos create-config")
        return
    warnings = [Finding("configuration", Verdict.NOTE, warning) for warning in config.warnings]
    yield from warnings or [Finding("configuration", Verdict.OK, f"{len(documents)} files are valid")]
    yield from examine_machine(look(documents, _STATE), config)
    yield examine_peer_ports(config)
    yield from examine_plugins(config, plugins)
    if not has_agent:
        yield from examine_health(config, plugins)


def _write(bundle: Path, paths: tuple[Path, ...], findings: list[dict[str, Any]], api: str | None) -> None:
    from kairos_core.config import parse_config
    from kairos_core.protocol.token import parse_token
    from kairos_core.runtime.blotting import secrets_in
    from kairos_core.runtime.bundle import write_bundle
    from kairos_core.runtime.files import read_documents
    from kairos_core.runtime.plugins import load_plugins

    documents: dict[str, Any] = {"doctor.json": findings}
    secrets: set[str] = set()
    try:
        config = parse_config(read_documents(paths), load_plugins().sections())
        secrets = secrets_in(config)
        if config.p2p is not None:
            secrets |= secrets_in(parse_token(config.p2p.network_token.get_secret_value()))
        documents["configuration.txt"] = repr(config)  # which shows no secret, unlike the files
    except KairosError as error:
        documents["configuration.txt"] = str(error)
    try:
        documents["status.json"] = ApiClient(api).get("status")
    except ControlError as error:
        documents["status.json"] = str(error)
    write_bundle(bundle, documents, secrets)
    click.echo(f"written to {bundle}; look into it before you give it away", err=True)


def _agent(api: str | None) -> list[dict[str, Any]] | Finding:
    """Return what the agent finds, or that it does not answer."""
    try:
        return list(ApiClient(api).get("doctor"))
    except ControlError as error:
        if api:
            raise
        return Finding("agent", Verdict.WRONG, str(error), "kairos start")


def _document(finding: Finding) -> dict[str, Any]:
    verdict = finding.verdict.value
    return {"check": finding.check, "verdict": verdict, "message": finding.message, "remedy": finding.remedy}


def _lines(finding: dict[str, Any]) -> list[str]:
    mark = _MARKS.get(finding["verdict"], finding["verdict"])
    lines = [f"{printable(mark):<6} {printable(finding['check'])}: {printable(finding['message'])}"]
    return [*lines, f"{'':<6} -> {printable(finding['remedy'])}"] if finding["remedy"] else lines
