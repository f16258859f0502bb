"""The cipher of small packets: libsodium's, as PyNaCl brings it, where that is there; else OpenSSL's. Pure.

What comes after a pause finds nothing in the processor's caches. There one call takes OpenSSL 44 us, of which the work
is 1: it copies a context, with allocations, through several layers. libsodium takes 22. For large pieces OpenSSL is
the faster one.

PyNaCl's public functions take copies only, and four times as long. So its compiled module is called, which is what
they call; where it is not as expected, OpenSSL does the work.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

try:
    from nacl._sodium import ffi, lib
except ImportError:  # PyNaCl is missing, or is another than we know
    ffi = lib = None
if lib is not None and lib.sodium_init() < 0:
    lib = None

TAG = 16
"""Bytes that the ciphers add."""
MOST = 4096
"""Bytes of plaintext that are small: with more OpenSSL is as fast even after a pause."""

Cipher: TypeAlias = AESGCM | ChaCha20Poly1305


class Place(NamedTuple):
    """Where a sealed packet lies in a buffer that stays: `plain` is where it is opened, over what was sealed.

    The pointers are to nonce and ciphertext, and keep the buffer; None without libsodium.
    """

    nonce: memoryview
    sealed: memoryview
    plain: memoryview
    pointers: tuple[Any, Any, int] | None


def place(octets: memoryview, nonce: int, begin: int, end: int) -> Place:
    """Return the place of a packet with a nonce of 12 bytes from one offset on, and its ciphertext between two."""
    salt, sealed = octets[nonce : nonce + 12], octets[begin:end]
    pointers = None
    if lib is not None and TAG <= end - begin <= MOST + TAG:
        pointers = ffi.from_buffer(salt), ffi.from_buffer(sealed, require_writable=True), end - begin
    return Place(salt, sealed, octets[begin : end - TAG], pointers)


class SmallCipher(Protocol):
    """Seals and opens small packets with one key."""

    def seal(self, nonce: bytes, plain: bytes) -> bytes:
        """Return the ciphertext with its tag."""

    def open(self, where: Place) -> None:
        """Open a packet where it lies. Raises InvalidTag; what lies there is worth nothing then."""


class OpenSSL:
    """What `cryptography` offers."""

    __slots__ = ("_cipher",)

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def seal(self, nonce: bytes, plain: bytes) -> bytes:
        return self._cipher.encrypt(nonce, plain, None)

    def open(self, where: Place) -> None:
        self._cipher.decrypt_into(where.nonce, where.sealed, None, where.plain)


class Sodium:
    """The same by libsodium, for packets that are small; crypto_aead_aes256gcm(3), and of ChaCha20-Poly1305 `_ietf`."""

    __slots__ = ("_cipher", "_decrypt", "_encrypt", "_key", "_out", "_sealed")

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        name = "aes256gcm" if isinstance(cipher, AESGCM) else "chacha20poly1305_ietf"
        self._cipher, self._key = cipher, key
        self._encrypt = getattr(lib, f"crypto_aead_{name}_encrypt")
        self._decrypt = getattr(lib, f"crypto_aead_{name}_decrypt")
        out = bytearray(MOST + TAG)
        self._out, self._sealed = ffi.from_buffer(out), memoryview(out)

    def seal(self, nonce: bytes, plain: bytes) -> bytes:
        size = len(plain)
        if size > MOST:
            return self._cipher.encrypt(nonce, plain, None)
        self._encrypt(self._out, _NULL, plain, size, _NULL, 0, _NULL, nonce, self._key)
        return self._sealed[: size + TAG].tobytes()

    def open(self, where: Place) -> None:
        nonce, sealed, plain, pointers = where
        if pointers is None:
            self._cipher.decrypt_into(nonce, sealed, None, plain)
            return
        salt, start, size = pointers
        if self._decrypt(start, _NULL, _NULL, start, size, _NULL, 0, salt, self._key):
            raise InvalidTag


_NULL = ffi.NULL if ffi is not None else None


def _offers(name: str) -> bool:
    return all(hasattr(lib, f"crypto_aead_{name}_{what}") for what in ("encrypt", "decrypt"))


HAS_AES = lib is not None and _offers("aes256gcm") and bool(lib.crypto_aead_aes256gcm_is_available())
"""Whether libsodium has AES-GCM here: it has none but for processors with instructions for it."""
HAS_CHACHA = lib is not None and _offers("chacha20poly1305_ietf")


def small_cipher(cipher: Cipher, key: bytes) -> SmallCipher:
    """Return what seals and opens small packets as `cipher` does, which has this key of 32 bytes."""
    has_it = HAS_AES if isinstance(cipher, AESGCM) else HAS_CHACHA
    return Sodium(cipher, key) if has_it else OpenSSL(cipher)
