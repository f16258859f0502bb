"""The gossip of one node, as a machine: datagrams, clock readings and entries in; datagrams and events out.

A new entry is pushed to FANOUT peers at once and announced to LAZY others a little later; whoever receives it does
the same. What is lost on the way is noticed by the digest in the probe of each second, and mended over a stream.

    receive_datagram(data, source)  ->  handle_timer()  ->  datagrams_to_send(), next_event(), next_timer()
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.buckets import PEERS
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import SHORT_ID, Entry
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Change, Ledger
from kairos_core.protocol.membership import MAX_CANDIDATES, PROBE_TIMEOUT, Member, Membership
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.seal import DatagramSeal, nonce_of
from kairos_core.protocol.wire import (
    MAX_BODY,
    MAX_PUSH,
    Ack,
    Bulk,
    Datagram,
    Have,
    Ping,
    Pull,
    Push,
    decode_datagram,
    encode_datagram,
    in_datagrams,
    tag_of,
)

FANOUT = 3
"""Peers that a new entry is pushed to at once. Raising it spreads news in fewer hops and sends it more often."""

LAZY = 4
"""Further peers to which only the id goes. Raising it mends loss sooner, at 8 bytes a peer and entry."""

LAZY_DELAY = 0.08
"""Seconds until the ids go out; most peers have the entry by then and need not ask. One peer in twenty is reached by
no push, so this is what the slowest wait. Lowering it below the time of five hops costs PULLs of what is on its way."""

EAGER_BYTES = 512
"""Bytes up to which an entry is pushed unasked. Raising it wastes more on peers that hold the entry already."""

PULL_AGAIN = 1.0
"""Seconds until a missing entry is asked for again."""

SYNC_PATIENCE = 0.4
"""Seconds without a new entry before a difference counts as loss and not as news still on its way."""

SYNC_AGAIN = 2.0
"""Seconds between reconciliations with the same peer. Stops a digest that lies from keeping us busy."""

REPLAY_MEMORY = 4096
"""Nonces remembered in each of two generations. What is replayed later than that proves nothing anyway."""


@dataclass(frozen=True, slots=True)
class PeerAlive:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDead:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class SyncWanted:
    """Our ledger differs from this peer's: reconcile over a stream."""

    peer: PeerId
    address: Address


Event = PeerAlive | PeerDead | SyncWanted | Change


class Gossip:
    """One node's part in the gossip network. Never opens, waits or asks the time."""

    def __init__(self, identity: Identity, keyring: Keyring, ledger: Ledger, random: Random) -> None:
        self.identity, self.ledger = identity, ledger
        self.drops: Counter[str] = Counter()
        self._keyring, self._random = keyring, random
        self._seal = DatagramSeal()
        self._tag = tag_of(identity.peer_id, ledger.network)
        self.membership = Membership(random.shuffle)
        self._out: deque[tuple[bytes, Address]] = deque()
        self._events: deque[Event] = deque()
        self._lazy: list[tuple[float, Address, bytes, bool]] = []
        self._asked: dict[bytes, float] = {}
        self._synced: dict[PeerId, float] = {}
        self._last_change = -1e9
        self._nonces: tuple[set[bytes], set[bytes]] = (set(), set())

    # -- what comes in ------------------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, source: Address, now: float, unix_now: float) -> None:
        """Take a datagram from the transport. Never raises: what is wrong with it is counted in `drops`."""
        self._seal.use(self._keyring.accepted(unix_now))
        try:
            plaintext = self._seal.open(data)
            self._check_replay(nonce_of(data))
            tag, message = decode_datagram(plaintext)
            if tag == self._tag:
                raise ProtocolError(Drop.LOOPED)
            member = self.membership.by_tag(tag)
            if member is None:
                raise ProtocolError(Drop.UNKNOWN_SENDER)
            self._receive(member, message, source, now, unix_now)
        except ProtocolError as error:
            self.drops[error.drop] += 1

    def _check_replay(self, nonce: bytes) -> None:
        young, old = self._nonces
        if nonce in young or nonce in old:
            raise ProtocolError(Drop.REPLAYED)
        if len(young) >= REPLAY_MEMORY:
            young, old = set(), young
        young.add(nonce)
        self._nonces = (young, old)

    def _receive(self, member: Member, message: Datagram, source: Address, now: float, unix_now: float) -> None:
        match message:
            case Ping(nonce, digest):
                self._send(Ack(nonce, self.ledger.digest), source, unix_now)
                if not member.alive:  # a hint, not a proof: ask it ourselves
                    member.learn([source])
                    if member.probe is not None:  # ours may have come before it knew us: the same again
                        self._send(Ping(member.probe[0], self.ledger.digest), source, unix_now)
                    member.next_probe = now
                self._compare(member, digest, source, now)
            case Ack(nonce, digest):
                if member.probe is None or member.probe[0] != nonce:
                    raise ProtocolError(Drop.REPLAYED, "ack")
                self._heard(member, source, now)
                self._compare(member, digest, source, now)
            case Push(entries):
                self.take_entries(entries, now, unix_now, sender=member.peer)
            case Have(ids):
                self._ask(ids, source, now, unix_now)
            case Pull(ids):
                raws = (entry.raw for short_id in ids if (entry := self.ledger.find(short_id)))
                for push in in_datagrams(raw for raw in raws if len(raw) <= MAX_PUSH):
                    self._send(push, source, unix_now)
            case Bulk(ids):
                if any(self.ledger.find(short_id) is None for short_id in ids):
                    self._want_sync(member, source, now, patience=PULL_AGAIN / 4)

    def take_entries(self, raws: Iterable[bytes], now: float, unix_now: float, *, sender: PeerId | None = None) -> None:
        """Take entries from a peer (datagram or stream) and pass the new ones on."""
        for raw in raws:
            try:
                change = self.ledger.take(raw, unix_now)
            except ProtocolError as error:
                self.drops[error.drop] += 1
                continue
            if change is not None:
                self._changed(change, now, unix_now, sender)

    def restore(self, raws: Iterable[bytes], now: float, unix_now: float) -> None:
        """Take the entries saved on this machine; they are not passed on."""
        for raw in raws:
            try:
                change = self.ledger.take(raw, unix_now, is_ours=True)
            except ProtocolError as error:
                self.drops[error.drop] += 1
                continue
            if change is not None:
                self._learn_member(change.entry, now)

    def expire(self, unix_now: float) -> list[Entry]:
        """Forget the entries past their lease, and silent peers whose entry that was; return the entries."""
        over = self.ledger.expire(unix_now)
        for entry in over:
            member = self.membership.members.get(entry.author) if entry.bucket == PEERS else None
            if member is not None and not member.alive:
                self.membership.forget(entry.author)
        return over

    def write(self, entry: Entry, now: float, unix_now: float) -> Change:
        """Sign, place and spread an entry of our own. Raises ValueError (see Ledger.write)."""
        change = self.ledger.write(self.identity, entry, unix_now)
        self._changed(change, now, unix_now, None)
        return change

    def met(self, peer: PeerId, address: Address, now: float) -> None:
        """Note that an authenticated stream with a peer works; `address` is where it listens."""
        if peer != self.identity.peer_id:
            member = self.membership.add(peer, tag_of(peer, self.ledger.network), [address], now)
            self._heard(member, address, now)

    def synced(self, peer: PeerId, now: float) -> None:
        """Note that a reconciliation with a peer has ended."""
        self._synced[peer] = now

    # -- time -------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float, unix_now: float) -> None:
        """Do what is due: probes, missed answers, late announcements."""
        self._seal.use(self._keyring.accepted(unix_now))
        self._events.extend(PeerDead(member.peer) for member in self.membership.expire_probes(now))
        for member in self.membership.to_probe(now):
            nonce = self._random.getrandbits(32)
            member.probe = (nonce, now + PROBE_TIMEOUT)
            if member.address is not None:
                self._send(Ping(nonce, self.ledger.digest), member.address, unix_now)
            if member.misses == 2 and not member.alive:
                # It may not know our tag yet: only a stream can introduce us.
                self._want_sync(member, member.address, now)
        self._announce_late(now, unix_now)
        self._asked = {short_id: until for short_id, until in self._asked.items() if until > now}

    def next_timer(self) -> float:
        """Return when `handle_timer` should be called next (monotonic seconds)."""
        return min([self.membership.next_timer(), *(due for due, *_ in self._lazy)])

    # -- what goes out ----------------------------------------------------------------------------------------

    def datagrams_to_send(self) -> Iterable[tuple[bytes, Address]]:
        """Yield the sealed datagrams that are waiting, once."""
        while self._out:
            yield self._out.popleft()

    def next_event(self) -> Event | None:
        """Return the next event, None when there is none."""
        return self._events.popleft() if self._events else None

    def _send(self, message: Datagram, destination: Address, unix_now: float) -> None:
        self._seal.use(self._keyring.accepted(unix_now))
        nonce = self._random.randbytes(12)
        self._out.append((self._seal.seal(encode_datagram(self._tag, message), nonce), destination))

    # -- spreading --------------------------------------------------------------------------------------------

    def _changed(self, change: Change, now: float, unix_now: float, sender: PeerId | None) -> None:
        entry = change.entry
        self._last_change = now
        self._events.append(change)
        self._learn_member(entry, now)
        targets = [m for m in self.membership.alive() if m.peer not in (sender, entry.author) and m.address]
        self._random.shuffle(targets)
        is_eager = len(entry.raw) <= EAGER_BYTES
        split = FANOUT if is_eager else 0
        for member in targets[:split]:
            if member.address:
                self._send(Push((entry.raw,)), member.address, unix_now)
        due = now + LAZY_DELAY if is_eager else now
        is_bulk = len(entry.raw) > MAX_PUSH
        self._lazy.extend(
            (due, m.address, entry.short_id, is_bulk) for m in targets[split : FANOUT + LAZY] if m.address
        )

    def _learn_member(self, entry: Entry, now: float) -> None:
        if entry.bucket != PEERS or entry.author == self.identity.peer_id:
            return
        if entry.is_deleted:
            self.membership.forget(entry.author)
            return
        tag = tag_of(entry.author, self.ledger.network)
        self.membership.add(entry.author, tag, addresses_of(entry), now)

    def _announce_late(self, now: float, unix_now: float) -> None:
        ready: dict[tuple[Address, bool], list[bytes]] = {}
        for due, address, short_id, is_bulk in self._lazy:
            if due <= now and self.ledger.find(short_id) is not None:
                ready.setdefault((address, is_bulk), []).append(short_id)
        self._lazy = [item for item in self._lazy if item[0] > now]
        per_datagram = MAX_BODY // SHORT_ID
        for (address, is_bulk), ids in ready.items():
            for at in range(0, len(ids), per_datagram):
                chunk = tuple(ids[at : at + per_datagram])
                self._send(Bulk(chunk) if is_bulk else Have(chunk), address, unix_now)

    def _ask(self, ids: Iterable[bytes], source: Address, now: float, unix_now: float) -> None:
        missing = tuple(i for i in ids if self.ledger.find(i) is None and self._asked.get(i, 0.0) <= now)
        if missing:
            self._asked.update(dict.fromkeys(missing, now + PULL_AGAIN))
            self._send(Pull(missing), source, unix_now)

    # -- liveness and agreement -------------------------------------------------------------------------------

    def _heard(self, member: Member, address: Address, now: float) -> None:
        if self.membership.heard_from(member, address, now):
            self._events.append(PeerAlive(member.peer))

    def _compare(self, member: Member, digest: bytes, source: Address, now: float) -> None:
        if digest != self.ledger.digest and now - self._last_change > SYNC_PATIENCE:
            self._want_sync(member, source, now)

    def _want_sync(self, member: Member, address: Address | None, now: float, *, patience: float = SYNC_AGAIN) -> None:
        if address is not None and now - self._synced.get(member.peer, -1e9) > patience:
            self._synced[member.peer] = now
            self._events.append(SyncWanted(member.peer, address))


def addresses_of(entry: Entry) -> list[Address]:
    """Return the addresses that a `peers` entry names; what is not an IP address and a port is left out.

    So a member cannot make us resolve names, nor use an interface of ours: a scope (`%eth0`) means nothing here.
    """
    content = entry.content
    named = content.get("addresses") if isinstance(content, dict) else None
    found = []
    for text in named[:MAX_CANDIDATES] if isinstance(named, list) else ():
        try:
            address = Address.parse(str(text))
            ip = ip_address(address.host)
        except ValueError:
            continue
        if getattr(ip, "scope_id", None) is None:
            found.append(address)
    return found
