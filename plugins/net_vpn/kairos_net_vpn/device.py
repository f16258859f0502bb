"""The TUN device and the UDP socket: what the plugin opens and lends to the data plane.

Plain ioctls, since a netlink library takes 0.4 s and 20 MB to import for the four settings that are made
here. Sources: linux/if_tun.h, linux/sockios.h, netdevice(7).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from kairos_core import NetworkError

_CLONE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0001, 0x1000, 0x4000, 0x8000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFMTU = 0x8916, 0x891C, 0x8922
_IFF_UP = 1
_RTM_NEWLINK, _NLM_F_REQUEST, _IFLA_GSO_MAX_SIZE = 16, 1, 41
_NO_GENERATED_ADDRESS = "1"  # IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT = 10, 23, 0

BUFFER = 8 << 20
"""Bytes of the socket's buffers: 60 ms of a saturated gigabit link, for as long as the data plane is not
scheduled. Raising it loses less in a burst and delays more."""

GSO_MAX_SIZE = 64800
"""Bytes in a super-packet that the kernel hands over, and 321 that it keeps for headers. Sealed it still fits one send
of 65507 bytes, in datagrams of 1232 and more with 16 bytes of header each. Raising it needs two sends."""

_log = logging.getLogger(__name__)


class TunDevice:
    """A TUN device with an address of each family. It exists while some process holds it open."""

    def __init__(
        self, name: str, address: IPv4Interface, mtu: int, ipv6: IPv6Interface | None = None, *, vnet: bool = True
    ) -> None:
        self.name = name
        self.address = address
        self.ipv6 = ipv6
        """None as well once the kernel has turned out to have no IPv6 for it."""
        self._vnet = vnet
        self._mtu = mtu
        self._descriptor = -1
        self._index = 0

    def ensure(self) -> int:
        """Return the device's descriptor; make the device when it does not exist, or somebody deleted it.

        Raises NetworkError.
        """
        if self._descriptor >= 0 and self._exists():
            return self._descriptor
        self.close()
        self._descriptor = open_tun(self.name, vnet=self._vnet)
        try:
            configure(self.name, self.address, self._mtu)
            self._configure_ipv6()
            limit_segments(self.name)
            self._index = socket.if_nametoindex(self.name)
        except OSError as error:
            self.close()
            raise NetworkError(
                f"cannot give the tunnel {self.name!r} the address {self.address}: {error.strerror}. "
                "Grant CAP_NET_ADMIN, or set p2p.vpn.create: false."
            ) from error
        return self._descriptor

    def adopt(self, descriptor: int) -> None:
        """Take a descriptor of the device that an agent before us made, addresses and routes included."""
        self.close()
        self._descriptor = descriptor
        with suppress(OSError):  # deleted meanwhile: `ensure` will see it
            self._index = socket.if_nametoindex(self.name)
        self._configure_ipv6()

    def _configure_ipv6(self) -> None:
        if self.ipv6 is None:
            return
        try:
            configure_ipv6(self.name, self.ipv6)
        except OSError as error:
            if error.errno == errno.EEXIST:
                return
            _log.warning("the tunnel %s goes without IPv6: %s", self.name, error.strerror)
            self.ipv6 = None

    def close(self) -> None:
        """Let go of the device; it vanishes with its routes once the data plane has let go too."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _exists(self) -> bool:
        try:
            return socket.if_nametoindex(self.name) == self._index
        except OSError:
            return False


def open_tun(name: str, *, vnet: bool = True) -> int:
    """Create a TUN device and return its descriptor; `vnet` asks for the virtio header that offloads need.

    Raises NetworkError; never takes a device that exists.
    """
    try:
        descriptor = os.open(_CLONE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _no_tunnel(name, error) from error
    request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_TUN_EXCL | _IFF_VNET_HDR * vnet)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        raise _no_tunnel(name, error) from error
    return descriptor


def _no_tunnel(name: str, error: OSError) -> NetworkError:
    if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
        reason = (
            "an interface of this name exists; is another kairos running, or was one killed within the last minute? "
        )
        advice = f"Remove it with: ip link delete {name}; or choose another name with p2p.vpn.interface."
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = f"{_CLONE} is not writable. "
        advice = "Run as root or grant CAP_NET_ADMIN, or set p2p.vpn.create: false."
    elif error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        reason = f"{_CLONE} does not exist. "
        advice = "Load it with: modprobe tun (a container needs it passed in), or set p2p.vpn.create: false."
    else:
        reason = f"{error.strerror}. "
        advice = "Set p2p.vpn.create: false to do without."
    return NetworkError(f"cannot create the tunnel {name!r}: {reason}{advice}")


def configure(name: str, address: IPv4Interface, mtu: int) -> None:
    """Set MTU, address and prefix, and bring the interface up; the kernel adds the route. Raises OSError."""
    # Without this the kernel would give it a link-local address too, and ask the tunnel for IPv6 routers.
    with suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode", "w") as mode:
        mode.write(_NO_GENERATED_ADDRESS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:

        def set_interface(request: int, value: bytes) -> bytes:
            return fcntl.ioctl(control, request, struct.pack("16s24s", name.encode(), value))

        set_interface(_SIOCSIFMTU, struct.pack("i", mtu))
        set_interface(_SIOCSIFADDR, _socket_address(address.ip))
        set_interface(_SIOCSIFNETMASK, _socket_address(address.netmask))
        (flags,) = struct.unpack_from("H", set_interface(_SIOCGIFFLAGS, b""), 16)
        set_interface(_SIOCSIFFLAGS, struct.pack("H", flags | _IFF_UP))


def limit_segments(name: str) -> None:
    """Ask the kernel for super-packets of at most GSO_MAX_SIZE bytes; where it does not know how, they are larger.

    A larger one takes two sends. Source: rtnetlink(7); linux/if_link.h, IFLA_GSO_MAX_SIZE.
    """
    attribute = struct.pack("=HHI", 8, _IFLA_GSO_MAX_SIZE, GSO_MAX_SIZE)
    message = struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, socket.if_nametoindex(name), 0, 0) + attribute
    header = struct.pack("=IHHII", 16 + len(message), _RTM_NEWLINK, _NLM_F_REQUEST, 1, 0)
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.send(header + message)


def configure_ipv6(name: str, address: IPv6Interface) -> None:
    """Give the interface an IPv6 address and the route to its prefix (struct in6_ifreq, linux/ipv6.h). Raises OSError.

    Nobody probes for duplicates here: a TUN device does no neighbour discovery.
    """
    request = struct.pack("=16sIi", address.packed, address.network.prefixlen, socket.if_nametoindex(name))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFADDR, request)


def _socket_address(address: IPv4Address) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, address.packed)


def open_udp(port: int, remembered: int = 0) -> socket.socket:
    """Open the data plane's socket, for IPv6 and IPv4 where the kernel has both.

    `port` 0 takes the remembered port where it is free, else any. Raises NetworkError.
    """
    last: OSError | None = None
    for number in dict.fromkeys((port,) if port else (remembered, 0)):
        for family in (socket.AF_INET6, socket.AF_INET):
            try:
                return _bind(family, number)
            except OSError as error:
                last = error
    raise NetworkError(
        f"cannot listen on UDP port {port}: {last.strerror if last else 'no address family'}. "
        "Free the port, or choose another with p2p.vpn.port (0 takes a free one)."
    ) from last


def _bind(family: socket.AddressFamily, port: int) -> socket.socket:
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        # A path narrower than we think then fragments; with the DF bit set it would swallow large packets.
        udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        _widen(udp)
        udp.bind(("", port))
    except OSError:
        udp.close()
        raise
    return udp


def _widen(udp: socket.socket) -> None:
    for forced, asked in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            udp.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
        except PermissionError:
            udp.setsockopt(socket.SOL_SOCKET, asked, BUFFER)
