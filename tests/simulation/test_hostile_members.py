"""Members that break the rules: honest nodes converge, at bounded cost, and count what they refuse."""

import pytest

from kairos_core.protocol.entry import Entry, pack, sign_entry
from kairos_core.protocol.ledger import AUTHOR_BURST, draft
from kairos_core.protocol.seal import DatagramSeal
from kairos_core.protocol.shunning import FORGERIES, SHUNNED_FOR
from kairos_core.protocol.wire import (
    Ack,
    Cells,
    Compare,
    Datagram,
    Have,
    Life,
    News,
    Ping,
    Pull,
    Push,
    Tidings,
    decode_datagram,
    encode_datagram,
    tag_of,
)
from kairos_core.testing.swarm import Swarm, SwarmNode

pytestmark = pytest.mark.simulation


def settled(nodes: int, seed: int = 1) -> Swarm:
    swarm = Swarm(seed, nodes)
    swarm.acquaint()
    swarm.run(6.0, step=0.5)
    return swarm


class Hostile:
    """Speaks for a member of a swarm whose own machine is silenced."""

    def __init__(self, swarm: Swarm, node: SwarmNode) -> None:
        self.swarm, self.node = swarm, node
        self.heard: list[Datagram] = []
        node.receive = self.listen  # type: ignore[method-assign]
        node.flush = lambda: None  # type: ignore[method-assign]
        self.seal = DatagramSeal()
        self.seal.use(swarm.keyring.accepted(node.unix_now()))

    def say(self, message: Datagram, *to: SwarmNode) -> None:
        tag = tag_of(self.node.peer, self.swarm.keyring.network)
        for node in to:
            data = self.seal.seal(encode_datagram(tag, message), self.swarm.random.randbytes(12))
            self.swarm.carry(self.node, data, node.address)

    def listen(self, data: bytes, source: object) -> None:
        _, message = decode_datagram(self.seal.open(data))
        self.heard.append(message)
        sender = next(node for node in self.swarm.nodes if node.address == source)
        self.answer(message, sender)

    def answer(self, message: Datagram, sender: SwarmNode) -> None:
        """Keep alive, with a digest that is never anybody's."""
        if isinstance(message, Ping):
            self.say(Ack(message.nonce, 7, self.swarm.random.randbytes(8)), sender)
        if isinstance(message, Compare):
            self.say(Cells(bytes(8), message.start, self.cells(message.count)), sender)

    def cells(self, count: int) -> bytes:
        return self.swarm.random.randbytes(16 * count)


def honest_and_hostile(nodes: int = 6) -> tuple[Swarm, list[SwarmNode], Hostile]:
    swarm = settled(nodes)
    return swarm, swarm.nodes[1:], Hostile(swarm, swarm.nodes[0])


def test_a_digest_that_lies_and_a_sketch_that_never_decodes_cost_less_and_less() -> None:
    swarm, honest, _ = honest_and_hostile()
    swarm.run(60.0, step=1.0)
    swarm.sent.clear()
    swarm.streams.clear()
    swarm.run(120.0, step=1.0)
    assert all(swarm.sent[node.address] / 120 < 400 for node in honest)
    assert sum(swarm.streams.values()) <= 5 * len(honest), "once in 32 s at most"
    honest[0].write("values", "still", "works")
    swarm.run(2.0)
    assert {node.reads("values", "still") for node in honest} == {"works"}


def test_a_sketch_that_is_of_no_set_is_named() -> None:
    swarm, honest, hostile = honest_and_hostile()
    own = honest[0].ledger.sketch
    # One id too many, in its first cell alone and then in every one: no set has such cells.
    word = int.from_bytes(own.encode(0, 1)) ^ int.from_bytes(hostile.node.ledger.sketch.encode(0, 1))
    assert word == 0
    other = type(own)(swarm.keyring.network)
    other.toggle(b"an id 01")
    mark = int.from_bytes(other.encode(0, 1))

    def cells(count: int) -> bytes:
        return b"".join((int.from_bytes(own.encode(at, 1)) ^ mark).to_bytes(16) for at in range(count))

    hostile.cells = cells  # type: ignore[method-assign]
    swarm.run(30.0, step=0.5)
    assert sum(node.gossip.drops["bad_sketch"] for node in honest) > 0


def test_an_author_who_writes_without_end_is_slowed_and_others_are_not() -> None:
    swarm, honest, hostile = honest_and_hostile(4)
    author = hostile.node
    for n in range(2000):
        entry = draft(author.peer, "values", f"flood-{n}", n)
        raw = author.ledger.write(author.identity, entry, author.unix_now()).entry.raw
        hostile.say(Push((raw,)), honest[0])
    swarm.run(1.0)
    taken = honest[0].gossip.drops["too_fast"]
    assert taken >= 2000 - AUTHOR_BURST - 60
    honest[1].write("values", "mine", "passes")
    swarm.run(1.0)
    assert {node.reads("values", "mine") for node in honest} == {"passes"}


def test_forged_entries_do_not_slow_the_author_they_name() -> None:
    swarm, honest, hostile = honest_and_hostile(4)
    victim = honest[1]
    for n in range(1000):
        forged = sign_entry(Entry("values", f"forged-{n}", pack(n), victim.peer, (1_800_000_000_000 + n) << 16),
                            victim.identity, bytes(16))  # fmt: skip
        hostile.say(Push((forged.raw,)), honest[0])
    swarm.run(1.0)
    assert honest[0].gossip.drops["bad_signature"] == FORGERIES, "then none is worth a look at its signature"
    assert honest[0].gossip.drops["shunned"] == 1000 - FORGERIES
    victim.write("values", "true", 1)
    swarm.run(1.0)
    assert honest[0].reads("values", "true") == 1
    assert honest[0].gossip.drops["too_fast"] == 0


def test_a_forger_is_shunned_for_a_while_and_nobody_whom_it_names() -> None:
    swarm, honest, hostile = honest_and_hostile(4)
    victim, named = honest[0], honest[1]

    def forge(count: int, name: SwarmNode) -> None:
        tag = tag_of(name.peer, swarm.keyring.network)
        for n in range(count):
            unsigned = Entry("values", f"{swarm.now}/{n}", pack(n), name.peer, 1_800_000_000_000 << 16)
            raw = sign_entry(unsigned, hostile.node.identity, swarm.keyring.network).raw
            data = hostile.seal.seal(encode_datagram(tag, Push((raw,))), swarm.random.randbytes(12))
            swarm.carry(hostile.node, data, victim.address)

    forge(100, named)
    swarm.run(1.0)
    named.write("values", "true", 1)
    swarm.run(1.0)
    assert victim.reads("values", "true") == 1
    assert victim.gossip.drops["bad_signature"] == FORGERIES
    assert hostile.node.peer in victim.alive, "its pings are answered"
    swarm.run(SHUNNED_FOR, step=1.0)
    forge(1, named)
    swarm.run(1.0)
    assert victim.gossip.drops["bad_signature"] == FORGERIES + 1, "after that it is listened to again"


def test_announcements_of_what_is_not_there_are_bounded_in_memory_and_answers() -> None:
    swarm, honest, hostile = honest_and_hostile(4)
    for _ in range(200):
        hostile.say(Have(tuple(swarm.random.randbytes(8) for _ in range(140))), honest[0])
    swarm.run(0.5)
    asked = sum(len(message.ids) for message in hostile.heard if isinstance(message, Pull))
    assert asked <= 8192
    swarm.run(3.0)
    assert not honest[0].gossip._spreader._asked


def test_who_asks_for_everything_again_and_again_gets_a_bounded_share() -> None:
    swarm, honest, hostile = honest_and_hostile(4)
    for n in range(100):
        honest[0].write("values", f"large-{n}", "x" * 900)
    swarm.run(2.0)
    ids = tuple(honest[0].ledger.short_ids())[:140]
    swarm.sent.clear()
    for _ in range(100):
        hostile.say(Pull(ids), honest[0])
        hostile.say(Compare(0, 64), honest[0])
    swarm.run(1.0)
    assert swarm.sent[honest[0].address] < 300_000
    assert honest[0].gossip.drops["greedy"] > 0


def test_nobody_is_talked_to_death() -> None:
    swarm, honest, hostile = honest_and_hostile()
    victim = honest[0]
    for life in (Life.SUSPECT, Life.DEAD):
        for incarnation in (1_800_000_000, 1_800_000_000 + (1 << 19), (1 << 32) - 1):
            news = News(life, incarnation, tag_of(victim.peer, swarm.keyring.network))
            hostile.say(Tidings((news,)), *honest)
            swarm.run(5.0, step=0.5)
    assert all(victim.peer in node.alive for node in honest if node is not victim)
    assert sum(node.gossip.drops["bad_news"] for node in honest) > 0


def test_an_entry_from_the_future_costs_a_bounded_number_of_comparisons() -> None:
    swarm = settled(5)
    ahead, honest = swarm.nodes[0], swarm.nodes[1:]
    ahead.skew = 365 * 86_400.0
    ahead.gossip.ledger.write(ahead.identity, draft(ahead.peer, "values", "key", "future"), ahead.unix_now())
    ahead.skew = 0.0
    swarm.run(60.0, step=1.0)
    swarm.sent.clear()
    swarm.run(60.0, step=1.0)
    assert all(swarm.sent[node.address] / 60 < 260 for node in honest), "no more than in an idle network"
    assert swarm.sent[ahead.address] / 60 < 400
    honest[0].write("values", "key", "now")
    swarm.run(3.0)
    assert {node.reads("values", "key") for node in honest} == {"now"}
