"""How commands print data: JSON for programs, a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns under a header. Columns that are empty in every row are left out."""
    used = [n for n in range(len(header)) if any(row[n] for row in rows)]
    lines = [[line[n] for n in used] for line in (header, *rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(used))]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
