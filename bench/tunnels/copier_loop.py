"""What copier.c does with `aes`, in Python, as bare as it can be written.

    python copier_loop.py INTERFACE OUR_IPV4 THEIR_IPV4 PORT

One thread, one record of AES-256-GCM for each packet of the TUN device, sealed and opened in place; one system call
each way. No handshake, no peers, no replay window, no loss handled but by forgetting a packet, and the key is known to
all: it is a ruler, not a VPN. What it reaches on a machine, no program in Python exceeds that goes the same way.

A record: magic u32, length u32 of what follows without the tag, number u64 | ciphertext | tag 16, all little endian;
magic, length and the low half of the number are the nonce.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATAGRAM, TURN, ROOM, BUFFER, TAG = 1448, 64, 1 << 17, 8 << 20, 16
"""As in copier.c."""
MAGIC = 0x5AA5C33C
HEADER = struct.Struct("<IIQ")
KEY = b"a ruler, not a VPN: known to all"
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4
UDP_SEGMENT, UDP_GRO = 103, 104
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SEGMENTS = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", DATAGRAM))]


def open_tun(name: str) -> int:
    """Return a TUN device without USO, as copier.c has it."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
    return tun


def open_udp(ours: str, theirs: str, port: int) -> socket.socket:
    """Return a socket that is connected to the other one."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    udp.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    udp.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    udp.bind((ours, port))
    udp.connect((theirs, port))
    return udp


def copy(tun: int, udp: socket.socket) -> None:
    """Copy without end. One function, since a call costs as much as what it does."""
    cipher = AESGCM(KEY)
    seal, unseal, readv, write = cipher.encrypt_into, cipher.decrypt_into, os.readv, os.write
    send, receive, pack, unpack = udp.sendmsg, udp.recv_into, HEADER.pack_into, HEADER.unpack_from
    going, coming = memoryview(bytearray(ROOM)), memoryview(bytearray(ROOM))
    slot, nonce, opening = [going[16 : ROOM - TAG]], going[:12], coming[:12]
    number = gathered = 0
    poller = select.poll()
    for source in (tun, udp.fileno()):
        poller.register(source, select.POLLIN)
    while True:
        for source, _ in poller.poll():
            try:
                if source == tun:
                    for _ in range(TURN):
                        length = readv(tun, slot)
                        pack(going, 0, MAGIC, length, number)
                        number += 1
                        seal(nonce, going[16 : 16 + length], None, going[16 : 32 + length])
                        send((going[: 32 + length],), SEGMENTS if length > DATAGRAM - 32 else ())
                    continue
                for _ in range(TURN):
                    came = receive(coming[gathered:])
                    if gathered and came >= 16 and unpack(coming, gathered)[0] == MAGIC:  # the last one's rest is lost
                        coming[:came] = bytes(coming[gathered : gathered + came])
                        gathered = 0
                    gathered += came
                    magic, length, _ = unpack(coming)
                    if gathered < 16 or magic != MAGIC or length > ROOM // 2:
                        gathered = 0
                    elif gathered >= 32 + length:
                        gathered = 0
                        unseal(opening, coming[16 : 32 + length], None, coming[16 : 16 + length])
                        write(tun, coming[16 : 16 + length])
            except (BlockingIOError, ConnectionRefusedError, InvalidTag):
                continue
            except OSError as error:
                sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    copy(open_tun(sys.argv[1]), open_udp(*sys.argv[2:4], int(sys.argv[4])))
