import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.errors import ProtocolError
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.wire import (
    MAX_BODY,
    MAX_NEWS,
    Ack,
    Bulk,
    Cells,
    Compare,
    Done,
    Entries,
    Have,
    Hello,
    Life,
    News,
    Offer,
    Ping,
    Probe,
    Pull,
    Push,
    Reached,
    Tidings,
    Want,
    Who,
    decode_datagram,
    decode_message,
    encode_datagram,
    encode_message,
    in_batches,
    in_datagrams,
)

IDS = st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=20).map(tuple)
U32 = st.integers(0, (1 << 32) - 1)
EIGHT = st.binary(min_size=8, max_size=8)
NEWS = st.lists(
    st.builds(News, st.sampled_from([Life.ALIVE, Life.SUSPECT, Life.DEAD]), U32, EIGHT), max_size=MAX_NEWS
).map(tuple)
DATAGRAMS = st.one_of(
    st.builds(Ping, U32, U32, EIGHT, NEWS),
    st.builds(Ack, U32, U32, EIGHT, NEWS),
    st.builds(Push, st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5).map(tuple)),
    st.builds(Have, IDS),
    st.builds(Pull, IDS),
    st.builds(Bulk, IDS),
    st.builds(Compare, st.integers(0, 65535), st.integers(1, 64)),
    st.builds(Cells, EIGHT, st.integers(0, 65535), st.integers(0, 64).map(lambda count: b"c" * 16 * count)),
    st.builds(Tidings, NEWS),
    st.builds(Probe, U32, EIGHT),
    st.builds(Reached, U32, U32, EIGHT),
    st.builds(Who, U32, U32, EIGHT),
)
MESSAGES = st.one_of(
    st.builds(Hello, st.integers(1, 65535), st.integers(0, (1 << 48) - 1)),
    st.builds(Offer, IDS.map(b"".join)),
    st.builds(Entries, st.lists(st.binary(max_size=50), max_size=5).map(tuple)),
    st.builds(Want, IDS.map(b"".join)),
    st.just(Done()),
)


@given(st.binary(min_size=8, max_size=8), DATAGRAMS)
def test_a_datagram_survives_the_wire(tag: bytes, message: object) -> None:
    assert decode_datagram(encode_datagram(tag, message)) == (tag, message)


@given(MESSAGES)
def test_a_message_survives_the_wire(message: object) -> None:
    assert decode_message(encode_message(message)) == message


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_by_name(raw: bytes) -> None:
    for decode in (decode_datagram, decode_message):
        try:
            decode(raw)
        except ProtocolError as error:
            assert error.drop in {drop.value for drop in Drop}


@given(st.binary(min_size=8, max_size=8), DATAGRAMS, st.integers(1, 20))
def test_a_truncated_datagram_is_refused_or_a_shorter_list(tag: bytes, message: object, cut: int) -> None:
    raw = encode_datagram(tag, message)[:-cut]
    try:
        _, decoded = decode_datagram(raw)
    except ProtocolError:
        return
    assert type(decoded) is type(message)
    assert decoded != message


@given(st.lists(st.binary(min_size=1, max_size=MAX_BODY - 2), max_size=30))
def test_entries_are_packed_in_order_into_datagrams_that_fit(raws: list[bytes]) -> None:
    pushes = list(in_datagrams(raws))
    assert [raw for push in pushes for raw in push.entries] == raws
    assert all(len(encode_datagram(b"t" * 8, push)) <= MAX_BODY + 9 for push in pushes)
    assert [raw for batch in in_batches(raws) for raw in batch.entries] == raws


@pytest.mark.parametrize("raw", [b"\x01" + b"t" * 8, b"\x63" + b"t" * 8, b"", b"\x04" + b"t" * 9])
def test_what_is_no_datagram_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_datagram(raw)
