"""`kairos ledger`: reads, writes and watches the shared ledger."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import click

from kairos_core.api.client import ApiClient
from kairos_core.api.document import parse_json
from kairos_core.cli.columns import format_columns, print_json, printable
from kairos_core.cli.options import api_option, json_option


@click.group()
def ledger() -> None:
    """Read, write and watch the ledger."""


@ledger.command("get")
@click.argument("bucket", required=False)
@click.argument("key", required=False)
@api_option
@json_option
def get_entries(bucket: str | None, key: str | None, api: str | None, as_json: bool) -> None:
    """Print an entry, the entries of BUCKET, or all buckets."""
    path = [part for part in (bucket, key) if part is not None]
    answer = ApiClient(api).get("ledger", *path)
    found = answer["value"] if key is not None else answer
    if as_json:
        print_json(found)
    elif key is not None:
        click.echo(_text(found))
    else:
        buckets = found if bucket is None else {bucket: found}
        rows = [(name, each, _text(value)) for name, entries in buckets.items() for each, value in entries.items()]
        click.echo(format_columns(("BUCKET", "KEY", "VALUE"), rows))


@ledger.command("set", context_settings={"ignore_unknown_options": True})  # -1.5 is a value
@click.argument("bucket")
@click.argument("key")
@click.argument("value")
@api_option
@json_option
def set_entry(bucket: str, key: str, value: str, api: str | None, as_json: bool) -> None:
    """Write an entry and wait until it is saved. VALUE is JSON; what is not JSON is taken as text."""
    answer = ApiClient(api).put(_value(value), "ledger", bucket, key)
    if as_json:
        print_json(answer)


@ledger.command("delete")
@click.argument("bucket")
@click.argument("key")
@api_option
def delete_entry(bucket: str, key: str, api: str | None) -> None:
    """Delete an entry."""
    ApiClient(api).delete("ledger", bucket, key)


@ledger.command("watch")
@click.argument("bucket", required=False)
@api_option
@json_option
def watch_entries(bucket: str | None, api: str | None, as_json: bool) -> None:
    """Print each change, of BUCKET or of all, until Ctrl-C."""
    with closing(ApiClient(api).changes(bucket)) as changes:
        try:
            for change in changes:
                _print_change(change, as_json)
        except KeyboardInterrupt:
            return  # this is how one leaves


def _print_change(change: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(change, indent=None)
        return
    value = "deleted" if change["value"] is None else f"= {_text(change['value'])}"
    click.echo(f"{printable(change['bucket'])}/{printable(change['key'])} {value}")


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
