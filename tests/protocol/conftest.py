import pytest

from kairos_core.protocol.identity import Identity


@pytest.fixture
def alice() -> Identity:
    return Identity(b"a" * 32)


@pytest.fixture
def bob() -> Identity:
    return Identity(b"b" * 32)
