"""`k3s server`: starts a cluster or joins one, keeps its state, and serves it with TLS."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from kairos_core.testing.k3s import VERSION
from kairos_core.testing.k3s.access import Access, Refusal, Unreachable
from kairos_core.testing.k3s.agent import BEAT, join_token
from kairos_core.testing.k3s.api import Answer, Api
from kairos_core.testing.k3s.authority import Pair, authority_hash, issue, new_authority, write_private
from kairos_core.testing.k3s.flags import Options
from kairos_core.testing.k3s.kubeconfig import format_kubeconfig
from kairos_core.testing.k3s.listener import listen
from kairos_core.testing.k3s.log import Fatal, log
from kairos_core.testing.k3s.node import Places, heartbeat_of, notify_systemd, serve_kubelet_health
from kairos_core.testing.k3s.store import Store

_BOOTSTRAP_TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
_PREPARING = "starting kubernetes: preparing server: "
_REMOVED = "this node has been removed from the cluster, please restart k3s to rejoin the cluster"


class Server:
    """One server, from its options to its end."""

    MEMBERS_ARE_NODES = True
    """Whether a node that is deleted is a member of etcd no more, as in k3s, and joins anew at its next start."""

    def __init__(self, options: Options, environment: Mapping[str, str]) -> None:
        """Check the options and open the state. Raises Fatal."""
        _check(options)
        log("info", f"Starting k3s {VERSION}")
        self._options = options
        self._places = Places.of(options, environment)
        self._directory = self._places.data / "server"
        self._tls = self._directory / "tls"
        self._forget_membership()
        self._store = _store(options, self._directory)
        self._kind = self._store.kind or _kind(options)
        if self._kind == "sqlite" and options.is_set("cluster-init"):
            self._kind = "etcd"  # k3s migrates a single server to etcd when it is started so
        etcd = ("etcd",) if self._kind == "etcd" else ()
        self._me = heartbeat_of(options, self._places, ("control-plane", *etcd, "master"))
        self._password = ""
        self._port = int(options.value("https-listen-port", "6443"))

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`. Raises Fatal."""
        if self._options.is_set("cluster-reset"):
            self._reset()
            return
        (self._directory / "db" / "reset-flag").unlink(missing_ok=True)
        self._password = self._enter_cluster()
        self._issue_certificates()
        agent_password = _agent_password(self._options) or self._password
        api = Api(self._store, self._me.name, (self._password, agent_password), grace=_grace(self._options))
        api.members_are_nodes = self.MEMBERS_ARE_NODES
        api.rotate = self._rotate
        listener = listen(self._options.value("bind-address"), self._port, api, self._tls)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        api.is_member = self._become_member()
        if not api.is_member:
            self._wait_for_membership(stop)
        elif self._kind == "etcd":
            threading.Thread(target=self._replicate, args=(api, stop), daemon=True).start()
        if api.is_member:
            self._write_credentials()
            self._be_node(stop)
        listener.shutdown()

    def _enter_cluster(self) -> str:
        """Start a cluster, find the one that is there, or join one; return the server password."""
        self._end_if_removed()
        token = join_token(self._options) or _saved_token(self._directory)
        if self._store.is_new and self._options.value("server") and self._kind == "etcd":
            self._fetch_state(token)
        password = token.rpartition(":")[2] if token.startswith("K10") else token
        password = password or secrets.token_hex(16)
        fresh = self._authorities() if self._store.is_new else {}
        kept = self._store.initialise(self._kind, password, fresh)
        for name, text in kept.items():
            write_private(self._tls / name, text)
        found = authority_hash(kept["server-ca.crt"])
        if token.startswith("K10") and token[3:67] != found:
            mismatch = f"{token[3:67]} != {found}"
            raise Fatal(f"{_PREPARING}token CA hash does not match the Cluster CA certificate hash: {mismatch}")
        return password

    def _fetch_state(self, token: str) -> None:
        """Take over the state of the server that we are to join."""
        if not token:
            raise Fatal(f"{_PREPARING}K3S_TOKEN is required to join a cluster")
        try:
            access = Access.validated(self._options.value("server"), token, "server")
        except Unreachable as error:
            raise Fatal(f"{_PREPARING}{error}") from None
        except Refusal as error:
            raise Fatal(f"{_PREPARING}failed to validate token: {error}") from None
        log("info", "Managed etcd cluster not yet initialized")
        try:
            state = json.loads(access.ask("GET", "/v1-k3s/server-bootstrap"))
        except (Refusal, Unreachable) as error:
            raise Fatal(f"{_PREPARING}{error}") from None
        if state["kind"] != "etcd":
            raise Fatal(f"{_PREPARING}etcd disabled")
        self._store.merge(state)

    def _issue_certificates(self) -> None:
        options = self._options
        fixed = ["127.0.0.1", "::1", "localhost", "10.43.0.1", "kubernetes", "kubernetes.default"]
        given = [*options.values("tls-san"), *options.values("node-external-ip")]
        sans = [*fixed, self._me.name, self._me.ip, *given, options.value("advertise-address")]
        serving = issue(Pair.load(self._tls, "server-ca"), "k3s", "k3s", [san for san in sans if san])
        serving.save(self._tls, "serving-kube-apiserver")
        administrator = issue(Pair.load(self._tls, "client-ca"), "system:admin", "system:masters")
        administrator.save(self._tls, "client-admin")

    @property
    def _url(self) -> str:
        host = self._options.value("advertise-address") or self._me.ip
        return f"https://{_bracketed(host)}:{self._port}"

    def _become_member(self) -> bool:
        """Be listed as a server, here and, when joining, at the one that we join; say whether we are. Raises Fatal.

        A member of etcd that is listed under another address stays so, as in k3s (pkg/etcd/etcd.go, Test).
        """
        url = self._url
        listed = self._store.members().get(self._me.name)
        if listed is not None and self._kind == "etcd" and _peer_url(listed) != _peer_url(url):
            return False
        if listed == url:
            return True
        self._store.add_member(self._me.name, url)
        if self._kind != "etcd" or not self._options.value("server"):
            return True
        try:
            body = {"name": self._me.name, "url": url}
            self._access(self._options.value("server")).ask("POST", "/v1-k3s/member", body)
        except (Refusal, Unreachable) as error:
            raise Fatal(f"{_PREPARING}joining etcd cluster: {error}") from None
        return True

    def _wait_for_membership(self, stop: threading.Event) -> None:
        """Complain until the end: k3s goes on testing, and nothing in it changes what etcd has."""
        found = " ".join(_member(name, url) for name, url in sorted(self._store.members().items()))
        while not stop.is_set():
            log(
                "info",
                "Failed to test data store connection: this server is a not a member of the etcd cluster. "
                f"Found [{found}], expect: {_member(self._me.name, self._url)}",
            )
            stop.wait(BEAT)

    def _reset(self) -> None:
        """Make this server the only member of its etcd, at its address of now. Raises Fatal."""
        flag = self._directory / "db" / "reset-flag"
        if self._kind != "etcd" or self._store.is_new:
            raise Fatal("the stand-in k3s cannot reset what is no etcd")
        if flag.exists():
            raise Fatal(
                "starting kubernetes: preparing server: start managed database: Managed etcd cluster membership was "
                "previously reset, please remove the cluster-reset flag and start k3s normally. If you need to perform "
                f"another cluster reset, you must first manually delete the {flag} file"
            )
        self._enter_cluster()
        self._store.reset_members(self._me.name, self._url)
        write_private(flag, "")
        log(
            "info",
            "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and "
            "delete ${datadir}/server/db on each peer etcd server and rejoin the nodes",
        )

    def _rotate(self, new: str) -> None:
        """Take another token: it is written at once, and holds from the next start on. Raises Answer."""
        new = new or secrets.token_hex(16)
        try:
            if _BOOTSTRAP_TOKEN.fullmatch(new):
                full = "K10<CA-HASH>::<USERNAME>:<PASSWORD>"
                raise ValueError(f"failed to normalize server token; must be in format {full} or <PASSWORD>")
            # In this order, as k3s does it: where the second fails, the file is wrong already.
            self._write_token(new)
            self._store.rotate(self._password, new)
        except ValueError as error:
            log("error", f"token error ID 1: {error}")
            raise Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "token error ID 1") from None

    @property
    def _tombstone(self) -> Path:
        return self._directory / "db" / "etcd" / "tombstone"

    def _end_if_removed(self) -> None:
        """End when etcd has us no more, and leave the mark by which the next start knows it. Raises Fatal."""
        if self._kind == "etcd" and self._store.was_removed(self._me.name):
            if self.MEMBERS_ARE_NODES:
                write_private(self._tombstone, "")
            raise Fatal(_REMOVED)

    def _forget_membership(self) -> None:
        """Put the data of a member that was removed away, as k3s does before it joins, or begins, a cluster.

        So v1.21 and the releases since January 2026 (k3s#4002, k3s#13623); those between do not start at all
        (k3s#13498), which does less harm.
        """
        if self._tombstone.exists():
            log("info", "tombstone file has been detected, removing data dir to rejoin the cluster")
            state = self._directory / "db" / "state.json"
            state.rename(state.with_name(f"etcd-old-{time.time_ns()}"))
            self._tombstone.unlink()

    def _authorities(self) -> dict[str, str]:
        """Return the authorities of a new cluster: those on the disk, which outlast the data, or new ones."""
        fresh = _new_authorities()
        return {name: file.read_text() for name in fresh if (file := self._tls / name).exists()} or fresh

    def _access(self, url: str) -> Access:
        # Members of etcd know each other by certificates, and not by the token.
        return Access(url, self._store.certificate(""), "member", (self._tls / "server-ca.crt").read_text())

    def _replicate(self, api: Api, stop: threading.Event) -> None:
        """Follow all other servers: each by itself, since one that is silent costs seconds."""
        followed = {self._me.name}
        while not stop.wait(0.3):
            for name in self._store.members().keys() - followed:
                followed.add(name)
                threading.Thread(target=self._follow, args=(name, api, stop), daemon=True).start()

    def _follow(self, name: str, api: Api, stop: threading.Event) -> None:
        """Copy another server's state, several times a second, and note when it answers."""
        access: Access | None = None
        while not stop.wait(0.3):
            url = self._store.members().get(name)
            if url is None:
                continue
            access = access if access and access.url == url else self._access(url)
            try:
                self._store.merge(json.loads(access.ask("GET", "/v1-k3s/state")))
            except (Refusal, Unreachable):
                continue
            api.heard[name] = time.monotonic()

    def _write_credentials(self) -> None:
        """Write the join token and the administrator's kubeconfig where k3s writes them."""
        authority = (self._tls / "server-ca.crt").read_text()
        self._write_token(self._password)
        link = self._directory / "node-token"  # a link in k3s too
        link.unlink(missing_ok=True)
        link.symlink_to(self._directory / "token")
        bound = self._options.value("bind-address")
        host = _bracketed(bound) if bound not in ("", "0.0.0.0", "::") else "127.0.0.1"
        administrator = Pair.load(self._tls, "client-admin")
        text = format_kubeconfig(f"https://{host}:{self._port}", authority, administrator)
        file = Path(self._options.value("write-kubeconfig") or self._places.kubeconfig)
        write_private(file, text, int(self._options.value("write-kubeconfig-mode", "600"), 8))

    def _write_token(self, password: str) -> None:
        authority = (self._tls / "server-ca.crt").read_text()
        write_private(self._directory / "token", f"K10{authority_hash(authority)}::server:{password}\n")

    def _be_node(self, stop: threading.Event) -> None:
        """Run the agent that every server contains, unless it is switched off."""
        is_node = not self._options.is_set("disable-agent")
        if is_node:
            self._beat(is_first=True)
            serve_kubelet_health(self._options)
        log("info", "k3s is up and running")
        notify_systemd()
        while not stop.wait(BEAT):
            self._end_if_removed()
            if is_node:
                self._beat()

    def _beat(self, *, is_first: bool = False) -> None:
        try:
            self._store.beat(self._me, is_first=is_first)
        except PermissionError:
            raise Fatal(f"Node password rejected, duplicate hostname '{self._me.name}'") from None


def _check(options: Options) -> None:
    """Refuse combinations of flags. Raises Fatal."""
    joins, resets = bool(options.value("server")), options.is_set("cluster-reset")
    if joins and options.is_set("cluster-init"):
        # Stricter than k3s, which then silently joins: whoever sets both has a plan that contradicts itself.
        raise Fatal("invalid flag use; --cluster-init cannot be used with --server")
    if resets and joins:
        raise Fatal(
            "cannot perform cluster-reset while server URL is set - remove server from configuration before resetting"
        )
    if options.value("cluster-reset-restore-path") and not resets:
        raise Fatal("invalid flag use; --cluster-reset required with --cluster-reset-restore-path")
    if options.value("cluster-reset-restore-path"):
        raise Fatal("the stand-in k3s cannot restore a snapshot")
    mode = options.value("egress-selector-mode", "agent")
    if mode not in ("agent", "cluster", "pod", "disabled"):
        raise Fatal(f"invalid egress-selector-mode {mode}")


def _kind(options: Options) -> str:
    if options.value("datastore-endpoint"):
        return "external"
    return "etcd" if options.is_set("cluster-init") or options.value("server") else "sqlite"


def _store(options: Options, directory: Path) -> Store:
    endpoint = options.value("datastore-endpoint")
    if not endpoint:
        return Store(directory / "db" / "state.json", shared=False)
    scheme, _, path = endpoint.partition("://")
    if scheme != "sqlite" or not path:
        driver = f"{scheme}://" if path else "this endpoint"
        raise Fatal(f"starting kubernetes: the stand-in k3s has no driver for {driver}, only for sqlite://PATH")
    return Store(Path(path.partition("?")[0]), shared=True)


def _new_authorities() -> dict[str, str]:
    files: dict[str, str] = {}
    for kind in ("server", "client"):
        pair = new_authority(kind)
        files |= {f"{kind}-ca.crt": pair.certificate, f"{kind}-ca.key": pair.key}
    return files


def _saved_token(directory: Path) -> str:
    file = directory / "token"
    return file.read_text().strip() if file.exists() else ""


def _agent_password(options: Options) -> str:
    file = options.value("agent-token-file")
    return Path(file).read_text().strip() if file else options.value("agent-token")


def _grace(options: Options) -> float:
    """Return seconds until a silent node is NotReady: 10, where Kubernetes takes 50, as labs are short."""
    text = options.component("kube-controller-manager-arg", "node-monitor-grace-period", "10s")
    return float(text.removesuffix("s"))


def _member(name: str, url: str) -> str:
    """Return a member as k3s shows it: its name in etcd, which has eight random digits at its end, and its address."""
    return f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}={_peer_url(url)}"


def _peer_url(url: str) -> str:
    """Return the address of a member in etcd, by that of its API server: etcd's port is always the same."""
    return f"https://{_bracketed(urlsplit(url).hostname or '')}:2380"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
