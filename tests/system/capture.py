"""Writes the UDP datagrams that come in on eth0 for a port, as a wire tap would see them.

Usage: capture.py PORT COUNT FILE     FILE gets one datagram in hexadecimal on each line.
"""

import socket
import sys
from pathlib import Path

ETH_P_ALL, UDP = 0x0003, 17
ETHERTYPES = {b"\x08\x00": "4", b"\x86\xdd": "6"}


def udp_payload(frame: bytes, port: int) -> bytes | None:
    version, packet = ETHERTYPES.get(frame[12:14]), frame[14:]
    if version == "4" and packet[9] == UDP:
        segment = packet[(packet[0] & 15) * 4 :]
    elif version == "6" and packet[6] == UDP:
        segment = packet[40:]
    else:
        return None
    is_ours = int.from_bytes(segment[2:4]) == port
    return segment[8 : int.from_bytes(segment[4:6])] if is_ours else None


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.bind(("eth0", 0))
    lines: list[str] = []
    while len(lines) < count:
        frame, (_, _, kind, *_) = tap.recvfrom(2048)
        payload = udp_payload(frame, port) if kind == socket.PACKET_HOST else None
        if payload:
            lines.append(payload.hex())
    Path(sys.argv[3]).write_text("\n".join(lines))


if __name__ == "__main__":
    main()
