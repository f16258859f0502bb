"""The stand-in k3s as a program: what it writes, whom it admits, what it refuses, what it survives.

Longer than other files: all of it runs the same processes, whose fixtures and helpers are here.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kairos_core.testing.k3s import install_stand_in
from kairos_core.testing.machines import free_port

pytestmark = pytest.mark.system


@dataclass
class Node:
    """One machine: a root directory, ports, and the process that runs there."""

    name: str
    root: Path
    port: int = field(default_factory=free_port)
    health: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    address: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.root / "var/lib/rancher/k3s/server/node-token").read_text().strip()

    def start(self, command: str, *argv: str, **environment: str) -> None:
        """Start it in the background; the log goes to a file."""
        own = [f"--node-name={self.name}", f"--node-ip={self.address}", f"--kubelet-arg=healthz-port={self.health}"]
        own += [f"--https-listen-port={self.port}"] if command == "server" else []
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.root / "bin/k3s", command, *own, *argv],
                stderr=log,
                stdout=log,
                env=os.environ | environment,
            )

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [self.root / "bin/k3s", *argv],
            capture_output=True, text=True, timeout=20, check=False, env=os.environ | environment,
        )  # fmt: skip

    def wait(self, words: str, times: int = 1) -> None:
        """Wait for words in the log."""
        self.until(lambda: (self.root / "log").read_text().count(words) >= times, words)

    def until(self, is_so: Callable[[], bool], what: str = "") -> None:
        end = time.monotonic() + 15
        while not is_so():
            assert time.monotonic() < end, f"{what!r} did not come: {(self.root / 'log').read_text()}"
            time.sleep(0.02)

    def nodes(self) -> dict[str, bool]:
        """Return the nodes as this server sees them: name, and whether ready."""
        done = self.run("kubectl", "get", "nodes", "-o", "json")
        items = json.loads(done.stdout)["items"] if done.returncode == 0 else []
        return {i["metadata"]["name"]: i["status"]["conditions"][0]["status"] == "True" for i in items}

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Node]]:
    made: list[Node] = []

    def node(name: str) -> Node:
        root = tmp_path / name
        install_stand_in(root / "bin", root)
        made.append(Node(name, root))
        return made[-1]

    yield node
    for each in made:
        each.kill()


@pytest.fixture
def server(make: Callable[[str], Node]) -> Node:
    first = make("first")
    first.start("server", "--cluster-init", "--tls-san=extra.example", K3S_TOKEN="secret-token")
    first.wait("k3s is up and running")
    return first


def _get(node: Node, path: str, login: str = "") -> tuple[int, str]:
    context: Any = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", node.port, timeout=5, context=context)
    connection.request("GET", path, headers={"Authorization": login} if login else {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_it_says_everywhere_that_it_is_a_stand_in(server: Node) -> None:
    assert server.run("--version").stdout.startswith("k3s version stand-in ")
    assert "stand-in" in server.run("help").stdout
    assert "stand-in" in (server.root / "log").read_text().splitlines()[0]
    assert "stand-in" in server.run("kubectl", "get", "nodes").stdout


def test_its_files_are_where_k3s_puts_them_and_for_their_owner_only(server: Node) -> None:
    kubeconfig = server.root / "etc/rancher/k3s/k3s.yaml"
    token = server.root / "var/lib/rancher/k3s/server/node-token"
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    assert token.stat().st_mode & 0o777 == 0o600
    assert server.token.startswith("K10")
    assert server.token.endswith("::server:secret-token")
    assert f"server: {server.url}" in kubeconfig.read_text()


def test_without_a_certificate_only_ping_and_the_authority_are_open(server: Node) -> None:
    assert _get(server, "/ping") == (200, "pong")
    assert _get(server, "/cacerts")[1].startswith("-----BEGIN CERTIFICATE-----")
    for path in (
        "/readyz",
        "/api/v1/nodes",
        "/version",
        "/v1-k3s/state",
        "/v1-k3s/server-bootstrap",
        "/nothing",
    ):
        assert _get(server, path)[0] == 401, path
        assert _get(server, path, "Basic not-base64!")[0] == 401, path


def test_with_the_administrators_certificate_health_and_nodes_are_open(server: Node) -> None:
    assert server.run("kubectl", "get", "--raw", "/readyz").stdout.strip() == "ok"
    server.until(lambda: server.nodes() == {"first": True})
    wide = server.run("kubectl", "get", "nodes", "-o", "wide").stdout
    assert "control-plane,etcd,master" in wide
    assert "127.0.0.1" in wide


def test_an_agent_joins_and_is_not_ready_when_it_dies(make: Callable[[str], Node]) -> None:
    first, agent = make("first"), make("agent")
    grace = "--kube-controller-manager-arg=node-monitor-grace-period=1.5s"
    first.start("server", grace, K3S_TOKEN="secret-token")
    first.wait("k3s is up and running")
    agent.start("agent", K3S_URL=first.url, K3S_TOKEN=first.token)
    agent.wait("k3s agent is up and running")
    with socket.create_connection(("127.0.0.1", agent.health), 5) as kubelet:
        kubelet.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200 OK" in kubelet.recv(1000)
    first.until(lambda: first.nodes() == {"agent": True, "first": True})
    agent.kill()
    first.until(lambda: first.nodes() == {"agent": False, "first": True})


def test_three_servers_share_the_cluster_and_go_on_without_one_but_not_without_two(
    server: Node, make: Callable[[str], Node]
) -> None:
    second, third, agent = make("second"), make("third"), make("agent")
    for joining in (second, third):
        joining.start("server", K3S_URL=server.url, K3S_TOKEN=server.token)
        joining.wait("k3s is up and running")
    agent.start("agent", K3S_URL=server.url, K3S_TOKEN=server.token)
    agent.wait("k3s agent is up and running")
    everybody = {"agent", "first", "second", "third"}
    third.until(lambda: set(third.nodes()) == everybody)
    assert second.token == third.token == server.token
    server.kill()
    third.until(lambda: third.run("kubectl", "get", "--raw", "/readyz").stdout.strip() == "ok")
    late = make("late")
    late.start("agent", K3S_URL=third.url, K3S_TOKEN=third.token)
    second.until(lambda: set(second.nodes()) == everybody | {"late"})
    second.kill()  # one of three: no majority, so no API
    third.until(lambda: third.run("kubectl", "get", "--raw", "/readyz").returncode == 1)
    server.start("server", "--cluster-init", K3S_TOKEN="secret-token")
    third.until(lambda: third.run("kubectl", "get", "--raw", "/readyz").stdout.strip() == "ok")


def test_a_restart_keeps_authority_token_and_nodes(server: Node) -> None:
    before = server.token
    assert server.process
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    server.start("server")  # neither the token nor --cluster-init need be given again
    server.wait("k3s is up and running", times=2)
    assert server.token == before
    assert "etcd" in server.run("kubectl", "get", "nodes").stdout


def test_servers_meet_in_an_external_datastore(make: Callable[[str], Node], tmp_path: Path) -> None:
    database = {"K3S_DATASTORE_ENDPOINT": f"sqlite://{tmp_path}/shared/state.db", "K3S_TOKEN": "secret-token"}
    one, two, stranger = make("one"), make("two"), make("stranger")
    one.start("server", **database)
    one.wait("k3s is up and running")
    two.start("server", **database)
    two.wait("k3s is up and running")
    one.until(lambda: one.nodes() == {"one": True, "two": True})
    assert one.token == two.token
    done = stranger.run("server", **database | {"K3S_TOKEN": "another-token"})
    assert "encrypted with different token" in done.stderr


@pytest.mark.parametrize(
    ("argv", "environment", "message"),
    [
        (["agent"], {}, "--token is required"),
        (["agent", "--token=x"], {}, "--server is required"),
        (
            ["server", "--cluster-init", "--server=https://a:1"],
            {},
            "--cluster-init cannot be used with --server",
        ),
        (["server", "--unknown"], {}, "flag provided but not defined: -unknown"),
        (["server", "--flannel-iface=nic9", "--node-ip=127.0.0.1"], {}, "failed to find the interface"),
        (["server", "--node-ip=not-an-ip"], {}, "invalid node-ip"),
        (["server", "--server=http://a:1", "--token=x", "--node-ip=127.0.0.1"], {}, "only https:// URLs"),
        (
            ["server", "--server=https://127.0.0.1:1", "--token=x", "--node-ip=::1"],
            {},
            "failed to get CA certs",
        ),
        (["server", "--server=https://127.0.0.1:1", "--node-ip=::1"], {}, "K3S_TOKEN is required to join"),
        (["server"], {"K3S_DATASTORE_ENDPOINT": "mysql://user:hidden@db"}, "no driver for mysql://"),
        (["server", "--cluster-reset"], {}, "cannot reset"),
    ],
)
def test_it_refuses_what_cannot_work(
    make: Callable[[str], Node], argv: list[str], environment: dict[str, str], message: str
) -> None:
    done = make("a").run(*argv, **environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert "hidden" not in done.stderr


def test_a_join_with_a_wrong_token_is_401(server: Node, make: Callable[[str], Node]) -> None:
    done = make("b").run("server", "--node-ip=127.0.0.1", K3S_URL=server.url, K3S_TOKEN="wrong")
    assert "server-bootstrap: 401 Unauthorized" in done.stderr
    agent = make("c")
    agent.start("agent", K3S_URL=server.url, K3S_TOKEN="wrong")
    agent.wait("server is not ready: https://127.0.0.1", times=2)
    agent.wait("401 Unauthorized")


def test_a_token_of_another_authority_is_not_even_sent(server: Node, make: Callable[[str], Node]) -> None:
    foreign = f"K10{'0' * 64}::server:secret-token"
    done = make("b").run("server", "--node-ip=127.0.0.1", K3S_URL=server.url, K3S_TOKEN=foreign)
    assert "token CA hash does not match the Cluster CA certificate hash" in done.stderr


def test_a_server_is_joined_only_under_a_name_of_its_certificate(server: Node, make: Callable[[str], Node]) -> None:
    done = make("b").run(
        "server", "--node-ip=127.0.0.1", K3S_URL=f"https://127.0.0.2:{server.port}", K3S_TOKEN="secret-token"
    )
    assert "CA cert validation failed" in done.stderr


def has_heard_of_the_rotation(node: Node) -> bool:
    return "rotations" in (node.root / "var/lib/rancher/k3s/server/db/state.json").read_text()


def started_again(node: Node, *argv: str, **environment: str) -> None:
    """Start a server again, and wait until it serves."""
    times = (node.root / "log").read_text().count("k3s is up and running")
    node.kill()
    node.start("server", *argv, **environment)
    node.wait("k3s is up and running", times + 1)


def test_a_rotated_token_is_written_at_once_and_holds_from_the_next_start_on(
    server: Node, make: Callable[[str], Node]
) -> None:
    second, agent, late = make("second"), make("agent"), make("late")
    second.start("server", K3S_URL=server.url, K3S_TOKEN=server.token)
    second.wait("k3s is up and running")
    agent.start("agent", K3S_URL=server.url, K3S_TOKEN=server.token)
    server.until(lambda: server.nodes() == {"first": True, "second": True, "agent": True})
    old = server.token
    wrong = server.run("token", "rotate", f"--server={server.url}", "--token=wrong", "--new-token=new-token")
    assert (wrong.returncode, server.token) == (1, old)
    assert "401 Unauthorized" in wrong.stderr
    done = server.run("token", "rotate", f"--server={server.url}", "--new-token=new-token")
    assert "Token rotated, restart k3s nodes with new token" in done.stdout
    assert server.token == old.replace("secret-token", "new-token")
    assert second.token == old, "the others know nothing of it"
    # Nobody who runs takes the new one.
    late.start("agent", K3S_URL=server.url, K3S_TOKEN=server.token)
    late.wait("401 Unauthorized")
    for node in (server, second):
        node.until(functools.partial(has_heard_of_the_rotation, node))
        node.kill()
        refused = node.run("server", f"--node-name={node.name}", "--node-ip=127.0.0.1", K3S_TOKEN=old)
        assert "encrypted with different token" in refused.stderr
        started_again(node, K3S_TOKEN=server.token)
    assert second.token == server.token
    server.until(lambda: server.nodes() == {"first": True, "second": True, "agent": True, "late": True})
    agent.kill()
    agent.start("agent", K3S_URL=server.url, K3S_TOKEN=old)
    agent.wait("401 Unauthorized")


def test_a_server_needs_no_token_where_its_own_was_rotated_and_the_others_do(
    server: Node, make: Callable[[str], Node]
) -> None:
    second = make("second")
    second.start("server", K3S_URL=server.url, K3S_TOKEN=server.token)
    second.wait("k3s is up and running")
    server.run("token", "rotate", f"--server={server.url}")
    assert len(server.token.rpartition(":")[2]) == 32
    started_again(server)
    second.until(lambda: has_heard_of_the_rotation(second))
    second.kill()
    done = second.run("server", "--node-name=second", "--node-ip=127.0.0.1")
    assert "encrypted with different token" in done.stderr


def test_a_token_in_the_form_of_a_bootstrap_token_is_refused(server: Node) -> None:
    old = server.token
    done = server.run("token", "rotate", f"--server={server.url}", "--new-token=abcdef.0123456789abcdef")
    assert "500 Internal Server Error" in done.stderr
    assert server.token == old


def test_a_lone_server_without_etcd_comes_back_with_any_address(make: Callable[[str], Node]) -> None:
    alone = make("alone")
    alone.start("server", K3S_TOKEN="secret-token")
    alone.wait("k3s is up and running")
    alone.address = "127.0.0.9"
    started_again(alone)
    assert "127.0.0.9" in alone.run("kubectl", "get", "nodes", "-o", "wide").stdout


def test_etcd_keeps_a_members_address_until_it_is_reset(server: Node) -> None:
    server.kill()
    server.address = "127.0.0.9"
    server.start("server")
    server.wait(
        "this server is a not a member of the etcd cluster. "
        "Found [first-a7937b64=https://127.0.0.1:2380], expect: first-a7937b64=https://127.0.0.9:2380"
    )
    assert server.nodes() == {}
    server.kill()
    reset = ("server", "--cluster-reset", "--node-name=first", "--node-ip=127.0.0.9")
    done = server.run(*reset)
    assert (done.returncode, "membership has been reset" in done.stderr) == (0, True)
    assert "must first manually delete" in server.run(*reset).stderr
    started_again(server)
    assert server.nodes() == {"first": True}


def test_one_of_several_members_with_a_new_address_is_deleted_and_joins_anew(
    server: Node, make: Callable[[str], Node]
) -> None:
    second, third = make("second"), make("third")
    for node in (second, third):
        node.start("server", K3S_URL=server.url, K3S_TOKEN=server.token)
        node.wait("k3s is up and running")
    third.kill()
    third.address = "127.0.0.9"
    third.start("server", K3S_URL=server.url, K3S_TOKEN=server.token)
    third.wait("not a member of the etcd cluster. Found [first-")
    server.until(lambda: server.nodes() == {"first": True, "second": True, "third": False}, "the others go on")
    third.kill()
    assert server.run("kubectl", "delete", "node", "third").returncode == 0
    shutil.rmtree(third.root / "var/lib/rancher/k3s/server/db")
    started_again(third, K3S_URL=server.url, K3S_TOKEN=server.token)
    server.until(lambda: server.nodes() == {"first": True, "second": True, "third": True})


def test_a_server_whose_node_is_deleted_joins_anew_with_a_server_and_else_begins_another_cluster(
    server: Node, make: Callable[[str], Node]
) -> None:
    second = make("second")
    second.start("server", K3S_URL=server.url, K3S_TOKEN=server.token)
    second.wait("k3s is up and running")
    for again, everybody in (
        (["server", f"--server={second.url}"], {"first": True, "second": True}),
        (["server", "--cluster-init"], {"first": True}),
    ):
        second.until(lambda: second.run("kubectl", "delete", "node", "first").returncode == 0, "it has a leader")
        assert server.process
        assert server.process.wait(15) != 0
        second.until(lambda: second.nodes() == {"second": True})
        server.start(*again, K3S_TOKEN=server.token)
        server.until(lambda nodes=everybody: server.nodes() == nodes)
    log = (server.root / "log").read_text()
    assert log.count("please restart k3s to rejoin the cluster") == log.count("tombstone file has been detected") == 2


def test_a_name_that_is_taken_is_refused(server: Node, make: Callable[[str], Node]) -> None:
    other = make("other")
    other.name = "first"
    other.start("agent", K3S_URL=server.url, K3S_TOKEN=server.token)
    other.wait("Node password rejected, duplicate hostname")


def test_a_lone_server_admits_no_second(make: Callable[[str], Node]) -> None:
    alone, second = make("alone"), make("second")
    alone.start("server", K3S_TOKEN="secret-token")
    alone.wait("k3s is up and running")
    done = second.run("server", "--node-ip=127.0.0.1", K3S_URL=alone.url, K3S_TOKEN=alone.token)
    assert "etcd disabled" in done.stderr


def test_a_port_in_use_ends_a_server(server: Node, make: Callable[[str], Node]) -> None:
    port = f"--https-listen-port={server.port}"
    done = make("b").run("server", port, "--node-ip=127.0.0.1", K3S_TOKEN="x")
    assert "Address already in use" in done.stderr


def test_a_node_is_deleted_and_may_come_back_with_another_password(server: Node, make: Callable[[str], Node]) -> None:
    agent = make("agent")
    agent.start("agent", K3S_URL=server.url, K3S_TOKEN=server.token)
    server.until(lambda: "agent" in server.nodes())
    agent.kill()
    assert server.run("kubectl", "delete", "node", "agent").returncode == 0
    assert "agent" not in server.nodes()
    (agent.root / "etc/rancher/node/password").unlink()
    agent.start("agent", K3S_URL=server.url, K3S_TOKEN=server.token)
    server.until(lambda: server.nodes().get("agent") is True)


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000, b""],
    ids=["half a handshake", "no TLS", "zeros", "silence"],
)
def test_clients_that_speak_nonsense_hold_up_nobody(server: Node, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 5) as stranger:
        stranger.sendall(data)
        assert _get(server, "/ping") == (200, "pong")
