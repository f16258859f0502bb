"""One session: the codec between a packet and a transport datagram (type 4), under the keys of one handshake.

Between Kairos nodes `sealer` and `opener` carry records instead, under keys derived from these; see records.py.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from kairos_net_vpn import spec
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.noise import SessionKeys
from kairos_net_vpn.opening import Opener
from kairos_net_vpn.records import MAX_COUNTER, Sealer
from kairos_net_vpn.replay import ReplayWindow

if TYPE_CHECKING:
    from kairos_net_vpn.peer import Peer

_HEADER = struct.Struct("<IIQ")
_ZEROS = bytes(spec.PADDING)
_NONCE_HEAD = bytes(4)


class Session:
    """Keys for both directions, the send counter and the replay window. Shows neither key."""

    __slots__ = (
        "_keys",
        "_mtu",
        "_open",
        "_opener",
        "_seal",
        "_sealer",
        "_window",
        "born",
        "index",
        "is_initiator",
        "peer",
        "remote_index",
        "sent",
    )

    def __init__(self, peer: Peer, keys: SessionKeys, *, index: int, is_initiator: bool, now: float) -> None:
        self.peer = peer
        self._mtu = peer.mtu
        self.index = index
        self.remote_index = keys.remote_index
        self.is_initiator = is_initiator
        self.born = now
        self.sent = 0
        self._keys = keys
        self._seal = ChaCha20Poly1305(keys.send)
        self._open = ChaCha20Poly1305(keys.receive)
        self._window = ReplayWindow()
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None

    def __repr__(self) -> str:
        return f"Session({self.index:08x} -> {self.remote_index:08x}, sent={self.sent})"

    @property
    def sealer(self) -> Sealer:
        """What seals records; made when the first is sent."""
        if self._sealer is None:
            self._sealer = Sealer(self._keys.send, self.remote_index, chacha=self.peer.chacha)
        return self._sealer

    @property
    def opener(self) -> Opener:
        """What opens records; made when the first comes."""
        if self._opener is None:
            self._opener = Opener(self._keys.receive, self.peer.drops, self.peer.buffers)
        return self._opener

    @property
    def is_spent(self) -> bool:
        """Whether no further counter may be used."""
        counter = self._sealer.counter if self._sealer is not None else 0
        return self.sent >= spec.REJECT_AFTER_MESSAGES or counter >= MAX_COUNTER

    @property
    def is_ageing(self) -> bool:
        """Whether so many counters are used that each packet asks `is_spent`, and for a new session."""
        counter = self._sealer.counter if self._sealer is not None else 0
        return self.sent >= spec.REKEY_AFTER_MESSAGES // 2 or counter >= MAX_COUNTER // 2

    def seal(self, packet: bytes) -> bytes:
        """Return the datagram of a packet; an empty packet is a keepalive.

        A packet is padded to 16 bytes, so its exact length is not seen, but not over the MTU (paper, 5.4.6).
        The caller has checked that the session is young enough and `sent` below REJECT_AFTER_MESSAGES.
        """
        header = _HEADER.pack(spec.TRANSPORT, self.remote_index, self.sent)
        self.sent += 1
        padding = -len(packet) % spec.PADDING
        plaintext = packet + _ZEROS[:padding] if len(packet) + padding <= self._mtu else packet
        return header + self._seal.encrypt(_NONCE_HEAD + header[8:], plaintext, None)

    def open(self, datagram: bytes) -> bytes:
        """Return the padded packet. Raises Refused (replayed, unseal). The caller checked size and age."""
        counter = int.from_bytes(datagram[8:16], "little")
        if counter >= spec.REJECT_AFTER_MESSAGES or not self._window.is_fresh(counter):
            raise Refused(VpnDrop.REPLAYED)
        try:
            plaintext = self._open.decrypt(_NONCE_HEAD + datagram[8:16], datagram[16:], None)
        except InvalidTag:
            raise Refused(VpnDrop.UNSEAL) from None
        self._window.accept(counter)
        return plaintext
