"""The gossip of one node, as a machine: datagrams, clock readings and entries in; datagrams and events out.

It only hands on. How entries spread is in `spreading`, how differences are mended in `agreement`, who lives in
`probing` and `membership`, how strangers meet in `introduction`.

    receive_datagram(data, source)  ->  handle_timer()  ->  datagrams_to_send(), next_event(), next_timer()
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.agreement import Agreement
from kairos_core.protocol.buckets import PEERS
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import SHORT_ID, SIGNATURE, Entry, entry_id
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.introduction import Introducer
from kairos_core.protocol.ledger import Change, Ledger
from kairos_core.protocol.membership import MAX_CANDIDATES, Member, Membership
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.probing import Prober
from kairos_core.protocol.seal import DatagramSeal, nonce_of
from kairos_core.protocol.shunning import Shunned
from kairos_core.protocol.spreading import Spreader
from kairos_core.protocol.wire import (
    Ack,
    Bulk,
    Cells,
    Compare,
    Datagram,
    Have,
    Ping,
    Probe,
    Pull,
    Push,
    Reached,
    Tidings,
    Who,
    decode_datagram,
    encode_datagram,
    tag_of,
)

REPLAY_MEMORY = 4096
"""Nonces remembered in each of two generations. What is replayed later than that proves nothing anyway."""

FEW = 4
"""Entries that came over a stream together and are passed on like those of datagrams: who has just come brings its
own, which all must know at once. Raising it knows newcomers sooner that bring more, and pushes more unasked."""

MAX_START = (1 << 32) - (1 << 24)
"""The greatest incarnation to start with: room to refute, whatever the clock says."""


@dataclass(frozen=True, slots=True)
class PeerAlive:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDead:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class SyncWanted:
    """Our ledger differs from this peer's by more than datagrams should carry: reconcile over a stream.

    `give` and `want` name entries by their short ids; where both are empty, the whole ledgers are compared.
    """

    peer: PeerId
    address: Address
    give: tuple[bytes, ...] = ()
    want: tuple[bytes, ...] = ()


Event = PeerAlive | PeerDead | SyncWanted | Change


class Gossip:
    """One node's part in the gossip network. Never opens, waits or asks the time."""

    def __init__(self, identity: Identity, keyring: Keyring, ledger: Ledger, random: Random) -> None:
        self.identity, self.ledger = identity, ledger
        self.drops: Counter[str] = Counter()
        self._keyring, self._random = keyring, random
        self._seal, self._epoch = DatagramSeal(), -1
        self._tag = tag_of(identity.peer_id, ledger.network)
        self._out: deque[tuple[bytes, Address]] = deque()
        self._events: deque[Event] = deque()
        self._nonces: tuple[set[bytes], set[bytes]] = (set(), set())
        self.membership = Membership(self._tag)
        self._prober = Prober(self.membership, random, self._tag, self._send, self.drops)
        self._spreader = Spreader(ledger, self.membership, self._prober, self._send, self.drops)
        self._agreement = Agreement(ledger, self._spreader, self._tag, self._send)
        self._shunned = Shunned()
        self._introducer = Introducer(identity.peer_id, ledger, self._prober, self._spreader, self._send)
        self._connect()

    def _connect(self) -> None:
        self._prober.digest = lambda: self.ledger.digest
        self._prober.died = lambda member: self._events.append(PeerDead(member.peer))
        self._prober.lived = lambda member: self._events.append(PeerAlive(member.peer))
        self._prober.call = self._call
        self._agreement.stream = self._want_stream
        self._spreader.fetch = lambda member, address, ids: self._want_stream(member, address, (), ids)

    # -- what comes in ------------------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, source: Address, now: float, unix_now: float) -> None:
        """Take a datagram from the transport. Never raises: what is wrong with it is counted in `drops`."""
        self._use_keys(unix_now)
        try:
            plaintext = self._seal.open(data)
            self._check_replay(nonce_of(data))
            tag, message = decode_datagram(plaintext)
            if tag == self._tag:
                raise ProtocolError(Drop.LOOPED)
            member = self.membership.by_tag(tag)
            if member is None:
                self._receive_from_stranger(tag, message, source, now, unix_now)
            elif isinstance(message, Push):
                self._take_pushed(message.entries, member.peer, source, now, unix_now)
            else:
                self._receive(member, message, source, now)
        except ProtocolError as error:
            self.drops[error.drop] += 1

    def _receive_from_stranger(
        self, tag: bytes, message: Datagram, source: Address, now: float, unix_now: float
    ) -> None:
        entry = self._introducer.receive_from_stranger(tag, message, source)
        if entry is not None:
            self._take_pushed((entry.raw,), entry.author, source, now, unix_now)
            member = self.membership.by_tag(tag)
            if member is not None:
                member.prefer(source)  # what it says of its addresses may not be true from here
                self._spreader.newcomers.add(member, now)

    def _check_replay(self, nonce: bytes) -> None:
        young, old = self._nonces
        if nonce in young or nonce in old:
            raise ProtocolError(Drop.REPLAYED)
        if len(young) >= REPLAY_MEMORY:
            young, old = set(), young
        young.add(nonce)
        self._nonces = (young, old)

    def _receive(self, member: Member, message: Datagram, source: Address, now: float) -> None:
        match message:
            case Ping():
                self._prober.receive_ping(member, message, source, now)
            case Ack():
                self._prober.receive_ack(member, message, source, now)
                self._agreement.compare(member, message.digest, source, now)
            case Who():
                self._introducer.receive_who(member, message, source, now)
                self._agreement.compare(member, message.digest, source, now)
            case Have(ids):
                self._spreader.ask(ids, source, now)
            case Pull(ids):
                self._spreader.receive_pull(member, ids, source, now)
            case Bulk(ids):
                self._spreader.receive_bulk(member, ids, source, now)
            case Compare():
                self._agreement.receive_compare(member, message, source, now)
            case Cells():
                self._agreement.receive_cells(member, message, now)
            case Tidings(news):
                self._prober.receive_news(news, now)
            case Probe():
                self._prober.receive_probe(message, source, now)
            case Reached():
                self._prober.receive_reached(message, now)

    def _take_pushed(self, raws: Iterable[bytes], sender: PeerId, source: Address, now: float, unix_now: float) -> None:
        for raw in raws:
            if self._shunned.has(source, now):
                raise ProtocolError(Drop.SHUNNED)
            short_id = entry_id(raw[:-SIGNATURE], self.ledger.network)[:SHORT_ID]
            if self.ledger.find(short_id) is not None:  # most of them: not worth decoding
                continue
            is_asked = self._spreader.is_asked(short_id, now)
            change = self._taken(raw, unix_now, lambda: self._shunned.blame(source, now), is_asked=is_asked)
            if change is not None:
                self._changed(change, sender, now)
                self._spreader.spread(change.entry, sender, now)

    def take_entries(self, raws: Iterable[bytes], now: float, unix_now: float, *, sender: PeerId) -> None:
        """Take entries that came over a stream, and announce the new ones."""
        self._use_keys(unix_now)
        self.heard(sender, now)
        taken = []
        for raw in raws:
            if self.is_shunned(sender, now):
                self.drops[Drop.SHUNNED] += 1
            elif change := self._taken(raw, unix_now, lambda: self._shunned.blame(sender, now)):
                taken.append(change)
        for change in taken:
            self._changed(change, sender, now)
        if len(taken) <= FEW:
            for change in taken:
                self._spreader.spread(change.entry, sender, now)
        else:
            self._agreement.filled(now)
            self._spreader.announce([change.entry for change in taken], sender, now)

    def is_shunned(self, peer: PeerId, now: float) -> bool:
        """Say whether a peer has brought so many forged entries that it is given no stream now."""
        return self._shunned.has(peer, now)

    def restore(self, raws: Iterable[bytes], now: float, unix_now: float) -> None:
        """Take the entries saved on this machine; they are not passed on."""
        self._use_keys(unix_now)
        for raw in raws:
            change = self._taken(raw, unix_now, is_ours=True)
            if change is not None:
                self._learn_member(change.entry, now)

    def _taken(
        self,
        raw: bytes,
        unix_now: float,
        blame: Callable[[], None] = lambda: None,
        *,
        is_ours: bool = False,
        is_asked: bool = True,
    ) -> Change | None:
        try:
            return self.ledger.take(raw, unix_now, is_ours=is_ours, is_asked=is_asked)
        except ProtocolError as error:
            self.drops[error.drop] += 1
            if error.drop == Drop.BAD_SIGNATURE:
                blame()
            return None

    def expire(self, unix_now: float) -> list[Entry]:
        """Forget the entries past their lease, and silent peers whose entry that was; return the entries."""
        over = self.ledger.expire(unix_now)
        for entry in over:
            member = self.membership.members.get(entry.author) if entry.bucket == PEERS else None
            if member is not None and not member.alive:
                self._forget(entry.author)
        return over

    def write(self, entry: Entry, now: float, unix_now: float) -> Change:
        """Sign, place and spread an entry of our own. Raises ValueError (see Ledger.write)."""
        self._use_keys(unix_now)
        change = self.ledger.write(self.identity, entry, unix_now)
        self._changed(change, None, now)
        self._spreader.spread(change.entry, None, now)
        return change

    def hail(self, address: Address, unix_now: float) -> None:
        """Introduce this node to whoever listens at an address that was discovered."""
        self._use_keys(unix_now)
        self._introducer.hail(address)

    def met(self, peer: PeerId, address: Address, now: float) -> None:
        """Note that an authenticated stream with a peer works; `address` is where it listens."""
        if peer != self.identity.peer_id:
            member, _ = self.membership.add(peer, tag_of(peer, self.ledger.network), [address])
            if not member.alive:
                self._spreader.newcomers.add(member, now)
            self._prober.saw(member, address, now)

    def heard(self, peer: PeerId, now: float) -> None:
        """Note that a peer has just spoken on an authenticated stream: whoever does that is never called dead."""
        member = self.membership.members.get(peer)
        if member is not None and member.alive:
            self._prober.saw(member, None, now)

    def synced(self, peer: PeerId, now: float) -> None:
        """Note that a reconciliation with a peer has ended."""
        self._agreement.synced()

    # -- time -------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float, unix_now: float) -> None:
        """Do what is due: probes, missed answers, late announcements, lost comparisons."""
        self._use_keys(unix_now)
        self._prober.handle_timer(now)
        self._spreader.handle_timer(now)
        self._agreement.handle_timer(now)

    def next_timer(self) -> float:
        """Return when `handle_timer` should be called next (monotonic seconds)."""
        return min(self._prober.next_timer(), self._spreader.next_timer(), self._agreement.next_timer())

    # -- what goes out ----------------------------------------------------------------------------------------

    def datagrams_to_send(self) -> Iterable[tuple[bytes, Address]]:
        """Yield the sealed datagrams that are waiting, once."""
        while self._out:
            yield self._out.popleft()

    def next_event(self) -> Event | None:
        """Return the next event, None when there is none."""
        return self._events.popleft() if self._events else None

    def _use_keys(self, unix_now: float) -> None:
        """Take the keys of this moment; every call from outside that may send begins with it."""
        epoch = self._keyring.epoch(unix_now)
        if epoch != self._epoch:
            self._seal.use(self._keyring.accepted(unix_now))
            self._epoch = epoch
        if not self._prober.incarnation:  # by the clock, so that a restart outdoes what was said before it
            self._prober.incarnation = max(1, min(int(unix_now), MAX_START))

    def _send(self, message: Datagram, destination: Address) -> None:
        nonce = self._random.randbytes(12)
        self._out.append((self._seal.seal(encode_datagram(self._tag, message), nonce), destination))

    # -- what follows -------------------------------------------------------------------------------------------

    def _changed(self, change: Change, sender: PeerId | None, now: float) -> None:
        self._agreement.changed(sender, now)
        self._events.append(change)
        self._learn_member(change.entry, now)

    def _learn_member(self, entry: Entry, now: float) -> None:
        if entry.bucket != PEERS or entry.author == self.identity.peer_id:
            return
        if entry.is_deleted:
            self._forget(entry.author)
            return
        tag = tag_of(entry.author, self.ledger.network)
        member, is_new = self.membership.add(entry.author, tag, addresses_of(entry))
        if is_new:
            self._prober.begin(member, now)

    def _forget(self, peer: PeerId) -> None:
        self.membership.forget(peer)
        self._agreement.forget(peer)

    def _call(self, member: Member, now: float) -> None:
        if member.address is not None:
            self._events.append(SyncWanted(member.peer, member.address))

    def _want_stream(self, member: Member, to: Address, give: Sequence[bytes], want: Sequence[bytes]) -> None:
        self._events.append(SyncWanted(member.peer, to, tuple(give), tuple(want)))


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
