"""Who holds a port, told from /proc: one of this process, and those of made-up machines."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kairos_core import Finding, Port, Verdict, examine_ports

API = Port("tcp", 6443, "the Kubernetes API", "set --https-listen-port in k3s.args")
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class Proc:
    """The /proc of a made-up machine."""

    def __init__(self, root: Path) -> None:
        self.root, self._inode = root, 100
        (root / "proc/net").mkdir(parents=True)

    def process(self, pid: int, command: str, parent: int = 1, name: str = "") -> None:
        folder = self.root / f"proc/{pid}"
        (folder / "fd").mkdir(parents=True)
        (folder / "cmdline").write_text(command.replace(" ", "\0") + "\0")
        (folder / "stat").write_text(f"{pid} ({name or command.split(maxsplit=1)[0]}) S {parent} {pid} 0 0")

    def socket(self, table: str, port: int, *pids: int, state: str = "0A", address: str = "00000000") -> None:
        self._inode += 1
        file = self.root / "proc/net" / table
        before = file.read_text() if file.exists() else HEAD
        row = f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0"
        file.write_text(f"{before}{row} {self._inode} 1 0000000000000000 100 0 0 10 0\n")
        for pid in pids:
            (self.root / f"proc/{pid}/fd/{self._inode}").symlink_to(f"socket:[{self._inode}]")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def examined(proc: Proc, *ports: Port, must: bool = True) -> Finding:
    return examine_ports("ports", ports or (API,), {"k3s"}, proc.root, must=must)


def test_a_port_that_nobody_has_is_free(proc: Proc) -> None:
    proc.process(7, "nginx")
    proc.socket("tcp", 80, 7)
    proc.socket("tcp", 6443, 7, state="01")  # a connection
    proc.socket("udp", 6443, 7)
    found = examined(proc)
    assert (found.verdict, found.message) == (Verdict.OK, "TCP 6443: free, or held by our own")


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
def test_whoever_holds_a_port_is_named_without_its_arguments(proc: Proc, table: str) -> None:
    proc.process(7, "nginx --password=hush")
    proc.socket(table, 6443, 7)
    found = examined(proc)
    assert found.verdict is Verdict.WRONG
    assert found.message == "TCP 6443, needed for the Kubernetes API, is held by nginx (process 7)"
    assert found.remedy == "stop nginx, or set --https-listen-port in k3s.args"


@pytest.mark.parametrize(
    "command",
    [
        "/usr/local/bin/k3s server",
        "/usr/bin/python3 -P /usr/bin/k3s server",
        "python -m x.k3s server",
        "/usr/local/bin/k3s\0server\0\0",
    ],
)
def test_our_own_program_may_hold_it(proc: Proc, command: str) -> None:
    proc.process(7, command)
    proc.socket("tcp6", 6443, 7)
    assert examined(proc).verdict is Verdict.OK


def test_what_our_own_program_has_started_may_hold_it_but_not_what_the_first_process_has(proc: Proc) -> None:
    proc.process(1, "k3s server", parent=0)
    proc.process(7, "k3s server")
    proc.process(8, "sh -c x", parent=7)
    proc.process(9, "kube-apiserver", parent=8)
    proc.process(10, "nginx")
    proc.socket("tcp", 6443, 9)
    assert examined(proc).verdict is Verdict.OK
    proc.socket("tcp6", 6443, 10)
    found = examined(proc)
    assert "nginx (process 10)" in found.message
    assert "apiserver" not in found.message


def test_a_socket_that_a_process_shares_with_ours_is_ours(proc: Proc) -> None:
    proc.process(7, "k3s server")
    proc.process(8, "worker")
    proc.socket("tcp", 6443, 7, 8)
    assert examined(proc).verdict is Verdict.OK


@pytest.mark.parametrize(("user", "verdict"), [(0, Verdict.WRONG), (1000, Verdict.NOTE)])
def test_a_holder_that_cannot_be_seen_is_sure_to_be_another_for_root_only(
    proc: Proc, user: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    proc.socket("tcp", 6443)
    assert (examined(proc).verdict, "cannot be seen" in examined(proc).message) == (verdict, True)


def test_several_ports_make_one_finding_and_a_note_where_another_port_will_do(proc: Proc) -> None:
    proc.process(7, "nginx")
    proc.socket("tcp", 6443, 7)
    proc.socket("udp", 51820, 7)
    vpn = Port("udp", 51820, "the VPN")
    found = examined(proc, vpn, API, Port("tcp", 9, "nothing"))
    assert found.message.index("TCP 6443") < found.message.index("UDP 51820")
    assert found.remedy.count("stop nginx") == 1
    assert examined(proc, vpn, must=False).verdict is Verdict.NOTE


def test_a_machine_without_tables_is_no_trouble(tmp_path: Path) -> None:
    assert examine_ports("ports", [API], {"k3s"}, tmp_path).verdict is Verdict.OK


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_real_socket_is_found_with_its_process(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as held:
        held.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            held.listen()
        port = Port("tcp" if kind is socket.SOCK_STREAM else "udp", held.getsockname()[1], "a test")
        found = examine_ports("ports", [port], {"nobody's"})
        assert f"(process {os.getpid()})" in found.message
    assert examine_ports("ports", [port], {"nobody's"}).verdict is Verdict.OK
