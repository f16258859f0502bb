"""Cookies: under load, only who proves to receive at its address is worth a key exchange.

    initiator                                            responder, under load
    initiation, mac2 zero            ->                  asks for proof: no key exchange
    keeps the cookie for two minutes <-  cookie (type 3) MAC of the sender's address under a secret of two minutes
    initiation, mac2 = MAC(cookie)   ->                  answers, within that address's ration

A reply is sealed under the receiver of the message's public key with the message's own mac1, so only who saw the
message can make one, and only its sender takes it. Both sides do both: a response may be asked for proof too.
Source: the WireGuard paper, sections 5.3, 5.4.7 and 5.4.4.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Set

from kairos_net_vpn import spec, xchacha
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.rations import Bucket, Rations

_REPLY = struct.Struct("<II24s32s")
_MAC1 = slice(-2 * spec.MAC, -spec.MAC)

BUSY = 250.0
"""Handshakes in a second that are answered without proof. Each costs 0.3 ms, so strangers with our public key cost
us less than a tenth of a processor. Raising it lets larger meshes start without a detour and costs that much more."""
PROVEN = 1000.0
"""Handshakes in a second that are answered with proof, whoever sends them: bounds what many true addresses cost."""
REPLIES = 2000.0
"""Cookies given in a second to anybody. Each costs 30 us with all that is around it, so they take a sixteenth of a
processor, and who gets none a third of that. Raising it lets strangers in after fewer attempts, and costs that much
more: of 5000 initiations in a second, two in five are answered."""
SPARED = 500.0
"""Cookies given in a second, when those are gone, to hosts where peers are: who floods us does not keep peers out, but
by their own addresses."""
STILL_BUSY = 1.0
"""Seconds that we go on asking for proof after the last handshake too many."""


def cookie_key(public: bytes) -> bytes:
    """Return what cookies of the node with this public key are sealed under."""
    return hashlib.blake2s(spec.LABEL_COOKIE + public).digest()


def _mac(key: bytes, message: bytes) -> bytes:
    return hashlib.blake2s(message, key=key, digest_size=spec.MAC).digest()


class CookieJar:
    """What a peer gave us to show it: its last cookie, and for which message of ours it may give one."""

    __slots__ = ("_cookie", "_key", "_last_mac1", "_taken")

    def __init__(self, public: bytes) -> None:
        self._key = cookie_key(public)
        self._cookie, self._taken = b"", 0.0
        self._last_mac1 = b""

    def prove(self, message: bytes, now: float) -> bytes:
        """Return a handshake message (whose mac2 is zero) with the proof, if we have one."""
        self._last_mac1 = message[_MAC1]
        if not self._cookie or now >= self._taken + spec.COOKIE_LIFE:
            return message
        head = message[: -spec.MAC]
        return head + _mac(self._cookie, head)

    def take(self, reply: bytes, now: float) -> None:
        """Keep the cookie of a reply to our last message. Raises Refused (unseal)."""
        _, _, nonce, sealed = _REPLY.unpack(reply)
        self._cookie, self._taken = xchacha.open_sealed(self._key, nonce, sealed, self._last_mac1), now


class Gate:
    """Lets handshake messages in: all of them in quiet times, under load only with proof and within a ration."""

    def __init__(self, public: bytes, entropy: Callable[[int], bytes]) -> None:
        self._key = cookie_key(public)
        self._entropy = entropy
        self._secret, self._secret_until = b"", -1.0
        self._series: xchacha.Series | None = None
        self._quiet, self._proven = Bucket(BUSY), Bucket(PROVEN)
        self._replies, self._spared = Bucket(REPLIES), Bucket(SPARED)
        self._rations = Rations()
        self._busy_until = float("-inf")
        self.known: Set[bytes] = frozenset()
        """The hosts where peers are, for SPARED; whoever knows them sets it."""

    def is_busy(self, now: float) -> bool:
        return now < self._busy_until

    def is_full(self, message: bytes, now: float) -> bool:
        """Say whether a message shows no proof, and all cookies of this moment are given.

        Asked before anything else, and with `spares`, so that most of a large flood costs no hash.
        """
        return now < self._busy_until and message[-spec.MAC :] == spec.NO_PROOF and not self._replies.has(now)

    def spares(self, host: bytes, now: float) -> bool:
        """Say whether there is a cookie for this host nevertheless."""
        return host in self.known and self._spared.has(now)

    def admit(self, message: bytes, source: bytes, host: bytes, now: float) -> bytes | None:
        """Return None when the message may come in, else the cookie reply to send where it came from.

        `source` names the sender's address and port, `host` what its ration belongs to. Raises Refused (flooded).
        """
        if not self._quiet.take(now):
            self._busy_until = now + STILL_BUSY
        if not self.is_busy(now):
            return None
        if not self._is_proven(message, source, now):
            if not (self._replies.take(now) or (host in self.known and self._spared.take(now))):
                raise Refused(VpnDrop.FLOODED)
            return self._reply(message, source, now)
        if not (self._rations.take(host, now) and self._proven.take(now)):
            raise Refused(VpnDrop.FLOODED)
        return None

    def _is_proven(self, message: bytes, source: bytes, now: float) -> bool:
        proof = message[-spec.MAC :]
        if proof == spec.NO_PROOF or now >= self._secret_until:
            return False
        return hmac.compare_digest(proof, _mac(self._cookie(source, now), message[: -spec.MAC]))

    def _reply(self, message: bytes, source: bytes, now: float) -> bytes:
        cookie, sender = self._cookie(source, now), int.from_bytes(message[4:8], "little")
        if self._series is None:
            self._series = xchacha.Series(self._key, self._entropy(xchacha.NONCE))
        nonce, sealed = self._series.seal(cookie, message[_MAC1])
        return _REPLY.pack(spec.COOKIE, sender, nonce, sealed)

    def _cookie(self, source: bytes, now: float) -> bytes:
        if now >= self._secret_until:
            self._secret, self._secret_until = self._entropy(32), now + spec.COOKIE_LIFE
            self._series = None
        return _mac(self._secret, source)
