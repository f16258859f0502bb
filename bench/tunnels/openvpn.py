"""openvpn between two machines, each with a certificate that the other knows by its fingerprint (openvpn 2.6)."""

from __future__ import annotations

import hashlib
import ssl
import tempfile
from pathlib import Path

from kairos_core.testing.lab import Machine
from tunnels.course import Course
from tunnels.tunnel import Tunnel, address_of, output_of, write_secret

_PREFIX = "10.22.0"
_PORT = 1194
_HOME = "/run/bench/openvpn"
_CONFIG = """
dev {interface}
dev-type tun
proto udp4
local {own}
port {port}
remote {other} {port}
ifconfig {host} {other_host}
{part}
cert {home}/cert.pem
key {home}/key.pem
peer-fingerprint "{fingerprint}"
data-ciphers AES-256-GCM
disable-dco
allow-compression no
sndbuf 524288
rcvbuf 524288
txqueuelen 1000
fast-io
verb 1
"""


class Openvpn(Tunnel):
    """AES-256-GCM over UDP in userspace, no compression, larger buffers and `fast-io` as its manual proposes."""

    name, interface = "openvpn", "veth-openvpn"

    async def start(self, course: Course) -> None:
        one, two = course.machines
        self.hosts = address_of(one, _PREFIX), address_of(two, _PREFIX)
        prints = {machine: _certify(machine) for machine in course.machines}
        for machine, host, other, other_host, part in (
            (one, self.hosts[0], two, self.hosts[1], "tls-server\ndh none"),
            (two, self.hosts[1], one, self.hosts[0], "tls-client"),
        ):
            text = _CONFIG.format(
                interface=self.interface, own=machine.ipv4, other=other.ipv4, port=_PORT, host=host,
                other_host=other_host, part=part, home=_HOME, fingerprint=prints[other],
            )  # fmt: skip
            self.daemons.append(
                await machine.start("openvpn", "--config", write_secret(machine, f"{_HOME}/conf", text))
            )


def _certify(machine: Machine) -> str:
    """Give a machine a key and a certificate; return its fingerprint as openvpn writes it."""
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
        key, cert = Path(directory, "key.pem"), Path(directory, "cert.pem")
        output_of(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "30", "-subj", f"/CN={machine.name}", "-keyout", str(key), "-out", str(cert)),
        )
        for file in (key, cert):
            write_secret(machine, f"{_HOME}/{file.name}", file.read_text())
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest().upper()
    return ":".join(digest[start : start + 2] for start in range(0, len(digest), 2))
