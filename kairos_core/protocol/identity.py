"""Who a node is: an Ed25519 key, created once and kept; its public half is the peer id."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kairos_core.model import PeerId
from kairos_core.protocol.otp import hkdf


class Identity:
    """A node's private key and what is derived from it. Shows only its peer id."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte Ed25519 seed (RFC 8032, section 5.1.5)."""
        self._seed = seed
        self.private_key = Ed25519PrivateKey.from_private_bytes(seed)
        self.peer_id = PeerId(self.private_key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature."""
        return self.private_key.sign(message)

    def exchange_key(self, purpose: str) -> X25519PrivateKey:
        """Return this node's static X25519 key for a purpose (sealing, VPN); the same at every start."""
        return X25519PrivateKey.from_private_bytes(hkdf(self._seed, b"", "x25519 " + purpose))


@lru_cache(maxsize=1024)
def _public_key(peer: PeerId) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(peer.public_key)


def is_signed_by(peer: PeerId, message: bytes, signature: bytes) -> bool:
    """Say whether the signature of the message is this peer's. Costs about 140 us."""
    try:
        _public_key(peer).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
