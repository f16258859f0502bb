"""What configuration is made of: frozen classes that say which values they take. Pure, and cheap to import.

    class ExampleSettings(Settings):
        port: int = setting(7373, ge=1, le=65535, description="Where to listen.")
        names: Annotated[tuple[str, ...], After(sorted_names)] = setting((), description="Who may come.")

Pydantic does the checking, when a configuration is read; what it made is plain data. So an agent, which reads its
configuration in a process that ends, never loads pydantic (docs/decisions/configuration-is-read-apart.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, cast, dataclass_transform

_REQUIRED: Any = dataclasses.MISSING


def setting(default: Any = _REQUIRED, *, default_factory: Any = _REQUIRED, repr: bool = True, **rules: Any) -> Any:
    """Describe a key: its default (none: it must be given) and the rules of its value.

    `repr=False` hides the value, as a possible secret, everywhere: in errors too. `rules` are what pydantic's `Field`
    takes: `description`, `examples`, `alias`, `ge`, `le`, `min_length`, `max_length`, `pattern`.
    """
    return dataclasses.field(default=default, default_factory=default_factory, repr=repr, metadata=rules)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
class Settings:
    """A section of the configuration: a frozen dataclass whose annotations are the rules.

    Unknown keys are refused. A rule about several keys goes into `__post_init__`, which raises ValueError. Making an
    instance by hand runs that alone: the other rules are checked where a configuration is read.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "hide_input_in_errors": True,
        "populate_by_name": True,
    }

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Check values as those of a configuration, and make an instance. Raises pydantic's ValidationError."""
        from pydantic import TypeAdapter  # noqa: PLC0415 - heavy; only where something is to be checked
        from pydantic_core import SchemaValidator  # noqa: PLC0415

        # Of a dataclass, pydantic takes this one rule from the outermost schema only.
        checker = SchemaValidator(TypeAdapter(cls).core_schema, {"hide_input_in_errors": True})
        return cast("Self", checker.validate_python(values))

    @classmethod
    def required(cls) -> list[str]:
        """Return the keys without a default."""
        return [
            each.name
            for each in settings_fields(cls)
            if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        ]


def settings_fields(model: type[Settings]) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields of a class of settings: each is a dataclass, by its base and not by a decorator."""
    return dataclasses.fields(cast("Any", model))


@dataclasses.dataclass(frozen=True, slots=True)
class After:
    """In an annotation: a function that takes the value of the right type, and returns it, or raises ValueError."""

    check: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 - whoever asks has it, and nobody else needs it

        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclasses.dataclass(frozen=True, slots=True)
class Before:
    """In an annotation: a function that takes the value as it was written, and returns what is checked then."""

    convert: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 - as above

        return core_schema.no_info_before_validator_function(self.convert, handler(source))


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """In an annotation: the JSON schema that editors are shown for the value."""

    schema: dict[str, Any]

    def __get_pydantic_json_schema__(self, _source: Any, _handler: object) -> dict[str, Any]:
        return dict(self.schema)


class SecretStr:
    """Text that no repr, log or error shows. It has the face of pydantic's class of this name."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._secret == other._secret

    def __hash__(self) -> int:
        return hash(self._secret)

    def __len__(self) -> int:
        return len(self._secret)

    def __str__(self) -> str:
        return "**********" if self._secret else ""

    def __repr__(self) -> str:
        return f"SecretStr('{self}')"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: object) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 - as above

        def wrap(value: Any, check: Callable[[Any], str]) -> SecretStr:
            return value if isinstance(value, cls) else cls(check(value))

        return core_schema.no_info_wrap_validator_function(
            wrap, core_schema.str_schema(), serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _source: Any, _handler: object) -> dict[str, Any]:
        return {"type": "string", "format": "password", "writeOnly": True}
