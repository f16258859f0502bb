"""Secrets in the ledger: sealed to the peers that need them, opened by those."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from kairos_core.cluster.view import View
from kairos_core.errors import ProtocolError
from kairos_core.model import PeerId
from kairos_core.protocol.buckets import SECRETS
from kairos_core.protocol.entry import Entry
from kairos_core.protocol.gossip import Gossip
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.seal import open_sealed, seal_to
from kairos_core.protocol.wire import tag_of

logger = logging.getLogger(__name__)


class Shelf(Protocol):
    """Where sealed secrets stand: what the vault uses of the pump."""

    gossip: Gossip
    ledger: Ledger

    @property
    def me(self) -> PeerId: ...

    def get(self, bucket: str, key: str) -> Entry | None: ...

    def publish(self, bucket: str, key: str, value: Any) -> bool: ...


class Vault:
    """This node's view of the sealed secrets, under the keys `<cluster id>/<name>/<author>`."""

    def __init__(self, pump: Shelf, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """`random` gives cryptographically random bytes."""
        self._pump, self._random = pump, random
        self._key = pump.gossip.identity.exchange_key("seal")
        self._public_key = self._key.public_key().public_bytes_raw()
        self._names: dict[PeerId, str] = {}
        self._me = self._name(pump.me)
        self._opened: dict[str, tuple[bytes, str | None]] = {}  # by place, for the entry of that id

    @property
    def public_key(self) -> bytes:
        """What others seal to: published with this node's `peers` entry."""
        return self._public_key

    def share(self, cluster_id: str, name: str, plaintext: str, recipients: Iterable[PeerId], view: View) -> None:
        """Let a secret of ours stand in the ledger, sealed to these peers and to us; nothing if it stands already."""
        place = f"{cluster_id}/{name}/{self._pump.me}"
        to = {self._name(peer): view.nodes[peer].seal_key for peer in recipients if peer in view.nodes}
        to[self._me] = self.public_key
        current = self._pump.get(SECRETS, place)
        if current is not None and self._named_in(current) == set(to) and self._open(current) == plaintext:
            return
        sealed = seal_to(to, plaintext.encode(), self._context(place), self._random(64))
        self._pump.publish(SECRETS, place, sealed)

    def open(self, cluster_id: str, name: str, authors: Iterable[PeerId]) -> str | None:
        """Return a secret that one of these peers sealed to us, the first one's first."""
        for author in authors:
            entry = self._pump.get(SECRETS, f"{cluster_id}/{name}/{author}")
            plaintext = self._open(entry) if entry else None
            if plaintext is not None:
                return plaintext
        return None

    def _open(self, entry: Entry) -> str | None:
        """Open an entry; once, since every look asks for it and the keys cost more than all else in it."""
        opened_id, plaintext = self._opened.get(entry.key, (b"", None))
        if opened_id != entry.id:
            plaintext = self._open_anew(entry)
            self._opened[entry.key] = (entry.id, plaintext)
        return plaintext

    def _open_anew(self, entry: Entry) -> str | None:
        if not isinstance(entry.content, Mapping):
            return None
        try:
            plaintext = open_sealed(self._me, self._key, entry.content, self._context(entry.key))
            return plaintext.decode() if plaintext is not None else None
        except (ProtocolError, UnicodeDecodeError):
            self._pump.gossip.drops["unseal"] += 1
            return None

    def _named_in(self, entry: Entry) -> set[str]:
        to = entry.content.get("to") if isinstance(entry.content, Mapping) else None
        return set(to) if isinstance(to, Mapping) else set()

    def _name(self, peer: PeerId) -> str:
        name = self._names.get(peer)
        if name is None:
            name = self._names[peer] = tag_of(peer, self._pump.ledger.network).hex()
        return name

    def _context(self, place: str) -> bytes:
        return self._pump.ledger.network + place.encode()
