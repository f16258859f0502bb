import pytest

from kairos_core.cluster.reading import read_view
from kairos_core.cluster.view import Node, View
from kairos_core.protocol.buckets import SECRETS
from kairos_core.runtime.vault import Vault

CLUSTER = "kairos-1"


@pytest.fixture
async def three(world):
    """Three nodes that know each other, and their vaults."""
    peers = [await world.peer(name) for name in ("master", "worker", "other")]
    await world.meet(*peers)
    return peers, [Vault(peer.pump) for peer in peers]


def view_of(peers, vaults) -> View:
    nodes = {p.id: Node(p.id, seal_key=v.public_key) for p, v in zip(peers, vaults, strict=True)}
    return View(me=peers[0].id, nodes=nodes)


def place(author) -> str:
    return f"{CLUSTER}/join-token/{author.id}"


async def test_a_secret_is_opened_by_its_recipients_and_its_author_and_by_nobody_else(three):
    (master, worker, other), vaults = three
    vaults[0].share(CLUSTER, "join-token", "hush", [worker.id], view_of(*three))
    for peer in (worker, other):
        await peer.until(lambda peer=peer: peer.reads(SECRETS, place(master)) is not None)
    opened = [vault.open(CLUSTER, "join-token", [master.id]) for vault in vaults]
    assert opened == ["hush", "hush", None]
    assert "hush" not in repr(master.pump.get(SECRETS, place(master)))


async def test_what_stands_already_is_not_sealed_again(three):
    (master, worker, other), (vault, *_) = three
    view = view_of(*three)

    def shared(text: str, *to) -> bytes:
        vault.share(CLUSTER, "join-token", text, [peer.id for peer in to], view)
        return master.pump.get(SECRETS, place(master)).id

    first = shared("hush", worker)
    assert shared("hush", worker) == first
    assert shared("hush", worker, other) != first, "a further recipient"
    second = shared("hush", worker)
    assert second != first, "a recipient less"
    assert shared("changed", worker) != second


async def test_a_secret_that_was_moved_to_another_place_does_not_open(three):
    (master, worker, _), vaults = three
    vaults[0].share(CLUSTER, "join-token", "hush", [worker.id], view_of(*three))
    sealed = master.reads(SECRETS, place(master))
    worker.pump.publish(SECRETS, f"{CLUSTER}/join-token/{worker.id}", sealed)
    worker.pump.publish(SECRETS, f"kairos-2/join-token/{worker.id}", sealed)
    assert vaults[1].open(CLUSTER, "join-token", [worker.id]) is None
    assert vaults[1].open("kairos-2", "join-token", [worker.id]) is None
    assert worker.drops == {"unseal": 2}


@pytest.mark.parametrize("value", [5, [], {}, {"to": 1}, {"to": {}, "by": b"", "text": b""}, b"bytes"])
async def test_what_is_no_sealed_secret_opens_for_nobody(world, value):
    peer = await world.peer("one")
    peer.pump.publish(SECRETS, place(peer), value)
    assert Vault(peer.pump).open(CLUSTER, "join-token", [peer.id]) is None


async def test_a_sealed_secret_with_broken_keys_is_counted(world):
    peer = await world.peer("one")
    vault = Vault(peer.pump)
    vault.share(CLUSTER, "join-token", "hush", [], View(me=peer.id))
    sealed = peer.reads(SECRETS, place(peer))
    for broken in ({"by": bytes(32)}, {"by": b"short"}, {"text": b""}, {"to": dict.fromkeys(sealed["to"], b"")}):
        peer.pump.publish(SECRETS, place(peer), sealed | broken)
        assert vault.open(CLUSTER, "join-token", [peer.id]) is None
    assert peer.drops == {"unseal": 4}


async def test_the_first_author_who_sealed_to_us_is_believed(three):
    (master, worker, other), vaults = three
    view = view_of(*three)
    vaults[0].share(CLUSTER, "join-token", "of the master", [other.id], view)
    vaults[1].share(CLUSTER, "join-token", "of the worker", [other.id], view)
    await other.until(lambda: all(other.reads(SECRETS, place(peer)) for peer in (master, worker)))
    assert vaults[2].open(CLUSTER, "join-token", [master.id, worker.id]) == "of the master"
    assert vaults[2].open(CLUSTER, "join-token", [worker.id, master.id]) == "of the worker"
    assert vaults[2].open(CLUSTER, "join-token", [other.id, worker.id]) == "of the worker"


@pytest.mark.parametrize("seal_key", [bytes(32), b"\x01" + bytes(31), bytes(31), b"", None, 5])
async def test_a_member_whose_key_seals_nothing_is_no_node_and_breaks_no_master(world, seal_key):
    evil = await world.peer("evil")
    evil.write("peers", {"network_id": "kairos", "name": "evil", "kind": "node", "seal_key": seal_key})
    view = read_view(evil.pump.entries(), evil.id, frozenset(), "kairos")
    assert not view.nodes
