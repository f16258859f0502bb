"""How the arguments of any program are read and merged; what each engine's program makes of them is its own test."""

from __future__ import annotations

import pytest

from kairos_core import Argument, CommandLine, argument_value


def _split(word: str) -> tuple[str, str, str]:
    return word.lstrip("-").partition("=")


STRICT = CommandLine(frozenset(("debug",)), frozenset(("label",)), _split)
WARY = CommandLine(frozenset(("debug",)), frozenset(("label",)), _split, no_value=("--",))


@pytest.mark.parametrize("command_line", [STRICT, WARY])
@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["--name=a"], [Argument("name", "a")]),
        (["--name a", "--name", "b"], [Argument("name", "a"), Argument("name", "b")]),
        (["--name 'a b'"], [Argument("name", "a b")]),
        (["--debug a"], [Argument("debug"), Argument("", "a")]),
        (["--debug=false"], [Argument("debug", "false")]),
        (["--name="], [Argument("name", "")]),
        (["--name"], [Argument("name")]),
        (["--name -1"], [Argument("name", "-1")]),
        (["a - --"], [Argument("", "a"), Argument("", "-"), Argument("", "--")]),
        ([], []),
    ],
)
def test_a_flag_has_its_value_in_one_word_or_two_and_a_switch_has_none(
    command_line: CommandLine, items: list[str], expected: list[Argument]
) -> None:
    assert command_line.parse(items) == tuple(expected)


def test_what_looks_like_a_flag_is_a_value_where_the_program_takes_it_for_one() -> None:
    assert STRICT.parse(["--name --other"]) == (Argument("name", "--other"),)
    assert WARY.parse(["--name --other"]) == (Argument("name"), Argument("other"))


def test_an_unclosed_quote_is_refused() -> None:
    with pytest.raises(ValueError, match="closing quotation"):
        STRICT.parse(["--name='a"])


def test_a_flag_of_the_operator_replaces_ours_and_values_add_up_once() -> None:
    ours = STRICT.parse(["--name=a", "--label=x", "--debug"])
    theirs = STRICT.parse(["--label=y", "--label=x", "--name=b"])
    assert [str(argument) for argument in STRICT.merge(ours, theirs)] == [
        "--label=x",
        "--debug",
        "--label=y",
        "--name=b",
    ]


def test_an_argument_is_written_as_the_program_reads_it() -> None:
    arguments = [Argument("name", "a"), Argument("debug"), Argument("v", "3"), Argument("x"), Argument("", "word")]
    assert [str(argument) for argument in arguments] == ["--name=a", "--debug", "-v=3", "-x", "word"]


def test_the_last_value_counts() -> None:
    arguments = ["run", "--name=a", "--names=c", "--name=b=c"]
    assert argument_value(arguments, "name") == "b=c"
    assert argument_value(arguments, "nothing") is None
