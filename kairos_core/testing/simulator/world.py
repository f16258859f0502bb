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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import blake2b
from itertools import count
from random import Random

from kairos_core.cluster.election import Rules
from kairos_core.model import Address, PeerId, Role
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import new_token
from kairos_core.runtime.pump import Errand
from kairos_core.testing.simulator.invariants import Violation, Watch, unsettled
from kairos_core.testing.simulator.network import Conditions, Network
from kairos_core.testing.simulator.node import SimulatedNode
from kairos_core.testing.simulator.notary import SharedNotary
from kairos_core.testing.simulator.session import Session

KEYRING = Keyring(new_token(Random(0).choice))
"""The keys of every simulated network: deriving them again for each would cost more than many a run."""

DISCOVERED_AGAIN = 10.0
"""Seconds after which discovery names those again that a node does not know to be alive."""

MESH = 50
"""Nodes up to which every pair discovers each other; in larger networks scenarios choose who meets whom."""

TRACE = 60
"""Events that a failing run tells."""


Complaints = Callable[["World"], Iterator[str]]
"""What keeps a world from being at rest."""


class World:
    """The network between simulated nodes, and time."""

    def __init__(
        self,
        seed: int,
        *,
        latency: tuple[float, float] = (0.001, 0.02),
        loss: float = 0.0,
        conditions: Conditions | None = None,
    ) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.nodes: list[SimulatedNode] = []
        self.initialised: list[tuple[float, PeerId, str | None]] = []
        self.written: list[tuple[str, str, object]] = []
        self.keyring, self.notary = KEYRING, SharedNotary()
        self.network = Network(self.random, conditions or Conditions(latency, loss=loss))
        self.watch = Watch(self)
        self.after_crash: Callable[[SimulatedNode], None] = lambda _: None
        self.trace: deque[str] = deque(maxlen=TRACE)
        self._digest = blake2b(digest_size=8)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._by_host: dict[str, SimulatedNode] = {}

    def add(self, rules: Rules, *, wish: Role | None = None, kind: str = "node", skew: float = 0.0) -> SimulatedNode:
        """Start a node. It knows nobody until it meets somebody. `skew` is how far its clock is ahead."""
        node = SimulatedNode(self, Identity(self.random.randbytes(32)), rules, wish, kind, skew)
        self.nodes.append(node)
        self._by_host[node.address.host] = node
        self.network.place(node.address)
        return node

    def up(self) -> list[SimulatedNode]:
        """Return the nodes that run."""
        return [node for node in self.nodes if node.is_up]

    # -- time -----------------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Let something happen at a virtual time."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), action))

    def run(self, until: float) -> None:
        """Let time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, action = heapq.heappop(queue)
            action()
        self.now = max(self.now, until)

    def settle(self, within: float, pause: float = 0.5, complaints: Complaints = unsettled) -> float:
        """Run until all agree and each node has its role (or as `complaints` has it); return how long it took.

        Raises Violation with the first complaint when that takes too long.
        """
        began = found = self.now
        while (complaint := next(complaints(self), None)) is not None:
            if self.now - began >= within:
                raise Violation(f"{within:g} s after all was well again, {complaint}")
            self.run(until=self.now + pause)
            if self.now - found >= DISCOVERED_AGAIN and len(self.nodes) <= MESH:
                found = self.now
                self.meet_all(within=2.0)
        return self.now - began

    # -- discovery and faults -------------------------------------------------------------------------------------

    def meet_all(self, within: float) -> None:
        """Let every pair discover each other at a random moment from now."""
        for node in self.nodes:
            self.meet(node, self.nodes, within)

    def meet(self, node: SimulatedNode, others: Iterable[SimulatedNode], within: float) -> None:
        """Let a node discover others, each at a random moment from now."""
        for other in others:
            if other is not node:
                self.at(self.now + self.random.uniform(0.0, within), partial(node.found, other.address))

    def part(self, *sides: Iterable[SimulatedNode]) -> None:
        """Let nodes reach only those on their side; nodes of no side reach each other."""
        parts = [list(side) for side in sides]
        self.network.part(*[[node.address for node in side] for side in parts])
        self.note(None, "the network parts: " + " | ".join(_names(side) for side in parts))

    def block(self, sources: Iterable[SimulatedNode], destinations: Iterable[SimulatedNode]) -> None:
        """Lose all that one side sends to the other, and not what comes back."""
        ones, others = list(sources), list(destinations)
        self.network.block([node.address for node in ones], [node.address for node in others])
        self.note(None, f"nothing goes from {_names(ones)} to {_names(others)}")

    def heal(self) -> None:
        """Connect all again."""
        self.network.heal()
        self.note(None, "the network heals")

    def write(self, node: SimulatedNode, key: str, value: object) -> None:
        """Let a node write a value that must never be lost, and that nobody writes a second time."""
        node.publish("values", key, value)
        self.written.append((node.name, key, value))

    def note(self, node: SimulatedNode | None, what: str) -> None:
        """Add an event to the trace."""
        line = f"{self.now:9.3f} {node.name if node else '-':8} {what}"
        self.trace.append(line)
        self._digest.update(line.encode())

    @property
    def fingerprint(self) -> str:
        """A hash of all that happened: equal for two runs that were the same."""
        digest = self._digest.copy()
        digest.update(f"{self.network.sent} {self.now}".encode())
        return digest.hexdigest()

    # -- what goes over the network -------------------------------------------------------------------------------

    def carry(self, sender: SimulatedNode, datagram: bytes, destination: Address) -> None:
        """Carry a datagram: late, twice, or never."""
        receiver = self._by_host.get(destination.host)
        if receiver is None:
            return
        for delay in self.network.arrivals(sender.address, destination):
            self.at(self.now + delay, lambda: receiver.receive(datagram, sender.address))

    def reconcile(self, node: SimulatedNode, address: Address) -> None:
        """Let a node open a session to an address."""
        node.reconcile(address)

    def open_session(self, caller: SimulatedNode, address: Address, errand: Errand | None) -> None:
        """Carry out a session, as far as both ends and the network live."""
        listener = self._by_host.get(address.host)
        if listener is None:
            self.at(self.now, lambda: caller.hung_up(address))
        else:
            Session(self, caller, listener, errand).begin()


def _names(nodes: list[SimulatedNode]) -> str:
    return ", ".join(node.name for node in nodes)
