"""Two seals: a datagram for every member of the network, and a secret for some peers by name.

A datagram is `version u8 | key id u32 | nonce 12 B | AES-256-GCM ciphertext | tag 16 B`, big endian; the
first five bytes are authenticated too. The nonce is random and no counter, since all members share the key.

A sealed secret has one wrapped key per recipient (ephemeral X25519, HKDF, AES-256-GCM), so each recipient
opens it with its own exchange key and nobody else can.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kairos_core.errors import ProtocolError
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.otp import NetworkKey, hkdf

VERSION = 1
_HEAD = struct.Struct("!BI")
NONCE = 12
OVERHEAD = _HEAD.size + NONCE + 16
"""Bytes that the seal adds to a datagram: 33."""


class DatagramSeal:
    """Seals and opens datagrams under the keys of the accepted epochs."""

    def __init__(self) -> None:
        self._ciphers: dict[int, AESGCM] = {}
        self._current = 0
        self._labels: tuple[str, ...] = ()
        self._keys: Sequence[NetworkKey] = ()

    def use(self, keys: Sequence[NetworkKey]) -> None:
        """Take the accepted keys, the one to seal with first. Cheap when nothing changed."""
        if keys is self._keys:
            return
        self._keys = keys
        labels = tuple(key.label for key in keys)
        if labels != self._labels:
            self._ciphers = {key.key_id: AESGCM(key.derive("datagram")) for key in keys}
            self._current = keys[0].key_id
            self._labels = labels

    def seal(self, plaintext: bytes, nonce: bytes) -> bytes:
        """Seal with the current key. `nonce` is 12 random bytes, never used twice."""
        head = _HEAD.pack(VERSION, self._current)
        return head + nonce + self._ciphers[self._current].encrypt(nonce, plaintext, head)

    def open(self, datagram: bytes) -> bytes:
        """Return the plaintext. Raises ProtocolError (truncated, version, unknown_key, unseal)."""
        if len(datagram) <= OVERHEAD:
            raise ProtocolError(Drop.TRUNCATED)
        version, key_id = _HEAD.unpack_from(datagram)
        if version != VERSION:
            raise ProtocolError(Drop.VERSION, str(version))
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise ProtocolError(Drop.UNKNOWN_KEY)
        nonce = datagram[_HEAD.size : _HEAD.size + NONCE]
        try:
            return cipher.decrypt(nonce, datagram[_HEAD.size + NONCE :], datagram[: _HEAD.size])
        except InvalidTag:
            raise ProtocolError(Drop.UNSEAL) from None


def nonce_of(datagram: bytes) -> bytes:
    """Return the nonce of a sealed datagram: what tells a replay from a new one."""
    return datagram[_HEAD.size : _HEAD.size + NONCE]


def seal_to(recipients: Mapping[str, bytes], plaintext: bytes, context: bytes, random: bytes) -> dict[str, object]:
    """Seal a secret to peers: `recipients` maps a name to its X25519 public key (32 bytes).

    `context` binds the secret to where it is written, so it cannot be moved elsewhere. `random` is 64 fresh
    random bytes. Returns `{"to": {name: wrapped key}, "by": ephemeral public key, "text": ciphertext}`.
    """
    ephemeral, content_key = X25519PrivateKey.from_private_bytes(random[:32]), random[32:64]
    public = ephemeral.public_key().public_bytes_raw()
    wrapped = {
        name: _wrapping(ephemeral, key, public, key, context).encrypt(bytes(12), content_key, None)
        for name, key in sorted(recipients.items())
    }
    # The content key and each wrapping key are used once, so a nonce of zeros is sound.
    return {"to": wrapped, "by": public, "text": AESGCM(content_key).encrypt(bytes(12), plaintext, context)}


@lru_cache(maxsize=4096)
def is_exchange_key(public_key: bytes) -> bool:
    """Say whether a secret can be sealed to this X25519 key: not to one of low order. Source: RFC 7748, section 6.1."""
    try:
        _probe().exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        return False
    return True


@cache
def _probe() -> X25519PrivateKey:
    """Make a key; any will do, it protects nothing. At its first use: the library then loads another 1.5 MB."""
    return X25519PrivateKey.from_private_bytes(bytes(range(32)))


def open_sealed(name: str, key: X25519PrivateKey, sealed: Mapping[str, object], context: bytes) -> bytes | None:
    """Open a secret as the recipient `name`; None when it is not sealed to us.

    Raises ProtocolError (malformed, unseal).
    """
    recipients, public, text = sealed.get("to"), sealed.get("by"), sealed.get("text")
    if not (isinstance(recipients, dict) and isinstance(public, bytes) and isinstance(text, bytes)):
        raise ProtocolError(Drop.MALFORMED, "sealed secret")
    wrapped = recipients.get(name)
    if not isinstance(wrapped, bytes):
        return None
    try:
        own = key.public_key().public_bytes_raw()
        content_key = _wrapping(key, public, public, own, context).decrypt(bytes(12), wrapped, None)
        return AESGCM(content_key).decrypt(bytes(12), text, context)
    except (InvalidTag, ValueError):
        raise ProtocolError(Drop.UNSEAL, "sealed secret") from None


def _wrapping(mine: X25519PrivateKey, theirs: bytes, sender: bytes, recipient: bytes, context: bytes) -> AESGCM:
    shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
    return AESGCM(hkdf(shared, sender + recipient + context, "seal to peer"))
