"""The constants of WireGuard's specification; what is our own choice in `Timing` says so.

Source: Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel" (2017), sections 5.4 to 6.5.

    initiation  type 1 | sender u32 | ephemeral 32 | static 48 | timestamp 28 | mac1 16 | mac2 16     148 B
    response    type 2 | sender u32 | receiver u32 | ephemeral 32 | empty 16 | mac1 16 | mac2 16       92 B
    cookie      type 3 | receiver u32 | nonce 24 | cookie 32                                            64 B
    transport   type 4 | receiver u32 | counter u64 | ciphertext | tag 16                             32 B +

A type is one byte and three of zero; numbers are little endian.
"""

from __future__ import annotations

from dataclasses import dataclass

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1 = b"mac1----"
LABEL_COOKIE = b"cookie--"

INITIATION, RESPONSE, COOKIE, TRANSPORT = 1, 2, 3, 4
INITIATION_SIZE, RESPONSE_SIZE, COOKIE_SIZE = 148, 92, 64
TRANSPORT_HEADER = 16
TAG = 16
TRANSPORT_OVERHEAD = TRANSPORT_HEADER + TAG
OVERHEAD = 80
"""Bytes around an inner packet at most: IPv6 header 40, UDP header 8, transport header 16, tag 16."""
MAC = 16
NO_PROOF = bytes(MAC)
"""The mac2 of a message without a cookie."""
COOKIE_LIFE = 120.0
"""Seconds for which a cookie, and the secret that cookies are made with, hold."""
PADDING = 16

REKEY_AFTER_MESSAGES = 1 << 60
REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1


@dataclass(frozen=True, slots=True)
class Timing:
    """When a tunnel acts, in seconds. Only a test has reason to change these."""

    rekey_after: float = 120.0
    """The initiator of a session makes a new one when it sends on one this old."""
    reject_after: float = 180.0
    """A session this old carries nothing any more, in either direction."""
    keepalive: float = 10.0
    """Whoever received data and had nothing to answer for this long says so with an empty packet."""
    rekey_timeout: float = 5.0
    """The longest pause between two initiations, and the slack that timers built on it give."""
    attempt: float = 90.0
    """How long initiations go on without an answer."""
    retries: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    """The first pauses between initiations, before `rekey_timeout` applies. Ours: when a mesh starts, a peer
    may not know our key yet, since the ledger entry that says it travels beside us. Costs four further
    datagrams."""
    idle_retry: float = 30.0
    """The pause after `attempt` has passed, towards peers that are said to be alive. Ours: heals by
    itself."""
    yield_first: float = 1.0
    """How long the side with the higher key leaves the first initiation to the other. Ours: spares one of two
    handshakes; it still goes first after that, so a peer that cannot reach us or forgot us is no dead end."""
    flood: float = 0.02
    """Initiations of one peer closer together than this are dropped: each costs us 0.2 ms (section 5.1 of the
    reference implementation's limits: 50 a second)."""
    linger: float = 60.0
    """How long the data plane goes on without an agent, for the next one to take it over. Ours: an upgrade of the
    package takes seconds, a slow machine's start some more; longer would keep a node in the network whose operator
    believes that it is stopped."""

    @property
    def jitter(self) -> float:
        """Up to this much is added to each pause: two sides do not stay in step (paper: 333 ms of 5 s)."""
        return self.rekey_timeout / 15

    @property
    def silence(self) -> float:
        """Who sent data and heard nothing for this long starts a new handshake."""
        return self.keepalive + self.rekey_timeout

    @property
    def refresh_after(self) -> float:
        """The initiator of a session makes a new one when it receives on one this old."""
        return self.reject_after - self.keepalive - self.rekey_timeout
