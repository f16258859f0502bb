"""`kairos doctor`: what is right and wrong here, and what mends it."""

from __future__ import annotations

from typing import Any

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.agent import api_option, json_option
from kairos_core.cli.columns import print_json, printable

_MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}


@click.command()
@api_option
@json_option
def doctor(api: str | None, as_json: bool) -> None:
    """Check this node and its network, and say what mends what is wrong."""
    findings = ApiClient(api).get("doctor")
    if as_json:
        print_json(findings)
    else:
        click.echo("\n".join(line for finding in findings for line in _lines(finding)))
    if any(finding["verdict"] == "wrong" for finding in findings):
        raise SystemExit(1)


def _lines(finding: dict[str, Any]) -> list[str]:
    mark = _MARKS.get(finding["verdict"], finding["verdict"])
    lines = [f"{printable(mark):<6} {printable(finding['check'])}: {printable(finding['message'])}"]
    return [*lines, f"{'':<6} -> {printable(finding['remedy'])}"] if finding["remedy"] else lines
