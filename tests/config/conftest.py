"""Documents that several tests of the configuration start from."""

from itertools import cycle
from pathlib import Path

import pytest

from kairos_core.protocol.token import KEY_ALPHABET, format_token, new_token

_letters = cycle(KEY_ALPHABET)
TOKEN = format_token(new_token(lambda alphabet: next(_letters)))


@pytest.fixture
def token() -> str:
    """A network token; the same in every test."""
    return TOKEN


@pytest.fixture(scope="session")
def full_example() -> str:
    """The full example of the reference's documentation, with real values for its placeholders."""
    text = (Path(__file__).parent / "full_example.yaml").read_text()
    return text.replace("YOUR_TOKEN_GOES_HERE", TOKEN)
