"""What an operator may say about a service: refused where no service could hold it, and shown nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kairos_core import ServiceSettings


class Example(ServiceSettings):
    """The block of an engine."""

    size: int = 1


def test_values_of_an_environment_are_text_as_a_shell_would_write_it() -> None:
    settings = Example.checked({"env": {"A": 1, "B": True, "C": 1.5, "D": "text"}})
    assert {name: secret.get_secret_value() for name, secret in settings.env.items()} == {
        "A": "1",
        "B": "true",
        "C": "1.5",
        "D": "text",
    }


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"env": {"A-B": "hidden"}}, "'A-B' is no name for a variable"),
        ({"env": {"A\n": "hidden"}}, "no name for a variable"),
        ({"env": {"A": "hidden\0"}}, "the value of A holds a zero byte"),
        ({"env": {"A": ["hidden"]}}, "env"),
        ({"args": ["--token='hidden"]}, "cannot be split into words: no closing quotation"),
        ({"arguments": ["hidden"]}, "arguments"),
    ],
)
def test_what_no_service_can_be_given_is_refused_and_not_shown(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        Example.checked(given)
    assert "hidden" not in str(caught.value)


def test_neither_variables_nor_arguments_are_in_a_repr() -> None:
    settings = Example.checked({"env": {"C": "hidden"}, "args": ["--token=hidden"]})
    assert "hidden" not in repr(settings)


def test_a_disabled_block_counts_as_empty() -> None:
    given = {"args": ["--debug"], "env": {"A": "b"}, "replace_args": True}
    assert Example.checked({**given, "enabled": False}).in_force == ServiceSettings()
    for enabled in (None, True):
        settings = Example.checked({**given, "enabled": enabled})
        assert settings.in_force is settings
