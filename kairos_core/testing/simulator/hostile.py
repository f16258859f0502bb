"""A member that lies: absurd rounds and generations, forged votes, old entries again.

What it may do is what any holder of the token can: sign whatever it likes under its own name, and send whatever bytes
it likes. It keeps its own votes honest or out of reach: whoever votes twice can break Paxos, which nobody promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from kairos_core.cluster.election import Rules
from kairos_core.cluster.quorum import LAST_ROUND, REACH, Ballot, Decision, Register
from kairos_core.cluster.view import GENERATION_BYTES
from kairos_core.model import Role
from kairos_core.protocol import buckets
from kairos_core.protocol.entry import Entry, pack, sign_entry
from kairos_core.testing.simulator.invariants import Violation
from kairos_core.testing.simulator.node import SimulatedNode
from kairos_core.testing.simulator.scenario import (
    AGREE,
    begin_anew_if_lost,
    first_leader,
    heal,
    revive,
    scenario,
    split,
    write,
)
from kairos_core.testing.simulator.world import World


@scenario
def absurd_claims(world: World) -> None:
    """A member claims the last rounds and generations there are, before, during and after the election."""
    quorum = world.random.choice((2, 3, 3, 4))
    rules = Rules("kairos", quorum=quorum, nodes_to_start=quorum, expected=quorum)
    nodes = [world.add(rules) for _ in range(2 * quorum - 2)]  # its register makes the liar one more that votes
    liar = Liar(world, world.add(rules, wish=Role.NONE))
    acts = [liar.claim_a_round, liar.claim_a_round, liar.claim_a_generation]
    _disturb(world, nodes, acts)
    write(world, nodes, 2)
    heal(world)
    if world.random.random() < 0.5:  # and its operators can still ask for the next generation
        world.random.choice(nodes).ask_for_generation()
        world.settle(AGREE)
    if any(node.durable.generation > 2 for node in nodes):
        raise Violation("a generation was taken up that only the liar asked for")


@scenario
def forged_entries(world: World) -> None:
    """A member forges votes and introductions of others and sends old entries again, while disks are lost."""
    quorum = world.random.choice((2, 3, 3))
    rules = Rules("kairos", quorum=quorum, nodes_to_start=quorum, expected=quorum)
    nodes = [world.add(rules) for _ in range(2 * quorum - 1)]
    liar = Liar(world, world.add(rules, wish=Role.NONE))
    acts = [liar.forge, liar.forge, liar.write_under_another_key, liar.replay, liar.replay]
    _disturb(world, nodes, acts)
    victim = world.random.choice(nodes)
    victim.wipe()
    world.run(until=world.now + world.random.uniform(0.05, 3.0))
    revive(world, victim)
    _disturb(world, nodes, acts)
    write(world, nodes, 2)
    heal(world)
    begin_anew_if_lost(world, nodes)
    liar.check()


def _disturb(world: World, nodes: list[SimulatedNode], acts: list[Callable[[], None]]) -> None:
    world.meet_all(within=0.3)
    if world.random.random() < 0.5:
        first_leader(world)
    for _ in range(world.random.randint(3, 8)):
        world.run(until=world.now + world.random.choice((0.02, 0.2, 2.0)) * world.random.random())
        world.random.choice(acts)()
        if world.random.random() < 0.2:
            split(world, nodes)


class Liar:
    """Lets a node lie. Remembers every entry that has ever reached it."""

    def __init__(self, world: World, node: SimulatedNode) -> None:
        self._world, self._node = world, node
        self._heard: list[Entry] = []
        node.ledger.follow(self._note)

    def _note(self, entry: Entry, *, stands: bool) -> None:
        if stands:
            self._heard.append(entry)

    def claim_a_round(self) -> None:
        """Open, promise, vote in or propose under a round that nobody could follow."""
        random, me = self._world.random, self._node.peer
        seen = max((register.promised.round for register in self._node.view().registers.values()), default=0)
        ballot = Ballot(random.choice((LAST_ROUND, LAST_ROUND - 1, min(LAST_ROUND, seen + 4 * REACH))), me)
        value = Decision("of-the-liar", me, self._node.durable.incarnation)
        claims = {
            buckets.PREPARES: [ballot.encode(), None],
            buckets.REGISTERS: Register(ballot, ballot, value).encode(),
            buckets.PROPOSALS: [ballot.encode(), value.encode()],
        }
        bucket = random.choice(list(claims))
        self._publish(bucket, f"kairos/{self._node.view().generation}/{me}", claims[bucket])

    def claim_a_generation(self) -> None:
        """Ask for the last generation, or one far away."""
        number = self._world.random.choice(((1 << 32) - 1, 1 << 31, 1 << 20))
        rank = number.to_bytes(GENERATION_BYTES)
        self._publish(buckets.GENERATIONS, f"kairos/{self._node.peer}", [rank, None])

    def forge(self) -> None:
        """Send an entry in another's name, with our signature."""
        entry = self._of_another()
        if entry is not None:
            self._send(sign_entry(self._falsified(entry), self._node.identity, self._node.ledger.network).raw)

    def write_under_another_key(self) -> None:
        """Send an entry of our own, rightly signed, under the key of another."""
        entry = self._of_another()
        if entry is not None:
            entry = replace(self._falsified(entry), author=self._node.peer)
            self._send(sign_entry(entry, self._node.identity, self._node.ledger.network).raw)

    def replay(self) -> None:
        """Send an entry again that was true once."""
        self._send(self._world.random.choice(self._heard).raw)

    def check(self) -> None:
        """Look whether a forged entry stands in any ledger. Raises Violation."""
        if (found := next(self._forged(), None)) is not None:
            raise Violation(found)

    def _forged(self) -> Iterator[str]:
        for node in self._world.nodes:
            for entry in node.ledger.read(node.unix_now()):
                is_foreign = entry.author != self._node.peer and not self._world.notary.has_vouched(entry)
                if is_foreign or (entry.author == self._node.peer and "forged" in repr(entry.content)):
                    yield f"{node.name} holds {entry.bucket}/{entry.key}, which {entry.author.short} did not write"

    def _of_another(self) -> Entry | None:
        wanted = (buckets.PEERS, buckets.REGISTERS, buckets.DECISIONS)
        found = [each for each in self._heard if each.bucket in wanted and each.author != self._node.peer]
        return self._world.random.choice(found) if found else None

    def _falsified(self, entry: Entry) -> Entry:
        """Return what would be worse than it is, later than it is."""
        value = Decision("forged", self._node.peer, self._node.durable.incarnation)
        if entry.bucket == buckets.PEERS:
            content: object = {**entry.content, "incarnation": "forged"}
        elif entry.bucket == buckets.DECISIONS:
            content = value.encode()
        else:
            ballot = Ballot(Register.decode(*entry.content).promised.round + 1, self._node.peer)
            content = Register(ballot, ballot, value).encode()
        # Anew, so that nothing of the true entry is remembered.
        return Entry(entry.bucket, entry.key, pack(content), entry.author, entry.hlc + (1 << 16))

    def _publish(self, bucket: str, key: str, value: object) -> None:
        try:
            self._node.publish(bucket, key, value)
        except ValueError as error:  # it has claimed more before
            self._world.note(self._node, str(error))

    def _send(self, raw: bytes) -> None:
        victim = self._world.random.choice([node for node in self._world.up() if node is not self._node])
        self._world.note(self._node, f"lies to {victim.name}")
        victim.take([raw], self._node.peer)
