"""Text for terminals: columns, and words of peers without what a terminal would obey."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click


def printable(text: object) -> str:
    """Return text with control characters made visible: a peer's name may hold escape sequences (the attack: a
    terminal that is told to type, or to hide a line)."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def format_columns(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows in columns under their headers, with two spaces between; an empty cell is a dash."""
    lines = [list(headers), *([printable("-" if cell in (None, "") else cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print JSON; `indent` None gives one line per value, for streams."""
    click.echo(json.dumps(value, indent=indent))
