"""The part of k3s that every node runs: its name, password and address, and the kubelet's health."""

from __future__ import annotations

import http.server
import os
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kairos_core.testing.k3s.authority import write_private
from kairos_core.testing.k3s.flags import Options
from kairos_core.testing.k3s.log import Fatal, log
from kairos_core.testing.k3s.store import Heartbeat


@dataclass(frozen=True, slots=True)
class Places:
    """Where files are: k3s' own places under a root that only the stand-in knows."""

    root: Path
    data: Path

    @classmethod
    def of(cls, options: Options, environment: Mapping[str, str]) -> Places:
        """Read the data directory and the root."""
        root = Path(environment.get("KAIROS_STAND_IN_ROOT") or "/")
        return cls(root, Path(options.value("data-dir") or root / "var/lib/rancher/k3s"))

    @property
    def kubeconfig(self) -> Path:
        return self.root / "etc/rancher/k3s/k3s.yaml"


def heartbeat_of(options: Options, places: Places, roles: tuple[str, ...]) -> Heartbeat:
    """Say who this node is. Raises Fatal for an address or interface that k3s would refuse."""
    interface = options.value("flannel-iface")
    if interface and not Path("/sys/class/net", interface).exists():
        raise Fatal(f'flannel exited: failed to find the interface: "{interface}": route ip+net: no such interface')
    name = options.value("node-name") or socket.gethostname().lower()
    if options.is_set("with-node-id"):
        name = f"{name}-{_kept_secret(places.root / 'etc/rancher/node/id', 4)}"
    password = _kept_secret(places.root / "etc/rancher/node/password", 16)
    address = (options.values("node-ip") or [_first_address()])[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return Heartbeat(name, password, address, roles, tuple(options.values("node-label")))
    raise Fatal(f"invalid node-ip {address}")


def _kept_secret(path: Path, size: int) -> str:
    if not path.exists():
        write_private(path, secrets.token_hex(size))
    return path.read_text().strip()


def _first_address() -> str:
    """Return the source address of the default route; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def serve_kubelet_health(options: Options) -> None:
    """Answer /healthz on 127.0.0.1:10248 (`--kubelet-arg=healthz-port=`), as the kubelet does."""
    port = int(options.component("kubelet-arg", "healthz-port", "10248"))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Health)
    except OSError as error:
        log("error", f"Failed to start healthz server: listen tcp 127.0.0.1:{port}: bind: {error.strerror}")
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _Health(http.server.BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        found = self.path.split("?")[0] == "/healthz"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b"ok" if found else b"404 page not found\n")

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the kubelet logs no health checks."""


def notify_systemd() -> None:
    """Tell systemd that this service is ready (Type=notify). Source: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"READY=1\n", address.replace("@", "\0", 1) if address[0] == "@" else address)
