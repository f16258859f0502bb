"""The cipher of small packets: whichever library does the work, the bytes are the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.small import MOST, TAG, Cipher, OpenSSL, Place, Sodium, load, small_cipher

KEY, NONCE = bytes(range(32)), bytes(range(12))
HEAD = b"name" + NONCE
CIPHERS: list[Cipher] = [AESGCM(KEY), ChaCha20Poly1305(KEY)]
BEGIN, BEHIND = 16, 40
SIZES = [0, 1, 15, 16, 17, 64, 1400, MOST - 1, MOST, MOST + 1, 9000]


def laid(sealed: bytes) -> memoryview:
    """Return a buffer as a datagram is received into: nonce, ciphertext, and what was there before."""
    return memoryview(bytearray(BEGIN - 12) + NONCE + sealed + bytes([7]) * BEHIND)


def opens(where: Place) -> bool:
    return not where.fails(*where.arguments)


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("size", SIZES)
def test_both_libraries_seal_alike_and_open_where_it_lies(cipher: Cipher, size: int) -> None:
    plain = bytes(i & 0xFF for i in range(size))
    sealed = cipher.encrypt(NONCE, plain, None)
    for small in (small_cipher(cipher, KEY), OpenSSL(cipher)):
        assert small.seal(HEAD, plain) == HEAD + sealed
        buffer = laid(sealed)
        where = small.place(buffer, BEGIN - 12, BEGIN, BEGIN + size + TAG)
        assert opens(where)
        assert where.plain.tobytes() == plain
        assert buffer[BEGIN + size + TAG :].tobytes() == bytes([7]) * BEHIND
        buffer[BEGIN:-BEHIND] = sealed  # the place stays good for what comes next
        assert opens(where)
        assert where.plain.tobytes() == plain


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255), st.sampled_from(CIPHERS))
def test_what_was_altered_is_refused_and_nothing_around_it_changes(
    plain: bytes, at: int, change: int, cipher: Cipher
) -> None:
    buffer = laid(cipher.encrypt(NONCE, plain, None))
    buffer[4 + at % (12 + len(plain) + TAG)] ^= change
    before = buffer.tobytes()
    assert not opens(small_cipher(cipher, KEY).place(buffer, BEGIN - 12, BEGIN, BEGIN + len(plain) + TAG))
    end = BEGIN + len(plain)
    assert buffer[:BEGIN].tobytes() + buffer[end:].tobytes() == before[:BEGIN] + before[end:]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_nothing_that_is_printed_has_the_key(cipher: Cipher) -> None:
    small = small_cipher(cipher, b"very secret key of thirty-two by")
    shown = repr(small) + repr(small.place(laid(bytes(20)), BEGIN - 12, BEGIN, BEGIN + 20))
    assert "secret" not in shown
    assert b"very".hex() not in shown


def test_libsodium_does_it_where_the_processor_can() -> None:
    assert load().has_chacha
    assert isinstance(small_cipher(CIPHERS[1], KEY), Sodium)
    if {"aes", "pclmulqdq"} <= set(Path("/proc/cpuinfo").read_text().split()):
        assert load().has_aes
    assert isinstance(small_cipher(CIPHERS[0], KEY), Sodium if load().has_aes else OpenSSL)


def test_the_agent_does_not_load_it() -> None:
    code = "import sys; import kairos_net_vpn.plugin, kairos_net_vpn.network; sys.exit('nacl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


BLOCKED = """
import sys
sys.modules["nacl"] = None
from kairos_net_vpn import small
key, nonce, plain = bytes(range(32)), bytes(range(12)), b"abc" * 30
for cipher in small.AESGCM(key), small.ChaCha20Poly1305(key):
    chosen = small.small_cipher(cipher, key)
    assert type(chosen) is small.OpenSSL, chosen
    octets = memoryview(bytearray(chosen.seal(b"name" + nonce, plain)))
    where = chosen.place(octets, 4, 16, len(octets))
    assert not where.fails(*where.arguments) and where.plain == plain
print("good")
"""


def test_openssl_does_it_without_pynacl() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("good", 0), done.stderr
