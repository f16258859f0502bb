"""Another node, whose keys the fuzzer holds: it seals whatever it likes, under headers that say whatever it likes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from kairos_net_vpn.datagrams import HEADER_SIZE, can_overlay
from kairos_net_vpn.noise import Local
from kairos_net_vpn.records import CHACHA, HEADER, derive_ciphers
from kairos_net_vpn.small import Cipher

BEHIND = ip_network("10.9.0.0/16")
"""The network behind the first member, where it has one."""
SESSIONS = 3


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a group, as its sealer wants it; `members` is not always how many datagrams there are."""

    kind: int
    members: int = 1
    group: int = 0
    stride: int = 0
    number: int = 0

    def pack(self, index: int, member: int) -> bytes:
        low, high = self.number & 0xFFFFFFFF, self.number >> 32
        return HEADER.pack(index, self.kind, self.members, member, self.group, self.stride, low, high)


class Member:
    """One of the victim's peers, with its keys of three sessions: previous, current and next."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.local = Local(X25519PrivateKey.from_private_bytes(bytes([number]) * 32), bytes(32))
        self.endpoint = (f"192.0.2.{number}", 7000)
        self.addresses = frozenset(ip_address(text).packed for text in (f"10.1.0.{number}", f"fd00::{number}"))
        self.indices = tuple(number * 0x01010000 + session for session in range(SESSIONS))
        self.numbers = [0] * SESSIONS
        self.sealed: list[bytes] = []
        """Every plaintext it has sealed: what comes out as its own must be made of these."""
        keys = [bytes([number, session]) * 16 for session in range(SESSIONS)]
        self.keys = keys
        self._ciphers: list[tuple[Cipher, Cipher]] = [
            (derive_ciphers(key, chacha=False)[0], derive_ciphers(key, chacha=True)[0]) for key in keys
        ]

    def forget(self) -> None:
        """Begin anew."""
        self.numbers, self.sealed = [0] * SESSIONS, []

    def owns(self, source: bytes, *, behind: bool) -> bool:
        return source in self.addresses or (behind and self.number == 1 and ip_address(source) in BEHIND)

    def seal(self, session: int, head: Head, plain: bytes, chunk: int) -> list[bytes]:
        """Return the datagrams of a group, each with `chunk` bytes beside its header but the last, at most 64.

        Where the headers have no place over the ciphertext they are put before each part.
        """
        self.sealed.append(plain)
        index = self.indices[session]
        cipher = self._ciphers[session][bool(head.kind & CHACHA)]
        whole = cipher.encrypt(head.pack(index, 0)[4:], plain, None)
        count = -(-len(whole) // chunk)
        size = HEADER_SIZE + chunk
        if not can_overlay(size, count):
            parts = [whole[at : at + chunk] for at in range(0, len(whole), chunk)][:64]
            return [head.pack(index, member) + part for member, part in enumerate(parts)]
        wire = bytearray(HEADER_SIZE * count) + whole
        covered = [wire[at * size : at * size + HEADER_SIZE] for at in range(1, count)]
        wire[HEADER_SIZE : HEADER_SIZE * count] = b"".join(each[:8] for each in covered) + b"".join(
            each[8:] for each in covered
        )
        for member in range(min(count, 256)):
            wire[member * size : member * size + HEADER_SIZE] = head.pack(index, member)
        return [bytes(wire[at : at + size]) for at in range(0, len(wire), size)][:64]

    def seal_true(self, session: int, head: Head, plain: bytes, chunk: int) -> list[bytes]:
        """Return the same with the number and the members that are right."""
        members = -(-(len(plain) + 16) // chunk)
        right = replace(head, members=min(members, 64), number=self.numbers[session])
        self.numbers[session] += 1
        return self.seal(session, right, plain, chunk)
