"""What is wrong, and where: one sentence for each fault, for people who do not know pydantic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from kairos_core.config.blocks import CloudConfig
from kairos_core.config.composer import resolve
from kairos_core.config.document import Mark, Node, show_key
from kairos_core.config.shape import Model, is_secret
from kairos_core.errors import ConfigError

MAX_PROBLEMS = 5
"""Faults named in one error; more would hide the first, which often causes the others."""

MAX_SHOWN = 40
"""Characters of a value in an error; longer ones are cut, as they may be a token in a wrong place."""

_EXPECTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "string_sub_type": "text",
    "dict_type": "keys and values below it",
    "mapping_type": "keys and values below it",
    "dataclass_type": "keys and values below it",
    "model_type": "keys and values below it",
    "model_attributes_type": "keys and values below it",
    "tuple_type": "a list: lines that start with -",
    "list_type": "a list: lines that start with -",
    "set_type": "a list: lines that start with -",
    "ip_v4_address": "an IPv4 address such as 192.168.1.110",
    "ip_v6_address": "an IPv6 address such as fd00::110",
    "ip_v4_network": "an IPv4 network such as 10.1.0.0/24",
    "ip_v6_network": "an IPv6 network such as fd00::/64",
    "ip_any_address": "an IP address such as 192.168.1.110",
    "ip_any_network": "a network such as 10.1.0.0/24",
    "path_type": "the path of a file",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
}

_ADVICE: Mapping[str, str] = {"p2p.network_token": " Make one with: kairos generate-token"}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault: where it stands, the dotted path, and the sentence that goes after the path."""

    mark: Mark
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.path}{self.what}"


def raise_any(problems: Iterable[Problem]) -> None:
    """Raise one ConfigError with a line for each of the first problems, in the order of the files."""
    first: dict[tuple[Mark, str], Problem] = {}
    for problem in problems:
        first.setdefault((problem.mark, problem.path), problem)
    found = sorted(first.values())
    if not found:
        return
    lines = [str(problem) for problem in found[:MAX_PROBLEMS]]
    if len(found) > MAX_PROBLEMS:
        lines.append(f"and {len(found) - MAX_PROBLEMS} more")
    raise ConfigError("\n".join(lines))


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as people do: `p2p.peers[1]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{show_key(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def unknown_key(node: Node, path: Sequence[str], known: Iterable[str]) -> Problem:
    """Say that a key is not one of ours, and which it may have been meant to be."""
    close = nearest(path[-1], known)
    inside = dotted(path[:-1])
    advice = f"did you mean {close}?" if close else f"{inside} takes {', '.join(sorted(known)) or 'no keys'}."
    return Problem(node.mark, dotted(path), f" is an unknown key; {advice}")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known key that a word was probably meant to be; case, - and _ do not matter."""
    plain = {_plain(key): key for key in known}
    close = get_close_matches(_plain(word), plain, 1, 0.7)
    return plain[close[0]] if close else None


def _plain(word: str) -> str:
    return word[:80].lower().replace("-", "").replace("_", "")


def from_validation(error: ValidationError, root: Node, model: Model, prefix: tuple[str, ...] = ()) -> list[Problem]:
    """Turn what a model refused into problems. `root` is the whole tree, `prefix` the model's path in it."""
    problems = []
    for detail in error.errors(include_url=False, include_input=False):
        path = _existing(root, prefix, detail["loc"])
        node, mark = _found(root, path)
        secret = _is_secret(model, path, prefix)
        problems.append(Problem(mark, dotted(path), _sentence(detail, node, path, secret)))
    return problems


def _is_secret(model: Model, path: tuple[str | int, ...], prefix: tuple[str, ...]) -> bool:
    """A value is shown only if a model knows its key, and neither the core's nor the plugin's hides it."""
    answers = (is_secret(model, path[len(prefix) :]), is_secret(CloudConfig, path))
    return True in answers or False not in answers


def _existing(root: Node, prefix: tuple[str, ...], loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """Cut what pydantic adds to a location (the names of a union's alternatives), keep a missing last key."""
    path: tuple[str | int, ...] = prefix
    for part in loc:
        if root.at((*path, part)) is None:
            parent = root.at(path)
            is_key = parent is not None and isinstance(parent.value, dict)
            return (*path, part) if is_key or parent is None else path
        path = (*path, part)
    return path


def _found(root: Node, path: tuple[str | int, ...]) -> tuple[Node | None, Mark]:
    """Return the node of a path, and its mark or that of the nearest parent."""
    for length in range(len(path), -1, -1):
        node = root.at(path[:length])
        if node is not None:
            return (node if length == len(path) else None), node.mark
    return None, root.mark


def _sentence(detail: Any, node: Node | None, path: Sequence[str | int], secret: bool) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing" or (node is None and kind != "value_error"):
        return f" is missing.{_ADVICE.get(dotted(path), '')}"
    if kind == "value_error":
        return f": {_sentence_end(_shortened(detail['msg'].removeprefix('Value error, '), node, secret))}"
    template = _EXPECTED.get(kind)
    if template is None:
        return f": {_shown(node, secret)}: {_shortened(detail['msg'], node, secret)}"
    # Quotes made text of "yes" or "2", where an unquoted word would have been right.
    quoted = node is not None and isinstance(node.value, str) and resolve(node.value) != node.value
    bare = ", without quotes" if quoted else ""
    return f": {_shown(node, secret)}, expected {template.format(**context)}{bare}."


def _sentence_end(message: str) -> str:
    return message if message.endswith((".", "?", "generate-token")) else message + "."


def _shortened(message: str, node: Node | None, secret: bool) -> str:
    """Cut the value out of a validator's own message where it is a secret, or long."""
    text = node.text if node is not None else None
    if text and (secret or len(text) > MAX_SHOWN):
        short = "…" if secret else text[:MAX_SHOWN] + "…"
        message = message.replace(repr(text), repr(short)).replace(text, short)
    return message if len(message) <= 400 else message[:399] + "…"


def _shown(node: Node | None, secret: bool) -> str:
    """Describe a value: a scalar as it was written unless it is a secret, anything else by what it is."""
    if node is None or node.value is None:
        return "there is no value"
    if isinstance(node.value, (dict, list)):
        return "there is a list" if isinstance(node.value, list) else "there are keys and values"
    kind = {bool: "true or false", int: "a number", float: "a number"}.get(type(node.value), "text")
    text = node.text or ""
    if secret:
        return f"the value is {kind}"
    shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    return f"{shown!r} is {kind}"
