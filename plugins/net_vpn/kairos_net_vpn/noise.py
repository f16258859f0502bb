"""The handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it. Pure values, no state of a peer.

    initiator                                        responder
    initiate()  ->  initiation (148 bytes)  ->       check()             is it for us?
                                                     read_initiation()   who knocks?
                                                     admit()             is it really that peer? when?
    read_response()  <-  response (92 bytes)  <-     respond()           both ends now have SessionKeys

Each message is bound to the receiver's public key by `mac1`, so whoever does not know our key (it is only in
the sealed ledger) costs us one hash. Source: the WireGuard paper, section 5.4; the Noise Protocol Framework,
revision 34.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from kairos_net_vpn import spec
from kairos_net_vpn.drops import Refused, VpnDrop

_NONCE = bytes(12)  # every handshake key is used once
_INITIATION = struct.Struct("<II32s48s28s16s16s")
_RESPONSE = struct.Struct("<III32s16s16s16s")


def _hash(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def _expand(chain: bytes, material: bytes, count: int) -> list[bytes]:
    """Return the first `count` keys of HKDF with BLAKE2s. Source: the paper's Kdf_n; RFC 5869."""
    secret = hmac.digest(chain, material, "blake2s")
    keys, last = [], b""
    for number in range(1, count + 1):
        last = hmac.digest(secret, last + bytes([number]), "blake2s")
        keys.append(last)
    return keys


def _mac(key: bytes, message: bytes) -> bytes:
    return hashlib.blake2s(message, key=key, digest_size=spec.MAC).digest()


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # a point of small order: the "secret" would be zero for everyone
        raise Refused(VpnDrop.BAD_KEY) from None


_CHAIN = _hash(spec.CONSTRUCTION)
_PROTOCOL = _hash(_CHAIN + spec.IDENTIFIER)


class Transcript:
    """All that both sides have said so far (`hash`), and the secret that they share by it (`chain`)."""

    __slots__ = ("chain", "hash")

    def __init__(self, responder: bytes) -> None:
        self.chain = _CHAIN
        self.hash = _hash(_PROTOCOL + responder)

    def absorb(self, said: bytes) -> None:
        self.hash = _hash(self.hash + said)

    def absorb_ephemeral(self, public: bytes) -> None:
        self.absorb(public)
        self.mix(public)

    def mix(self, material: bytes) -> None:
        (self.chain,) = _expand(self.chain, material, 1)

    def mix_key(self, material: bytes) -> bytes:
        self.chain, key = _expand(self.chain, material, 2)
        return key

    def mix_psk(self, psk: bytes) -> bytes:
        self.chain, said, key = _expand(self.chain, psk, 3)
        self.absorb(said)
        return key

    def seal(self, key: bytes, plaintext: bytes) -> bytes:
        ciphertext = ChaCha20Poly1305(key).encrypt(_NONCE, plaintext, self.hash)
        self.absorb(ciphertext)
        return ciphertext

    def open(self, key: bytes, ciphertext: bytes) -> bytes:
        try:
            plaintext = ChaCha20Poly1305(key).decrypt(_NONCE, ciphertext, self.hash)
        except InvalidTag:
            raise Refused(VpnDrop.UNSEAL) from None
        self.absorb(ciphertext)
        return plaintext


class Local:
    """This node's static key and the network's pre-shared key, the one of all peers without their own. Shows only
    the public half."""

    __slots__ = ("_mac1", "_psk", "private", "public")

    def __init__(self, private: X25519PrivateKey, psk: bytes) -> None:
        self.private = private
        self.public = private.public_key().public_bytes_raw()
        self._psk = psk
        self._mac1 = _hash(spec.LABEL_MAC1 + self.public)

    def __repr__(self) -> str:
        return f"Local({self.public.hex()[:8]})"

    @property
    def psk(self) -> bytes:
        return self._psk

    def check_mac1(self, message: bytes) -> None:
        """Refuse a handshake message that was not made for our key (bad_mac)."""
        expected = _mac(self._mac1, message[: -2 * spec.MAC])
        if not hmac.compare_digest(expected, message[-2 * spec.MAC : -spec.MAC]):
            raise Refused(VpnDrop.BAD_MAC)


class Remote:
    """A peer's static public key, and what is computed from it once instead of at every handshake.

    `psk` is the secret of this pair; None takes the network's.
    """

    __slots__ = ("_mac1", "_network_psk", "psk", "public", "shared")

    def __init__(self, local: Local, public: bytes, psk: bytes | None = None) -> None:
        """Raises Refused (bad_key) for a key that gives no shared secret."""
        self.public = public
        self._network_psk = local.psk
        self.psk = local.psk if psk is None else psk
        self.shared = _exchange(local.private, public)
        self._mac1 = _hash(spec.LABEL_MAC1 + public)

    def __repr__(self) -> str:
        return f"Remote({self.public.hex()[:8]})"

    def has_psk(self, psk: bytes | None) -> bool:
        """Say whether this is the secret with the peer; None means the network's."""
        return hmac.compare_digest(self.psk, self._network_psk if psk is None else psk)

    def with_macs(self, message: bytes) -> bytes:
        """Return a message that shows who it is for; it carries no cookie yet (see CookieJar)."""
        return message + _mac(self._mac1, message) + spec.NO_PROOF


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What a finished handshake leaves: one key for each direction, and how the peer calls the session."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)
    remote_index: int


@dataclass(frozen=True, slots=True)
class Initiated:
    """What the initiator remembers until the response comes."""

    transcript: Transcript = field(repr=False)
    ephemeral: X25519PrivateKey = field(repr=False)
    psk: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Knock:
    """An initiation whose sender says that it is `public`; not believed before `admit`."""

    public: bytes
    remote_index: int
    ephemeral: bytes
    sealed_timestamp: bytes = field(repr=False)
    transcript: Transcript = field(repr=False)


def initiate(local: Local, remote: Remote, *, seed: bytes, timestamp: bytes, index: int) -> tuple[bytes, Initiated]:
    """Return an initiation and what to keep for the response.

    `seed` is 32 fresh random bytes, `timestamp` a TAI64N label above all that this peer got from us before,
    `index` our name for the coming session.
    """
    ephemeral = X25519PrivateKey.from_private_bytes(seed)
    public = ephemeral.public_key().public_bytes_raw()
    transcript = Transcript(remote.public)
    transcript.absorb_ephemeral(public)
    key = transcript.mix_key(_exchange(ephemeral, remote.public))
    static = transcript.seal(key, local.public)
    stamp = transcript.seal(transcript.mix_key(remote.shared), timestamp)
    message = struct.pack("<II32s48s28s", spec.INITIATION, index, public, static, stamp)
    return remote.with_macs(message), Initiated(transcript, ephemeral, remote.psk)


def read_initiation(local: Local, message: bytes) -> Knock:
    """Find out who knocks. Costs one key exchange. Raises Refused (unseal, bad_key).

    The caller has checked size and mac1 with `check`.
    """
    _, index, ephemeral, static, stamp, _, _ = _INITIATION.unpack(message)
    transcript = Transcript(local.public)
    transcript.absorb_ephemeral(ephemeral)
    public = transcript.open(transcript.mix_key(_exchange(local.private, ephemeral)), static)
    return Knock(public, index, ephemeral, stamp, transcript)


def admit(knock: Knock, remote: Remote) -> bytes:
    """Return the timestamp of a knock, which proves that it is from this peer. Raises Refused (unseal)."""
    return knock.transcript.open(knock.transcript.mix_key(remote.shared), knock.sealed_timestamp)


def respond(local: Local, remote: Remote, knock: Knock, *, seed: bytes, index: int) -> tuple[bytes, SessionKeys]:
    """Answer an admitted knock: return the response and the keys. Raises Refused (bad_key)."""
    ephemeral = X25519PrivateKey.from_private_bytes(seed)
    public = ephemeral.public_key().public_bytes_raw()
    transcript = knock.transcript
    transcript.absorb_ephemeral(public)
    transcript.mix(_exchange(ephemeral, knock.ephemeral))
    transcript.mix(_exchange(ephemeral, remote.public))
    empty = transcript.seal(transcript.mix_psk(remote.psk), b"")
    message = struct.pack("<III32s16s", spec.RESPONSE, index, knock.remote_index, public, empty)
    receive, send = _expand(transcript.chain, b"", 2)
    return remote.with_macs(message), SessionKeys(send, receive, knock.remote_index)


def read_response(local: Local, initiated: Initiated, message: bytes) -> SessionKeys:
    """Finish what `initiate` began. Raises Refused (unseal); `initiated` is not changed by a bad message.

    The caller has checked size and mac1 with `check`.
    """
    _, index, _, public, empty, _, _ = _RESPONSE.unpack(message)
    transcript = Transcript(local.public)
    transcript.chain, transcript.hash = initiated.transcript.chain, initiated.transcript.hash
    transcript.absorb_ephemeral(public)
    transcript.mix(_exchange(initiated.ephemeral, public))
    transcript.mix(_exchange(local.private, public))
    transcript.open(transcript.mix_psk(initiated.psk), empty)
    send, receive = _expand(transcript.chain, b"", 2)
    return SessionKeys(send, receive, index)


def check(local: Local, message: bytes, size: int) -> None:
    """See that a handshake message has its size and is for us. Raises Refused (truncated, malformed, bad_mac)."""
    if len(message) != size:
        raise Refused(VpnDrop.TRUNCATED if len(message) < size else VpnDrop.MALFORMED)
    local.check_mac1(message)


def receiver_of(message: bytes) -> int:
    """Return which of our handshakes a response or a cookie answers; the caller has checked its size."""
    start = 4 if message[0] == spec.COOKIE else 8
    return int.from_bytes(message[start : start + 4], "little")


def tai64n(unix_now: float) -> bytes:
    """Write a time so that later ones compare greater as bytes. Source: D. J. Bernstein, TAI64N."""
    seconds, fraction = divmod(unix_now, 1)
    return struct.pack(">QI", (1 << 62) + 10 + int(seconds), int(fraction * 1e9))
