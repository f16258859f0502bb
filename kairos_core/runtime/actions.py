"""Carrying out what the controller says: look, reconcile, save, publish, apply, share, report."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from kairos_core.cluster import roles
from kairos_core.cluster.controller import Actions, Local, Spec, reconcile
from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.durable import Durable, Leaving, adopted, forgotten
from kairos_core.cluster.election import Moment
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.reading import Reading
from kairos_core.cluster.rotation import JoinToken, newest, own_token
from kairos_core.cluster.view import MAX_SENTENCE, Farewell, Report, View
from kairos_core.errors import StoreError
from kairos_core.model import EngineStatus, PeerId
from kairos_core.protocol.buckets import FAREWELLS, REPORTS
from kairos_core.runtime.engines import EngineRunner
from kairos_core.runtime.expulsion import Expeller
from kairos_core.runtime.networks import Attachments
from kairos_core.runtime.pump import Pump
from kairos_core.runtime.vault import Vault

logger = logging.getLogger(__name__)

MERGE_CHANGES = 0.01
"""Seconds that changes are gathered before a look; what arrives together is looked at once."""

RESTS = 9
"""Times as long as the last look took that none follows it, so at most a tenth of a processor goes into looks. Raising
it spares large networks, whose ledgers take long to read and change often; lowering it lets them act sooner."""

SAVE_AGAIN = 5.0
"""Seconds until what could not be saved (a full disk) is tried again."""


class Reconciler:
    """Runs the controller of one node whenever something has changed, or when it asked to be woken."""

    def __init__(self, pump: Pump, spec: Spec, durable: Durable, save: Callable[[Durable], None]) -> None:
        self.spec, self.vault = spec, Vault(pump)
        self.attachments = Attachments()
        self.engine: EngineRunner | None = None
        self.expeller: Expeller | None = None
        self.left = asyncio.Event()  # nothing of this machine is in the cluster any more, and it is to leave
        self.milestones: dict[str, float] = {"started": time.time()}
        self.actions = Actions(Local(durable))
        self.view = View(me=pump.me)
        self.report = Report()  # of this run: the ledger may still hold that of the one before
        self.save_error: str | None = None
        self.introduce: Callable[[], None] = lambda: None  # publishes our `peers` entry
        self._pump, self._save = pump, save
        self._wake: asyncio.TimerHandle | None = None
        self._draw = random.SystemRandom().random
        self._complaints: set[str] = set()
        self._turn = asyncio.Lock()
        self._reading = Reading(spec.rules.network_id)
        pump.ledger.follow(self._reading.note)

    async def run(self) -> None:
        """Run until cancelled."""
        took = 0.0
        async for _ in self._pump.changes():
            await asyncio.sleep(max(MERGE_CHANGES, RESTS * took))
            began = time.thread_time()
            try:
                await self._once()
                self.save_error = None
            except StoreError as error:
                # Nothing is published that is not saved: the node stands still until the disk works again.
                if self.save_error is None:
                    logger.error("%s", error)
                self.save_error = str(error)
                self._wake_in(SAVE_AGAIN)
            except Exception:  # a mistake of ours must not end the node: the next look may go well
                logger.exception("the controller failed")
                self._wake_in(SAVE_AGAIN)
            took = time.thread_time() - began

    @property
    def is_waiting(self) -> bool:
        """Whether this node is one of those that decide, and nothing is decided yet."""
        return self.spec.rules.votes and self.actions.decision is None

    def look(self) -> View:
        """Read the ledger as it is now."""
        alive = self._pump.gossip.membership.alive_peers
        generation = self.actions.local.durable.generation
        return self._reading.view(self._pump.me, alive, self._pump.clock.now(), generation)

    def recall(self) -> None:
        """Look for traces of an earlier self in the ledger, before our own entry covers them. Raises StoreError."""
        local, node = self.actions.local, self.look().nodes.get(self._pump.me)
        durable = forgotten(local.durable, node.incarnation if node else "")
        if durable != local.durable:
            self._save(durable)
            self.actions = replace(self.actions, local=replace(local, durable=durable))

    async def adopt(self, decision: Decision) -> None:
        """Give up the cluster that this node has, and join this one. On return that is saved. Raises StoreError."""
        async with self._turn:
            local = self.actions.local
            durable = adopted(local.durable, decision)
            await asyncio.get_running_loop().run_in_executor(None, self._save, durable)
            local = replace(local, durable=durable, joined=None, join_token=None)
            self.actions = replace(self.actions, local=local, decision=decision)
        self.introduce()
        self._pump.wake()

    async def _once(self) -> None:
        async with self._turn:
            await self._look_and_act()

    async def _look_and_act(self) -> None:
        self.view = self.look()
        before = self.actions.local
        attached = self.attachments
        tokens, decision = self._join_tokens(), self.actions.decision
        token = newest(tokens, self._pump.me, decision.init) if decision else None
        local = replace(before, attachment=attached.used, tls_names=attached.lan, join_token=token)
        if self.engine is not None:
            local = replace(local, engine=self.engine.status, is_dismissed=self.engine.is_dismissed)
        actions = reconcile(self.view, self.spec, local, Moment(time.monotonic(), self._draw))
        if actions.local.durable != before.durable:
            await asyncio.get_running_loop().run_in_executor(None, self._save, actions.local.durable)
        self.actions = actions
        if _introduction(actions.local.durable) != _introduction(before.durable):
            self.introduce()
        self._publish(actions, tokens)
        self._command(actions)
        self._report(actions)
        if actions.phase == "left":
            self.left.set()
        self._wake_in(actions.wake_at - time.monotonic())

    def _command(self, actions: Actions) -> None:
        """Tell the engine what to do."""
        if self.engine is not None and actions.dismiss:
            self.engine.dismiss()
        elif self.engine is not None and actions.plan is not None:
            self.engine.follow(actions.plan)
        if self.expeller is not None:
            self.expeller.want(actions.expel)

    def bid_farewell(self, who: Expulsion, farewell: Farewell) -> None:
        """Tell a node that leaves how it went."""
        key = f"{who.cluster_id}/{who.peer}/{self._pump.me}"
        self._say(FAREWELLS, key, farewell.content)
        self._pump.wake()

    async def leave(self, how: Leaving) -> None:
        """Let this machine leave the network for good. On return that is saved. Raises StoreError."""
        async with self._turn:
            local = self.actions.local
            durable = replace(local.durable, leaving=how)
            await asyncio.get_running_loop().run_in_executor(None, self._save, durable)
            self.actions = replace(self.actions, local=replace(local, durable=durable))
        self._pump.wake()

    def _join_tokens(self) -> dict[PeerId, JoinToken]:
        """Return the join tokens that the cluster's masters share, ours among them, by who shares them."""
        decision = self.actions.decision
        if decision is None:
            return {}
        masters = roles.masters(self.view, decision)
        opened = {peer: self.vault.open(decision.cluster_id, "join-token", [peer]) for peer in masters}
        return {peer: JoinToken.decode(text) for peer, text in opened.items() if text}

    def _publish(self, actions: Actions, tokens: Mapping[PeerId, JoinToken]) -> None:
        for publication in actions.publish:
            self._say(publication.bucket, publication.key, publication.value)
        decision = actions.decision
        for name, recipients in actions.share.items():
            plaintext = self._plaintext(name, actions.local.engine, tokens)
            if plaintext is not None and decision is not None:
                try:
                    self.vault.share(decision.cluster_id, name, plaintext, recipients, self.view)
                except ValueError as error:
                    self._complain(error)

    def _plaintext(self, name: str, engine: EngineStatus, tokens: Mapping[PeerId, JoinToken]) -> str | None:
        secret = {"join-token": engine.join_token, "kubeconfig": engine.kubeconfig}[name]
        if secret is None or name != "join-token":
            return secret.get_secret_value() if secret else None
        others = [token for peer, token in tokens.items() if peer != self._pump.me]
        return own_token(secret, tokens.get(self._pump.me), others).encode()

    def _say(self, bucket: str, key: str, value: Any) -> None:
        try:
            self._pump.publish(bucket, key, value)
        except ValueError as error:
            self._complain(error)

    def _complain(self, error: ValueError) -> None:
        """Log a limit of the ledger, once for each: the next look would say the same."""
        if str(error) not in self._complaints:
            self._complaints.add(str(error))
            logger.error("%s", error)

    def _report(self, actions: Actions) -> None:
        """Tell the others how far we are; their tables and the initialiser's assignment read it."""
        reached = {
            "discovered": bool(self._pump.gossip.membership.alive()),
            "role": actions.role is not None,
            "attached": self.attachments.used is not None,
            "engine": actions.local.engine.state.value == "ready",
        }
        for name, is_reached in reached.items():
            if is_reached:
                self.milestones.setdefault(name, time.time())
        self.report = Report(
            role=actions.role.value if actions.role else "",
            engine=actions.local.engine.state.value if self.engine else "",
            phase=actions.phase,
            message=(self.attachments.error or actions.message)[:MAX_SENTENCE],
            address=self.attachments.address or "",
        )
        current, content = self._pump.get(REPORTS, str(self._pump.me)), asdict(self.report)
        if current is None or current.content != content:
            logger.info("%s: %s", actions.phase, self.report.message)
            self._say(REPORTS, str(self._pump.me), content)

    def _wake_in(self, seconds: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = min(max(seconds, 0.0), 3600.0)
        self._wake = asyncio.get_running_loop().call_later(delay, self._pump.wake)


def _introduction(durable: Durable) -> tuple[str, str, str | None]:
    """Return what our `peers` entry tells of the durable state."""
    return durable.incarnation, durable.served, durable.node_name
