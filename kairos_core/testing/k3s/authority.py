"""Certificates as k3s makes them: one authority for servers, one for clients, P-256 keys, PEM files.

k3s names its authorities k3s-server-ca@<unix time>; the hash in a join token is the SHA-256 of the PEM file.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both as PEM text."""

    certificate: str
    key: str

    def save(self, directory: Path, name: str) -> None:
        """Write `<name>.crt` and `<name>.key`, the key readable by its owner only."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(directory / f"{name}.key", self.key)
        write_private(directory / f"{name}.crt", self.certificate)

    @classmethod
    def load(cls, directory: Path, name: str) -> Pair:
        """Read what `save` wrote."""
        return cls((directory / f"{name}.crt").read_text(), (directory / f"{name}.key").read_text())


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file atomically; it never exists with a wider mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    draft.replace(path)


def new_authority(kind: str) -> Pair:
    """Make a self-signed authority; `kind` is server or client."""
    key = generate_private_key(SECP256R1())
    stamp = int(datetime.datetime.now(datetime.UTC).timestamp())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"k3s-{kind}-ca@{stamp}")])
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(True, None), critical=True)
    usage = x509.KeyUsage(True, False, True, False, False, True, False, False, False)
    return _signed(builder.add_extension(usage, critical=True), key, key)


def issue(authority: Pair, name: str, organization: str, sans: Sequence[str] = ()) -> Pair:
    """Issue a certificate: for a server when it has subject alternative names, for a client otherwise."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer = load_pem_private_key(authority.key.encode(), None)
    assert isinstance(signer, EllipticCurvePrivateKey)
    key = generate_private_key(SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if sans else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = _builder(subject, issuer.subject, key).add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(issued_by, critical=False)
    if sans:
        names = x509.SubjectAlternativeName([_general_name(san) for san in dict.fromkeys(sans)])
        builder = builder.add_extension(names, critical=False)
    return _signed(builder, key, signer)


def authority_hash(certificate: str) -> str:
    """Return the hash of an authority as it stands in a K10 token."""
    return hashlib.sha256(certificate.encode()).hexdigest()


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _builder(subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    # Valid from long ago, so that a machine whose clock is behind can join as it can with a real long-lived
    # cluster.
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey, signer: EllipticCurvePrivateKey) -> Pair:
    certificate = builder.sign(signer, SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(certificate.public_bytes(Encoding.PEM).decode(), private.decode())
