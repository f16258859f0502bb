import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from kairos_core import SecretStr
from kairos_core.cluster import election
from kairos_core.cluster.controller import Durable, Spec
from kairos_core.cluster.election import Rules
from kairos_core.cluster.rotation import JoinToken
from kairos_core.errors import StoreError
from kairos_core.model import Attachment
from kairos_core.protocol.buckets import CLUSTERS, PEERS, PREPARES, PROPOSALS, REGISTERS, REPORTS
from kairos_core.runtime import actions as actions_module
from kairos_core.runtime import engines as engines_module
from kairos_core.runtime.actions import Reconciler
from kairos_core.runtime.engines import EngineRunner
from kairos_core.testing.engines import FakeEngine

ALONE = Rules("kairos", incarnation="inc", quorum=1, nodes_to_start=1, expected=1)


class Disk:
    """Where the durable state goes; `trouble` is raised instead of saving."""

    def __init__(self) -> None:
        self.saved: list[Durable] = []
        self.trouble: StoreError | None = None
        self.tries = 0

    def save(self, durable: Durable) -> None:
        self.tries += 1
        if self.trouble:
            raise self.trouble
        self.saved.append(durable)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(election, "SETTLE_ALL_HERE", 0.0)
    monkeypatch.setattr(actions_module, "SAVE_AGAIN", 0.01)


@pytest.fixture
async def node(world):
    """One node that may initialise alone, with an engine that needs no programs; not running yet."""
    peer, disk = await world.peer("one"), Disk()
    durable = Durable("inc")
    reconciler = Reconciler(peer.pump, Spec("edge-1", ALONE), durable, disk.save)
    reconciler.attachments.used, reconciler.attachments.address = Attachment("eth0", "192.0.2.7"), "192.0.2.7"
    reconciler.engine = EngineRunner(FakeEngine())
    reconciler.engine.changed = peer.pump.wake
    key = reconciler.vault.public_key
    peer.write(PEERS, {"network_id": "kairos", "name": "edge-1", "kind": "node", "incarnation": "inc", "seal_key": key})
    tasks = []

    def start():
        tasks.extend([asyncio.create_task(reconciler.run()), asyncio.create_task(reconciler.engine.run())])

    yield peer, reconciler, disk, start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def buckets(peer) -> set[str]:
    return {entry.bucket for entry in peer.pump.entries()}


async def test_a_node_that_may_be_alone_becomes_master_and_tells_all(node):
    peer, reconciler, disk, start = node
    start()
    await peer.until(lambda: reconciler.actions.phase == "ready" and CLUSTERS in buckets(peer))
    report = peer.reads(REPORTS, str(peer.id))
    assert (report["role"], report["engine"], report["address"]) == ("master", "ready", "192.0.2.7")
    assert set(reconciler.milestones) >= {"started", "role", "attached", "engine"}
    assert not reconciler.is_waiting
    cluster_id = reconciler.actions.decision.cluster_id
    assert reconciler.vault.open(cluster_id, "join-token", [peer.id])
    assert disk.saved[-1].intent == cluster_id
    assert disk.saved[-1] == reconciler.actions.local.durable


async def test_a_join_token_that_was_rotated_is_shared_with_a_number_and_holds_for_the_next_start(
    node, world, monkeypatch
):
    peer, reconciler, _, start = node
    monkeypatch.setattr(engines_module, "LOOK_RUNNING", 0.01)
    engine = reconciler.engine._engine
    start()
    await peer.until(lambda: reconciler.actions.phase == "ready" and CLUSTERS in buckets(peer))
    cluster_id = reconciler.actions.decision.cluster_id
    assert reconciler.vault.open(cluster_id, "join-token", [peer.id]) == engine.cluster.token
    for number, token in ((1, "once"), (2, "twice")):
        engine.cluster.token = token
        shared = JoinToken(SecretStr(token), number).encode()
        await peer.until(lambda shared=shared: reconciler.vault.open(cluster_id, "join-token", [peer.id]) == shared)
        await world.until(lambda token=token: engine.plans[-1].cluster_token.get_secret_value() == token)


@pytest.mark.parametrize("votes", [True, False])
async def test_only_a_node_that_decides_waits_for_a_decision(node, votes):
    _, reconciler, _, _ = node
    reconciler.spec = replace(reconciler.spec, rules=replace(ALONE, votes=votes))
    assert reconciler.is_waiting == votes


async def test_nothing_is_published_and_nothing_started_that_is_not_saved(node, world):
    peer, reconciler, disk, start = node
    disk.trouble = StoreError("cannot save election.json: No space left on device. Free some space")
    start()
    await world.until(lambda: disk.tries >= 3)
    assert not buckets(peer) & {PREPARES, REGISTERS, PROPOSALS, CLUSTERS, REPORTS}
    assert reconciler.engine._engine.plans == []
    assert "Free some space" in reconciler.save_error
    disk.trouble = None
    await peer.until(lambda: reconciler.actions.phase == "ready")
    assert reconciler.save_error is None


async def test_each_step_is_saved_before_what_follows_from_it_is_published(node):
    peer, reconciler, disk, start = node
    publish, order = peer.pump.publish, []

    def recording(bucket, key, value, **more):
        if bucket == REGISTERS and value is not None:
            order.append((value, [saved.ballots.register.encode() for saved in disk.saved if saved.ballots.register]))
        return publish(bucket, key, value, **more)

    peer.pump.publish = recording
    start()
    await peer.until(lambda: reconciler.actions.phase == "ready")
    assert order
    for value, saved in order:
        assert value in saved


async def test_a_disk_that_fills_later_stops_no_cluster_that_runs(node):
    peer, reconciler, disk, start = node
    start()
    await peer.until(lambda: reconciler.actions.phase == "ready")
    disk.trouble = StoreError("full")
    peer.pump.publish("values", "k", 1)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await peer.until(lambda: reconciler.actions.phase != "ready")
    assert reconciler.actions.phase == "ready"
    assert reconciler.save_error is None, "nothing new was to be saved"


async def test_an_endless_message_of_an_engine_is_cut_and_ends_nobody(node):
    peer, reconciler, _, start = node
    reconciler.attachments.error = "x" * 100_000
    start()
    await peer.until(lambda: peer.reads(REPORTS, str(peer.id)) is not None)
    assert 200 < len(peer.reads(REPORTS, str(peer.id))["message"]) < 300


async def test_a_secret_too_large_for_the_ledger_is_complained_of_once(node, caplog):
    peer, reconciler, _, start = node
    status = reconciler.engine._engine.status

    async def with_a_large_kubeconfig():
        return replace(await status(), kubeconfig=SecretStr("x" * 20_000))

    reconciler.engine._engine.status = with_a_large_kubeconfig
    start()
    await peer.until(lambda: reconciler.actions.phase == "ready" and CLUSTERS in buckets(peer))
    for number in range(3):
        peer.pump.publish("values", "k", number)
        await asyncio.sleep(0.02)
    said = [record.message for record in caplog.records if "kubeconfig" in record.message]
    assert len(said) == 1
    assert "oversized" in said[0]
    assert reconciler.actions.phase == "ready"
