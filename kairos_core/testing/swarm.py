"""Gossip machines alone on virtual time, without controllers: a thousand of them fit into one test.

    swarm = Swarm(seed=7, nodes=200, loss=0.01)
    swarm.acquaint()
    swarm.run(10.0)
    swarm.nodes[0].write("values", "greeting", "hello")

Entries are decoded and verified once for all nodes, since they are the same bytes; everything else each node does by
itself. Streams are whole and reliable while both ends are up, and are counted (`streams`), as are the datagrams' bytes
(`sent`, with IPv4 and UDP headers).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random
from typing import Any

from kairos_core.model import Address, PeerId
from kairos_core.protocol import reconciliation
from kairos_core.protocol.buckets import PEERS
from kairos_core.protocol.gossip import Gossip, SyncWanted
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger, draft
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import new_token
from kairos_core.protocol.wire import Entries, Message, Want, encode_message
from kairos_core.testing.simulator.notary import SharedNotary

UNIX_START = 1_800_000_000.0
HEADERS = 28


class SwarmNode:
    """One gossip machine."""

    def __init__(self, swarm: Swarm, number: int) -> None:
        self.swarm = swarm
        self.identity = Identity(swarm.random.randbytes(32))
        self.address = Address(f"10.0.{number >> 8}.{number & 255}", 7373)
        self.is_up, self.skew = True, 0.0
        self.start()

    @property
    def peer(self) -> PeerId:
        return self.identity.peer_id

    @property
    def alive(self) -> set[PeerId]:
        return {member.peer for member in self.gossip.membership.alive()}

    def start(self) -> None:
        """Start, or start again with nothing but the identity."""
        self.ledger = Ledger(self.swarm.keyring.network, self.swarm.notary)
        self.gossip = Gossip(self.identity, self.swarm.keyring, self.ledger, Random(self.swarm.random.random()))
        self.is_up, self._poll_at = True, float("inf")
        self.write(PEERS, str(self.peer), {"addresses": [str(self.address)]})

    def unix_now(self) -> float:
        return UNIX_START + self.swarm.now + self.skew

    def write(self, bucket: str, key: str, value: Any) -> bytes:
        """Write an entry; return its id."""
        entry = draft(self.peer, bucket, key, value)
        change = self.gossip.write(entry, self.swarm.now, self.unix_now())
        self.flush()
        return change.entry.short_id

    def reads(self, bucket: str, key: str) -> Any:
        entry = self.ledger.get(bucket, key, self.unix_now())
        return entry.content if entry else None

    def receive(self, data: bytes, source: Address) -> None:
        if self.is_up:
            self.gossip.receive_datagram(data, source, self.swarm.now, self.unix_now())
            self.flush()

    def flush(self) -> None:
        for datagram, destination in self.gossip.datagrams_to_send():
            self.swarm.carry(self, datagram, destination)
        while (event := self.gossip.next_event()) is not None:
            if isinstance(event, SyncWanted):
                self.swarm.stream(self, event)
        due = self.gossip.next_timer()
        if due < self._poll_at:
            self._poll_at = due
            self.swarm.at(due, self._poll)

    def _poll(self) -> None:
        if self.is_up and self.swarm.now >= self._poll_at:
            self._poll_at = float("inf")
            self.gossip.handle_timer(self.swarm.now, self.unix_now())
            self.flush()


class Swarm:
    """The nodes, the network between them, and time."""

    def __init__(
        self, seed: int, nodes: int, *, loss: float = 0.0, latency: tuple[float, float] = (0.001, 0.02)
    ) -> None:
        self.random, self.loss, self.latency = Random(seed), loss, latency
        self.now = 0.0
        self.keyring, self.notary = Keyring(new_token(self.random.choice)), SharedNotary()
        self.sent: Counter[Address] = Counter()
        self.streams: Counter[Address] = Counter()
        self.stream_bytes = 0
        self.side: dict[Address, int] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.nodes: list[SwarmNode] = []
        for number in range(nodes):
            self.nodes.append(SwarmNode(self, number))
        self._by_address = {node.address: node for node in self.nodes}

    def acquaint(self) -> None:
        """Let everybody know everybody, as after a while of running together."""
        entries = [entry.raw for node in self.nodes for entry in node.ledger.read(node.unix_now())]
        for node in self.nodes:
            node.gossip.restore(entries, self.now, node.unix_now())
            for other in self.nodes:
                node.gossip.met(other.peer, other.address, self.now)
            node.flush()

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), action))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False, step: float = 0.05) -> bool:
        """Let time pass; say whether a condition, looked at every `step` seconds, ended it early."""
        end = self.now + seconds
        while self.now < end:
            if until():
                return True
            self._run_to(min(end, self.now + step))
        return until()

    def _run_to(self, end: float) -> None:
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def part(self, *sides: Iterable[SwarmNode]) -> None:
        """Let nodes reach only those on their side; `part()` connects all again."""
        self.side = {node.address: number for number, side in enumerate(sides, 1) for node in side}

    def up(self) -> list[SwarmNode]:
        return [node for node in self.nodes if node.is_up]

    def agree(self) -> bool:
        """Say whether all nodes that are up hold the same entries."""
        return len({node.ledger.digest for node in self.up()}) == 1

    def know_each_other(self) -> bool:
        """Say whether all nodes that are up hold each other, and nobody else, for alive."""
        up = {node.peer for node in self.up()}
        return all(node.alive == up - {node.peer} for node in self.up())

    def _connects(self, one: Address, other: Address) -> bool:
        return self.side.get(one, 0) == self.side.get(other, 0)

    def carry(self, sender: SwarmNode, datagram: bytes, destination: Address) -> None:
        """Carry a datagram: late, or never."""
        self.sent[sender.address] += len(datagram) + HEADERS
        receiver = self._by_address.get(destination)
        if receiver is None or not self._connects(sender.address, destination) or self.random.random() < self.loss:
            return
        self.at(self.now + self.random.uniform(*self.latency), lambda: receiver.receive(datagram, sender.address))

    def stream(self, caller: SwarmNode, wanted: SyncWanted) -> None:
        """Run one session after two round trips."""
        self.at(self.now + 4 * self.random.uniform(*self.latency), lambda: self._session(caller, wanted))

    def meet(self, one: SwarmNode, other: SwarmNode) -> None:
        """Let one discover another."""
        self.stream(one, SyncWanted(other.peer, other.address))

    def _session(self, caller: SwarmNode, wanted: SyncWanted) -> None:
        listener = self._by_address.get(wanted.address)
        if listener is None or not (caller.is_up and listener.is_up and self._connects(caller.address, wanted.address)):
            return
        self.streams[caller.address] += 1
        for one, other in ((caller, listener), (listener, caller)):
            one.gossip.met(other.peer, other.address, self.now)
        if wanted.give or wanted.want:
            said = list(reconciliation.settle(caller.ledger, wanted.give, wanted.want))
        else:
            said = [reconciliation.offer(caller.ledger)]
        speaker, hearer = caller, listener
        while said:
            said = list(self._heard(hearer, speaker, said))
            speaker, hearer = hearer, speaker
        for one, other in ((caller, listener), (listener, caller)):
            one.gossip.synced(other.peer, self.now)
            one.flush()

    def _heard(self, node: SwarmNode, sender: SwarmNode, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            self.stream_bytes += len(encode_message(message))
            if isinstance(message, Entries):
                node.gossip.take_entries(message.entries, self.now, node.unix_now(), sender=sender.peer)
            elif not isinstance(message, Want) or message.ids:
                yield from reconciliation.answer(node.ledger, message)
