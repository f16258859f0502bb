"""The load of the test `udpmix`, run on the two machines: mixed small flows.

    python mixture.py serve ADDRESS SECONDS       prints {"received": datagrams, "by_size": {size: datagrams}}
    python mixture.py offer ADDRESS SECONDS       prints {"sent": datagrams, "transactions": number}

Deterministic and the same for all: eight UDP flows, each from a port of its own, with payloads of SIZES, one datagram
of each in turn, as fast as the socket takes them; so neighbours never belong to one flow and never have one size.
Beside them four TCP connections, each with one request of 64 bytes under way, answered with 256. `serve` counts the
datagrams of the SECONDS that begin with the first, so what lies in queues afterwards is not counted.

Needs nothing but Python, and is not imported by the benchmark: what it costs, it costs every VPN alike.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter
from itertools import cycle

SIZES = (64, 320, 96, 512, 128, 448, 192, 256)
PORT = 5301
CONNECTIONS = 4
REQUEST, ANSWER = 64, 256
PATIENCE = 10.0
"""Seconds until the first datagram."""
STRIDE = 64
"""Datagrams between two looks at the clock."""


def serve(address: str, seconds: float) -> None:
    """Count datagrams and answer requests."""
    listener = socket.create_server((address, PORT), backlog=CONNECTIONS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        udp.bind((address, PORT))
        answering = os.fork()
        if not answering:
            answer(listener)
        try:
            counts = count(udp, seconds)
        finally:
            os.kill(answering, signal.SIGKILL)
            os.waitpid(answering, 0)
    print(json.dumps({"received": counts.total(), "by_size": counts}))


def count(udp: socket.socket, seconds: float) -> Counter[int]:
    """Count datagrams by size until `seconds` after the first."""
    counts: Counter[int] = Counter()
    # Not settimeout(), which costs a poll() before each receive.
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
    buffer = bytearray(2048)
    try:
        counts[udp.recv_into(buffer)] += 1
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                for _ in range(STRIDE):
                    counts[udp.recv_into(buffer)] += 1
            except BlockingIOError:
                continue
    except BlockingIOError:
        pass
    return counts


def answer(listener: socket.socket) -> None:
    """Answer the requests of all connections, until killed."""
    while True:
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while exact(connection, REQUEST):
            connection.sendall(bytes(ANSWER))
        os._exit(0)


def offer(address: str, seconds: float) -> None:
    """Send all flows for some seconds."""
    told, tell = os.pipe()
    asking = [fork_asker(address, seconds, tell) for _ in range(CONNECTIONS)]
    sent = flood(address, seconds)
    transactions = sum(struct.unpack("Q", os.read(told, 8))[0] for _ in asking)
    for pid in asking:
        os.waitpid(pid, 0)
    print(json.dumps({"sent": sent, "transactions": transactions}))


def fork_asker(address: str, seconds: float, tell: int) -> int:
    """Connect, then start a process that asks without pause and tells how many answers came; return its number."""
    connection = connect(address)
    pid = os.fork()
    if not pid:
        done, end = 0, time.monotonic() + seconds
        connection.settimeout(seconds)
        try:
            while time.monotonic() < end:
                connection.sendall(bytes(REQUEST))
                if not exact(connection, ANSWER):
                    break
                done += 1
        except OSError:
            pass
        os.write(tell, struct.pack("Q", done))
        os._exit(0)
    connection.close()
    return pid


def connect(address: str) -> socket.socket:
    """Connect to `serve`, which may be starting still."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            connection = socket.create_connection((address, PORT), timeout=PATIENCE)
            break
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def flood(address: str, seconds: float) -> int:
    """Send one datagram of each flow in turn; return how many the kernel took."""
    flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in SIZES]
    for flow in flows:
        flow.connect((address, PORT))
    turns = cycle([(flow.send, bytes(size)) for flow, size in zip(flows, SIZES, strict=True)])
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(STRIDE):
            send, payload = next(turns)
            try:
                send(payload)
                sent += 1
            except OSError:  # the device's queue is full, or an earlier one was refused
                continue
    return sent


def exact(connection: socket.socket, size: int) -> bool:
    """Receive this many bytes; False when the other end closed."""
    while size:
        received = len(connection.recv(size))
        if not received:
            return False
        size -= received
    return True


if __name__ == "__main__":
    {"serve": serve, "offer": offer}[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
