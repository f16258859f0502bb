"""How commands print data: JSON for programs, a table for people."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kairos_core.cli.columns import format_columns, print_json

__all__ = ["print_json", "print_table"]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns under a header. Columns that are empty in every row are left out."""
    used = [n for n in range(len(header)) if any(row[n] for row in rows)]
    click.echo(format_columns([header[n] for n in used], [[row[n] for n in used] for row in rows]))
