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

    datagram = header 16 | ciphertext; a group ends with 16 bytes of tag

The header of member 0 without the index is the nonce, and the others must equal it but for `member`: so all of
it is authenticated, the index by the key it selects. Counters never repeat in a session, nor do nonces.

    kind     plaintext of a group
    PACKETS  entries [u16 length, little endian][frame]: small packets, each whole, a few in a datagram; ends with
             the datagram, or an entry of length 0
    SUPER    [headers of the super-packet][slice of its payload]: slice g begins `stride x g` bytes in
    REPORT   [u32 groups lost][u32 datagrams arrived], little endian: what the peer saw of us in the last second
    SIDE     a message of sides.py: probes of a path, datagrams to be relayed, what is to be sent again

All groups of a SUPER are full datagrams, so one send with UDP_SEGMENT carries them. Frames have the virtio
header of `vnet.py` before them. Sizes on an IPv4 path with MTU 1500, a TCP super-packet, members = 8:

    datagram 1472 = header 16 + ciphertext 1456
    group 8 x 1456 = 11648 = tag 16 + headers 62 (virtio 10, IPv4 20, TCP 32) + slice 11570
    60000 bytes of payload: 6 groups, 42 datagrams, 0.2 % headers again and tags

The cipher is the sender's choice: AES-256-GCM where its processor has it, else ChaCha20-Poly1305. Each has keys of
its own, derived by HKDF with BLAKE2s (RFC 5869) from the session's, which type 4 uses itself. A session ends
after 180 s, at 10 Gbit/s before the 2^38 bytes under one AES-GCM key that RFC 8446, 5.5 allows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import BLAKE2s
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kairos_net_vpn.batch import HEADER_SIZE, MAX_DATAGRAMS, Batch
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.mould import Cut, Mould, Moulds, key_of
from kairos_net_vpn.parts import MAX_GROUP
from kairos_net_vpn.vnet import GSO_UDP_L4, check_super

PACKETS, SUPER, REPORT, SIDE = 0, 1, 2, 3
KIND, LAST, CHACHA = 0x03, 0x40, 0x80
MIN_INDEX = 256
TAG = 16
ALONE = HEADER_SIZE + 2 + TAG
"""Bytes around a frame that has a datagram for itself."""
MAX_MEMBERS = 64
MAX_GROUPS = 255
MAX_COUNTER = (1 << 48) - MAX_GROUPS
"""Counters in a session: at a million groups a second they last nine years."""

HEADER = struct.Struct("<IBBBBHIH")
NUMBER = slice(10, 16)
"""Where the number is in a header."""
_NONCE = struct.Struct("<BBBBHQ")
_REPORT = struct.Struct("<II")
_ENTRY = struct.Struct("<H")
_COLUMN = [bytes([value]) * MAX_DATAGRAMS for value in range(256)]

Cipher: TypeAlias = AESGCM | ChaCha20Poly1305


def derive_cipher(key: bytes, *, chacha: bool) -> Cipher:
    """Return the cipher of one direction of a session; `key` is that direction's key for type 4."""
    label = b"kairos records v1 " + (b"chacha20-poly1305" if chacha else b"aes-256-gcm")
    derived = HKDF(algorithm=BLAKE2s(32), length=32, salt=None, info=label).derive(key)
    return ChaCha20Poly1305(derived) if chacha else AESGCM(derived)


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
    """Seals what goes to the peer in one session."""

    __slots__ = ("_cipher", "_flags", "_index", "_moulds", "counter")

    def __init__(self, key: bytes, remote_index: int, *, chacha: bool) -> None:
        self._cipher = derive_cipher(key, chacha=chacha)
        self._flags = CHACHA if chacha else 0
        self._index = remote_index.to_bytes(4, "little")
        self._moulds = Moulds()
        self.counter = 0
        """The next group's. The caller has checked that it is below MAX_COUNTER."""

    def seal_super(self, slot: memoryview, length: int, batch: Batch, members: int) -> int:
        """Seal the super-packet in the first `length` bytes of a slot; return the bytes used of the batch's body.

        The slot is written over. It has room for 64 KiB beyond the packet. Raises Refused (malformed, oversized), and
        nothing has changed then.
        """
        key = key_of(slot, length, batch.chunk, members)
        mould = self._moulds.find(key)
        if mould is None:
            mould = self._mould(slot[:length], batch.chunk, members)
            self._moulds.keep(key, mould)
        datagrams = mould.datagrams
        if datagrams > batch.most:
            raise Refused(VpnDrop.OVERSIZED)
        second = (mould.second | self.counter << 16).to_bytes(8, "little")
        batch.words[: 2 * datagrams : 2] = mould.firsts
        batch.words[1 : 2 * datagrams : 2] = memoryview(second * datagrams).cast("Q")
        self.counter += mould.groups
        if mould.groups == 1:
            self._cipher.encrypt_into(batch.headers[4:16], slot[:length], None, batch.body[: mould.used])
        else:
            self._seal_slices(slot, length, batch, mould.cut)
        return mould.used

    def _mould(self, frame: memoryview, chunk: int, members: int) -> Mould:
        """Return how a super-packet is cut, and what its headers are but for the number. Raises Refused."""
        cut = _cut(frame, chunk, members)
        groups = -(-(len(frame) - cut.header) // cut.stride)
        used = (groups - 1) * (cut.plain + TAG - cut.stride) + len(frame) + TAG
        datagrams = -(-used // chunk)
        if datagrams > MAX_DATAGRAMS or groups > MAX_GROUPS:
            raise Refused(VpnDrop.OVERSIZED)
        head = self._index + _NONCE.pack(self._flags | SUPER, cut.members, 0, 0, cut.stride, 0)[:12]
        headers = lay_headers(head, cut.members, datagrams, is_last=True)
        firsts = memoryview(bytes(memoryview(headers).cast("Q")[::2])).cast("Q")
        return Mould(cut, groups, datagrams, used, firsts, cut.stride)

    def _seal_slices(self, slot: memoryview, length: int, batch: Batch, cut: Cut) -> None:
        """Seal forwards: the headers are laid over the end of each slice once it is sealed.

        What is behind a slice in its group is the next slice's beginning; behind the last one, zeros.
        """
        _, header, stride, plain = cut
        padding = plain - header - stride
        slot[length : length + padding] = bytes(padding)
        template = bytes(slot[:header])
        encrypt, headers, body, full = self._cipher.encrypt_into, batch.headers, batch.body, plain + TAG
        at, out, nonce, step = 0, 0, 4, HEADER_SIZE * cut.members
        while at + stride < length - header:
            encrypt(headers[nonce : nonce + 12], slot[at : at + plain], None, body[out : out + full])
            at, out, nonce = at + stride, out + full, nonce + step
            slot[at : at + header] = template
        encrypt(headers[nonce : nonce + 12], slot[at:length], None, body[out : out + length - at + TAG])

    def seal_packet(self, frame: memoryview) -> bytes:
        """Return the datagram of one small frame: a bundle of its own. The caller has checked that it fits."""
        nonce = _NONCE.pack(self._flags | PACKETS, 1, 0, 0, 0, self.counter)[:12]
        self.counter += 1
        return self._index + nonce + self._cipher.encrypt(nonce, _ENTRY.pack(len(frame)) + frame, None)

    def seal_bundles(self, bundles: Sequence[bytes], batch: Batch) -> list[memoryview]:
        """Seal plaintexts of PACKETS as one record; return header and body of each datagram in turn.

        There are at most MAX_DATAGRAMS datagrams; a plaintext that does not fit one takes several.
        """
        iov: list[memoryview] = []
        for group, plain in enumerate(bundles):
            iov += self._seal_group(PACKETS, group, plain, (batch, len(iov) // 2))
        self.counter += len(bundles)
        return iov

    def seal_report(self, lost: int, arrived: int, batch: Batch) -> list[memoryview]:
        """Seal a report as a datagram."""
        sealed = self._seal_group(REPORT, 0, _REPORT.pack(min(lost, 0xFFFFFFFF), min(arrived, 0xFFFFFFFF)), (batch, 0))
        self.counter += 1
        return sealed

    def seal_side(self, plain: bytes, size: int) -> list[memoryview]:
        """Seal a side message in datagrams of at most `size` bytes; return header and body of each in turn.

        It has at most MAX_GROUP bytes with its tag, and takes at most MAX_MEMBERS datagrams.
        """
        chunk = size - HEADER_SIZE
        members = -(-(len(plain) + TAG) // chunk)
        nonce = _NONCE.pack(self._flags | SIDE, members, 0, 0, 0, self.counter)[:12]
        self.counter += 1
        sealed = memoryview(self._cipher.encrypt(nonce, plain, None))
        iov: list[memoryview] = []
        for member in range(members):
            head = self._index + nonce[:2] + bytes([member]) + nonce[3:]
            iov += memoryview(head), sealed[member * chunk : (member + 1) * chunk]
        return iov

    def _seal_group(self, kind: int, group: int, plain: bytes, place: tuple[Batch, int]) -> list[memoryview]:
        batch, first = place
        size = len(plain) + TAG
        members = -(-size // batch.chunk)
        at = first * batch.chunk
        nonce = _NONCE.pack(self._flags | kind, members, 0, group, 0, self.counter)[:12]
        self._cipher.encrypt_into(nonce, plain, None, batch.body[at : at + size])
        iov = batch.iov[2 * first : 2 * (first + members)]
        for member in range(members):
            iov[2 * member][:] = self._index + nonce[:2] + bytes([member]) + nonce[3:]
        iov[-1] = batch.body[at + (members - 1) * batch.chunk : at + size]
        return iov


def _cut(frame: memoryview, chunk: int, members: int) -> Cut:
    """Cut a super-packet: TCP, a stream, anywhere; UDP between packets, with more members where it must be.

    Raises Refused (malformed, oversized).
    """
    unit = frame[4] | frame[5] << 8 if frame[1] == GSO_UDP_L4 else 1
    return _cut_for(check_super(frame), unit, chunk, members)


@lru_cache(maxsize=256)
def _cut_for(header: int, unit: int, chunk: int, members: int) -> Cut:
    """Cut with that many bytes of headers, between pieces of `unit` bytes. Raises Refused (oversized)."""
    members = max(1, min(members, MAX_GROUP // chunk))
    while members <= MAX_MEMBERS and members * chunk <= MAX_GROUP:
        plain = members * chunk - TAG
        stride = (plain - header) // unit * unit
        if stride > 0:
            return Cut(members, header, stride, plain)
        members += 1
    raise Refused(VpnDrop.OVERSIZED)


def read_report(plain: memoryview) -> tuple[int, int]:
    """Return groups lost and datagrams arrived. Raises Refused (malformed)."""
    if len(plain) < _REPORT.size:
        raise Refused(VpnDrop.MALFORMED)
    lost, arrived = _REPORT.unpack_from(plain)
    return lost, arrived
