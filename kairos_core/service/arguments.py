"""A program's arguments as values: read as the program reads them, and merged flag by flag. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Argument:
    """One flag by its long name, with its value if it has one; a word that is no flag has no name."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        if not self.name:
            return self.value or ""
        dashes = "-" if len(self.name) == 1 else "--"  # a letter that is short for nothing stays one
        return f"{dashes}{self.name}" if self.value is None else f"{dashes}{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What must be known of a program's flags to read and merge them; one that is in no table takes one value.

    `switches` take none (`--debug`, or `--debug=false`); the values of those in `adding` add up when they are given
    several times. `split` takes a word with dashes apart: the long name, `=` if a value follows in the same word, and
    that value. A word that begins like one of `no_value` is never the value of the flag before it: so a switch that is
    not in the table does not swallow what follows. Programs that take any word leave it empty.
    """

    switches: frozenset[str]
    adding: frozenset[str]
    split: Callable[[str], tuple[str, str, str]]
    no_value: tuple[str, ...] = ()

    def parse(self, items: Iterable[str]) -> tuple[Argument, ...]:
        """Read an operator's arguments: a flag with its value in one word or two, a switch, a word that is no flag.

        Items are split into words as a shell does. Raises ValueError for an unclosed quote.
        """
        words = [word for item in items for word in shlex.split(item)]
        arguments = []
        while words:
            word = words.pop(0)
            if not word.startswith("-") or word.strip("-") == "":
                arguments.append(Argument("", word))
                continue
            name, equals, value = self.split(word)
            if equals:
                arguments.append(Argument(name, value))
            elif name not in self.switches and words and not words[0].startswith(self.no_value):
                arguments.append(Argument(name, words.pop(0)))
            else:
                arguments.append(Argument(name))
        return tuple(arguments)

    def merge(self, ours: Sequence[Argument], theirs: Sequence[Argument]) -> tuple[Argument, ...]:
        """Merge flag by flag: one that the operator gives replaces ours, except where the values add up."""
        given = {argument.name for argument in theirs if argument.name not in self.adding}
        kept = [argument for argument in ours if argument.name not in given]
        return tuple(dict.fromkeys([*kept, *theirs]))


def argument_value(arguments: Iterable[str], name: str) -> str | None:
    """Return the last value of `--name=value` among formatted arguments."""
    values = [text.partition("=")[2] for text in arguments if text.startswith(f"--{name}=")]
    return values[-1] if values else None
