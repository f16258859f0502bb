"""A host that keeps in memory what a network publishes."""

from collections.abc import AsyncIterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from kairos_core import NetworkHost, PeerId, PeerLink
from kairos_core.protocol.identity import Identity


class Host(NetworkHost):
    """A node of a network whose ledger is a dictionary that several hosts can share."""

    def __init__(self, state: Path, ledger: dict[str, dict[PeerId, Mapping[str, Any]]], seed: int = 1) -> None:
        self.identity = Identity(bytes([seed] * 32))
        self.state_directory = state
        self.ledger = ledger

    def publish(self, topic: str, value: Mapping[str, Any] | None) -> None:
        entries = self.ledger.setdefault(topic, {})
        if value is None:
            entries.pop(self.identity.peer_id, None)
        else:
            entries[self.identity.peer_id] = dict(value)

    def published(self, topic: str) -> Mapping[PeerId, Mapping[str, Any]]:
        return dict(self.ledger.get(topic, {}))

    def secret(self, purpose: str) -> bytes:
        raise NotImplementedError

    def links(self) -> tuple[PeerLink, ...]:
        raise NotImplementedError

    async def lease(self, pool: IPv4Network, wanted: IPv4Address | None = None, *, guest: str = "") -> IPv4Address:
        raise NotImplementedError

    def release(self, pool: IPv4Network, guest: str) -> None:
        raise NotImplementedError

    def leases(self, pool: IPv4Network) -> Mapping[IPv4Address, PeerId]:
        raise NotImplementedError

    def changes(self) -> AsyncIterator[None]:
        raise NotImplementedError

    def dropped(self, drop: str, count: int = 1) -> None:
        raise NotImplementedError


@pytest.fixture
def ledger() -> dict[str, dict[PeerId, Mapping[str, Any]]]:
    return {}


@pytest.fixture
def host(tmp_path: Path, ledger: dict[str, dict[PeerId, Mapping[str, Any]]]) -> Host:
    return Host(tmp_path, ledger)


@pytest.fixture
def other(tmp_path: Path, ledger: dict[str, dict[PeerId, Mapping[str, Any]]]) -> Host:
    return Host(tmp_path, ledger, seed=2)
