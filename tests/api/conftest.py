from collections.abc import Iterator
from pathlib import Path

import pytest

from kairos_core.testing.served import ServedNode, served_node


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[ServedNode]:
    with served_node(tmp_path) as node:
        yield node


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    """One agent for many requests: for tests that leave it as they found it."""
    with served_node(tmp_path_factory.mktemp("agent")) as node:
        yield node
