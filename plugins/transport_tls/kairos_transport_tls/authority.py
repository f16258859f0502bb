"""The certificates of a network key: its authority, the same bytes on every node, and a node's own leaf.

Every member derives the authority's private key from the token and signs its own leaf, so membership needs no
server. The leaf's key is the node's identity: TLS proves possession of it, and the peer id is read off it.
Anyone with the token can sign a leaf, but only for a key it holds.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kairos_core import Drop, Identity, NetworkKey, PeerId, ProtocolError

# A machine with a dead clock wakes in 1970; X.509 begins with 1950, and 9999 is "no end" (RFC 5280, 4.1.2.5).
# The token's epochs, and not these dates, end the validity of a certificate.
_BEGIN = datetime(1950, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


_AUTHORITY, _NODE = _name("kairos network"), _name("kairos node")


class Authority:
    """The certificate authority of one network key."""

    def __init__(self, key: NetworkKey) -> None:
        self._private_key = Ed25519PrivateKey.from_private_bytes(key.derive("network ca"))
        self.certificate = self._sign(_AUTHORITY, self._private_key.public_key(), serial=1, is_authority=True)

    @property
    def der(self) -> bytes:
        """The certificate: the same bytes on every node, since Ed25519 signs without randomness."""
        return self.certificate.public_bytes(Encoding.DER)

    def leaf(self, identity: Identity) -> x509.Certificate:
        """Sign the certificate of a node for its identity key."""
        public_key = identity.private_key.public_key()
        digest = hashlib.sha256(public_key.public_bytes_raw()).digest()
        # 20 octets at most, positive, not that of the authority: RFC 5280, 4.1.2.2.
        serial = int.from_bytes(digest[:16]) | 1 << 128
        return self._sign(_NODE, public_key, serial=serial, is_authority=False)

    def _sign(
        self, subject: x509.Name, public_key: Ed25519PublicKey, *, serial: int, is_authority: bool
    ) -> x509.Certificate:
        issuer_key = self._private_key.public_key()
        constraints = x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None)
        return (
            x509.CertificateBuilder(_AUTHORITY, subject, public_key, serial, _BEGIN, _END)
            .add_extension(constraints, critical=True)
            .add_extension(_usage(is_authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
            .sign(self._private_key, None)
        )


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def leaf_pem(authority: Authority, identity: Identity) -> bytes:
    """Return a node's private key and leaf as PEM. It holds the identity key: never write it to a disk."""
    private = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + authority.leaf(identity).public_bytes(Encoding.PEM)


def peer_of(leaf_der: bytes | None) -> PeerId:
    """Return whose leaf this is. Raises ProtocolError (stranger) unless it certifies an Ed25519 key."""
    try:
        public_key = x509.load_der_x509_certificate(leaf_der or b"").public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise ProtocolError(Drop.STRANGER, "an unreadable certificate") from None
    if not isinstance(public_key, Ed25519PublicKey):
        raise ProtocolError(Drop.STRANGER, "a certificate without an Ed25519 key")
    return PeerId(public_key.public_bytes_raw())
