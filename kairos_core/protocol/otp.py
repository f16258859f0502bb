"""From the token to keys that rotate by one-time passwords (HOTP, RFC 4226, over HKDF-SHA256, RFC 5869).

An epoch is `floor(unix time / interval)`. Its one-time password salts HKDF over the token's secret, and a
label per purpose separates the keys. The epochs -1, 0 and +1 are accepted, so clocks may differ by an
interval; the join key depends on no clock and lets a machine with a dead clock in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyotp.hotp import HOTP

from kairos_core.protocol.token import Token

REMEMBERED_EPOCHS = 16
"""Epochs whose keys are kept at hand. One node needs one; simulated nodes with skewed clocks share a keyring."""

JOIN = "join"
"""The label of the clock-free key."""


@dataclass(frozen=True, slots=True)
class NetworkKey:
    """The secret of one epoch. `label` is public and names it on the wire (`e493827`, or `join`)."""

    label: str
    _secret: bytes = field(repr=False)
    _salt: bytes = field(repr=False)

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """Return the key for one purpose; different purposes give independent keys."""
        return hkdf(self._secret, self._salt, purpose, length)

    @property
    def key_id(self) -> int:
        """The 32 bits that name this key in a datagram; they say nothing of the key or the epoch."""
        return _key_id(self)


@lru_cache(maxsize=64)
def _key_id(key: NetworkKey) -> int:
    return int.from_bytes(key.derive("datagram key id", 4))


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Names to meet under: 26 lower-case base32 characters each."""

    announce: tuple[str, ...]
    accept: frozenset[str]


class Keyring:
    """All keys of a network, made from its token on demand."""

    def __init__(self, token: Token) -> None:
        self._crypto, self._dht = token.otp.crypto, token.otp.dht
        parts = (token.otp.crypto.key, token.otp.dht.key, token.room)
        # Each part is preceded by its length, so no two tokens give the same input.
        self._secret = b"".join(len(p.encode()).to_bytes(4) + p.encode() for p in parts)
        self.network = self.secret("network id")[:16]
        """Sixteen public bytes that name the network: the context of every signature."""
        self._accepted: dict[int, tuple[NetworkKey, ...]] = {}

    def __repr__(self) -> str:
        return f"Keyring(network={self.network.hex()})"

    def secret(self, purpose: str) -> bytes:
        """Return 32 bytes for a purpose that depend on no clock."""
        return hkdf(self._secret, b"", purpose)

    def epoch(self, unix_now: float) -> int:
        """Return the number of the epoch that holds at this time."""
        return int(unix_now) // self._crypto.interval

    def epoch_ends(self, unix_now: float) -> float:
        """Return the wall time of the next rotation of keys or rendezvous names."""
        return min(
            (int(unix_now) // interval + 1) * float(interval)
            for interval in (self._crypto.interval, self._dht.interval)
        )

    def accepted(self, unix_now: float) -> tuple[NetworkKey, ...]:
        """Return the accepted keys, the one to use first: current, next, previous epoch, join key."""
        now = self.epoch(unix_now)
        keys = self._accepted.get(now)
        if keys is None:  # asked for each datagram, and the same for a whole epoch
            if len(self._accepted) >= REMEMBERED_EPOCHS:
                self._accepted.clear()
            epochs = dict.fromkeys(max(0, n) for n in (now, now + 1, now - 1))
            keys = self._accepted[now] = (*(self.key(n) for n in epochs), self.key(None))
        return keys

    def key(self, epoch: int | None) -> NetworkKey:
        """Return the key of one epoch, or the join key for None."""
        if epoch is None:
            return NetworkKey(JOIN, self._secret, b"clock-free join")
        return NetworkKey(f"e{epoch}", self._secret, one_time_password(self._crypto.key, epoch).encode())

    def rendezvous(self, unix_now: float, *, join: bool = False) -> Rendezvous:
        """Return the names to announce and to look for; `join` also announces the clock-free one."""
        now = int(unix_now) // self._dht.interval
        names = [self._name(str(max(0, n))) for n in (now, now + 1, now - 1)]
        clock_free = self._name(JOIN)
        return Rendezvous((names[0], clock_free) if join else (names[0],), frozenset((*names, clock_free)))

    def _name(self, epoch: str) -> str:
        code = one_time_password(self._dht.key, int(epoch)) if epoch != JOIN else JOIN
        raw = hkdf(self._secret, code.encode(), "rendezvous", 16)
        return base64.b32encode(raw).decode().rstrip("=").lower()


@lru_cache(maxsize=64)
def one_time_password(key: str, counter: int) -> str:
    """Return the HOTP (SHA-256, 10 digits) of a key at a counter. Source: RFC 4226, section 5.3."""
    secret = base64.b32encode(key.encode()).decode()
    return HOTP(secret, digits=10, digest=hashlib.sha256).at(counter)


def edgevpn_password(key: str, length: int, counter: int) -> str:
    """Return the one-time password as EdgeVPN computes it: base64 of an HMAC, cut to `length` characters.

    EdgeVPN names its rendezvous and its gossip room with the hex MD5 of this.
    """
    return base64.b64encode(hmac.digest(key.encode(), counter.to_bytes(8), "sha256")).decode()[:length]


@lru_cache(maxsize=256)
def hkdf(secret: bytes, salt: bytes, purpose: str, length: int = 32) -> bytes:
    """Derive a key for one purpose. Source: RFC 5869; the purpose is the info field."""
    return HKDF(SHA256(), length, salt, b"kairos/1 " + purpose.encode()).derive(secret)
