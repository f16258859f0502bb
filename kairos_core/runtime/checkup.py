"""What `kairos doctor` looks at on this machine by itself, so that it helps where no agent runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kairos_core.config import Config
from kairos_core.errors import KairosError
from kairos_core.interfaces import Engine
from kairos_core.model import EngineState, Finding, NodePlan, Verdict
from kairos_core.ports import Port, examine_ports
from kairos_core.runtime.assembly import make_engine
from kairos_core.runtime.choice import chosen_names
from kairos_core.runtime.exposure import Document, public_documents, secrecy
from kairos_core.runtime.firewall import Passage, passage, read_ruleset, shutting_chain
from kairos_core.runtime.lan import LanAddress, lan_addresses
from kairos_core.runtime.offers import Kind
from kairos_core.runtime.plugins import Plugins
from kairos_core.runtime.preview import plans_of, possible_roles

BORN = 1735689600
"""2025-01-01 as Unix time: a clock before it was never set. Kairos did not exist then."""

ROOM = 1 << 30
"""Bytes that should be free where state, containers and images lie; below it the kubelet evicts pods."""

USUAL_PORT = 7373
"""Where peers are spoken with unless the transport's settings say otherwise."""

AGENT = frozenset(("kairos", "kairos_core.cli"))
"""What an agent's program is called in a command line."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found out about this machine; `ruleset` is None where the firewall could not be read."""

    lan: Sequence[LanAddress]
    unix_now: float
    is_root: bool
    ruleset: Sequence[Mapping[str, Any]] | None
    free: int
    public: Sequence[Document] = field(repr=False)  # what every user may read of the configuration


def look(documents: Sequence[Document], state: Path) -> Machine:
    """Find out about this machine; `documents` are the files of its configuration."""
    existing = next(each for each in (state, *state.parents) if each.exists())
    return Machine(
        lan=lan_addresses(),
        unix_now=time.time(),
        is_root=os.geteuid() == 0,
        ruleset=read_ruleset(),
        free=shutil.disk_usage(existing).free,
        public=public_documents(documents),
    )


def examine_machine(machine: Machine, config: Config) -> Iterator[Finding]:
    """Yield what is found on this machine, apart from plugins."""
    yield _lan(machine)
    yield _clock(machine)
    yield secrecy(machine.public, config)
    yield _firewall(machine, config)
    yield _room(machine)


def examine_peer_ports(config: Config) -> Finding:
    """Look who holds the ports on which peers are spoken with: the agent, if it runs.

    Where none is configured the agent takes another one, which is worth no more than a note.
    """
    number = _peer_port(config)
    remedy = "set another p2p.transport.port"
    if number is None:
        remedy = "look whether p2p.peers elsewhere name this machine: the agent takes any free port"
    ports = [Port(each, USUAL_PORT if number is None else number, "peers", remedy) for each in ("tcp", "udp")]
    return examine_ports("peer ports", ports if number != 0 else (), AGENT, must=number is not None)


def examine_plugins(config: Config, plugins: Plugins) -> Iterator[Finding]:
    """Yield what the networks and the engine that this machine would use find missing for them."""
    assert config.p2p is not None
    for kind in (Kind.NETWORK, Kind.ENGINE):
        try:
            offers = plugins.select(kind, chosen_names(kind, config, config.p2p, plugins))
        except KairosError as error:
            yield Finding(kind.noun, Verdict.WRONG, str(error), "kairos plugins list")
            continue
        for offer in offers:
            try:
                provider = offer.create(config.settings)
                yield from provider.examine(_plans(config, plugins)) if kind is Kind.ENGINE else provider.examine()
            except KairosError as error:
                yield Finding(offer.name, Verdict.WRONG, str(error))


def examine_health(config: Config, plugins: Plugins) -> Iterator[Finding]:
    """Yield how the Kubernetes does that an agent has left on this machine; nothing where none has.

    For where no agent runs: one that does looks after it, and knows more.
    """
    try:
        engine = make_engine(config, plugins)
    except KairosError:  # which `examine_plugins` has told
        return
    if engine is not None:
        try:
            finding = asyncio.run(_health(engine))
        except KairosError as error:
            finding = Finding("Kubernetes", Verdict.WRONG, str(error), "run as root")
        yield from [finding] if finding else []


async def _health(engine: Engine) -> Finding | None:
    status, service = await engine.status(), await engine.service()
    if service is None or status.state is EngineState.ABSENT:
        return None
    if status.state is EngineState.READY:
        return Finding("Kubernetes", Verdict.OK, status.message)
    if not await service.is_running():
        remedy = "kairos engine start; what went before is in: kairos engine logs"
    elif status.state is EngineState.FAILED:
        remedy = "mend that, and then: kairos engine restart"
    else:
        remedy = "wait a minute or two; if it stays so: kairos engine logs, and kairos engine restart"
    return Finding("Kubernetes", Verdict.WRONG, status.message, remedy)


def _plans(config: Config, plugins: Plugins) -> tuple[NodePlan, ...]:
    """Return what the network may let this machine run; nothing where that cannot be told, which is told elsewhere."""
    try:
        return plans_of(config, plugins, possible_roles(config, plugins))
    except KairosError:
        return ()


def _lan(machine: Machine) -> Finding:
    if not machine.lan:
        message = "no interface that leads to a LAN has an address"
        return Finding("LAN", Verdict.WRONG, message, "plug in a cable, or start DHCP: ip address")
    shown = ", ".join(f"{each.host} on {each.interface}" for each in machine.lan[:4])
    return Finding("LAN", Verdict.OK, shown)


def _clock(machine: Machine) -> Finding:
    if machine.unix_now < BORN:
        day = time.strftime("%Y-%m-%d", time.gmtime(machine.unix_now))
        message = f"this machine's clock says {day}, so it was never set; certificates are not valid yet"
        return Finding("date", Verdict.WRONG, message, "timedatectl set-ntp true")
    return Finding("date", Verdict.OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(machine.unix_now)))


def _peer_port(config: Config) -> int | None:
    """Return the port that the transport's settings name, 0: any free one, None: the usual one if it is free."""
    port: int | None = getattr(config.settings.get("p2p.transport"), "port", None)
    return port


def _firewall(machine: Machine, config: Config) -> Finding:
    port = _peer_port(config) or USUAL_PORT
    if machine.ruleset is None:
        message = "the firewall's rules cannot be read (nft, as root)"
        return Finding("firewall", Verdict.NOTE, message, f"check that UDP and TCP {port} come in")
    for protocol in ("udp", "tcp"):
        chain = shutting_chain(machine.ruleset, protocol, port)
        if chain is not None:
            message = f"the chain {chain!r} of nftables lets no {protocol.upper()} to port {port} in"
            remedy = f"nft insert rule {chain} meta l4proto '{{ tcp, udp }}' th dport {port} accept"
            return Finding("firewall", Verdict.WRONG, message, remedy)
    if Passage.UNKNOWN in (passage(machine.ruleset, protocol, port) for protocol in ("udp", "tcp")):
        message = f"the rules may or may not let UDP and TCP to port {port} in; they are not simple enough to tell"
        return Finding("firewall", Verdict.OK, message)
    return Finding("firewall", Verdict.OK, f"UDP and TCP to port {port} come in")


def _room(machine: Machine) -> Finding:
    text = f"{machine.free / (1 << 30):.1f} GiB are free"
    if machine.free < ROOM:
        return Finding("disk", Verdict.WRONG, f"{text}; pods are evicted soon", "make room in /var/lib")
    return Finding("disk", Verdict.OK, text)
