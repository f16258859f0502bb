"""The abstract classes that a plugin implements, and those through which it sees the node.

A provider (Discovery, Transport, LedgerStore, Network, Engine) is made by the factory that a plugin registers
and is driven by the node. A host (Beacon, TransportHost, NetworkHost) is what the node hands to a provider.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from kairos_core.errors import EngineError, NetworkError
from kairos_core.model import Address, Attachment, EngineStatus, Finding, NodePlan, PeerId, Preview
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.otp import NetworkKey


@dataclass(frozen=True, slots=True)
class BeaconNames:
    """Under which rendezvous names to announce now, and which to look for.

    Names are 26 lower-case base32 characters; they rotate with the token's epochs and say nothing of it.
    """

    announce: tuple[str, ...]
    accept: frozenset[str]


class Beacon(ABC):
    """What a discovery sees of the node: what to announce, and whom to tell of what it found."""

    port: int

    @property
    def is_waiting(self) -> bool:
        """Whether the node cannot go on without further peers. A discovery should then look every few seconds."""
        return False

    @abstractmethod
    def names(self) -> BeaconNames:
        """Say which names hold at this moment."""

    @abstractmethod
    async def changed(self) -> None:
        """Wait until `names()` differs from what it was at the call."""

    @abstractmethod
    def found(self, address: Address) -> None:
        """Report an address that may lead to a peer. Cheap, may be called again and again, own addresses included."""


class Discovery(ABC):
    """Finds peers. A hint only: whether a peer lives is for the gossip network to say."""

    @abstractmethod
    async def run(self, beacon: Beacon) -> None:
        """Announce this node and look for others until cancelled; withdraw the announcement on the way out.

        Raises NetworkError when it cannot start at all; the node reports it and goes on without.
        """


class Stream(ABC):
    """A reliable, ordered, mutually authenticated lane of whole messages to one peer."""

    peer: PeerId
    address: Address

    @abstractmethod
    async def send(self, message: bytes) -> None:
        """Send one message. Raises TransportError when the peer is gone, ValueError over `MAX_MESSAGE` bytes."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Return the next message. Raises TransportError at the end, ProtocolError for one that is too large."""

    @abstractmethod
    async def close(self) -> None:
        """Close both directions; never raises."""


MAX_MESSAGE = 1 << 20
"""Bytes in one stream message. Raising it lets a peer make us hold more memory for each open stream."""

MAX_DATAGRAM = 1200
"""Bytes in one datagram: fits the IPv6 minimum MTU of 1280 with its headers, so nothing is fragmented."""


class TransportHost(ABC):
    """What a transport sees of the node. All calls are made in the event loop's thread."""

    identity: Identity

    @abstractmethod
    def network_keys(self) -> tuple[NetworkKey, ...]:
        """Return the keys accepted now, the one to use first: current epoch, next, previous, clock-free join key."""

    @abstractmethod
    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take a datagram. Never raises; what is wrong with it is counted."""

    @abstractmethod
    def stream_accepted(self, stream: Stream) -> None:
        """Take over a stream that a peer opened."""

    @abstractmethod
    def dropped(self, drop: str) -> None:
        """Count something refused, by the name of the reason."""


class Transport(ABC):
    """Carries bytes between peers: a datagram lane (best effort) and streams. Opens no socket before `start`."""

    @abstractmethod
    async def start(self, host: TransportHost) -> int:
        """Listen, and return the port (the same for datagrams and streams). Raises TransportError."""

    @abstractmethod
    def send(self, datagram: bytes, destination: Address) -> None:
        """Send a datagram, best effort: it may be lost without a word. Never blocks, never raises."""

    @abstractmethod
    async def connect(self, address: Address) -> Stream:
        """Open a stream, authenticated on both sides. Raises TransportError within 10 s."""

    @abstractmethod
    async def close(self) -> None:
        """Stop listening and close all streams."""


@dataclass(frozen=True, slots=True)
class StoreBatch:
    """Changes to save together: entries by (bucket, key), each as its signed bytes, and keys to forget."""

    put: tuple[tuple[str, str, bytes], ...] = ()
    delete: tuple[tuple[str, str], ...] = ()


class LedgerStore(ABC):
    """Keeps the ledger on this machine. Calls come from one thread at a time and may block."""

    @abstractmethod
    def load(self) -> Iterable[bytes]:
        """Return all saved entries.

        Raises StoreError. A damaged store is never silently emptied: it is set aside, the error says where,
        and the next call returns what could be rescued, often nothing.
        """

    @abstractmethod
    def save(self, batch: StoreBatch) -> None:
        """Save a batch, all or nothing; on return it survives kill -9. A key both deleted and put is put.

        Raises StoreError (for example: disk full); the same batch may be saved again later.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the files."""


@dataclass(frozen=True, slots=True)
class PeerLink:
    """A peer as a network sees it: who, where it was last reached (underlay), and whether it answers."""

    peer: PeerId
    address: Address | None
    alive: bool


class NetworkHost(ABC):
    """What a network sees of the node: its identity, its part of the ledger, addresses, and the other peers."""

    identity: Identity
    state_directory: Path

    @abstractmethod
    def secret(self, purpose: str) -> bytes:
        """Derive 32 bytes from the token for a purpose; the same on every node, independent of the epoch."""

    @abstractmethod
    def publish(self, topic: str, value: Mapping[str, Any] | None) -> None:
        """Write this node's own entry of a topic (a ledger bucket of policy `own`); None deletes it.

        Raises NetworkError for a value over the ledger's limits (16 KiB).
        """

    @abstractmethod
    def published(self, topic: str) -> Mapping[PeerId, Mapping[str, Any]]:
        """Return what every node (this one too) has published under a topic."""

    @abstractmethod
    def links(self) -> tuple[PeerLink, ...]:
        """Return the other peers of the network."""

    @abstractmethod
    async def lease(self, pool: IPv4Network, wanted: IPv4Address | None = None, *, guest: str = "") -> IPv4Address:
        """Hold an address of the pool that no other node holds; the same as last time where possible.

        With the name of a guest: hold one more, for somebody who is no node, until `release`. Losing that one later
        changes nothing here; see `leases`.

        Raises NetworkError when the pool is exhausted. Should the address be lost later (two halves of a split
        network met), the node leaves the attachment and enters it again.
        """

    @abstractmethod
    def release(self, pool: IPv4Network, guest: str) -> None:
        """Give back the address that is held for a guest; nothing happens when there is none."""

    @abstractmethod
    def leases(self, pool: IPv4Network) -> Mapping[IPv4Address, PeerId]:
        """Return who holds which address of the pool."""

    @abstractmethod
    def changes(self) -> AsyncIterator[None]:
        """Yield whenever topics, leases or links may have changed; changes in between are merged into one."""

    @abstractmethod
    def dropped(self, drop: str, count: int = 1) -> None:
        """Count something refused, by the name of the reason."""


class Network(ABC):
    """Attaches the node to a network that Kubernetes uses."""

    @abstractmethod
    def attach(self, host: NetworkHost) -> AbstractAsyncContextManager[Attachment]:
        """Bring the network up on entry, keep it working meanwhile, take it down on exit.

        Raises NetworkError on entry when the network cannot be brought up.
        """

    def preview(self) -> Attachment:
        """Say what `attach` would give, as far as that can be told without doing anything.

        What is known only then stands in angle brackets, like `<an address of 10.1.0.0/24>`.
        """
        return Attachment()

    def examine(self) -> Sequence[Finding]:
        """Look whether this machine has what the network needs, without changing anything.

        Where it is attached, it says how it does instead: the agent's doctor asks for that in the event loop, so it
        must be cheap then.
        """
        return ()

    def state(self) -> Mapping[str, Any]:
        """Say how the network does, in JSON types, for whoever asks this node; no secrets.

        The numbers at its top level are also shown by `kairos status` and as metrics. Cheap, since each scrape calls
        it, and at any time: before, during and after the attachment.
        """
        return {}

    async def order(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do what an operator wants (in JSON types), and answer. Raises NetworkError when it cannot be done.

        This is how the commands that a plugin brings reach the network of the running node.
        """
        raise NetworkError(f"this network takes no orders, and so not {sorted(order)}. See the plugin's own page")


class EngineService(ABC):
    """Kubernetes' service on this machine, as an operator handles it; the agent need not run.

    What is stopped stays stopped until it is started here, or the agent applies a plan: at its own start, say.
    """

    name: str

    @abstractmethod
    async def is_running(self) -> bool:
        """Say whether its process runs at this moment. Raises EngineError."""

    @abstractmethod
    async def start(self) -> None:
        """Start it, and let it start at each boot; nothing happens when it runs. Raises EngineError."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it, and let nothing but the agent start it again; containers may go on. Raises EngineError."""

    @abstractmethod
    def log(self, lines: int, *, follow: bool = False) -> AsyncIterator[str]:
        """Yield the last lines of its log, without secrets; with `follow` then each new one, until closed.

        Raises EngineError.
        """


class Engine(ABC):
    """Runs Kubernetes on this node."""

    @abstractmethod
    async def installed(self) -> str | None:
        """Return the version of the installed program, None when there is none."""

    @abstractmethod
    async def apply(self, plan: NodePlan) -> None:
        """Make the node run this plan: install, configure, start, restart, or nothing if it runs already.

        Returns when the engine is on its way, not when it is ready. Raises EngineError.
        """

    @abstractmethod
    async def status(self) -> EngineStatus:
        """Say how far it is. Cheap enough for once a second. Never raises EngineError: failure is a state.

        It is asked while `apply` works, too: a download, say, is `starting`, with a message that changes a few times.

        An engine with a service (see there) that has applied nothing in this process says it of what is on the disk,
        and then need not tell the join token: so `kairos doctor` asks where no agent runs.
        """

    @abstractmethod
    async def remove(self) -> None:
        """Undo everything that `apply` made. Raises EngineError."""

    async def expel(self, node_name: str) -> None:
        """On a ready master: take a node out of the cluster for good, and return when it is.

        Its pods are moved away, for as long as that may take; the node is deleted, and so is its member of the
        datastore if it has one. Nothing happens for one that is not there. Raises EngineError.
        """
        raise EngineError(
            f"{type(self).__name__} cannot take a node out of the cluster. Drain and delete {node_name} with kubectl, "
            "then leave on that machine with: kairos leave --force"
        )

    def examine(self, plans: Sequence[NodePlan] = ()) -> Sequence[Finding]:
        """Look whether this machine has what the engine needs, without changing anything; it may not run.

        `plans` are those that the network may give this machine, with words in brackets for what only others will say:
        which ports they need is for the engine to know.
        """
        return ()

    def preview(self, plan: NodePlan) -> Preview:
        """Say what `apply` would run, and why, without doing anything. Raises EngineError for an impossible plan."""
        raise EngineError(f"{type(self).__name__} does not tell what it would run. Ask its author, or see its log.")

    async def service(self) -> EngineService | None:
        """Return the service that `apply` made, also in another process; None when there is none. Raises EngineError.

        An engine without one has no logs, and cannot be stopped and started by hand.
        """
        return None
