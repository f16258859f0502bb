"""What a settings model expects below a key: which keys, whether text, whether a secret.

The models are the only description of the configuration; everything that treats keys in general (unknown
keys, text as it was written, hiding secrets) asks here, so it works for the models of plugins alike: classes of
`Settings`, or pydantic's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import pydantic
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from kairos_core.config.document import Node
from kairos_core.settings import SecretStr, Settings, settings_fields

Model: TypeAlias = type[BaseModel] | type[Settings]

_SECRETS = (SecretStr, pydantic.Secret, pydantic.SecretBytes, pydantic.SecretStr)
_TEXT = (
    str, SecretStr, pydantic.SecretBytes, pydantic.SecretStr, Enum,
    IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What a model says of a key: the type of its value, and whether that may be shown."""

    annotation: Any
    repr: bool


def fields(model: Model) -> Mapping[str, Key]:
    """Return the fields of a model by the keys under which a file may set them."""
    if issubclass(model, Settings):
        hashable: Any = model  # which mypy doubts of a class whose instances compare
        return _own_fields(hashable)
    return _pydantic_fields(model)


@lru_cache(maxsize=256)  # asked for each key and list item of a file
def _own_fields(model: type[Settings]) -> Mapping[str, Key]:
    annotations = get_type_hints(model, include_extras=True)
    found: dict[str, Key] = {}
    for field in settings_fields(model):
        key = Key(annotations[field.name], field.repr)
        alias = field.metadata.get("alias", field.name)
        found[alias] = key
        if "-" not in alias:
            found[field.name] = key
    return found


def _pydantic_fields(model: type[BaseModel]) -> dict[str, Key]:
    by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    found: dict[str, Key] = {}
    for name, info in model.model_fields.items():
        keys = list(_aliases(info))
        for key in keys or [name]:
            found[key] = Key(info.annotation, info.repr)
        if by_name and not any("-" in key for key in keys):
            found[name] = Key(info.annotation, info.repr)
    return found


def _aliases(info: FieldInfo) -> Iterator[str]:
    alias = info.validation_alias or info.alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, str):
            yield choice


def is_open(model: Model) -> bool:
    """Say whether a model takes keys that it does not name."""
    rules = model.__pydantic_config__ if issubclass(model, Settings) else model.model_config
    return rules.get("extra") == "allow"


def types(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of an annotation, without None and without Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from types(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from types(part)
    elif annotation not in (None, NoneType):
        yield annotation


def models(annotation: Any) -> tuple[Model, ...]:
    """Return the models that a value of this annotation may be, itself or as the items of a list."""
    found: list[Model] = []
    for part in types(annotation):
        if isinstance(part, type) and get_origin(part) is None and issubclass(part, (BaseModel, Settings)):
            found.append(part)
        elif get_origin(part) in (tuple, list) and get_args(part):
            found.extend(models(get_args(part)[0]))
    return tuple(found)


def select(node: Node, annotation: Any) -> Any:
    """Return what a node says to an annotation, as JSON types.

    Keys that a model does not name are left out, and so are keys without a value. Where text is wanted, an
    unquoted scalar is taken as it was written: `network_id: 007` is "007" and `country: no` is "no".
    """
    if isinstance(node.value, dict):
        return _select_keys(node.value, annotation)
    if isinstance(node.value, list):
        inner = _items(annotation)
        return [select(child, inner) for child in node.value]
    if node.text is None or not wants_text(annotation):
        return node.value
    return "" if node.value is None else node.text


def _select_keys(children: Mapping[str, Node], annotation: Any) -> dict[str, Any]:
    known: Mapping[str, Key] = {}
    model = next(iter(models(annotation)), None)
    if model is not None:
        known = fields(model)
        if not is_open(model):
            children = {key: child for key, child in children.items() if key in known}
    values = _items(annotation)
    return {
        key: select(child, known[key].annotation if key in known else values)
        for key, child in children.items()
        if child.value is not None or (model is None and wants_text(values))
    }


def _items(annotation: Any) -> Any:
    """The annotation of the items of a list, or of the values of a mapping."""
    for part in types(annotation):
        arguments = get_args(part)
        if get_origin(part) is not None and arguments:
            return arguments[0] if arguments[-1] is Ellipsis else arguments[-1]
    return annotation if models(annotation) else Any


def wants_text(annotation: Any) -> bool:
    """Say whether a value of this annotation is text in a file, never a number or a boolean."""
    alternatives = list(types(annotation))
    return bool(alternatives) and all(_is_text(part) for part in alternatives)


def _is_text(part: Any) -> bool:
    if get_origin(part) is Literal:
        return all(isinstance(value, str) for value in get_args(part))
    is_plain = isinstance(part, type) and get_origin(part) is None
    return is_plain and (issubclass(part, _TEXT) or hasattr(part, "__fspath__"))  # a path, without importing pathlib


def is_secret(model: Model, path: tuple[str | int, ...]) -> bool | None:
    """Say whether a value under a path may be a secret; None for a path that the model does not know.

    It may where its field, or one above it, is a SecretStr, holds any, or has repr=False.
    """
    info = fields(model).get(str(path[0])) if path else None
    if info is None:
        return None if path else False
    if not info.repr or _holds_secret(info.annotation):
        return True
    rest = path[1:]
    if rest and isinstance(rest[0], int):
        rest = rest[1:]
    found = [is_secret(inner, rest) for inner in models(info.annotation)] if rest else [False]
    return any(found) if any(answer is not None for answer in found) or not found else None


def _holds_secret(annotation: Any) -> bool:
    return any(
        part in _SECRETS or get_origin(part) in _SECRETS or any(map(_holds_secret, _arguments(part)))
        for part in types(annotation)
    )


def _arguments(part: Any) -> tuple[Any, ...]:
    return () if get_origin(part) is Literal else get_args(part)
