"""XChaCha20-Poly1305 against the vectors of its draft."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import xchacha
from kairos_net_vpn.drops import Refused, VpnDrop

KEY = bytes(range(0x80, 0xA0))
NONCE = bytes(range(0x40, 0x58))
SAID = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
PLAINTEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
SEALED = bytes.fromhex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
    "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
    "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
    "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
)


def quarter(words: list[int], *at: int) -> None:
    """Do a quarter round. Source: RFC 8439, section 2.1."""
    a, b, c, d = at
    for target, other, mixed, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        words[target] = (words[target] + words[other]) & 0xFFFFFFFF
        turned = words[mixed] ^ words[target]
        words[mixed] = (turned << by | turned >> (32 - by)) & 0xFFFFFFFF


def by_the_draft(key: bytes, nonce: bytes) -> bytes:
    """Compute HChaCha20 as the draft writes it: the rounds one by one."""
    state = b"expand 32-byte k" + key + nonce
    words = [int.from_bytes(state[start : start + 4], "little") for start in range(0, 64, 4)]
    for _ in range(10):
        for column in range(4):
            quarter(words, column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            quarter(words, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return b"".join(word.to_bytes(4, "little") for word in words[:4] + words[12:])


def test_the_subkey_is_that_of_the_draft() -> None:
    nonce = bytes.fromhex("000000090000004a0000000031415927")  # section 2.2.1
    subkey = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    assert xchacha.hchacha20(bytes(range(32)), nonce).hex() == subkey


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_the_short_way_gives_what_the_rounds_give(key: bytes, nonce: bytes) -> None:
    assert xchacha.hchacha20(key, nonce) == by_the_draft(key, nonce)


def test_what_is_sealed_is_that_of_the_draft() -> None:
    assert xchacha.Series(KEY, NONCE).seal(PLAINTEXT, SAID) == (NONCE, SEALED)  # appendix A.3.1
    assert xchacha.open_sealed(KEY, NONCE, SEALED, SAID) == PLAINTEXT


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_nothing_altered_opens(position: int, mask: int) -> None:
    altered = bytearray(SEALED)
    altered[position] ^= mask
    for sealed, said in ((bytes(altered), SAID), (SEALED, SAID[:-1])):
        with pytest.raises(Refused) as refused:
            xchacha.open_sealed(KEY, NONCE, sealed, said)
        assert refused.value.drop is VpnDrop.UNSEAL


@pytest.mark.parametrize("first", [NONCE, NONCE[:16] + b"\xff" * 8], ids=["somewhere", "at the end of the numbers"])
def test_a_series_repeats_no_nonce_and_each_plaintext_opens(first: bytes) -> None:
    series = xchacha.Series(KEY, first)
    sealed = [series.seal(PLAINTEXT, SAID) for _ in range(300)]
    assert len({nonce for nonce, _ in sealed}) == 300
    assert all(nonce[:16] == first[:16] for nonce, _ in sealed)
    assert all(xchacha.open_sealed(KEY, nonce, ciphertext, SAID) == PLAINTEXT for nonce, ciphertext in sealed)
