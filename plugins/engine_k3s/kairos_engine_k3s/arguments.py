"""k3s' arguments as values: parsed, merged flag by flag, freed of secrets. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kairos_engine_k3s.flags import ADDING, SECRET, SHORT, SWITCHES


@dataclass(frozen=True, slots=True)
class Argument:
    """One flag by its long name, with its value if it has one; a word that is no flag has no name."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        if not self.name:
            return self.value or ""
        # Go's flag package reads one dash and two alike; one-letter flags without a long name (-v) look best
        # so.
        dashes = "-" if len(self.name) == 1 else "--"
        return f"{dashes}{self.name}" if self.value is None else f"{dashes}{self.name}={self.value}"


def parse_arguments(items: Iterable[str]) -> tuple[Argument, ...]:
    """Read an operator's arguments: `--flag=value`, `--flag value` in one item or two, `-f`, `--switch`.

    Items are split into words as a shell does. Raises ValueError for an unclosed quote.
    """
    words = [word for item in items for word in shlex.split(item)]
    arguments = []
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word.strip("-") == "":
            arguments.append(Argument("", word))
            continue
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        name = SHORT.get(name, name)
        if equals:
            arguments.append(Argument(name, value))
        elif name not in SWITCHES and words and not words[0].startswith("--"):
            arguments.append(Argument(name, words.pop(0)))
        else:
            arguments.append(Argument(name))
    return tuple(arguments)


def merge_arguments(ours: Sequence[Argument], theirs: Sequence[Argument]) -> tuple[Argument, ...]:
    """Merge flag by flag: one that the operator gives replaces ours, except where the values add up."""
    given = {argument.name for argument in theirs if argument.name not in ADDING}
    kept = [argument for argument in ours if argument.name not in given]
    return tuple(dict.fromkeys([*kept, *theirs]))


def take_secrets(arguments: Iterable[Argument]) -> tuple[tuple[Argument, ...], dict[str, str]]:
    """Return the arguments without secrets, and the secrets as environment variables."""
    visible = []
    secrets = {}
    for argument in arguments:
        if argument.name in SECRET and argument.value is not None:
            secrets[SECRET[argument.name]] = argument.value
        else:
            visible.append(argument)
    return tuple(visible), secrets


def value_of(arguments: Iterable[str], name: str) -> str | None:
    """Return the last value of `--name=value` among formatted arguments."""
    values = [text.partition("=")[2] for text in arguments if text.startswith(f"--{name}=")]
    return values[-1] if values else None


def component_value(arguments: Iterable[str], flag: str, key: str) -> str | None:
    """Return the last `value` of `--flag=key=value` (such as --kubelet-arg) among formatted arguments."""
    start = f"--{flag}={key}="
    values = [text.removeprefix(start) for text in arguments if text.startswith(start)]
    return values[-1] if values else None
