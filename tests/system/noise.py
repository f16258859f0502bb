"""Sends noise to the gossip ports of agents: random bytes, and what was captured, cut, altered and sent again.

Usage: noise.py SECONDS CAPTURED HOST:PORT…     CAPTURED has a datagram in hexadecimal on each line.
"""

import contextlib
import os
import random
import socket
import ssl
import sys
import time
from pathlib import Path

from kairos_transport_tls.authority import Authority, leaf_pem

from kairos_core import Identity, NetworkKey

Target = tuple[str, int]


def datagrams(captured: list[bytes]) -> list[bytes]:
    """One round of datagrams; what a stranger on the wire can make."""
    one = random.choice(captured)
    altered = bytearray(one)
    altered[random.randrange(20, len(altered))] ^= 1 << random.randrange(8)
    return [
        os.urandom(random.randrange(1400)),
        b"\x01" + os.urandom(random.randrange(60, 1000)),  # the right version and no known key
        one[: random.randrange(33)],
        bytes(altered),
        one,
        one + bytes(1201 - len(one)),
    ]


def connect_and(target: Target, send: bytes) -> None:
    with contextlib.suppress(OSError), socket.create_connection(target, 1) as connection:
        connection.sendall(send)


def pose_as_member(target: Target, pem: str) -> None:
    """Shake hands under the label of the epoch, which anybody can guess, with a certificate of another network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["kairos/1"])
    context.load_cert_chain(pem)
    name = f"e{int(time.time()) // 3600}.kairos.invalid"
    with contextlib.suppress(OSError), socket.create_connection(target, 1) as plain:
        tls = context.wrap_socket(plain, server_hostname=name)
        tls.recv(1)
        tls.close()


def foreign_leaf() -> str:
    authority = Authority(NetworkKey("e1", os.urandom(32), b""))
    file = Path(f"/run/foreign-{os.getpid()}.pem")
    file.write_bytes(leaf_pem(authority, Identity(os.urandom(32))))
    return str(file)


def main() -> None:
    until = time.monotonic() + float(sys.argv[1])
    captured = [bytes.fromhex(line) for line in Path(sys.argv[2]).read_text().split()]
    targets = [(host, int(port)) for host, _, port in (text.rpartition(":") for text in sys.argv[3:])]
    sender, pem = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), foreign_leaf()
    rounds = 0
    held = []  # connections that say nothing
    while time.monotonic() < until:
        for target in targets:
            for datagram in datagrams(captured):
                sender.sendto(datagram, target)
            if rounds % 20 == 0:
                connect_and(target, os.urandom(200))
                pose_as_member(target, pem)
                held.append(socket.create_connection(target, 1))
        rounds += 1
        time.sleep(0.005)
    print(rounds)


if __name__ == "__main__":
    main()
