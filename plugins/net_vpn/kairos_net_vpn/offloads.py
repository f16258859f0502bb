"""Which shortcuts of the kernel and the processor the packet path takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Offloads:
    """What is in use; in Configure, what may be. Only a test has reason to forbid any: each is tried at start.

    What is missing costs speed and nothing else: packets are then segmented, merged or sent one by one here.
    """

    vnet: bool = True
    """Packets of the TUN device carry a virtio header (IFF_VNET_HDR)."""
    tso: bool = True
    """The kernel hands over TCP super-packets, and packets without checksum (TUN_F_TSO4, TUN_F_TSO6)."""
    uso: bool = True
    """It hands over and takes UDP super-packets (TUN_F_USO4, TUN_F_USO6: Linux 6.2)."""
    gso: bool = True
    """One send carries many datagrams (UDP_SEGMENT: Linux 4.18)."""
    gro: bool = True
    """One receive brings many datagrams (UDP_GRO: Linux 5.0)."""
    aes: bool = True
    """We seal with AES-256-GCM, else with ChaCha20-Poly1305. What comes may have either."""

    @property
    def cipher(self) -> str:
        return "aes-256-gcm" if self.aes else "chacha20-poly1305"


def has_aes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the processor has instructions for AES: `flags` on x86, `Features` on ARM."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    return any("aes" in line.split() for line in lines if line.startswith(("flags", "Features")))
