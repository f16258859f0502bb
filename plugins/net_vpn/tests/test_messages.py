"""What the plugin and the data plane say to each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import messages
from kairos_net_vpn.messages import Ask, Configure, ForgetPeer, Message, Moved, PeerStats, Ready, SetPeer, Stats
from kairos_net_vpn.spec import Timing

KEY = bytes(range(32))
MESSAGES: list[Message] = [
    Configure(KEY, bytes(32), "10.1.0.7", "10.1.0.0/24", 1420, Timing(rekey_after=1.5, retries=(0.5, 1.0))),
    Configure(KEY, KEY, "10.1.0.7", "10.1.0.0/24", 1420, ipv6="fd00::7/64", routes=("192.168.5.0/24",)),
    SetPeer(KEY, ("192.0.2.1:7", "[2001:db8::1]:7"), ("10.1.0.8",), eager=False),
    SetPeer(KEY, (), ("fd00::8",), routes=("192.168.5.0/24",), standby=("2001:db8::/48",)),
    ForgetPeer(KEY),
    Moved(),
    Ask(),
    Ready(),
    Stats((PeerStats(KEY, None, None, 1, 2), PeerStats(KEY, "192.0.2.1:7", 3.5, 4, 5)), {"replayed": 2}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_way_on_one_line(message: Message) -> None:
    line = messages.encode(message)
    assert line.count(b"\n") == 1
    assert messages.decode(line.rstrip(b"\n")) == message


@given(st.binary(max_size=100))
def test_nonsense_is_a_value_error_that_shows_none_of_it(line: bytes) -> None:
    with pytest.raises(ValueError) as error:
        messages.decode(line)
    assert str(error.value) == "a line between the plugin and its data plane is not a message"


@pytest.mark.parametrize("line", [b"[]", b'{"v":1}', b'{"v":1,"kind":"set"}', b'{"v":1,"kind":"ask","more":1}'])
def test_a_json_that_is_no_message_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        messages.decode(line)


def test_another_version_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="restart the agent"):
        messages.decode(messages.encode(Ask()).replace(b'"v":1', b'"v":2'))


def test_keys_are_in_no_repr() -> None:
    shown = repr(MESSAGES[0])
    assert "private_key" not in shown
    assert "psk" not in shown
