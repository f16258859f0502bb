"""k3s' arguments as values: parsed, merged flag by flag, freed of secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kairos_core import Argument, CommandLine
from kairos_engine_k3s.flags import ADDING, SECRET, SHORT, SWITCHES


def _split(word: str) -> tuple[str, str, str]:
    """Take a flag apart: to Go's flag package one dash and two are alike."""
    name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
    return SHORT.get(name, name), equals, value


_COMMAND_LINE = CommandLine(SWITCHES, ADDING, _split, no_value=("--",))


def parse_arguments(items: Iterable[str]) -> tuple[Argument, ...]:
    """Read an operator's arguments: `--flag=value`, `--flag value` in one item or two, `-f`, `--switch`.

    Items are split into words as a shell does. Raises ValueError for an unclosed quote.
    """
    return _COMMAND_LINE.parse(items)


def merge_arguments(ours: Sequence[Argument], theirs: Sequence[Argument]) -> tuple[Argument, ...]:
    """Merge flag by flag: one that the operator gives replaces ours, except where the values add up."""
    return _COMMAND_LINE.merge(ours, theirs)


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


def component_value(arguments: Iterable[str], flag: str, key: str) -> str | None:
    """Return the last `value` of `--flag=key=value` (such as --kubelet-arg) among formatted arguments."""
    start = f"--{flag}={key}="
    values = [text.removeprefix(start) for text in arguments if text.startswith(start)]
    return values[-1] if values else None
