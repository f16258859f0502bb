"""The cipher of small packets: libsodium's, as PyNaCl brings it, where that is there; else OpenSSL's. Pure.

What comes after a pause finds nothing in the processor's caches. There one call takes OpenSSL 44 us, of which the work
is 1: it copies a context, with allocations, through several layers. libsodium takes 22. For large pieces OpenSSL is
the faster one.

PyNaCl's public functions take copies only, and four times as long. So its compiled module is called, which is what
they call; where it is not as expected, OpenSSL does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from kairos_net_vpn.datagrams import HEADER_SIZE, WHOLE

TAG = 16
"""Bytes that the ciphers add."""
NONCE = 12
"""Bytes that they take for a nonce."""
MOST = 4096
"""Bytes of plaintext that are small: with more OpenSSL is as fast even after a pause."""
_AROUND = HEADER_SIZE + TAG

Cipher: TypeAlias = AESGCM | ChaCha20Poly1305


class Place(NamedTuple):
    """Where a sealed packet lies in a buffer that stays, and its plaintext, over what was sealed, once it is opened.

    `fails(*arguments)` opens it and says whether that failed; what lies there is worth nothing then. It is a tuple of
    arguments because after a pause each step of the interpreter counts. They keep the buffer.
    """

    plain: memoryview
    fails: Callable[..., object]
    arguments: tuple[Any, ...]


class SmallCipher(Protocol):
    """Seals and opens small packets with one key."""

    def seal(self, head: bytes, plain: bytes) -> bytes | memoryview:
        """Return a datagram: the 16 bytes of its header, which end with the nonce, the ciphertext and its tag.

        It is good until the next is sealed.
        """

    def place(self, octets: memoryview, nonce: int, begin: int, end: int) -> Place:
        """Return the place of a packet with a nonce from one offset on, 12 bytes, and its ciphertext between two.

        It has TAG bytes or more.
        """


class OpenSSL:
    """What `cryptography` offers."""

    __slots__ = ("_cipher",)

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def seal(self, head: bytes, plain: bytes) -> bytes:
        return head + self._cipher.encrypt(head[-NONCE:], plain, None)

    def place(self, octets: memoryview, nonce: int, begin: int, end: int) -> Place:
        plain = octets[begin : end - TAG]
        return Place(plain, self._fails, (octets[nonce : nonce + NONCE], octets[begin:end], plain))

    def _fails(self, nonce: memoryview, sealed: memoryview, plain: memoryview) -> bool:
        try:
            self._cipher.decrypt_into(nonce, sealed, None, plain)
        except InvalidTag:
            return True
        return False


class Sodium:
    """The same by libsodium, for packets that are small; crypto_aead_aes256gcm(3), and of ChaCha20-Poly1305 `_ietf`."""

    __slots__ = ("_datagram", "_decrypt", "_encrypt", "_ffi", "_head", "_key", "_large", "_nonce", "_null", "_out")

    def __init__(self, cipher: Cipher, key: bytes) -> None:
        name = "aes256gcm" if isinstance(cipher, AESGCM) else "chacha20poly1305_ietf"
        ffi, lib = self._ffi, _ = load()[:2]
        self._null, self._large = ffi.NULL, OpenSSL(cipher)
        self._key = ffi.new("unsigned char[]", key)  # unlike bytes it does not show in a repr of arguments
        self._encrypt = getattr(lib, f"crypto_aead_{name}_encrypt")
        self._decrypt = getattr(lib, f"crypto_aead_{name}_decrypt")
        self._datagram = datagram = memoryview(bytearray(HEADER_SIZE + MOST + TAG))
        self._head = datagram[:HEADER_SIZE]
        self._nonce, self._out = map(ffi.from_buffer, (datagram[HEADER_SIZE - NONCE :], datagram[HEADER_SIZE:]))

    def seal(self, head: bytes, plain: bytes) -> bytes | memoryview:
        size = len(plain)
        if size > MOST:
            return self._large.seal(head, plain)
        self._head[WHOLE], null = head, self._null
        self._encrypt(self._out, null, plain, size, null, 0, null, self._nonce, self._key)
        return self._datagram[: size + _AROUND]

    def place(self, octets: memoryview, nonce: int, begin: int, end: int) -> Place:
        size = end - begin
        if size > MOST + TAG:
            return self._large.place(octets, nonce, begin, end)
        null, ffi = self._null, self._ffi
        salt = ffi.from_buffer(octets[nonce : nonce + NONCE])
        sealed = ffi.from_buffer(octets[begin:end], require_writable=True)
        arguments = (sealed, null, null, sealed, size, null, 0, salt, self._key)
        return Place(octets[begin : end - TAG], self._decrypt, arguments)


class Library(NamedTuple):
    """libsodium, and which ciphers it has here: AES-GCM only for processors with instructions for it."""

    ffi: Any
    lib: Any
    has_aes: bool
    has_chacha: bool


@cache
def load() -> Library:
    """Return libsodium, loaded once; without ciphers when it is missing.

    Not at import: the agent, which has no session, spares 2 MB. The data plane calls it before it shuts all files.
    """
    try:
        from nacl._sodium import ffi, lib  # noqa: PLC0415
    except ImportError:  # PyNaCl is missing, or is another than we know
        return Library(None, None, has_aes=False, has_chacha=False)
    is_ready = lib.sodium_init() >= 0
    has_aes = is_ready and _offers(lib, "aes256gcm") and bool(lib.crypto_aead_aes256gcm_is_available())
    return Library(ffi, lib, has_aes, is_ready and _offers(lib, "chacha20poly1305_ietf"))


def _offers(lib: Any, name: str) -> bool:
    return all(hasattr(lib, f"crypto_aead_{name}_{what}") for what in ("encrypt", "decrypt"))


def small_cipher(cipher: Cipher, key: bytes) -> SmallCipher:
    """Return what seals and opens small packets as `cipher` does, which has this key of 32 bytes."""
    has_it = load().has_aes if isinstance(cipher, AESGCM) else load().has_chacha
    return Sodium(cipher, key) if has_it else OpenSSL(cipher)
