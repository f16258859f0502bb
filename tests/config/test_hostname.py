"""Host names from templates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.config import render_hostname
from kairos_core.errors import ConfigError

MACHINE_ID = "4C4c4544001234567890abcdef012345"


def render(template: str) -> str:
    return render_hostname(template, MACHINE_ID, lambda length: "r4nd0m"[:length].ljust(length, "x"))


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("edge", "edge"),
        ("edge-1.example.org", "edge-1.example.org"),
        ("kubevip-{{ trunc 4 .MachineID }}", "kubevip-4C4c"),
        ("kairos-{{trunc 4 .MachineID}}", "kairos-4C4c"),
        ("{{ .MachineID }}", MACHINE_ID),
        ("n{{ trunc -4 .MachineID }}", "n2345"),
        ("n-{{ trunc 6 .Random }}", "n-r4nd0m"),
        ("{{ .Random }}", "r4nd0m" + "x" * 26),
        ("n-{{ .MachineID | trunc 4 | lower }}", "n-4c4c"),
        ("n-{{- upper .Random | trunc 3 -}}", "n-R4N"),
        ('{{ trimPrefix "4C" .MachineID | trunc 4 }}', "4c45"),
        ('{{ .MachineID | trimSuffix "345" | trunc -3 }}', "012"),
        ("{{ trunc 2 .MachineID }}-{{ trunc 2 .Random }}", "4C-r4"),
        ('{{ "a" | upper }}b', "Ab"),
        ('{{ "a|b" | trimPrefix "a|" }}', "b"),
    ],
)  # fmt: skip
def test_a_template_is_filled_in(template: str, name: str) -> None:
    assert render(template) == name


def test_random_is_asked_once_so_that_it_has_one_value_in_a_name() -> None:
    letters = iter("ab")
    assert render_hostname("{{ trunc 2 .Random }}-{{ trunc 2 .Random }}", "", lambda n: next(letters) * n) == "aa-aa"


def test_random_is_not_asked_where_it_is_not_used() -> None:
    def never(length: int) -> str:
        raise AssertionError

    assert render_hostname("a", "", never) == "a"


@pytest.mark.parametrize(
    "template",
    ["{{ foo }}", "{{ .Hostname }}", "{{ trunc .MachineID }}", "{{ trunc x .MachineID }}", "{{ trunc 4 }}",
     "{{ }}", "{{ | }}", "{{ .MachineID | }}", "{{ trunc 4 .Nope }}", "{{ upper .Nope }}", '{{ trimPrefix .No "a" }}',
     "{{ trunc 99999 .MachineID }}", '{{ "a }}', '{{ .MachineID " }}', "{{ if .MachineID }}x{{ end }}"],
)  # fmt: skip
def test_what_is_not_supported_says_what_is(template: str) -> None:
    with pytest.raises(ConfigError, match=r"is not supported\. Supported: \{\{ \.MachineID \}\} and"):
        render(template)


@pytest.mark.parametrize("template", ["a{{ .MachineID", "a}}", "{{{{ .MachineID }}", "{{ .MachineID }}}}"])
def test_braces_must_be_closed(template: str) -> None:
    with pytest.raises(ConfigError):
        render(template)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "is empty"),
        ("{{ trunc 0 .MachineID }}", "is empty"),
        ("a_b", "'a_b' must be 1 to 63"),
        ("-a", "'-a' must be"),
        ("a-", "'a-' must be"),
        ("a..b", "'' must be"),
        ("a b", "must be"),
        ("ä", "must be"),
        ("a" * 64, "must be 1 to 63"),
        ("{{ .MachineID }}{{ .MachineID }}x", "has 65 characters, more than 64"),
        ("a\n", "must be"),
    ],
)
def test_the_result_must_be_a_host_name(template: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        render(template)


@given(st.text('{}.|- "trunc4upperMachineIDRandom\n', max_size=60) | st.text(max_size=60))
def test_any_template_gives_a_host_name_or_a_config_error(template: str) -> None:
    try:
        name = render(template)
    except ConfigError:
        return
    assert 0 < len(name) <= 64
    assert name.isascii()
