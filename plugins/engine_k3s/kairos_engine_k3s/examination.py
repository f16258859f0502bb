"""What k3s needs of this machine, looked at without changing anything. Source: docs.k3s.io, requirements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kairos_core import Finding, Port, Verdict, argument_value, examine_kernel, examine_ports
from kairos_engine_k3s.arguments import component_value
from kairos_engine_k3s.launch import Launch

_MODULES = {"vxlan": "flannel"}
_OURS = frozenset(("k3s",))


def examine(root: Path, program: str | None, *, installs: bool) -> Iterator[Finding]:
    """Yield what is as it should be, and what is not. `installs`: a missing k3s will be fetched."""
    if program is None and not installs:
        remedy = "put the k3s binary into /usr/local/bin, or set k3s.install"
        yield Finding("k3s", Verdict.WRONG, "k3s is not installed", remedy)
    else:
        yield Finding("k3s", Verdict.OK, program or "is installed at the first start")
    yield from examine_kernel(root, _MODULES)


def examine_launches(root: Path, launches: Iterable[Launch]) -> Finding:
    """Look who holds the ports that any of these launches needs: k3s, if it runs."""
    ports = dict.fromkeys(port for launch in launches for port in ports_of(launch))
    return examine_ports("Kubernetes ports", tuple(ports), _OURS, root)


def ports_of(launch: Launch) -> Iterator[Port]:
    """Yield the ports that k3s is going to listen on. Source: docs.k3s.io, cli/server and cli/agent."""
    block = "k3s.args" if launch.is_server else "k3s-agent.args"
    kubelet = _number(component_value(launch.arguments, "kubelet-arg", "port"), 10250)
    yield Port("tcp", kubelet, "the kubelet", f"set --kubelet-arg=port=NUMBER in {block}")
    if launch.is_server:
        server = _number(argument_value(launch.arguments, "https-listen-port"), 6443)
        yield Port("tcp", server, "the Kubernetes API", "set --https-listen-port in k3s.args of all masters")
        yield Port("tcp", server + 1, "the API server behind it", "set --https-listen-port in k3s.args of all masters")
    else:
        balancer = _number(argument_value(launch.arguments, "lb-server-port"), 6444)
        yield Port("tcp", balancer, "the way to the API servers", "set --lb-server-port in k3s-agent.args")
    if launch.has_etcd:
        yield from (Port("tcp", number, "etcd") for number in (2379, 2380))


def _number(text: str | None, usual: int) -> int:
    return int(text) if text and text.isdecimal() else usual
