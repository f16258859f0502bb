"""wireguard-go, the userspace WireGuard of the Debian package of this name."""

from __future__ import annotations

from tunnels.course import Course
from tunnels.tunnel import Tunnel, address_of, appeared, output_of, write_secret

_PREFIX = "10.20.0"
_PORT = 51820
_CONFIG = """
[Interface]
PrivateKey = {private}
ListenPort = {port}
[Peer]
PublicKey = {public}
Endpoint = {host}:{port}
AllowedIPs = {address}/32
"""


class WireguardGo(Tunnel):
    """One tunnel with two configured peers, MTU 1420 as wg-quick sets it."""

    name, interface = "wireguard-go", "veth-wg"

    async def start(self, course: Course) -> None:
        one, two = course.machines
        self.hosts = address_of(one, _PREFIX), address_of(two, _PREFIX)
        keys = [output_of("wg", "genkey").strip() for _ in course.machines]
        for machine, host, private, other, other_host, other_key in (
            (one, self.hosts[0], keys[0], two, self.hosts[1], keys[1]),
            (two, self.hosts[1], keys[1], one, self.hosts[0], keys[0]),
        ):
            self.daemons.append(await machine.start("wireguard-go", "--foreground", self.interface))
            await appeared(machine, self.interface)
            public = output_of("wg", "pubkey", stdin=other_key).strip()
            text = _CONFIG.format(private=private, port=_PORT, public=public, host=other.ipv4, address=other_host)
            file = write_secret(machine, "/run/bench/wireguard.conf", text)
            await machine.run("wg", "setconf", self.interface, file)
            await machine.run("ip", "address", "add", f"{host}/24", "dev", self.interface)
            await machine.run("ip", "link", "set", self.interface, "mtu", "1420", "up")
