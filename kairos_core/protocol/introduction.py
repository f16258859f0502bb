"""How two nodes become acquainted by datagrams alone, before any stream is open between them.

What a node knows of a peer is the peer's entry in `peers`. A node that discovers an address hails it: it pushes its
own entry there. Whoever takes it pings the newcomer, which knows no such peer and answers WHO: an ACK that asks for
the entry in turn. So three datagrams later both know each other, and a stream, which must shake hands first and loses
a second when its first packet is lost, is only needed for what is large. The same goes for a peer whose probe comes
before its entry has found the way here.

Nothing is believed that is not believed otherwise: entries are signed, and a peer lives once it has answered a nonce.
No answer is longer than what it answers, but the entry itself, which comes out of the asker's budget (`spreading`).
"""

from __future__ import annotations

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.buckets import PEERS
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import Entry, decode_entry
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.membership import Member
from kairos_core.protocol.probing import Prober, Send
from kairos_core.protocol.spreading import Spreader
from kairos_core.protocol.wire import MAX_PUSH, Ack, Datagram, Ping, Push, Who, tag_of


class Introducer:
    """Makes this node known to others, by its entry in `peers`."""

    def __init__(self, me: PeerId, ledger: Ledger, prober: Prober, spreader: Spreader, send: Send) -> None:
        self._me, self._ledger, self._prober, self._spreader, self._send = me, ledger, prober, spreader, send

    def hail(self, address: Address) -> None:
        """Introduce ourselves to whoever listens at an address."""
        own = self._ledger.held(PEERS, str(self._me))
        if own is not None and len(own.raw) <= MAX_PUSH:
            self._send(Push((own.raw,)), address)

    def receive_who(self, member: Member, asked: Who, source: Address, now: float) -> None:
        """Take the answer of a peer that does not know us yet. Raises ProtocolError (replayed, greedy)."""
        self._prober.receive_ack(member, Ack(asked.nonce, asked.incarnation, asked.digest), source, now)
        own = self._ledger.held(PEERS, str(self._me))
        if own is not None:
            self._spreader.give(member, [own], source, now)

    def receive_from_stranger(self, tag: bytes, message: Datagram, source: Address) -> Entry | None:
        """Answer a stranger's ping; return the entry by which it introduces itself. Raises ProtocolError."""
        match message:
            case Ping(nonce):
                self._send(Who(nonce, self._prober.incarnation, self._ledger.digest), source)
                return None
            case Push((raw,)):
                entry = decode_entry(raw, self._ledger.network)
                # Of others it may speak when we know it.
                if entry.bucket == PEERS and tag_of(entry.author, self._ledger.network) == tag:
                    return entry
        raise ProtocolError(Drop.UNKNOWN_SENDER)
