"""Records: how two Kairos nodes carry packets under the keys of one handshake. Pure.

A record is what one send carries. Its plaintext goes in *groups*; each is sealed at once and its ciphertext cut
into `members` datagrams, all of one size but the last. Every datagram starts with 16 bytes:

    offset  size  field
    0       4     index    receiver's name of the session, little endian, 256 or more: WireGuard's types are 1 to 4
    4       1     kind     bits 0-1: PACKETS, SUPER, REPORT, SIDE; LAST 0x40: the record's last group; CHACHA 0x80
    5       1     members  datagrams in this group, 1 to 64
    6       1     member   which of them this is, from 0
    7       1     group    which group of the record, from 0
    8       2     stride   SUPER: bytes of payload from one group to the next, little endian
    10      6     number   counter of the record's first group, little endian; group g has number + g

    group = header of member 0 | what the others cover, 16 x (members - 1) | ciphertext | tag 16

The headers of the others lie over the ciphertext (datagrams.py), so that it is one piece for the cipher and for the
kernel. A group of several datagrams has them in a size that is a multiple of 8, and not more than a 16th of it.

The header of member 0 without the index is the nonce, and the others must equal it but for `member`: so all of
it is authenticated, the index by the key it selects. Counters never repeat in a session, nor do nonces. What the
others cover is ciphertext, so nothing is lost by its being elsewhere.

    kind     plaintext of a group
    PACKETS  entries [u16 length, little endian][frame]: small packets, each whole, a few in a datagram; ends with
             the datagram, or an entry of length 0
    SUPER    [headers of the super-packet][slice of its payload]: slice g begins `stride x g` bytes in
    REPORT   [u32 groups lost][u32 datagrams arrived], little endian: what the peer saw of us in the last second
    SIDE     a message of sides.py: probes of a path, datagrams to be relayed, what is to be sent again

All groups of a SUPER are full datagrams, so one send with UDP_SEGMENT carries them. Frames have the virtio
header of `vnet.py` before them. Sizes on an IPv4 path with MTU 1500, a TCP super-packet, members = 8:

    group 8 x 1472 = 11776 = headers 8 x 16 + ciphertext 11632 + tag 16
    ciphertext 11632 = headers of the super-packet 62 (virtio 10, IPv4 20, TCP 32) + slice 11570
    60000 bytes of payload: 6 groups, 42 datagrams, 0.2 % headers again and tags

The cipher is the sender's choice: AES-256-GCM where its processor has it, else ChaCha20-Poly1305. Each has keys of
its own, derived by HKDF with BLAKE2s (RFC 5869) from the session's, which type 4 uses itself. A session ends
after 180 s, at 10 Gbit/s before the 2^38 bytes under one AES-GCM key that RFC 8446, 5.5 allows.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import BLAKE2s
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kairos_net_vpn.datagrams import (
    HEADER_SIZE,
    MAX_DATAGRAMS,
    WHOLE,
    WORD,
    Buffer,
    can_overlay,
    keep_covered,
    overlay,
)
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.mould import Cut, Here, Mould
from kairos_net_vpn.parts import MAX_GROUP, MAX_MEMBERS
from kairos_net_vpn.slot import ROOM, Slot
from kairos_net_vpn.small import TAG, Cipher, SmallCipher, small_cipher
from kairos_net_vpn.vnet import GSO_UDP_L4, check_super

PACKETS, SUPER, REPORT, SIDE = 0, 1, 2, 3
KIND, LAST, CHACHA = 0x03, 0x40, 0x80
MIN_INDEX = 256
ALONE = HEADER_SIZE + 2 + TAG
"""Bytes around a frame that has a datagram for itself."""
MAX_GROUPS = 255
MAX_COUNTER = (1 << 48) - MAX_GROUPS
"""Counters in a session: at a million groups a second they last nine years."""

HEADER = struct.Struct("<IBBBBHIH")
NUMBER = slice(10, 16)
"""Where the number is in a header."""
_NONCE = struct.Struct("<BBBBHQ")
_REPORT = struct.Struct("<II")
_COLUMN = [bytes([value]) * MAX_DATAGRAMS for value in range(256)]

Decrypt: TypeAlias = Callable[[bytes | bytearray | memoryview, memoryview, None, memoryview], int]
"""A cipher's `decrypt_into`: nonce, ciphertext, None, where to."""


def derive_ciphers(key: bytes, *, chacha: bool) -> tuple[Cipher, SmallCipher]:
    """Return the cipher of one direction of a session, twice; `key` is that direction's key for type 4."""
    label = b"kairos records v2 " + (b"chacha20-poly1305" if chacha else b"aes-256-gcm")
    derived = HKDF(algorithm=BLAKE2s(32), length=32, salt=None, info=label).derive(key)
    cipher = ChaCha20Poly1305(derived) if chacha else AESGCM(derived)
    return cipher, small_cipher(cipher, derived)


@lru_cache(maxsize=4096)
def _columns(members: int, count: int, group: int) -> tuple[bytes, bytes, bytes, int]:
    """Return the bytes 5, 6 and 7 of `count` headers, and which datagram begins the last group."""
    last = (count - 1) // members * members
    sizes = bytes([members]) * last + bytes([count - last]) * (count - last)
    groups = bytes((group + i // members) & 0xFF for i in range(count))
    return sizes, bytes(i % members for i in range(count)), groups, last


def lay_headers(head: bytes | bytearray, members: int, count: int, *, is_last: bool) -> bytearray:
    """Return the headers of `count` datagrams of a record, one byte column at a time; `head` is the first one's.

    With `is_last` the record ends with them. Costs 1 us.
    """
    headers = bytearray(head) * count
    headers[5::16], headers[6::16], headers[7::16], last = _columns(members, count, head[7])
    if is_last:
        headers[HEADER_SIZE * last + 4 :: 16] = _COLUMN[head[4] | LAST][: count - last]
    return headers


class Sealer:
    """Seals what goes to the peer in one session. Sizes of datagrams are multiples of 8."""

    __slots__ = ("_encrypt", "_flags", "_index", "_lone", "_small", "counter")

    def __init__(self, key: bytes, remote_index: int, *, chacha: bool) -> None:
        cipher, self._small = derive_ciphers(key, chacha=chacha)
        self._flags = CHACHA if chacha else 0
        self._encrypt = cipher.encrypt_into
        self._index = remote_index.to_bytes(4, "little")
        self._lone = self._index + bytes([self._flags | PACKETS, 1, 0, 0])
        """What begins a datagram of small packets."""
        self.counter = 0
        """The next group's. The caller has checked that it is below MAX_COUNTER."""

    def seal_super(self, slot: Slot, length: int, mould: Mould, spare: Buffer) -> memoryview:
        """Seal the super-packet of `length` bytes in a slot; return its datagrams.

        They lie in the slot, or in the other buffer if they are several groups. The slot is written over.
        """
        here, second = mould.here, (mould.second | self.counter << 16).to_bytes(WORD, "little")
        self.counter += mould.groups
        if here is None:
            return self._seal_slices(slot, length, mould, (second, spare))
        views = (slot.here is here and slot.views) or slot.find(here)
        head, nonce, plain, sealed, wire, first_halves, second_halves, first_kept, second_kept = views
        firsts = here.firsts
        head[WHOLE] = here.first + second
        self._encrypt(nonce, plain, None, sealed)
        first_kept[WHOLE] = first_halves
        second_kept[WHOLE] = second_halves
        first_halves[WHOLE] = firsts
        second_halves[WHOLE] = array("Q", second * len(firsts))
        return wire

    def mould(self, frame: memoryview, size: int, members: int) -> Mould:
        """Return how a super-packet is cut into datagrams of one size, in groups of some, and what their headers are.

        Raises Refused (malformed, oversized).
        """
        cut = _cut(frame, size, members)
        groups = -(-(len(frame) - cut.header) // cut.stride)
        used = (groups - 1) * (cut.plain + TAG - cut.stride) + len(frame) + TAG
        datagrams = -(-used // (size - HEADER_SIZE))
        if datagrams > MAX_DATAGRAMS or groups > MAX_GROUPS:
            raise Refused(VpnDrop.OVERSIZED)
        head = self._index + _NONCE.pack(self._flags | SUPER, cut.members, 0, 0, cut.stride, 0)[:12]
        headers = lay_headers(head, cut.members, datagrams, is_last=True)
        firsts = memoryview(bytes(memoryview(headers).cast("Q")[::2])).cast("Q")
        here = _here(firsts, len(frame), size) if groups == 1 else None
        return Mould(cut, groups, datagrams, size, cut.stride, firsts, here)

    def _seal_slices(self, slot: Buffer, length: int, mould: Mould, what: tuple[bytes, Buffer]) -> memoryview:
        """Seal forwards: the headers are laid over the end of each slice once it is sealed.

        What is behind a slice in its group is the next slice's beginning; behind the last one, zeros.
        """
        second, to = what
        members, header, stride, plain = mould.cut
        frame, size = slot.octets[ROOM:], mould.size
        padding = plain - header - stride
        frame[length : length + padding] = bytes(padding)
        template = bytes(frame[:header])
        heads = bytearray(HEADER_SIZE * mould.datagrams)
        columns = memoryview(heads).cast("Q")
        columns[::2] = mould.firsts
        columns[1::2] = memoryview(second * mould.datagrams).cast("Q")
        encrypt, at, start, end = self._encrypt, 0, 0, 0
        for first in range(0, mould.datagrams, members):
            count = min(members, mould.datagrams - first)
            last = length if count + first == mould.datagrams else at + plain
            nonce, start = HEADER_SIZE * first + 4, size * first
            begin = start + HEADER_SIZE * count
            end = begin + last - at + TAG
            encrypt(heads[nonce : nonce + 12], frame[at:last], None, to.octets[begin:end])
            keep_covered(to.words, overlay(start, size, count))
            at += stride
            frame[at : at + header] = template
        step, words = size // WORD, mould.datagrams * size // WORD
        to.words[:words:step] = columns[::2]
        to.words[1:words:step] = columns[1::2]
        return to.octets[:end]

    def seal_packets(self, plain: bytes) -> bytes | memoryview:
        """Return the datagram of a bundle of small frames, good until the next one that is sealed alone.

        The caller has checked that it fits.
        """
        head = self._lone + (self.counter << 16).to_bytes(WORD, "little")
        self.counter += 1
        return self._small.seal(head, plain)

    def seal_bundles(self, bundles: Sequence[bytes], size: int, to: Buffer) -> list[memoryview]:
        """Seal plaintexts of PACKETS as one record into a buffer; return its datagrams.

        There are at most MAX_DATAGRAMS; a plaintext that does not fit one takes several.
        """
        datagrams: list[memoryview] = []
        for group, plain in enumerate(bundles):
            datagrams += self._seal_group((PACKETS, group), plain, size, (to, len(datagrams) * size))
        self.counter += len(bundles)
        return datagrams

    def seal_alone(self, kind: int, plain: bytes) -> bytes | memoryview:
        """Return the datagram of a group that fits one, as `seal_packets`."""
        head = self._index + _NONCE.pack(self._flags | kind, 1, 0, 0, 0, self.counter)[:12]
        self.counter += 1
        return self._small.seal(head, plain)

    def seal_report(self, lost: int, arrived: int) -> bytes | memoryview:
        """Seal a report as a datagram."""
        return self.seal_alone(REPORT, _REPORT.pack(min(lost, 0xFFFFFFFF), min(arrived, 0xFFFFFFFF)))

    def seal_side(self, plain: bytes, size: int) -> list[memoryview]:
        """Seal a side message in datagrams of at most `size` bytes; return them.

        It has at most MAX_GROUP bytes with its tag, and takes at most MAX_MEMBERS datagrams.
        """
        members = -(-(len(plain) + TAG) // (size - HEADER_SIZE))
        sealed = self._seal_group((SIDE, 0), plain, size, (Buffer(len(plain) + TAG + HEADER_SIZE * members), 0))
        self.counter += 1
        return sealed

    def _seal_group(
        self, what: tuple[int, int], plain: bytes, size: int, place: tuple[Buffer, int]
    ) -> list[memoryview]:
        """Seal a group: its kind and which of the record it is, its plaintext, and where in a buffer it goes."""
        (kind, group), (to, start) = what, place
        members = -(-(len(plain) + TAG) // (size - HEADER_SIZE))
        nonce = _NONCE.pack(self._flags | kind, members, 0, group, 0, self.counter)[:12]
        begin = start + HEADER_SIZE * members
        end = begin + len(plain) + TAG
        self._encrypt(nonce, plain, None, to.octets[begin:end])
        to.octets[start : start + HEADER_SIZE] = self._index + nonce
        if members > 1:
            keep_covered(to.words, overlay(start, size, members))
            for member in range(1, members):
                at = start + member * size
                to.octets[at : at + HEADER_SIZE] = self._index + nonce[:2] + bytes([member]) + nonce[3:]
        return [to.octets[at : min(at + size, end)] for at in range(start, end, size)]


def _cut(frame: memoryview, size: int, members: int) -> Cut:
    """Cut a super-packet: TCP, a stream, anywhere; UDP between packets, with more members where it must be.

    Raises Refused (malformed, oversized).
    """
    unit = frame[4] | frame[5] << 8 if frame[1] == GSO_UDP_L4 else 1
    return _cut_for(check_super(frame), unit, size, members)


@lru_cache(maxsize=256)
def _cut_for(header: int, unit: int, size: int, members: int) -> Cut:
    """Cut with that many bytes of headers, between pieces of `unit` bytes. Raises Refused (oversized)."""
    chunk = size - HEADER_SIZE
    members = max(1, min(members, MAX_GROUP // chunk, size // HEADER_SIZE))
    while members <= MAX_MEMBERS and members * chunk <= MAX_GROUP and can_overlay(size, members):
        plain = members * chunk - TAG
        stride = (plain - header) // unit * unit
        if stride > 0:
            return Cut(members, header, stride, plain)
        members += 1
    raise Refused(VpnDrop.OVERSIZED)


def _here(firsts: memoryview, length: int, size: int) -> Here:
    """Return where a record of one group is, whose frame has that many bytes."""
    datagrams, end = len(firsts), ROOM + length
    start = ROOM - HEADER_SIZE * datagrams
    return Here(
        firsts[:1].tobytes(),
        firsts[1:],
        start,
        slice(ROOM, end),
        slice(ROOM, end + TAG),
        slice(start, end + TAG),
        overlay(start, size, datagrams),
    )


def read_report(plain: memoryview) -> tuple[int, int]:
    """Return groups lost and datagrams arrived. Raises Refused (malformed)."""
    if len(plain) < _REPORT.size:
        raise Refused(VpnDrop.MALFORMED)
    lost, arrived = _REPORT.unpack_from(plain)
    return lost, arrived
