"""One-time passwords and the keys made from them: vectors of the RFCs, epochs, the join key."""

from __future__ import annotations

import base64
import hmac
import random
from dataclasses import replace

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.protocol.otp import JOIN, Keyring, edgevpn_password, hkdf, one_time_password
from kairos_core.protocol.token import new_token

NOON = 1_800_000_000 + 1800
"""Wall time in the middle of an hourly epoch."""

RFC_KEY = "12345678901234567890"


def keyring(seed: int = 1, interval: int = 3600) -> Keyring:
    return Keyring(new_token(random.Random(seed).choice, interval))


def test_the_library_computes_hotp_as_rfc_4226() -> None:
    codes = [755224, 287082, 359152, 969429, 338314, 254676, 287922, 162583, 399871, 520489]  # appendix D
    library = pyotp.HOTP(base64.b32encode(RFC_KEY.encode()).decode())
    assert [library.at(counter) for counter in range(10)] == [str(code) for code in codes]


@pytest.mark.parametrize(
    ("unix_time", "code"),  # RFC 6238, appendix B, SHA-256
    [
        (59, "46119246"),
        (1111111109, "68084774"),
        (1111111111, "67062674"),
        (1234567890, "91819424"),
        (2000000000, "90698825"),
        (20000000000, "77737706"),
    ],
)
def test_our_passwords_end_in_the_digits_of_rfc_6238(unix_time: int, code: str) -> None:
    ours = one_time_password("12345678901234567890123456789012", unix_time // 30)
    assert len(ours) == 10
    assert ours.endswith(code), "eight digits are the last eight of ten"


def test_edgevpn_passwords_are_base64_of_an_hmac() -> None:
    # RFC 4231, test case 1: its data has eight bytes, so it is a counter too.
    key, counter = "\x0b" * 20, int.from_bytes(b"Hi There")
    mac = bytes.fromhex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    assert edgevpn_password(key, 44, counter) == base64.b64encode(mac).decode()
    assert edgevpn_password(key, 43, counter) == base64.b64encode(mac).decode()[:43]
    assert edgevpn_password(key, 32, counter) == base64.b64encode(mac).decode()[:32]


def test_hkdf_is_rfc_5869_with_our_label() -> None:
    # Written out from section 2 of the RFC, to check the library's use and the label.
    secret, salt = b"secret", b"salt"
    extracted = hmac.digest(salt, secret, "sha256")
    expanded = hmac.digest(extracted, b"kairos/1 purpose\x01", "sha256")
    assert hkdf(secret, salt, "purpose") == expanded
    assert hkdf(secret, salt, "purpose", 16) == expanded[:16]


def test_an_epoch_is_the_number_of_intervals_since_1970() -> None:
    ring = keyring()
    assert ring.epoch(NOON) == 500_000
    assert ring.epoch(NOON + 1799.9) == 500_000
    assert ring.epoch(NOON + 1800) == 500_001
    assert ring.epoch_ends(NOON) == 1_800_003_600
    assert ring.epoch_ends(1_800_003_600) == 1_800_007_200


def test_the_current_key_is_first_and_neighbours_and_join_follow() -> None:
    assert [key.label for key in keyring().accepted(NOON)] == ["e500000", "e500001", "e499999", JOIN]


@pytest.mark.parametrize("skew", [-3600, -1800, 0, 1800, 3600])
def test_clocks_an_interval_apart_understand_each_other(skew: int) -> None:
    mine, theirs = keyring().accepted(NOON), keyring().accepted(NOON + skew)
    assert mine[0] in theirs
    assert theirs[0] in mine


@pytest.mark.parametrize("skew", [-7200, 7200, -NOON, 10**9])
def test_clocks_further_apart_share_only_the_join_key_and_perhaps_a_neighbour(skew: int) -> None:
    mine, theirs = keyring().accepted(NOON), keyring().accepted(NOON + skew)
    assert mine[0] not in theirs
    assert mine[-1] == theirs[-1]
    assert mine[-1].label == JOIN


def test_rendezvous_names_follow_the_epochs_and_join() -> None:
    ring = keyring()
    now, later, far = ring.rendezvous(NOON), ring.rendezvous(NOON + 3600), ring.rendezvous(NOON + 10**7)
    assert set(now.announce) <= later.accept
    assert set(later.announce) <= now.accept
    assert not set(now.announce) & far.accept
    assert now.accept & far.accept == set(ring.rendezvous(0, join=True).announce[1:])
    assert len(now.announce) == 1
    assert len(ring.rendezvous(NOON, join=True).announce) == 2


def test_rendezvous_names_have_the_form_that_every_discovery_can_carry() -> None:
    for name in keyring().rendezvous(NOON, join=True).accept:
        assert len(name) == 26
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_a_token_that_never_rotates_works() -> None:
    ring = keyring(interval=2**63 - 1)
    assert [key.label for key in ring.accepted(NOON)] == ["e0", "e1", JOIN]
    assert ring.rendezvous(NOON).announce == ring.rendezvous(NOON + 10**9).announce
    assert ring.epoch_ends(NOON) > 10**18


@pytest.mark.parametrize("unix_now", [0.0, 5.5, -1.0, -1e6])
def test_a_clock_that_never_ran_still_gives_keys(unix_now: float) -> None:
    keys = keyring().accepted(unix_now)
    assert keys[0].label == "e0"
    assert keys[-1].label == JOIN
    assert len(keyring().rendezvous(unix_now).announce) == 1


def test_two_rotations_of_one_token_end_at_the_earlier() -> None:
    token = new_token(random.Random(1).choice)
    uneven = replace(token, otp=replace(token.otp, dht=replace(token.otp.dht, interval=600)))
    assert Keyring(uneven).epoch_ends(NOON) == NOON + 600


def test_every_part_of_the_token_matters_to_the_keys() -> None:
    token = new_token(random.Random(1).choice)
    others = [
        replace(token, room="x"),
        replace(token, otp=replace(token.otp, dht=replace(token.otp.dht, key="x"))),
        replace(token, otp=replace(token.otp, crypto=replace(token.otp.crypto, key="x"))),
    ]
    networks = {Keyring(each).network for each in (token, *others)}
    assert len(networks) == 4


def test_keys_differ_by_epoch_and_by_purpose() -> None:
    ring = keyring()
    derived = [key.derive(purpose) for key in (*ring.accepted(NOON), ring.key(7)) for purpose in ("datagram", "ca")]
    assert len(set(derived)) == len(derived)
    assert len({key.key_id for key in ring.accepted(NOON)}) == 4
    assert ring.secret("a") != ring.secret("b")


@given(st.integers(0, 2**63 - 1), st.text(min_size=16, max_size=256))
def test_any_key_and_counter_give_ten_digits(counter: int, key: str) -> None:
    code = one_time_password(key, counter)
    assert len(code) == 10
    assert code.isdigit()
    # Written out from RFC 4226, section 5.3: dynamic truncation of the HMAC, here with SHA-256.
    mac = hmac.digest(key.encode(), counter.to_bytes(8), "sha256")
    offset = mac[-1] & 15
    assert int(code) == int.from_bytes(mac[offset : offset + 4]) & 0x7FFFFFFF
