"""nebula, with a certificate authority of its own; the first machine is the lighthouse."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from kairos_core.testing.lab import Machine
from tunnels.course import Course
from tunnels.tunnel import Tunnel, address_of, output_of, write_secret

_PREFIX = "10.21.0"
_PORT = 4242


class Nebula(Tunnel):
    """AES-256-GCM, its default. MTU 1440 (default: 1300) is the most that fits 1500: 20 IP, 8 UDP, 16 header, 16 tag.
    Socket buffers of 10 MiB as its example configuration proposes."""

    name, interface = "nebula", "veth-nebula"

    async def start(self, course: Course) -> None:
        one, two = course.machines
        self.hosts = address_of(one, _PREFIX), address_of(two, _PREFIX)
        with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
            ca = Path(directory, "ca")
            output_of("nebula-cert", "ca", "-name", "bench", "-out-crt", f"{ca}.crt", "-out-key", f"{ca}.key")
            for machine, host in zip(course.machines, self.hosts, strict=True):
                _sign(machine, host, ca)
        for machine in course.machines:
            file = write_secret(machine, "/run/bench/nebula/config.yml", yaml.safe_dump(self._config(machine, one)))
            self.daemons.append(await machine.start("nebula", "-config", file))

    def _config(self, machine: Machine, lighthouse: Machine) -> dict[str, Any]:
        is_lighthouse, home = machine is lighthouse, "/run/bench/nebula"
        anything = [{"port": "any", "proto": "any", "host": "any"}]
        return {
            "pki": {"ca": f"{home}/ca.crt", "cert": f"{home}/host.crt", "key": f"{home}/host.key"},
            "static_host_map": {self.hosts[0]: [f"{lighthouse.ipv4}:{_PORT}"]},
            "lighthouse": {"am_lighthouse": is_lighthouse, "hosts": [] if is_lighthouse else [self.hosts[0]]},
            "listen": {"host": machine.ipv4, "port": _PORT, "read_buffer": 10 << 20, "write_buffer": 10 << 20},
            "cipher": "aes",
            "tun": {"dev": self.interface, "mtu": 1440, "tx_queue": 500},
            "firewall": {"outbound": anything, "inbound": anything},
            "logging": {"level": "warning"},
        }


def _sign(machine: Machine, host: str, ca: Path) -> None:
    made = ca.parent / machine.name
    words = ["nebula-cert", "sign", "-name", machine.name, "-ip", f"{host}/24", "-ca-crt", f"{ca}.crt"]
    output_of(*words, "-ca-key", f"{ca}.key", "-out-crt", f"{made}.crt", "-out-key", f"{made}.key")
    for source, target in ((f"{ca}.crt", "ca.crt"), (f"{made}.crt", "host.crt"), (f"{made}.key", "host.key")):
        write_secret(machine, f"/run/bench/nebula/{target}", Path(source).read_text())
