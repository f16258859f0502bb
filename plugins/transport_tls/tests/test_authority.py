import ssl
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from kairos_transport_tls import der
from kairos_transport_tls.authority import Authority, leaf_pem, peer_of

from kairos_core import Identity, NetworkKey, ProtocolError
from kairos_core.testing.transports import RecordingHost, token_for_test


@pytest.fixture
def host():
    return RecordingHost("one")


def test_every_node_makes_the_same_authority_from_the_same_key(host):
    other = RecordingHost("two")
    for mine, theirs in zip(host.network_keys(), other.network_keys(), strict=True):
        assert Authority(mine).der == Authority(theirs).der


def test_each_key_and_each_token_has_its_own_authority(host):
    stranger = RecordingHost("one", token_for_test("theirs"))
    keys = (*host.network_keys(), *stranger.network_keys())
    assert len({Authority(key).der for key in keys}) == 8


def read(certificate):
    """Read a certificate with a library that has nothing to do with how we write it."""
    return x509.load_der_x509_certificate(certificate)


def test_the_leaf_carries_the_identity_key_and_verifies_under_its_authority_alone(host):
    current, other, *_ = (Authority(key) for key in host.network_keys())
    leaf = current.leaf(host.identity.peer_id)
    read(leaf).verify_directly_issued_by(read(current.der))
    with pytest.raises(InvalidSignature):
        read(leaf).verify_directly_issued_by(read(other.der))
    assert peer_of(leaf) == host.identity.peer_id
    assert read(leaf).public_key() == host.identity.private_key.public_key()


def test_certificates_hold_for_a_clock_that_woke_in_1970_and_have_no_end(host):
    authority = Authority(host.network_keys()[0])
    for certificate in (read(authority.der), read(authority.leaf(host.identity.peer_id))):
        assert certificate.not_valid_before_utc < datetime(1970, 1, 1, tzinfo=UTC)
        assert certificate.not_valid_after_utc.year == 9999


def test_only_the_authority_may_sign(host):
    authority = Authority(host.network_keys()[0])
    constraints = read(authority.der).extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    leaf = read(authority.leaf(host.identity.peer_id))
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def built(key, public_key, subject, serial, *, is_authority):
    """Make a certificate with the library, by the rules that ours follow."""
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
    ) | {"encipher_only": False, "decipher_only": False}
    begin, end = datetime(1950, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    builder = x509.CertificateBuilder(named("kairos network"), named(subject), public_key, serial, begin, end)
    for extension, critical in (
        (x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), True),
        (x509.KeyUsage(digital_signature=not is_authority, key_cert_sign=is_authority, **usage), True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_the_certificates_are_byte_for_byte_those_of_a_library(secret, seed):
    network_key, identity = NetworkKey("e1", secret, b""), Identity(seed)
    authority = Authority(network_key)
    key = Ed25519PrivateKey.from_private_bytes(network_key.derive("network ca"))
    assert authority.der == built(key, key.public_key(), "kairos network", 1, is_authority=True)
    serial = int.from_bytes(sha256(identity.peer_id.public_key).digest()[:16]) | 1 << 128
    leaf = built(key, identity.private_key.public_key(), "kairos node", serial, is_authority=False)
    assert authority.leaf(identity.peer_id) == leaf


def test_the_private_key_is_written_as_a_library_writes_it(host):
    pem = leaf_pem(Authority(host.network_keys()[0]), host.identity)
    private = host.identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert pem.startswith(private)
    assert read(ssl.PEM_cert_to_DER_cert(pem.removeprefix(private).decode())).serial_number >> 128 == 1


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "020100"), (127, "02017f"), (128, "02020080"), (256, "02020100"), (1 << 15, "0203008000")],
)
def test_a_whole_number_has_room_for_its_sign(number, encoded):
    assert der.integer(number).hex() == encoded


@pytest.mark.parametrize(("size", "head"), [(0, "0400"), (127, "047f"), (128, "048180"), (256, "04820100")])
def test_a_length_is_written_in_its_shortest_form(size, head):
    assert der.octet_string(bytes(size)).hex() == head + "00" * size


def test_a_leaf_of_a_member_that_differs_from_ours_in_anything_names_no_peer(host):
    """A member can sign whatever it likes; what it could say to us beyond its key is not read at all."""
    key, other = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    for subject, serial, is_authority in (("kairos node", 7, False), ("a name", 1, False), ("kairos node", 7, True)):
        with pytest.raises(ProtocolError, match="not a node's"):
            peer_of(built(key, other.public_key(), subject, serial, is_authority=is_authority))


def test_a_certificate_of_another_kind_of_key_names_no_peer():
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, begin, end)
    with pytest.raises(ProtocolError, match="not a node's"):
        peer_of(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


@given(st.one_of(st.none(), st.binary(max_size=400)))
def test_bytes_that_are_no_certificate_name_no_peer(data):
    with pytest.raises(ProtocolError, match="not a node's"):
        peer_of(data)


SIGNATURE_AT = 340 - 64


@given(st.integers(0, 339), st.integers(1, 255))
def test_a_damaged_leaf_names_no_other_peer(position, change):
    """Whether the signature (and with it the issuer's key) is right, TLS says."""
    host = RecordingHost("one")
    whole = Authority(host.network_keys()[0]).leaf(host.identity.peer_id)
    leaf = bytearray(whole)
    leaf[position] ^= change
    issuer_at = SIGNATURE_AT - 30
    try:
        assert peer_of(bytes(leaf)) == host.identity.peer_id
    except ProtocolError:
        assert position < SIGNATURE_AT
    else:
        assert position >= SIGNATURE_AT or issuer_at <= position < issuer_at + 20


@given(st.integers(0, 339))
def test_a_leaf_cut_short_names_no_peer(length):
    host = RecordingHost("one")
    with pytest.raises(ProtocolError, match="not a node's"):
        peer_of(Authority(host.network_keys()[0]).leaf(host.identity.peer_id)[:length])
