from collections.abc import AsyncIterator

import pytest

from kairos_core.testing.lab import Lab


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """An empty lab; a test adds the machines it needs."""
    async with Lab() as lab:
        yield lab
