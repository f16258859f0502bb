"""A network of nodes on virtual time: the same gossip, ledger and controller that run over sockets, no waiting.

    world = World(seed=7, loss=0.05)
    nodes = [world.add(Rules("kairos", quorum=2)) for _ in range(3)]
    world.meet_all(within=1.0)
    world.run(until=30.0)
    assert len(world.initialised) == 1

Everything that happens follows from the seed. Latency, loss, partitions, crashes and clock skew are the world's;
the nodes are told the time and never ask for it. Streams are whole and reliable while both ends are connected.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from random import Random

from pydantic import SecretStr

from kairos_core.cluster.controller import Actions, Local, Spec, reconcile
from kairos_core.cluster.durable import Durable, adopted
from kairos_core.cluster.election import Moment, Rules
from kairos_core.cluster.quorum import Ballots, Decision, Recovery
from kairos_core.cluster.view import GENERATION_BYTES, View, read_view
from kairos_core.model import Address, Attachment, EngineState, EngineStatus, PeerId, Role
from kairos_core.protocol import reconciliation
from kairos_core.protocol.buckets import GENERATIONS, PEERS, REPORTS
from kairos_core.protocol.gossip import Gossip, SyncWanted
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger, draft
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import new_token
from kairos_core.protocol.wire import Entries, Message, Want

UNIX_START = 1_800_000_000.0
ENGINE_START = 1.0
"""Virtual seconds that Kubernetes takes to be ready."""


class SimulatedNode:
    """One node: its durable state survives `crash`, the rest does not."""

    def __init__(self, world: World, identity: Identity, rules: Rules, wish: Role | None, kind: str) -> None:
        self.world, self.identity, self.wish, self.kind = world, identity, wish, kind
        self.address = Address(f"10.0.{len(world.nodes) >> 8}.{len(world.nodes) & 255}", 7373)
        self.skew = 0.0
        self.durable = Durable(world.random.randbytes(8).hex())
        self.rules = replace(
            rules, incarnation=self.durable.incarnation, votes=kind == "node" and wish is not Role.NONE
        )
        self.is_up = False
        self.boot()

    @property
    def peer(self) -> PeerId:
        return self.identity.peer_id

    @property
    def role(self) -> Role | None:
        return self.actions.role

    def boot(self) -> None:
        """Start, or start again after a crash with the same disk."""
        keyring = self.world.keyring
        self.ledger = Ledger(keyring.network)
        self.gossip = Gossip(self.identity, keyring, self.ledger, Random(self.world.random.random()))
        name = f"node-{self.address.host}"
        self.spec = Spec(name, self.rules, kind=self.kind, wish=self.wish)
        self.actions = Actions(Local(self.durable, attachment=Attachment("eth0", self.address.host)))
        self.is_up, self._poll_at, self._engine_ready = True, float("inf"), float("inf")
        self._running: str | None = None
        self.publish(PEERS, str(self.peer), self._description())
        self.look()

    def crash(self) -> None:
        """Stop at once. The durable state stays; the ledger is fetched from peers again."""
        self.is_up = False

    def wipe(self) -> None:
        """Crash, and lose what was promised; the identity stays."""
        self.crash()
        incarnation = self.world.random.randbytes(8).hex()
        self.durable = Durable(incarnation, Ballots(recovery=Recovery()), generation=0)

    def ask_for_generation(self) -> None:
        """Do what `kairos cluster new-generation` does."""
        rank = (self.view().generation + 1).to_bytes(GENERATION_BYTES)
        self.publish(GENERATIONS, f"{self.rules.network_id}/{self.peer}", [rank, None])

    def adopt(self, decision: Decision) -> None:
        """Do what `kairos cluster adopt` does."""
        self.durable = adopted(self.durable, decision)
        self.actions = replace(self.actions, local=replace(self.actions.local, durable=self.durable, joined=None))
        self.look()

    def publish(self, bucket: str, key: str, value: object) -> None:
        """Write an entry of this node unless it stands already."""
        now, unix_now = self.world.now, self.unix_now()
        entry = draft(self.peer, bucket, key, value)
        current = self.ledger.get(bucket, key, unix_now)
        if current is None or current.value != entry.value:
            self.gossip.write(entry, now, unix_now)
            self.flush()

    def unix_now(self) -> float:
        return UNIX_START + self.world.now + self.skew

    def receive(self, data: bytes, source: Address) -> None:
        if self.is_up:
            self.gossip.receive_datagram(data, source, self.world.now, self.unix_now())
            self.flush()

    def flush(self) -> None:
        """Send what waits and act on what happened."""
        for datagram, destination in self.gossip.datagrams_to_send():
            self.world.carry(self, datagram, destination)
        changed = False
        while (event := self.gossip.next_event()) is not None:
            changed = True
            if isinstance(event, SyncWanted):
                self.world.reconcile(self, event.address)
        if changed:
            self.world.at(self.world.now + 0.01, self.look)
        self._schedule()

    def view(self) -> View:
        alive = frozenset(member.peer for member in self.gossip.membership.alive())
        return read_view(
            self.ledger.read(self.unix_now()), self.peer, alive, self.rules.network_id, self.durable.generation
        )

    def look(self) -> None:
        """Run the controller once and carry out what it says."""
        if not self.is_up:
            return
        local = self.actions.local
        if self.world.now >= self._engine_ready:
            local = replace(local, engine=EngineStatus(EngineState.READY))
        # Tokens are sealed by the runtime; here whoever knows the decision has one.
        local = replace(local, join_token=SecretStr("join") if self.actions.decision else None)
        moment = Moment(self.world.now, self.world.random.random)
        self.actions = actions = reconcile(self.view(), self.spec, local, moment)
        self.durable = actions.local.durable  # saved before anything is published
        self.publish(PEERS, str(self.peer), self._description())
        for publication in actions.publish:
            self.publish(publication.bucket, publication.key, publication.value)
        self.publish(REPORTS, str(self.peer), {"role": actions.role.value if actions.role else ""})
        if actions.plan is not None and self._running != self.durable.runs:
            self._running = self.durable.runs
            self._engine_ready = self.world.now + ENGINE_START
            self.world.at(self._engine_ready, self.look)
            if actions.plan.join is None:
                self.world.initialised.append((self.world.now, self.peer, self.durable.intent))
        if actions.wake_at < float("inf"):
            self.world.at(max(actions.wake_at, self.world.now + 0.01), self.look)

    def _description(self) -> dict[str, object]:
        return {
            "network_id": self.rules.network_id,
            "name": self.spec.name,
            "kind": self.kind,
            "wish": self.wish.value if self.wish else "",
            "incarnation": self.durable.incarnation,
            "serves": self.durable.served,
            "seal_key": self.identity.exchange_key("seal").public_key().public_bytes_raw(),
            "addresses": [str(self.address)],
        }

    def _schedule(self) -> None:
        due = self.gossip.next_timer()
        if due < self._poll_at:
            self._poll_at = due
            self.world.at(due, self._poll)

    def _poll(self) -> None:
        if self.is_up and self.world.now >= self._poll_at:
            self._poll_at = float("inf")
            self.gossip.handle_timer(self.world.now, self.unix_now())
            self.flush()


class World:
    """The network between simulated nodes, and time."""

    def __init__(self, seed: int, *, latency: tuple[float, float] = (0.001, 0.02), loss: float = 0.0) -> None:
        self.random, self.latency, self.loss = Random(seed), latency, loss
        self.now = 0.0
        self.nodes: list[SimulatedNode] = []
        self.initialised: list[tuple[float, PeerId, str | None]] = []
        self.keyring = Keyring(new_token(self.random.choice))
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._by_address: dict[Address, SimulatedNode] = {}
        self._side: dict[Address, int] = {}

    def add(self, rules: Rules, *, wish: Role | None = None, kind: str = "node") -> SimulatedNode:
        """Start a node. It knows nobody until it meets somebody."""
        node = SimulatedNode(self, Identity(self.random.randbytes(32)), rules, wish, kind)
        self.nodes.append(node)
        self._by_address[node.address] = node
        return node

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Let something happen at a virtual time."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), action))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = until

    def meet_all(self, within: float) -> None:
        """Let every pair discover each other at a random moment from now."""
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    moment = self.now + self.random.uniform(0.0, within)
                    self.at(moment, lambda node=node, other=other: self.reconcile(node, other.address))  # type: ignore[misc]

    def part(self, *sides: Iterable[SimulatedNode]) -> None:
        """Let nodes reach only those on their side; nodes of no side reach each other."""
        self._side = {node.address: number for number, side in enumerate(sides, 1) for node in side}

    def heal(self) -> None:
        """Connect all again."""
        self._side = {}

    def connects(self, one: Address, other: Address) -> bool:
        return self._side.get(one, 0) == self._side.get(other, 0)

    def carry(self, sender: SimulatedNode, datagram: bytes, destination: Address) -> None:
        """Carry a datagram: late, or never."""
        receiver = self._by_address.get(destination)
        if receiver is None or not self.connects(sender.address, destination) or self.random.random() < self.loss:
            return
        self.at(self.now + self.random.uniform(*self.latency), lambda: receiver.receive(datagram, sender.address))

    def reconcile(self, node: SimulatedNode, address: Address) -> None:
        """Run one stream session after a round trip, if both ends are up and connected by then."""
        self.at(self.now + 2 * self.random.uniform(*self.latency), lambda: self._session(node, address))

    def _session(self, caller: SimulatedNode, address: Address) -> None:
        listener = self._by_address.get(address)
        if listener is None or not (caller.is_up and listener.is_up and self.connects(caller.address, address)):
            return
        for one, other in ((caller, listener), (listener, caller)):
            one.gossip.met(other.peer, other.address, self.now)
        offered = list(reconciliation.answer(listener.ledger, reconciliation.offer(caller.ledger)))
        self._take(caller, listener, offered)
        wanted = [message for message in offered if isinstance(message, Want)]
        self._take(listener, caller, [said for want in wanted for said in reconciliation.answer(caller.ledger, want)])
        for one, other in ((caller, listener), (listener, caller)):
            one.gossip.synced(other.peer, self.now)
            one.flush()

    def _take(self, node: SimulatedNode, sender: SimulatedNode, messages: Iterable[Message]) -> None:
        for message in messages:
            if isinstance(message, Entries):
                node.gossip.take_entries(message.entries, self.now, node.unix_now(), sender=sender.peer)
