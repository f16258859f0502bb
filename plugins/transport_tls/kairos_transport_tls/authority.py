"""The certificates of a network key: its authority, the same bytes on every node, and a node's own leaf.

Every member derives the authority's private key from the token and signs its own leaf, so membership needs no
server. The leaf's key is the node's identity: TLS proves possession of it, and the peer id is read off it.
Anyone with the token can sign a leaf, but only for a key it holds.

All of a certificate but keys and signature is fixed. So it is written here, byte by byte (RFC 5280, RFC 8410), and a
peer's leaf is compared with the one that its key leads to: nothing of it is parsed.
"""

from __future__ import annotations

import hashlib
import ssl
from base64 import b64encode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kairos_core import Drop, Identity, NetworkKey, PeerId, ProtocolError
from kairos_transport_tls import der

_ED25519 = der.sequence(der.identifier("2b6570"))
_COMMON_NAME = der.identifier("550403")
_KEY_ID, _USAGE = der.identifier("551d0e"), der.identifier("551d0f")
_CONSTRAINTS, _ISSUER_KEY_ID = der.identifier("551d13"), der.identifier("551d23")

# A machine with a dead clock wakes in 1970; X.509 begins with 1950, and 9999 is "no end" (RFC 5280, 4.1.2.5).
# The token's epochs, and not these dates, end the validity of a certificate.
_VALIDITY = der.sequence(der.utc_time("500101000000Z"), der.general_time("99991231235959Z"))

_MAY_SIGN_LEAVES = der.sequence(der.TRUE, der.integer(0))  # a certificate authority, and of leaves alone
_SIGNS_CERTIFICATES = der.bit_string(b"\x04", unused=2)
_SIGNS = der.bit_string(b"\x80", unused=7)

SIGNATURE = 64


def _name(text: str) -> bytes:
    return der.sequence(der.set_of_one(der.sequence(_COMMON_NAME, der.text(text))))


_AUTHORITY, _NODE = _name("kairos network"), _name("kairos node")


def _public_key(raw: bytes) -> bytes:
    return der.sequence(_ED25519, der.bit_string(raw))


def _key_id(public_key: bytes) -> bytes:
    """Return what names a key within a certificate (RFC 5280, 4.2.1.2). A name: nothing rests on SHA-1 here."""
    return hashlib.sha1(public_key, usedforsecurity=False).digest()


def _extensions(constraints: bytes, usage: bytes, key_id: bytes, issuer_key_id: bytes) -> bytes:
    return der.sequence(
        der.sequence(_CONSTRAINTS, der.TRUE, der.octet_string(constraints)),
        der.sequence(_USAGE, der.TRUE, der.octet_string(usage)),
        der.sequence(_KEY_ID, der.octet_string(der.octet_string(key_id))),
        der.sequence(_ISSUER_KEY_ID, der.octet_string(der.sequence(der.implicit(0, issuer_key_id)))),
    )


def _body(serial: int, subject: bytes, public_key: bytes, extensions: bytes) -> bytes:
    """Return what is signed of a certificate (RFC 5280, 4.1: TBSCertificate), version 3."""
    return der.sequence(
        der.explicit(0, der.integer(2)), der.integer(serial), _ED25519, _AUTHORITY, _VALIDITY,
        subject, _public_key(public_key), der.explicit(3, extensions),
    )  # fmt: skip


def _leaf_body(public_key: bytes, issuer_key_id: bytes) -> bytes:
    # 20 octets at most, positive, not that of the authority: RFC 5280, 4.1.2.2.
    serial = int.from_bytes(hashlib.sha256(public_key).digest()[:16]) | 1 << 128
    extensions = _extensions(der.sequence(), _SIGNS, _key_id(public_key), issuer_key_id)
    return _body(serial, _NODE, public_key, extensions)


def _certificate(body: bytes, signature: bytes) -> bytes:
    return der.sequence(body, _ED25519, der.bit_string(signature))


class Authority:
    """The certificate authority of one network key. `der` is its certificate, the same bytes on every node."""

    def __init__(self, key: NetworkKey) -> None:
        self._private_key = Ed25519PrivateKey.from_private_bytes(key.derive("network ca"))
        public_key = self._private_key.public_key().public_bytes_raw()
        self._key_id = _key_id(public_key)
        extensions = _extensions(_MAY_SIGN_LEAVES, _SIGNS_CERTIFICATES, self._key_id, self._key_id)
        self.der = self._sign(_body(1, _AUTHORITY, public_key, extensions))

    def leaf(self, peer: PeerId) -> bytes:
        """Sign the certificate of a node for its identity key."""
        return self._sign(_leaf_body(peer.public_key, self._key_id))

    def _sign(self, body: bytes) -> bytes:
        return _certificate(body, self._private_key.sign(body))


def leaf_pem(authority: Authority, identity: Identity) -> bytes:
    """Return a node's private key and leaf as PEM. It holds the identity key: never write it to a disk."""
    seed = der.octet_string(identity.private_key.private_bytes_raw())
    private = der.sequence(der.integer(0), _ED25519, der.octet_string(seed))  # RFC 8410, section 7
    certificate = ssl.DER_cert_to_PEM_cert(authority.leaf(identity.peer_id)).encode()
    # The key is one line: 48 bytes are 64 characters, which is what RFC 7468 allows in one.
    return b"-----BEGIN PRIVATE KEY-----\n%b\n-----END PRIVATE KEY-----\n%b" % (b64encode(private), certificate)


_SAMPLE = _certificate(_leaf_body(b"P" * 32, b"I" * 20), bytes(SIGNATURE))
_KEY_AT, _ISSUER_AT = _SAMPLE.index(b"P" * 32), _SAMPLE.index(b"I" * 20)


def peer_of(leaf: bytes | None) -> PeerId:
    """Return whose leaf this is. Raises ProtocolError (stranger) unless it is, byte for byte, one that we make.

    Whether the signature is right has been asked by then: TLS verified the chain.
    """
    leaf = leaf or b""
    public_key, issuer_key_id = leaf[_KEY_AT : _KEY_AT + 32], leaf[_ISSUER_AT : _ISSUER_AT + 20]
    if leaf != _certificate(_leaf_body(public_key, issuer_key_id), leaf[-SIGNATURE:]):
        raise ProtocolError(Drop.STRANGER, "a certificate that is not a node's")
    return PeerId(public_key)
