"""Settings are plain frozen data; pydantic checks them by their annotations, when it is asked to."""

from __future__ import annotations

import pickle
import random
from dataclasses import FrozenInstanceError
from functools import cached_property
from typing import Annotated

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from kairos_core import After, Before, ConfigError, SecretStr, Settings, Shown, setting
from kairos_core.config import config_schema, parse_config
from kairos_core.protocol.token import format_token, new_token

TOKEN = format_token(new_token(random.Random(1).choice))


def even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


class Part(Settings):
    """A part."""

    size: Annotated[int, After(even)] = 2


class Example(Settings):
    """An example."""

    name: str = setting(description="Who it is.")
    password: SecretStr | None = None
    port: int = setting(1, ge=1, le=65535, description="Where.")
    word: Annotated[str, Before(str.lower), Shown({"type": "string", "enum": ["a", "b"]})] = "a"
    part: Part = setting(default_factory=Part)
    long_name: int = setting(0, alias="long-name")

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("nobody is not a name")

    @cached_property
    def shouted(self) -> str:
        return self.name.upper()


def test_what_is_left_out_has_its_default_and_what_is_written_is_converted() -> None:
    example = Example.checked({"name": "n", "word": "B", "part": {"size": 4}, "long-name": 3})
    assert example == Example(name="n", word="b", part=Part(size=4), long_name=3)
    assert (example.port, example.password, example.shouted) == (1, None, "N")


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({}, ("name",), "Field required"),
        ({"name": "n", "port": 0}, ("port",), "greater than or equal to 1"),
        ({"name": "n", "part": {"size": 3}}, ("part", "size"), "3 is odd"),
        ({"name": "n", "prot": 1}, ("prot",), "Unexpected"),
        ({"name": "nobody"}, (), "nobody is not a name"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(values: dict[str, object], path: tuple[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Example.checked(values)
    assert caught.value.errors()[0]["loc"] == path


def test_no_error_shows_what_was_written() -> None:
    with pytest.raises(ValidationError) as caught:
        Example.checked({"name": "n", "password": ["S3CRET"], "port": "S3CRET"})
    assert "S3CRET" not in str(caught.value)


def test_settings_are_frozen_know_what_they_need_and_travel_between_processes() -> None:
    example = Example(name="n", password=SecretStr("p"))
    with pytest.raises(FrozenInstanceError):
        example.name = "m"  # type: ignore[misc]
    assert Example.required() == ["name"]
    assert Part.required() == []
    assert pickle.loads(pickle.dumps(example)) == example


def test_a_secret_shows_in_nothing_that_is_printed() -> None:
    secret = SecretStr("S3CRET")
    for shown in (str(secret), repr(secret), f"{secret}", repr(Example(name="n", password=secret))):
        assert "S3CRET" not in shown
    assert secret.get_secret_value() == "S3CRET"
    assert (secret == SecretStr("S3CRET"), secret == SecretStr("other"), secret == "S3CRET") == (True, False, False)
    assert len({secret, SecretStr("S3CRET")}) == 1
    assert (len(secret), bool(SecretStr("")), str(SecretStr(""))) == (6, False, "")
    assert "S3CRET" not in str(TypeAdapter(Example).dump_json(Example(name="n", password=secret)))


class OfPydantic(BaseModel):
    size: int = 5


def test_a_section_may_have_a_class_of_ours_or_of_pydantic() -> None:
    text = f"p2p: {{network_token: {TOKEN}, example: {{name: n, word: A}}, other: {{size: 7}}}}"
    config = parse_config([("a.yaml", text)], {"p2p.example": Example, "p2p.other": OfPydantic})
    assert config.settings == {"p2p.example": Example(name="n", word="a"), "p2p.other": OfPydantic(size=7)}


def test_a_section_of_ours_says_file_line_and_nearest_key() -> None:
    text = f"p2p:\n  network_token: {TOKEN}\n  example:\n    naem: n\n    password: [S3CRET]\n"
    with pytest.raises(ConfigError) as caught:
        parse_config([("a.yaml", text)], {"p2p.example": Example})
    assert "a.yaml, line 4: p2p.example.naem is an unknown key; did you mean name?" in str(caught.value)
    assert "a.yaml, line 5: p2p.example.password: there is a list, expected text." in str(caught.value)


def test_the_schema_shows_the_rules_of_a_section() -> None:
    schema = config_schema({"p2p.example": Example})
    section = schema["properties"]["p2p"]["properties"]["example"]["properties"]
    assert section["port"] == {"default": 1, "description": "Where.", "maximum": 65535, "minimum": 1, "type": "integer"}
    assert section["word"]["enum"] == ["a", "b"]
    assert section["password"]["format"] == "password"
    assert set(section) == {"name", "password", "port", "word", "part", "long-name"}
