"""What is told of a program's log, by the example of one that writes as k3s and k0s do, and adds lines of its own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core import EngineState, EngineStatus, Journal
from kairos_core.service.journal import MAX_MESSAGE, Complaint

JOURNAL = Journal(
    program="example",
    start=re.compile("example begins"),
    is_up=re.compile("example is up"),
    lines={"fatal": re.compile(r"panic: (.*)"), "error": re.compile(r"oops: (.*)")},
    hopeless={"wrong token": "give it the right one"},
    join_token=re.compile(r"(?<=EX)[0-9a-f]{8,}"),
)


def _line(level: str, message: str) -> str:
    return f'time="2026-11-20T15:33:52Z" level={level} msg="{message}" component=example'


START = _line("info", "example begins")
ERROR = _line("error", "connection refused")
HOPELESS = _line("info", "trying again: wrong token")


@pytest.mark.parametrize(
    "log",
    [
        "",
        START,
        f"{START}\n{_line('warning', 'not so bad')}",
        f"{HOPELESS}\n{START}",
        f"{HOPELESS}\n--- Kairos starts example ---",
        f"{START}\n{HOPELESS}\n{_line('info', 'example is up')}",
    ],
)
def test_what_is_over_or_was_no_trouble_is_not_told(log: str) -> None:
    assert JOURNAL.last_complaint(log) is None


def test_without_words_for_being_up_trouble_ends_with_the_next_start() -> None:
    program = Journal(program="example", start=JOURNAL.start, hopeless={}, join_token=JOURNAL.join_token)
    log = f"{START}\n{ERROR}\n{_line('info', 'example is up')}"
    assert program.last_complaint(log) == Complaint("example says: connection refused", is_hopeless=False)
    assert program.last_complaint(f"{log}\n{START}") is None


def test_what_waiting_does_not_mend_is_told_with_advice_whatever_its_level() -> None:
    assert JOURNAL.last_complaint(f"{START}\n{HOPELESS}") == Complaint(
        "give it the right one (example says: trying again: wrong token)", is_hopeless=True
    )


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([_line("error", "one"), _line("error", "two")], "two"),
        ([HOPELESS, _line("error", "two")], "two"),
        ([_line("fatal", "the cause"), _line("error", "a consequence")], "the cause"),
        ([_line("fatal", "one"), "panic: two", "oops: three"], "two"),
        (["oops: of its own kind"], "of its own kind"),
        (["before it oops: no whole line"], None),
        ([_line("error", r"a \"quoted\" C:\\path")], r'a "quoted" C:\path'),
    ],
)
def test_the_last_words_count_and_before_them_the_latest_error(lines: list[str], told: str | None) -> None:
    complaint = JOURNAL.last_complaint("\n".join([START, *lines]))
    assert (complaint and complaint.message) == (told and f"example says: {told}")


def test_secrets_are_blotted_out_of_what_is_told_and_short_ones_are_left_in_the_words() -> None:
    text = "EX0123456789 postgres://user:pass@db my-own-secret"
    complaint = JOURNAL.last_complaint(_line("error", text), ["my-own-secret", "db"])
    assert complaint == Complaint("example says: EX… postgres://…@db …", is_hopeless=False)


def test_no_part_of_a_secret_is_left_at_the_end_of_a_long_message() -> None:
    text = "." * (MAX_MESSAGE - 3) + "my-own-secret"
    complaint = JOURNAL.last_complaint(_line("error", text), ["my-own-secret"])
    assert complaint is not None
    assert complaint.message == f"example says: {'.' * (MAX_MESSAGE - 3)}…"


@pytest.mark.parametrize(
    ("state", "log", "explained"),
    [
        (EngineState.STARTING, "", EngineStatus(EngineState.STARTING, "it starts")),
        (EngineState.STARTING, "oops: no", EngineStatus(EngineState.STARTING, "it starts; example says: no")),
        (EngineState.FAILED, "oops: no", EngineStatus(EngineState.FAILED, "it starts; example says: no")),
    ],
)
def test_a_status_is_explained_by_the_log(state: EngineState, log: str, explained: EngineStatus) -> None:
    assert JOURNAL.explained(EngineStatus(state, "it starts"), log) == explained


def test_a_status_that_no_waiting_mends_is_a_failure() -> None:
    status = JOURNAL.explained(EngineStatus(EngineState.STARTING, "it starts"), HOPELESS)
    assert status.state is EngineState.FAILED
    assert status.message.startswith("it starts; give it the right one (")


@given(st.text(max_size=400), st.text(st.characters(exclude_characters="…"), min_size=6, max_size=12))
def test_any_log_is_read_and_no_secret_is_told(words: str, secret: str) -> None:
    complaint = JOURNAL.last_complaint(f"{START}\noops: {words} {secret} {words}", [secret])
    assert complaint is None or secret not in complaint.message.removeprefix("example says: ")
