"""k0s' arguments as values: parsed, merged flag by flag, those for the kubelet within. Pure.

k0s reads its command line with spf13/pflag: two dashes for long names, one for letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kairos_core import Argument, CommandLine, argument_value
from kairos_engine_k0s.flags import ADDING, SHORT, SWITCHES

KUBELET = "kubelet-extra-args"


def _split(word: str) -> tuple[str, str, str]:
    if word.startswith("--"):
        return word[2:].partition("=")
    letter, rest = word[1], word[2:]
    name = SHORT.get(letter, letter)
    if name in SWITCHES or not rest:
        return name, "", ""
    return name, "=", rest.removeprefix("=")  # -cVALUE and -c=VALUE are the same


_COMMAND_LINE = CommandLine(SWITCHES, ADDING, _split)  # pflag takes the next word, whatever it looks like


def parse_arguments(items: Iterable[str]) -> tuple[Argument, ...]:
    """Read an operator's arguments: `--flag=value`, `--flag value` in one item or two, `-c value`, `-d`, `--switch`.

    Items are split into words as a shell does. Raises ValueError for an unclosed quote.
    """
    return _COMMAND_LINE.parse(items)


def merge_arguments(ours: Sequence[Argument], theirs: Sequence[Argument]) -> tuple[Argument, ...]:
    """Merge flag by flag: one that the operator gives replaces ours, except where values add up.

    The kubelet's arguments, all in one flag of k0s, are merged in the same way among themselves.
    """
    kubelet = next((argument.value or "" for argument in ours if argument.name == KUBELET), "")
    return _COMMAND_LINE.merge(ours, [_with_kubelet(argument, kubelet) for argument in theirs])


def _with_kubelet(argument: Argument, kubelet: str) -> Argument:
    if argument.name != KUBELET:
        return argument
    return replace(argument, value=_merge_kubelet(kubelet, argument.value or ""))


def _merge_kubelet(ours: str, theirs: str) -> str:
    given = {word.partition("=")[0] for word in theirs.split() if word.startswith("--")}
    kept = [word for word in ours.split() if word.partition("=")[0] not in given]
    return " ".join([*kept, *theirs.split()])


def is_on(arguments: Iterable[str], name: str) -> bool:
    """Say whether a switch is on among formatted arguments; the last word counts."""
    found = [text for text in arguments if text == f"--{name}" or text.startswith(f"--{name}=")]
    return bool(found) and found[-1].partition("=")[2] in ("", "true", "TRUE", "True", "t", "T", "1")


def kubelet_value(arguments: Iterable[str], name: str) -> str | None:
    """Return the last value of `--name=value` among the arguments for the kubelet."""
    return argument_value((argument_value(arguments, KUBELET) or "").split(), name)
