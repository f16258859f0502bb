"""JSON in and out of the API. What comes in is bounded; what goes out never fails, whatever a peer wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

MAX_DEPTH = 32
"""Nested lists and objects in one value. Raising it lets one small body cost more stack in every reader."""

_INTEGERS = range(-(2**63), 2**64)
"""What the ledger's encoding (MessagePack) holds."""


def parse_json(text: str | bytes) -> Any:
    """Read a JSON value that the ledger can hold. Raises ValueError with a sentence.

    Refused although Python would read them: NaN and Infinity (not JSON, RFC 8259 section 6), integers over 64
    bits, lone surrogates, and values nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"the value is nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise ValueError("the text is not UTF-8") from None
    _check(value, MAX_DEPTH)
    return value


def format_json(value: Any) -> str:
    """Write a value as compact JSON, in ASCII so that any string survives; NaN and Infinity become null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:  # a peer may write any float that MessagePack holds
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"the value is nested deeper than {MAX_DEPTH} levels")
    match value:
        case str():
            _check_text(value)
        case bool() | None:
            pass
        case int() if value not in _INTEGERS:
            raise ValueError("an integer has more than 64 bits; write it as a string")
        case float() if not math.isfinite(value):
            raise ValueError("a number is too large; write it as a string")
        case list():
            for item in value:
                _check(item, depth - 1)
        case dict():
            for key, item in value.items():
                _check_text(key)
                _check(item, depth - 1)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string has half of a surrogate pair, which is no character") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
