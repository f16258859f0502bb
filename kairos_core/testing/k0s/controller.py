"""`k0s controller`: starts a cluster or joins one by a token, and serves it as the stand-in k3s does."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from kairos_core.testing.k0s.flags import Options
from kairos_core.testing.k0s.places import Places, Refused, read_config
from kairos_core.testing.k0s.tokens import open_token
from kairos_core.testing.k3s.authority import write_private
from kairos_core.testing.k3s.flags import Options as Inner
from kairos_core.testing.k3s.log import Fatal, log
from kairos_core.testing.k3s.server import Server


class _Controller(Server):
    """The stand-in k3s, which also writes what k0s writes; its members of etcd outlive their nodes."""

    MEMBERS_ARE_NODES = False

    def __init__(self, options: Inner, places: Places) -> None:
        super().__init__(options, {"KAIROS_STAND_IN_ROOT": str(places.inside)})
        self._front = places

    def _write_credentials(self) -> None:
        super()._write_credentials()
        for name in ("ca.key", "ca.crt"):
            write_private(self._front.pki / name, (self._tls / f"server-{name}").read_text())
        kubeconfig = (self._front.inside / "admin.yaml").read_text().replace("https://127.0.0.1:", "https://localhost:")
        write_private(self._front.pki / "admin.conf", kubeconfig)


def run_controller(options: Options, stop: threading.Event) -> None:
    """Run until `stop`. Raises Refused."""
    places = Places.of(options)
    spec, text = read_config(places, options), token_text(options, places)
    log("info", f"using storage backend {spec.get('storage', {}).get('type', 'etcd')}")
    argv = _arguments(options, places, spec)
    is_joining = bool(text) and not (places.pki / "ca.key").exists()
    if is_joining:
        try:
            token = open_token(text, "controller")
        except Refused as error:
            raise Refused(f"failed to join controller: {error}") from None
        argv += [f"--server={token.server}", f"--token={token.secret}"]
    elif spec.get("storage", {}).get("type") != "kine":
        argv.append("--cluster-init")
    try:
        _Controller(Inner("server", argv, {}), places).run(stop)
    except Fatal as error:
        said = str(error)
        if "CA hash does not match" in said:
            said = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        raise Refused(f"failed to join controller: {said}" if is_joining else said) from None


def token_text(options: Options, places: Places) -> str:
    """Return the join token, from whichever source; "" without one. Raises Refused."""
    file = options.value("token-file")
    variable = os.environ.get("K0S_JOIN_TOKEN") or os.environ.get("K0S_TOKEN") or ""
    if sum(map(bool, (file, variable, options.words))) > 1:
        raise Refused("you can only pass one token source: as a CLI argument, via '--token-file', or K0S_JOIN_TOKEN")
    if not file:
        return options.words[0] if options.words else variable
    path: Path = places.path(file)
    if not path.exists():
        raise Refused(f'token file "{path}" not found: obtain a new token via "k0s token create ..."')
    return path.read_text().strip()


def inner_arguments(options: Options) -> list[str]:
    """Return what a node tells of itself, as arguments of the stand-in k3s."""
    named = {"node-name": options.kubelet("hostname-override"), "node-ip": options.kubelet("node-ip")}
    found = [f"--{name}={value}" for name, value in named.items() if value]
    found += [f"--node-label={label}" for label in options.given.get("labels", [])]
    return [*found, f"--kubelet-arg=healthz-port={options.kubelet('healthz-port', '10248')}"]


def _arguments(options: Options, places: Places, spec: dict[str, Any]) -> list[str]:
    api, storage = spec.get("api", {}), spec.get("storage", {})
    argv = [f"--data-dir={places.inside}", f"--write-kubeconfig={places.inside}/admin.yaml", *inner_arguments(options)]
    argv += [f"--https-listen-port={api.get('port', 6443)}"]
    argv += [f"--tls-san={name}" for name in (*api.get("sans", ()), api.get("address")) if name]
    if storage.get("type") == "kine":
        argv.append(f"--datastore-endpoint={storage.get('kine', {}).get('dataSource', '')}")
    if not (options.is_on("enable-worker") or options.is_on("single")):
        argv.append("--disable-agent")
    return argv
