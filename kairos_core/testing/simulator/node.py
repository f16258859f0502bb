"""One simulated machine: the gossip, ledger, controller and vault that run over sockets, driven by the world's time.

What `kairos_core.runtime` does with an event loop (pump, sessions, reconciler) is done here with the world's queue.
A crash ends the process; the disk stays, as far as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from kairos_core.cluster import roles
from kairos_core.cluster.addresses import renewed
from kairos_core.cluster.controller import Actions, Local, Spec, reconcile
from kairos_core.cluster.durable import Durable, Leaving, adopted, forgotten
from kairos_core.cluster.election import Moment, Rules
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.reading import Reading
from kairos_core.cluster.rotation import JoinToken, newest
from kairos_core.cluster.view import GENERATION_BYTES, View
from kairos_core.model import Address, Attachment, PeerId, Role
from kairos_core.protocol.buckets import GENERATIONS, PEERS, REPORTS, Policy, policy_of
from kairos_core.protocol.entry import Entry
from kairos_core.protocol.gossip import Gossip, SyncWanted
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Change, Ledger, draft
from kairos_core.runtime.actions import MERGE_CHANGES, RESTS
from kairos_core.runtime.clock import NetworkTime
from kairos_core.runtime.node import FAREWELL, LOOK_AT_ADDRESSES
from kairos_core.runtime.pump import HOUSEKEEPING, Errand
from kairos_core.runtime.sessions import ENOUGH, OFFERED_UNASKED, WHOLE
from kairos_core.runtime.vault import Vault
from kairos_core.testing.simulator.description import description_of
from kairos_core.testing.simulator.disk import Disk, after_loss
from kairos_core.testing.simulator.kubernetes import SimulatedKubernetes

if TYPE_CHECKING:
    from kairos_core.testing.simulator.world import World

UNIX_START = 1_800_000_000.0
LOOK_COST = 10e-6
"""Seconds that a look takes for each entry in the ledger: ten times what was measured on a server, as on a small board.
The reconciler rests so many times longer."""

NEVER = float("inf")


class SimulatedNode:
    """One node on virtual time."""

    def __init__(  # noqa: PLR0913, PLR0917 - a machine is all of these
        self, world: World, identity: Identity, rules: Rules, wish: Role | None, kind: str, skew: float
    ) -> None:
        self.world, self.wish, self.kind = world, wish, kind
        self.name = f"node-{len(world.nodes)}"
        self.address = Address(f"10.{len(world.nodes) >> 16}.{len(world.nodes) >> 8 & 255}.{len(world.nodes) & 255}", 1)
        self.disk = Disk(identity, Durable(world.random.randbytes(8).hex()))
        self.fragility = 0.0
        """The chance to crash at a look, after the promises are saved and before anything is said."""
        self.is_up, self.lives = False, 0
        self._wanted_rules, self._skew = rules, skew
        self.boot()

    # -- life and death -----------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start, or start again with what the disk holds."""
        world, self.is_up, self.has_left = self.world, True, False
        self.lives += 1
        self.durable, self.identity = self.disk.durable, self.disk.identity
        votes = self.kind == "node" and self.wish is not Role.NONE
        self.rules = replace(self._wanted_rules, incarnation=self.durable.incarnation, votes=votes)
        self.ledger, self._reading = Ledger(world.keyring.network, world.notary), Reading(self.rules.network_id)
        self.ledger.follow(self._reading.note)
        self.gossip = Gossip(self.identity, world.keyring, self.ledger, Random(world.random.random()))
        self.clock = NetworkTime(lambda: UNIX_START + world.now + self._skew, lambda: world.now)
        self.vault = Vault(self, world.random.randbytes)
        self.spec = Spec(self.name, self.rules, kind=self.kind, wish=self.wish)
        self.actions = Actions(Local(self.durable, attachment=Attachment("eth0", self.address.host)))
        self._offset, self._poll_at, self._look_at, self._wake_at = 0.0, NEVER, NEVER, NEVER
        self._dialling: set[Address] = set()
        self.kubernetes = SimulatedKubernetes(self)
        self._is_introduced = False
        self._restore(self.disk.entries)
        self._recall()
        self._introduce()
        world.note(self, "starts")
        self.later(HOUSEKEEPING, self._keep_house)
        self.later(LOOK_AT_ADDRESSES, self._follow_addresses)
        self.look()
        for member in list(self.gossip.membership.members.values()):
            if member.address is not None:
                self.reconcile(member.address)

    def crash(self, *, loses_last_save: bool = False) -> None:
        """Stop at once. What was saved stays on the disk; `loses_last_save` lets the disk have lied about that."""
        if self.is_up:
            self.is_up = False
            self.disk.power_off(self.ledger, self.world.now, self.world.random)
            if loses_last_save:
                self.disk.forget_last_save()
            self.world.note(self, "crashes")

    def wipe(self, *, keep_identity: bool = True) -> None:
        """Crash and lose the disk; without its identity the machine comes back as a new one."""
        self.crash()
        identity = None if keep_identity else Identity(self.world.random.randbytes(32))
        self.disk.wipe(after_loss(self.world.random.randbytes(8).hex(), is_new=not keep_identity), identity)
        self.world.note(self, "loses its disk" + ("" if keep_identity else " and its identity"))

    def _restore(self, raws: list[bytes]) -> None:
        """Take saved entries. What is past its lease by our clock, which may be wrong, waits for the network's time."""
        world, unix_now, network = self.world, self.unix_now(), self.ledger.network
        self.gossip.restore(raws, world.now, unix_now)
        self._late = [raw for raw in raws if world.notary.decode(raw, network).expires_at <= unix_now]

    def _recall(self) -> None:
        """Look for traces of an earlier self, as the reconciler does before its own entry covers them."""
        self._keep(forgotten(self.durable, node.incarnation if (node := self.view().nodes.get(self.peer)) else ""))

    def _keep(self, durable: Durable, **changes: Any) -> None:
        self.disk.save(durable)
        self.durable = durable
        self.actions = replace(self.actions, local=replace(self.actions.local, durable=durable, **changes))

    # -- what an operator does ----------------------------------------------------------------------------------

    def ask_for_generation(self) -> None:
        """Do what `kairos cluster new-generation` does."""
        rank = (self.view().generation + 1).to_bytes(GENERATION_BYTES)
        self.publish(GENERATIONS, f"{self.rules.network_id}/{self.peer}", [rank, None])

    def adopt(self, decision: Decision) -> None:
        """Do what `kairos cluster adopt` does."""
        self._keep(adopted(self.durable, decision), joined=None, join_token=None)
        self.actions = replace(self.actions, decision=decision)
        self.world.note(self, f"adopts {decision.cluster_id}")
        self._introduce()
        self.look_soon()

    def leave(self) -> None:
        """Do what `kairos leave` does."""
        self._keep(replace(self.durable, leaving=Leaving.ORDERLY))
        self.world.note(self, "is to leave")
        self.look_soon()

    @property
    def peer(self) -> PeerId:
        return self.identity.peer_id

    me = peer  # the vault's word for it

    @property
    def role(self) -> Role | None:
        return self.actions.role

    # -- time ---------------------------------------------------------------------------------------------------

    @property
    def skew(self) -> float:
        """Seconds by which the machine's own clock is ahead."""
        return self._skew

    @skew.setter
    def skew(self, seconds: float) -> None:
        self._skew = seconds
        self._offset = self.clock.offset

    def unix_now(self) -> float:
        """Return the wall time that this node goes by: its own clock's, or the network's."""
        return UNIX_START + self.world.now + self._skew + self._offset

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Let something happen unless the process ends before."""
        self._at(self.world.now + delay, act)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        """Let something happen at a time, to the last bit: a timer that comes too early would be lost."""
        life = self.lives
        self.world.at(when, lambda: act() if self.is_up and self.lives == life else None)

    def _keep_house(self) -> None:
        self.gossip.expire(self.unix_now())
        self._renew()
        self.later(HOUSEKEEPING, self._keep_house)

    def _follow_addresses(self) -> None:
        """Introduce ourselves again, as a node does: what a wrong clock made of our entry does not stay."""
        self._introduce()
        self.later(LOOK_AT_ADDRESSES, self._follow_addresses)

    def _renew(self) -> None:
        for entry in self.ledger.renewals(self.peer, self.unix_now()):
            self._sign(replace(renewed(entry), author=self.peer))
        self.flush()

    # -- the ledger ---------------------------------------------------------------------------------------------

    def get(self, bucket: str, key: str) -> Entry | None:
        """Return what a reader sees under a key."""
        return self.ledger.get(bucket, key, self.unix_now())

    def publish(self, bucket: str, key: str, value: Any) -> bool:
        """Let an entry of this node stand in the ledger, unless it stands already. None deletes it."""
        current = self.get(bucket, key)
        if (current.content if current else None) == value:  # as the pump does, and cheaper than packing it again
            return False
        self._sign(draft(self.peer, bucket, key, value))
        self.flush()
        return True

    def _sign(self, entry: Entry) -> None:
        self.world.notary.vouch(self.gossip.write(entry, self.world.now, self.unix_now()).entry)

    def receive(self, data: bytes, source: Address) -> None:
        """Take a datagram."""
        if self.is_up:
            self.gossip.receive_datagram(data, source, self.world.now, self.unix_now())
            self.flush()

    def flush(self) -> None:
        """Send what waits and act on what happened."""
        for datagram, destination in self.gossip.datagrams_to_send():
            self.world.carry(self, datagram, destination)
        changed = False
        while (event := self.gossip.next_event()) is not None:
            if isinstance(event, SyncWanted):
                self.reconcile(event.address, Errand(event.give, event.want))
                continue
            changed = True
            if isinstance(event, Change):
                self.disk.note(event, self.world.now)
            else:
                self._ask_the_time()
        if changed:
            self.look_soon()
        self._schedule()

    def _schedule(self) -> None:
        due = self.gossip.next_timer()
        if due < self._poll_at:
            self._poll_at = due
            self._at(due, self._poll)

    def _poll(self) -> None:
        if self.world.now >= self._poll_at:
            self._poll_at = NEVER
            self.gossip.handle_timer(self.world.now, self.unix_now())
            self.flush()

    # -- streams ------------------------------------------------------------------------------------------------

    def found(self, address: Address) -> None:
        """Dial an address that a discovery found, unless it leads to a peer that we know to be alive."""
        membership = self.gossip.membership
        has_enough = membership.size > ENOUGH
        known = (member for member in membership.members.values() if member.alive or has_enough)
        if self.is_up and not any(address in member.candidates for member in known):
            self.gossip.hail(address, self.unix_now())
            self.flush()
            self._dial(address, None)

    def reconcile(self, address: Address, errand: Errand = WHOLE) -> None:
        """Open a session to an address, unless one is being opened."""
        self._dial(address, errand)

    def _dial(self, address: Address, errand: Errand | None) -> None:
        if self.is_up and address != self.address and address not in self._dialling:
            self._dialling.add(address)
            self.world.open_session(self, address, errand)

    def hung_up(self, address: Address) -> None:
        """Note that the session to an address has ended, or never came to be."""
        self._dialling.discard(address)

    def greeted(self, peer: PeerId, address: Address, unix_ms: int) -> None:
        """Note a peer's HELLO: what its clock shows, and where it listens."""
        if self.clock.heard(peer, unix_ms):
            self._offset = self.clock.offset
            self.world.note(self, f"goes by a clock {self._offset:+.0f} s off its own")
            self._restore(self._late)
            self._renew()
        self._offset = self.clock.offset
        self.gossip.met(peer, address, self.world.now)
        self._ask_the_time()
        self.flush()

    def _ask_the_time(self) -> None:
        members = self.gossip.membership.members
        for peer in self.clock.unheard(member.peer for member in self.gossip.membership.alive()):
            address = members[peer].address
            if address is not None:
                self.reconcile(address)

    def take(self, raws: Iterable[bytes], sender: PeerId) -> None:
        """Take entries that came over a stream."""
        self.gossip.take_entries(raws, self.world.now, self.unix_now(), sender=sender)
        self.flush()

    @property
    def offers_all(self) -> bool:
        """Whether a session that has no errand compares the whole ledgers."""
        return len(self.ledger) <= OFFERED_UNASKED or not self._is_introduced

    def synced(self, peer: PeerId) -> None:
        """Note that a reconciliation with a peer has ended."""
        self._is_introduced = True
        self.gossip.synced(peer, self.world.now)
        self.flush()

    # -- the controller -----------------------------------------------------------------------------------------

    def view(self) -> View:
        """Read the ledger as it is now."""
        alive, generation = self.gossip.membership.alive_peers, self.durable.generation
        return self._reading.view(self.peer, alive, self.unix_now(), generation)

    def look(self) -> None:
        """Run the controller once and carry out what it says."""
        self._look_at = NEVER
        view = self.view()
        actions = reconcile(view, self.spec, self._local(view), Moment(self.world.now, self.world.random.random))
        self.disk.save(actions.local.durable)  # before anything is published
        if self.fragility and self.world.random.random() < self.fragility:
            self.crash()
            self.world.after_crash(self)
            return
        before, self.actions, self.durable = self.actions, actions, actions.local.durable
        if self.durable != before.local.durable:
            self._introduce()
        self.world.watch.looked(self, before, actions)
        self._publish(actions, view)
        self.kubernetes.carry_out(actions)
        if actions.phase == "left" and not self.has_left:
            self._go()
        self._wake(actions.wake_at)

    def _local(self, view: View) -> Local:
        kubernetes, before = self.kubernetes, self.actions.local
        status = kubernetes.status(before.engine, self.role)
        token = self._join_token(view)
        return replace(before, join_token=token, engine=status, is_dismissed=kubernetes.is_dismissed)

    def _join_token(self, view: View) -> JoinToken | None:
        decision = self.actions.decision
        if decision is None:
            return None
        opened = {
            peer: self.vault.open(decision.cluster_id, "join-token", [peer]) for peer in roles.masters(view, decision)
        }
        tokens = {peer: JoinToken.decode(text) for peer, text in opened.items() if text}
        return newest(tokens, self.peer, decision.init)

    def _publish(self, actions: Actions, view: View) -> None:
        for publication in actions.publish:
            try:
                self.publish(publication.bucket, publication.key, publication.value)
            except ValueError as error:  # what an earlier life of ours has said stays before it
                self.world.note(self, str(error))
        if actions.decision is not None:
            for name, recipients in actions.share.items():
                self.vault.share(actions.decision.cluster_id, name, "simulated", recipients, view)
        role = actions.role.value if actions.role else ""
        engine = actions.local.engine.state.value
        self.publish(REPORTS, str(self.peer), {"role": role, "phase": actions.phase, "engine": engine})

    def _go(self) -> None:
        """Leave for good, as a node does: take back what we have said, forget who we were, and end."""
        self.has_left = True
        self.world.watch.left(self, self.actions.decision)
        for entry in sorted(self.ledger.read(self.unix_now()), key=lambda entry: entry.bucket == PEERS):
            if entry.author == self.peer and policy_of(entry.bucket) is Policy.OWN:
                self.publish(entry.bucket, entry.key, None)
        self.world.note(self, "has left")
        self.later(FAREWELL, lambda: self.wipe(keep_identity=False))

    def look_soon(self) -> None:
        due = self.world.now + max(MERGE_CHANGES, len(self.ledger) * LOOK_COST * RESTS)
        if self._look_at == NEVER:
            self._look_at = due
            self.later(due - self.world.now, self.look)

    def _wake(self, when: float) -> None:
        """Look again at the time that the controller asked for, and not at one it asked for before."""
        if when == self._wake_at:
            return
        self._wake_at = when
        if when < NEVER:
            self.later(max(MERGE_CHANGES, when - self.world.now), lambda: self._awake(when))

    def _awake(self, when: float) -> None:
        if self._wake_at == when:
            self._wake_at = NEVER
            self.look_soon()

    def _introduce(self) -> None:
        self.publish(PEERS, str(self.peer), description_of(self))
