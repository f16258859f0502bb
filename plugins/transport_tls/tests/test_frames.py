import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_transport_tls.frames import FrameDecoder, encode_frame

from kairos_core import MAX_MESSAGE, ProtocolError


def decode_all(decoder: FrameDecoder, data: bytes) -> list[bytes]:
    decoder.receive_data(data)
    messages = []
    while (message := decoder.next_message()) is not None:
        messages.append(message)
    return messages


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(1, 50)))
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(messages, cuts):
    data = b"".join(map(encode_frame, messages))
    decoder, received, at = FrameDecoder(), [], 0
    for cut in cuts:
        received += decode_all(decoder, data[at : at + cut])
        at += cut
    received += decode_all(decoder, data[at:])
    assert received == messages
    assert not decoder.is_inside_message


@given(st.binary(max_size=2000))
def test_any_bytes_give_messages_within_the_limit_or_a_refusal(data):
    decoder = FrameDecoder(limit=64)
    with contextlib.suppress(ProtocolError):
        messages = decode_all(decoder, data)
        assert all(len(message) <= 64 for message in messages)
        assert sum(4 + len(message) for message in messages) <= len(data)


def test_a_length_over_the_limit_is_refused_before_its_bytes_come():
    decoder = FrameDecoder()
    decoder.receive_data(struct.pack("!I", MAX_MESSAGE + 1))
    with pytest.raises(ProtocolError, match="oversized"):
        decoder.next_message()


def test_a_message_over_the_limit_is_the_senders_mistake():
    with pytest.raises(ValueError, match="send it in parts"):
        encode_frame(bytes(MAX_MESSAGE + 1))
    assert len(encode_frame(bytes(MAX_MESSAGE))) == MAX_MESSAGE + 4


def test_part_of_a_message_waits_for_its_rest():
    decoder = FrameDecoder()
    assert decode_all(decoder, b"\0\0\0\2a") == []
    assert decoder.is_inside_message
    assert decode_all(decoder, b"b") == [b"ab"]
