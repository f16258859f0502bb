"""Host names from templates such as `edge-{{ trunc 4 .MachineID }}`: the subset of Go templates in use.

`.MachineID` and `.Random` pass through trunc, upper, lower, trimPrefix, trimSuffix (Sprig's meaning), called
either way: `{{ trunc 4 .MachineID }}` or `{{ .MachineID | trunc 4 }}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from kairos_core.errors import ConfigError

RANDOM_LENGTH = 32
"""Characters of `.Random` before `trunc`, as many as a machine id has."""

MAX_HOSTNAME = 64
"""Characters in a host name: Linux's HOST_NAME_MAX, see gethostname(2). RFC 1123 alone would allow 255."""

_ACTION = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_WORD = re.compile(r'"[^"]*"|\||[^\s"|]+|"')
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SUPPORTED = (
    "{{ .MachineID }} and {{ .Random }}, through trunc N, upper, lower, trimPrefix TEXT, trimSuffix TEXT "
    "(for example: edge-{{ trunc 4 .MachineID }})"
)


def render_hostname(template: str, machine_id: str, random: Callable[[int], str]) -> str:
    """Fill in a host name template. Raises ConfigError for what it cannot, and for a name that is not one.

    `random(n)` returns n lower-case letters and digits; it is called at most once, so that `.Random` has one
    value within a name. The name changes whenever `.Random` does: keep the rendered name, not the template.
    """
    values = {".MachineID": machine_id}
    if ".Random" in template:
        values[".Random"] = random(RANDOM_LENGTH)
    name = _ACTION.sub(lambda action: _evaluate(template, action[1], values), template)
    if "{{" in name or "}}" in name:
        raise ConfigError(f"the host name template {_shown(template)} has {{{{ without }}}}, or the reverse. Close it.")
    return _checked(name, template)


def _evaluate(template: str, pipeline: str, values: Mapping[str, str]) -> str:
    piped: list[str] = []
    for stage in _stages(pipeline):
        result = _apply([*stage, *piped], values) if stage else None
        if result is None:
            raise ConfigError(
                f"the host name template {_shown(template)} cannot be filled in: "
                f"{_shown(pipeline.strip())} is not supported. Supported: {_SUPPORTED}."
            )
        piped = [f'"{result}"']
    return piped[0][1:-1]


def _stages(pipeline: str) -> list[list[str]]:
    stages: list[list[str]] = [[]]
    for word in _WORD.findall(pipeline):
        if word == "|":
            stages.append([])
        else:
            stages[-1].append(word)
    return stages


def _apply(words: list[str], values: Mapping[str, str]) -> str | None:
    """Evaluate one call, None for one that is not supported."""
    match words:
        case [value]:
            return _text(value, values)
        case [("upper" | "lower") as function, value]:
            text = _text(value, values)
            return None if text is None else getattr(text, function)()
        case [("trimPrefix" | "trimSuffix") as function, affix, value]:
            return _trim(function, _text(affix, values), _text(value, values))
        case ["trunc", count, value] if re.fullmatch(r"-?[0-9]{1,3}", count):
            text, length = _text(value, values), int(count)
            if text is None:
                return None
            return text[:length] if length >= 0 else text[length:]
    return None


def _trim(function: str, affix: str | None, text: str | None) -> str | None:
    if affix is None or text is None:
        return None
    return text.removeprefix(affix) if function == "trimPrefix" else text.removesuffix(affix)


def _text(word: str, values: Mapping[str, str]) -> str | None:
    quoted = len(word) > 1 and word.startswith('"') and word.endswith('"')
    return word[1:-1] if quoted else values.get(word)


def _checked(name: str, template: str) -> str:
    made = _shown(name) if name == template else f"{_shown(name)} (from {_shown(template)})"
    if not name:
        raise ConfigError(f"the host name {_shown(template)} is empty. Write a name, or leave hostname out.")
    if len(name) > MAX_HOSTNAME:
        raise ConfigError(
            f"the host name {made} has {len(name)} characters, more than {MAX_HOSTNAME}. "
            "Shorten it, for example with trunc."
        )
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise ConfigError(
                f"the host name {made} is not valid: {label!r} must be 1 to 63 letters, digits and hyphens, "
                "and neither start nor end with a hyphen (RFC 1123). Change hostname."
            )
    return name


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")
