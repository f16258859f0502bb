import contextlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from kairos_transport_tls.authority import Authority, peer_of

from kairos_core import PeerId, ProtocolError
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


def test_the_leaf_carries_the_identity_key_and_verifies_under_its_authority_alone(host):
    current, other, *_ = (Authority(key) for key in host.network_keys())
    leaf = current.leaf(host.identity)
    leaf.verify_directly_issued_by(current.certificate)
    with pytest.raises(InvalidSignature):
        leaf.verify_directly_issued_by(other.certificate)
    assert peer_of(leaf.public_bytes(Encoding.DER)) == host.identity.peer_id


def test_certificates_hold_for_a_clock_that_woke_in_1970_and_have_no_end(host):
    authority = Authority(host.network_keys()[0])
    for certificate in (authority.certificate, authority.leaf(host.identity)):
        assert certificate.not_valid_before_utc < datetime(1970, 1, 1, tzinfo=UTC)
        assert certificate.not_valid_after_utc.year == 9999


def test_only_the_authority_may_sign(host):
    authority = Authority(host.network_keys()[0])
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    leaf = authority.leaf(host.identity)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_certificate_of_another_kind_of_key_names_no_peer(host):
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    begin, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, begin, end)
    with pytest.raises(ProtocolError, match="without an Ed25519 key"):
        peer_of(builder.sign(key, SHA256()).public_bytes(Encoding.DER))


@given(st.one_of(st.none(), st.binary(max_size=400)))
def test_bytes_that_are_no_certificate_name_no_peer(data):
    with pytest.raises(ProtocolError, match="unreadable"):
        peer_of(data)


# A member may send a serial number that the library warns of, and will refuse in a later version.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(0, 600), st.integers(1, 255))
def test_a_damaged_certificate_names_a_peer_or_is_refused(position, change):
    host = RecordingHost("one")
    leaf = bytearray(Authority(host.network_keys()[0]).leaf(host.identity).public_bytes(Encoding.DER))
    leaf[position % len(leaf)] ^= change
    with contextlib.suppress(ProtocolError):
        assert isinstance(peer_of(bytes(leaf)), PeerId)
