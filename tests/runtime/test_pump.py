import asyncio
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import pytest

from kairos_core.errors import StoreError
from kairos_core.interfaces import StoreBatch
from kairos_core.runtime import pump as pump_module
from kairos_core.runtime.clock import NetworkTime
from kairos_core.testing.stores import MemoryStore


class TroubledStore(MemoryStore):
    """A store whose disk can be full (`trouble`), slow (`gate`) or damaged at its first load."""

    def __init__(self, trouble: Exception | None = None, damage: StoreError | None = None) -> None:
        self.disk: dict[tuple[str, str], bytes] = {}
        super().__init__(self.disk)
        self.trouble, self.damage = trouble, damage
        self.tries = 0
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def load(self) -> Iterable[bytes]:
        damage, self.damage = self.damage, None
        if damage is not None:
            raise damage
        return super().load()

    def save(self, batch: StoreBatch) -> None:
        self.tries += 1
        assert self.gate.wait(5)
        if self.trouble is not None:
            raise self.trouble
        super().save(batch)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "SAVE_AGAIN", 0.01)


async def test_two_nodes_that_meet_hold_the_union(world):
    one, two = await world.peer("one"), await world.peer("two")
    first, second = one.write("reports", {"role": "master"}), two.write("reports", {"role": "worker"})
    one.sessions.reconcile(two.address)
    await one.until(lambda: one.reads("reports", second) is not None)
    await two.until(lambda: two.reads("reports", first) is not None)
    assert one.pump.ledger.digest == two.pump.ledger.digest
    assert one.drops == two.drops == {}


async def test_news_is_pushed_to_all_and_from_there_on(world):
    peers = [await world.peer(f"peer {number}") for number in range(3)]
    await world.meet(*peers)
    # The first and the third do not reach each other: it has to go through the second.
    ends = {peers[0].address, peers[2].address}
    world.network.is_cut = lambda source, destination: {source, destination} == ends
    key = peers[0].write("reports", {"role": "master"})
    for peer in peers[1:]:
        await peer.until(lambda peer=peer: peer.reads("reports", key) == {"role": "master"})


async def test_an_entry_too_large_for_a_datagram_arrives_too(world):
    one, two = await world.peer("one"), await world.peer("two")
    await world.meet(one, two)
    key = one.write("reports", {"message": "x" * 10_000})
    await two.until(lambda: two.reads("reports", key) is not None)


@pytest.mark.parametrize("trouble", [StoreError("the disk is full"), RuntimeError("a mistake of the plugin")])
async def test_what_cannot_be_saved_is_kept_told_and_saved_later(world, trouble):
    store = TroubledStore(trouble)
    peer = await world.peer("one", store)
    key = peer.write("reports", {"role": "master"})
    with pytest.raises(StoreError):
        await peer.pump.saved()
    other = peer.write("values", 1)
    await world.until(lambda: peer.pump.store_error)
    assert peer.reads("reports", key) == {"role": "master"}
    assert store.disk == {}
    store.trouble = None
    await peer.pump.saved()
    assert set(store.disk) == {("reports", key), ("values", other)}
    await world.until(lambda: peer.pump.store_error is None)


async def test_who_waits_for_a_save_waits_for_one_under_way(world):
    store = TroubledStore()
    peer = await world.peer("one", store)
    store.gate.clear()
    key = peer.write("values", 1)
    await world.until(lambda: store.tries)
    waiting = asyncio.create_task(peer.pump.saved())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    store.gate.set()
    await waiting
    assert ("values", key) in store.disk


async def test_a_save_that_is_cut_short_by_the_end_is_done_again(world):
    store = TroubledStore()
    async with world.running("one", store) as peer:
        store.gate.clear()
        key = peer.write("values", 1)
        await world.until(lambda: store.tries)
        store.trouble = StoreError("just this once")
        threading.Timer(0.02, lambda: (store.gate.set(), setattr(store, "trouble", None))).start()
    assert ("values", key) in store.disk
    assert store.closed


async def test_a_restarted_node_knows_what_it_had_saved(world):
    disk: dict[tuple[str, str], bytes] = {}
    async with world.running("one", MemoryStore(disk)) as peer:
        key = peer.write("values", "kept")
    async with world.running("one", MemoryStore(disk)) as peer:
        assert peer.reads("values", key) == "kept"


DAY = 24 * 3600.0


async def test_what_ran_out_while_the_agent_was_off_is_forgotten_on_disk_too(world, monkeypatch):
    disk: dict[tuple[str, str], bytes] = {}
    async with world.running("one", MemoryStore(disk)) as peer:
        old, again = peer.write("values", "old"), ("reports", peer.write("reports", {"n": 1}))
    monkeypatch.setattr(pump_module, "HOUSEKEEPING", 0.01)
    later = NetworkTime(lambda: time.time() + 2 * DAY)
    async with world.running("one", MemoryStore(disk), clock=later) as peer:
        assert peer.reads("values", old) is None
        peer.write("reports", {"n": 2})  # the same key lives on, and must not be forgotten with the old entry
        await world.until(lambda: ("values", old) not in disk)
    assert set(disk) == {again}
    async with world.running("one", MemoryStore(disk), clock=later) as peer:
        assert peer.reads(*again) == {"n": 2}


async def test_what_seems_to_have_run_out_by_a_wrong_clock_is_back_with_the_networks_time(world):
    disk: dict[tuple[str, str], bytes] = {}
    async with world.running("one", MemoryStore(disk)) as peer:
        key = peer.write("values", "kept")
    wrong = NetworkTime(lambda: time.time() + 2 * DAY)
    async with world.running("one", MemoryStore(disk), clock=wrong) as peer:
        assert peer.reads("values", key) is None
        others = [await world.peer(name) for name in ("two", "three")]
        await world.meet(peer, *others)
        await peer.until(lambda: peer.reads("values", key) == "kept")
        await others[0].until(lambda: others[0].reads("values", key) == "kept")


async def test_a_damaged_store_begins_anew_and_says_so_for_good(world):
    store = TroubledStore(damage=StoreError("the ledger is damaged and was set aside"))
    peer = await world.peer("one", store)
    peer.write("values", 1)
    await peer.pump.saved()
    assert peer.pump.store_damage == "the ledger is damaged and was set aside"


async def test_a_member_without_any_address_does_not_keep_the_loop_busy(world):
    one, two = await world.peer("one"), await world.peer("two")
    two.write("peers", {"addresses": [], "name": "nowhere"})
    three = await world.peer("three")
    await world.meet(one, two)
    three.sessions.reconcile(one.address)
    await three.until(lambda: three.reads("peers", str(two.id)) is not None)
    two.pump.gossip.membership.forget(one.id)
    async with asyncio.timeout(1):
        for _ in range(100):
            await asyncio.sleep(0)


async def test_what_is_told_to_end_in_the_turn_of_a_change_ends(world):
    peer = await world.peer("one")
    timers = asyncio.create_task(peer.pump._run_timers())
    await asyncio.sleep(0.01)
    peer.write("values", 1)
    timers.cancel()
    done, _ = await asyncio.wait([timers], timeout=1)
    timers.cancel()
    assert done


async def test_who_watches_sees_each_change_and_a_delete(world):
    peer = await world.peer("one")
    seen = []

    async def watch() -> None:
        async for entry in peer.pump.watch():
            seen.append(entry.content)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    for value in (1, 2, None):
        peer.write("values", value)
    await world.until(lambda: len(seen) == 3)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert seen == [1, 2, None]
    assert not peer.pump._queues


async def test_writing_what_stands_already_changes_nothing(world):
    peer = await world.peer("one")
    assert peer.pump.publish("values", "k", [1]) is True
    digest = peer.pump.ledger.digest
    assert peer.pump.publish("values", "k", [1]) is False
    assert peer.pump.publish("values", "absent", None) is False
    assert peer.pump.ledger.digest == digest
    with pytest.raises(ValueError, match="only the node that the key names"):
        peer.pump.publish("reports", "12D3KooWother", {})


@pytest.mark.parametrize("turns", range(3))
async def test_a_node_that_is_stopped_the_moment_a_timer_changes_stops(world, turns):
    peer = await world.peer("one")
    await asyncio.sleep(0.001)
    peer.write("values", 1)  # sets the timer; so many turns of the loop later comes the cancellation
    for _ in range(turns):
        await asyncio.sleep(0)
    peer.task.cancel()
    done, _ = await asyncio.wait({peer.task}, timeout=2)
    assert done
