"""The TUN device as the data plane uses it: frames in, frames out, with whatever offloads the kernel has.

Sources: linux/if_tun.h, drivers/net/tun.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections import Counter
from collections.abc import Callable
from io import FileIO

from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.vnet import GSO_NONE, GSO_UDP_L4, PLAIN, VNET_HEADER, segment

TUNGETIFF, TUNSETOFFLOAD, TUNSETVNETLE = 0x800454D2, 0x400454D0, 0x400454DC
IFF_VNET_HDR = 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
_TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
_USO = TUN_F_USO4 | TUN_F_USO6  # one without the other is EINVAL


class Tun:
    """Reads and writes frames; `vnet`, `tso` and `uso` say what the kernel does of the work."""

    def __init__(self, descriptor: int, allowed: Offloads, drops: Counter[VpnDrop]) -> None:
        self._descriptor = descriptor
        self._drops = drops
        self.vnet = _has_vnet_header(descriptor)
        self.tso = self.vnet and allowed.tso and _offload(descriptor, _TSO)
        self.uso = self.tso and allowed.uso and _offload(descriptor, _TSO | _USO)
        self._readinto = FileIO(descriptor, closefd=False).readinto
        self.read: Callable[[memoryview], int | None] = self._read_packet
        """Reads a frame into a buffer and returns its length, None without one. Raises OSError when it is gone."""
        if self.vnet:  # whole, and without a call in between
            self.read = self._readinto
        self.write: Callable[[memoryview], None] = self._write if self.uso else self._write_by_kind
        """Hands a frame to the kernel. Raises OSError when the device is gone."""
        if self.vnet and not self.tso:  # a data plane before this one may have asked for more
            _offload(descriptor, 0)

    def _read_packet(self, into: memoryview) -> int | None:
        into[:VNET_HEADER] = PLAIN
        length = self._readinto(into[VNET_HEADER:])
        return None if length is None else VNET_HEADER + length

    def _write(self, frame: memoryview) -> None:
        """Hand a frame to a kernel that takes every kind."""
        try:
            os.write(self._descriptor, frame)
        except OSError as error:
            self._refused(error)

    def _write_by_kind(self, frame: memoryview) -> None:
        """Hand a frame to the kernel, in packets where it would not take it whole."""
        kind = frame[1]
        try:
            if self.vnet and (kind == GSO_NONE or (self.uso if kind == GSO_UDP_L4 else self.tso)):
                os.write(self._descriptor, frame)
                return
            for packet in segment(frame):
                self.write_packet(packet)
        except OSError as error:
            self._refused(error)
        except Refused as refused:
            self._drops[refused.drop] += 1

    def write_packet(self, packet: bytes | memoryview) -> None:
        """Hand a packet without virtio header to the kernel. Raises OSError if the device is gone."""
        try:
            os.writev(self._descriptor, (PLAIN, packet) if self.vnet else (packet,))
        except OSError as error:
            self._refused(error)

    def _refused(self, error: OSError) -> None:
        if error.errno == errno.EBADFD:
            raise error
        self._drops[VpnDrop.TUN_REFUSED] += 1


def _has_vnet_header(descriptor: int) -> bool:
    try:
        answer = fcntl.ioctl(descriptor, TUNGETIFF, bytes(40))
        if not struct.unpack_from("16xH", answer)[0] & IFF_VNET_HDR:
            return False
        fcntl.ioctl(descriptor, TUNSETVNETLE, struct.pack("i", 1))
    except OSError:  # no TUN device: a test's pipe
        return False
    return True


def _offload(descriptor: int, features: int) -> bool:
    try:
        fcntl.ioctl(descriptor, TUNSETOFFLOAD, features)
    except OSError:
        return False
    return True
