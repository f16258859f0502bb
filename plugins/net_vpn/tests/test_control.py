"""The data plane's control sockets: the agent, the next agent, and whoever else knocks."""

from __future__ import annotations

import select
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kairos_net_vpn import control, messages
from kairos_net_vpn.control import MAX_CLAIM, Control, Estate, Lines
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.messages import Ask, Claim, Configure, ForgetPeer, Leave, Message, Ready
from kairos_net_vpn.peer import NEVER

KEY, PSK = b"a private key, 32 bytes as it is", b"a shared secret, 32 bytes as it i"[:32]
CONFIGURE = Configure(KEY, PSK, "10.1.0.7", "10.1.0.0/24", 1420)
LINGER = 60.0


class Plane:
    """The control side of a data plane, driven by hand."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "door")
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(self.path)
        self.door.listen(8)
        self.agent, theirs = socket.socketpair()
        self.agent.settimeout(5)
        self.control = Control(theirs, self.door)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.estate = Estate(self.udp.fileno(), self.udp.fileno(), CONFIGURE.digest(), "program")
        self.callers: list[socket.socket] = []
        self.now = 100.0

    def configure(self) -> None:
        self.agent.sendall(messages.encode(CONFIGURE))
        assert self.control.configuration() == CONFIGURE
        self.control.open_door(self.estate, LINGER)

    def turn(self) -> list[Message]:
        """Serve until there is nothing to do."""
        heard: list[Message] = []
        while events := self.control.poller.poll(0):
            for source, event in events:
                heard += self.control.serve(source, event, self.now)
        return heard

    def knock(self, said: bytes = b"") -> socket.socket:
        caller = socket.socket(socket.AF_UNIX)
        caller.settimeout(5)
        caller.connect(self.path)
        self.callers.append(caller)
        if said:
            caller.sendall(said)
        self.turn()
        return caller

    def close(self) -> None:
        for each in (self.agent, self.udp, *self.callers):
            each.close()
        self.control.close()


@pytest.fixture
def plane() -> Iterator[Plane]:
    with tempfile.TemporaryDirectory() as directory:
        plane = Plane(Path(directory))
        plane.configure()
        yield plane
        plane.close()


def is_closed(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) == b""
    except ConnectionResetError:
        return True


def take(caller: socket.socket) -> tuple[Message, int]:
    """Return the answer to a claim and how many descriptors came with it."""
    answer, descriptors, _, _ = socket.recv_fds(caller, 4096, 8)
    for descriptor in descriptors:
        socket.close(descriptor)
    return messages.decode(answer), len(descriptors)


CLAIM = messages.encode(Claim(CONFIGURE.digest()))
OTHER = messages.encode(Claim(Configure(KEY, PSK, "10.1.0.8", "10.1.0.0/24", 1420).digest()))
NEWER = CLAIM.replace(b'"v":1', b'"v":2')
LEAVE = messages.encode(Leave())


def test_an_agent_that_vanishes_leaves_a_minute_and_one_that_leaves_does_not(plane: Plane) -> None:
    assert plane.control.ends_at == NEVER
    plane.agent.close()
    plane.turn()
    assert not plane.control.is_over
    assert plane.control.ends_at == plane.now + LINGER


def test_an_agent_that_leaves_takes_the_data_plane_along(plane: Plane) -> None:
    plane.agent.sendall(LEAVE)
    plane.turn()
    assert plane.control.is_over


def test_without_a_door_the_data_plane_ends_with_its_agent(plane: Plane) -> None:
    plane.control._door = None
    plane.agent.close()
    plane.turn()
    assert plane.control.is_over
    plane.door.close()


def test_the_next_agent_gets_the_descriptors_and_is_heard(plane: Plane) -> None:
    plane.agent.close()
    plane.turn()
    following = plane.knock(CLAIM)
    assert take(following) == (Ready("program"), 4)
    assert plane.control.ends_at == NEVER
    following.sendall(messages.encode(Ask()))
    assert plane.turn() == [Ask()]
    plane.control.reply(Ready("answer"))
    assert messages.decode(following.recv(100)) == Ready("answer")
    following.close()
    plane.now += 1000
    plane.turn()
    assert plane.control.ends_at == plane.now + LINGER
    assert take(plane.knock(CLAIM))[1] == 4


@pytest.mark.parametrize("said", [OTHER, NEWER, LEAVE], ids=["other configuration", "other version", "leave"])
def test_it_makes_room_for_an_agent_that_cannot_use_it(plane: Plane, said: bytes) -> None:
    plane.agent.close()
    plane.turn()
    plane.knock(said)
    assert plane.control.is_over


@pytest.mark.parametrize("said", [CLAIM, OTHER, NEWER, LEAVE], ids=["same", "other", "version", "leave"])
def test_beside_an_agent_nobody_else_is_heard(plane: Plane, said: bytes) -> None:
    caller = plane.knock(said)
    assert is_closed(caller)
    assert not plane.control.is_over
    plane.agent.sendall(messages.encode(Ask()))
    assert plane.turn() == [Ask()]


def test_who_says_nothing_is_replaced_by_the_next_who_knocks(plane: Plane) -> None:
    plane.agent.close()
    plane.turn()
    silent = plane.knock()
    assert take(plane.knock(CLAIM))[1] == 4
    assert is_closed(silent)


def test_a_stranger_of_another_user_is_sent_away(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_user_of", lambda caller: 65534)
    plane.agent.close()
    plane.turn()
    assert is_closed(plane.knock())


def test_nonsense_of_the_agent_is_counted_and_what_follows_is_heard(plane: Plane) -> None:
    plane.agent.sendall(b"nonsense\n\xff\n{}\n" + messages.encode(Ask()))
    assert plane.turn() == [Ask()]
    assert plane.control.drops == {VpnDrop.BAD_MESSAGE: 3}


def test_a_line_without_an_end_costs_the_agent_its_connection(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane.control._lines = Lines(1000)
    plane.agent.sendall(b"x" * 2000)
    plane.turn()
    assert is_closed(plane.agent)
    assert plane.control.drops == {VpnDrop.BAD_MESSAGE: 1}
    assert plane.control.ends_at == plane.now + LINGER


def test_an_agent_that_does_not_read_holds_up_nothing(plane: Plane) -> None:
    for _ in range(200):
        plane.control.reply(Ready("x" * 10_000))
    plane.agent.sendall(messages.encode(Ask()))
    (source, event), *_ = plane.control.poller.poll(0)
    assert event & select.POLLIN
    assert plane.control.serve(source, event, plane.now) == [Ask()]


def test_an_agent_that_never_reads_its_answers_is_cut_off(plane: Plane) -> None:
    while plane.control.ends_at == NEVER:
        plane.control.reply(Ready("x" * 100_000))
        assert len(plane.control._unsent) <= messages.MAX_LINE
        plane.turn()
    assert plane.control.drops == {VpnDrop.BAD_MESSAGE: 1}
    plane.control.reply(Ready("to nobody"))
    assert plane.control._unsent == b""


def test_what_came_with_the_configuration_is_not_lost() -> None:
    with tempfile.TemporaryDirectory() as directory:
        plane = Plane(Path(directory))
        try:
            forget = ForgetPeer(bytes(32))
            plane.agent.sendall(messages.encode(CONFIGURE) + messages.encode(forget))
            assert plane.control.configuration() == CONFIGURE
            assert plane.control.early == [forget]
        finally:
            plane.close()


# -- any bytes, in any order

LINES = st.sampled_from(
    [
        CLAIM,
        OTHER,
        NEWER,
        LEAVE,
        messages.encode(Ask()),
        messages.encode(CONFIGURE),
        b"\n",
        b"{}\n",
        b"[" * 3000 + b"\n",
    ]
)
BYTES = st.one_of(LINES, st.binary(max_size=200), st.binary(max_size=50).map(lambda said: said + b"\n"))
STEPS = st.lists(st.tuples(st.sampled_from(["agent", "knock", "caller", "hang up", "crash"]), BYTES), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(steps=STEPS)
def test_no_words_in_any_order_crash_it_or_make_it_grow(steps: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        plane = Plane(Path(directory))
        try:
            plane.configure()
            for who, said in steps:
                speak(plane, who, said)
                assert len(plane.control._lines._rest) <= messages.MAX_LINE
                assert len(plane.control._caller_lines._rest) <= MAX_CLAIM
            agent, ends = plane.control._agent, plane.control.ends_at
            assert agent is not None or ends < NEVER  # without an agent an end is set, whatever was said
        finally:
            plane.close()


def speak(plane: Plane, who: str, said: bytes) -> None:
    callers = [each for each in plane.callers if each.fileno() >= 0]
    speakers: dict[str, Any] = {"agent": plane.agent, "caller": callers[-1] if callers else None}
    try:
        if who == "knock":
            plane.knock(said)
        elif who == "hang up" and callers:
            callers[-1].close()
        elif who == "crash":
            plane.agent.close()
        elif speakers.get(who) is not None and speakers[who].fileno() >= 0:
            speakers[who].sendall(said)
    except (BrokenPipeError, ConnectionResetError):
        pass
    for message in plane.turn():
        assert isinstance(message, Message.__args__)  # type: ignore[attr-defined]


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_lines_come_out_as_they_went_in_however_they_were_cut(parts: list[bytes]) -> None:
    lines = Lines(1000)
    heard = [line for part in parts for line in lines.feed(part)]
    assert b"\n".join([*heard, lines._rest]) == b"".join(parts)


@given(st.data())
def test_no_error_shows_a_key_of_a_message_that_was_altered(data: Any) -> None:
    line = bytearray(messages.encode(CONFIGURE))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(line) - 1))
        line[at] = data.draw(st.integers(0, 255))
    try:
        messages.decode(bytes(line))
    except ValueError as error:
        shown = repr(error) + str(error.__cause__)
        assert "YSBwcml2" not in shown
        assert "private key" not in shown


def test_a_digest_tells_configurations_apart_and_nothing_of_the_keys() -> None:
    same = Configure(KEY, PSK, "10.1.0.7", "10.1.0.0/24", 1420)
    others = [
        Configure(PSK, PSK, "10.1.0.7", "10.1.0.0/24", 1420),
        Configure(KEY, KEY, "10.1.0.7", "10.1.0.0/24", 1420),
        Configure(KEY, PSK, "10.1.0.7", "10.1.0.0/24", 1420, port=7),
        Configure(KEY, PSK, "10.1.0.7", "10.1.0.0/24", 1420, interface="kairos1"),
    ]
    assert same.digest() == CONFIGURE.digest()
    assert len({each.digest() for each in (same, *others)}) == 5
    assert KEY not in CLAIM
    assert PSK not in CLAIM
