"""The steady load of the soak, run on the two machines, and how long it was ever interrupted.

    python pulse.py serve ADDRESS                         prints {"tcp": [[unix time, seconds], ...], "bytes": number}
    python pulse.py beat ADDRESS SECONDS MBITS            prints {"udp": [[unix time, seconds], ...], "broken": reason}

Every BEAT the second sends a datagram, which the first sends back, and as much of a TCP stream as makes MBITS.
A silence is the time between two echoes, or between two arrivals of the stream, longer than NOTED. With one percent
of loss each way, 50 datagrams are lost in a row never, so a silence of a second is the path's and not the loss's.

Needs nothing but Python, and is not imported by the benchmark.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

PORT = 5302
BEAT = 0.02
NOTED = 0.3
PATIENCE = 20.0


class Silences:
    """Notes how long nothing came."""

    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []
        self._last = time.monotonic()

    def end(self) -> None:
        """Note that something came, or that the watch is over."""
        now = time.monotonic()
        if now - self._last > NOTED:
            self.found.append((round(time.time() - (now - self._last), 3), round(now - self._last, 3)))
        self._last = now


def serve(address: str) -> None:
    """Send datagrams back and take a stream until it ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server((address, PORT)) as listener:
        udp.bind((address, PORT))
        listener.settimeout(PATIENCE)
        stream, _ = listener.accept()
        received, silences, buffer = 0, Silences(), bytearray(1 << 18)
        while True:
            ready, _, _ = select.select((udp, stream), (), ())
            if udp in ready:
                datagram, source = udp.recvfrom(2048)
                send(udp, datagram, source)
            if stream in ready:
                size = take(stream, buffer)
                if not size:
                    break
                silences.end()
                received += size
    print(json.dumps({"tcp": silences.found, "bytes": received}))


def take(stream: socket.socket, buffer: bytearray) -> int:
    """Receive a part of the stream; 0 when it is over, in order or not."""
    try:
        return stream.recv_into(buffer)
    except OSError:
        return 0


def beat(address: str, seconds: float, mbits: float) -> None:
    """Send both for some seconds and listen for the echoes."""
    chunk = bytes(int(mbits * 1e6 / 8 * BEAT))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    stream, broken = connect(address), ""
    silences, end = Silences(), time.monotonic() + seconds
    due = time.monotonic()
    while due < end and not broken:
        send(udp, b"beat", (address, PORT))
        broken = push(stream, chunk)
        due += BEAT
        while (left := due - time.monotonic()) > 0:
            if select.select((udp,), (), (), left)[0]:
                listen(udp, silences)
    silences.end()
    print(json.dumps({"udp": silences.found, "broken": broken}))


def connect(address: str) -> socket.socket:
    """Connect to `serve`, which may be starting still."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            stream = socket.create_connection((address, PORT), timeout=PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            stream.setblocking(False)
            return stream


def send(udp: socket.socket, datagram: bytes, target: tuple[str, int]) -> None:
    """Send a datagram; one that the kernel refuses is lost like any other."""
    try:
        udp.sendto(datagram, target)
    except OSError:
        return


def push(stream: socket.socket, chunk: bytes) -> str:
    """Send what the stream takes of a chunk; return why it is broken, if it is."""
    try:
        stream.send(chunk)
    except BlockingIOError:  # full: it will be behind its rate, and whoever listens hears the silence
        pass
    except OSError as error:
        return str(error)
    return ""


def listen(udp: socket.socket, silences: Silences) -> None:
    """Take an echo."""
    try:
        udp.recv(2048)
    except OSError:  # the peer's machine refused a datagram
        return
    silences.end()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        beat(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
