"""The question for what is lost: it is read as it was written, or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import sides
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.sides import Wanted, decode_repair, encode_repair


@given(
    st.lists(
        st.builds(Wanted, st.integers(0, (1 << 48) - 1), st.integers(0, 255), st.binary(max_size=64)),
        max_size=sides.MOST_WANTED,
    )
)
def test_a_question_is_read_as_it_was_written(wanted: list[Wanted]) -> None:
    assert decode_repair(encode_repair(wanted)) == wanted


@given(st.binary(max_size=300))
def test_any_question_is_read_or_refused(rest: bytes) -> None:
    try:
        wanted = decode_repair(bytes([sides.REPAIR]) + rest)
    except Refused as refused:
        assert refused.drop is VpnDrop.MALFORMED
    else:
        assert encode_repair(wanted)[1:] == rest
        assert len(wanted) <= sides.MOST_WANTED
