from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_kubevip.arp import probe, user_of

EIP = IPv4Address("192.168.1.110")
MINE, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
REPLY = MINE + THEIRS + bytes.fromhex("0806 0001 0800 06 04 0002") + THEIRS + EIP.packed + MINE + bytes(4)


def test_a_probe_is_the_frame_of_rfc_5227() -> None:
    assert probe(MINE, EIP) == bytes.fromhex(
        "ffffffffffff 020000000001 0806"  # to all, from us, ARP
        "0001 0800 06 04 0001"  # Ethernet, IPv4, request
        "020000000001 00000000"  # from no address: nobody learns it
        "000000000000 c0a8016e"
    )


def test_who_answers_with_the_address_uses_it() -> None:
    assert user_of(REPLY, EIP) == THEIRS


def test_an_answer_padded_to_an_ethernet_frame_counts_too() -> None:
    assert user_of(REPLY + bytes(18), EIP) == THEIRS


def test_the_probe_of_another_node_does_not_use_the_address() -> None:
    assert user_of(probe(THEIRS, EIP), EIP) is None


def test_traffic_of_other_addresses_is_not_an_answer() -> None:
    assert user_of(REPLY, IPv4Address("192.168.1.111")) is None


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(lambda tail: REPLY[:24] + tail)))
def test_any_frame_is_read_without_an_error(frame: bytes) -> None:
    assert user_of(frame, EIP) in (None, frame[22:28])
