"""`k3s agent`: joins a server, says every second that it lives, goes on with another when one dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kairos_core.testing.k3s import VERSION
from kairos_core.testing.k3s.access import Access, Refusal, Unreachable
from kairos_core.testing.k3s.flags import Options
from kairos_core.testing.k3s.log import Fatal, log
from kairos_core.testing.k3s.node import Places, heartbeat_of, serve_kubelet_health
from kairos_core.testing.k3s.store import Heartbeat

BEAT = 1.0
"""Seconds between two heartbeats, and before another try to join."""


def run_agent(options: Options, environment: Mapping[str, str], stop: threading.Event) -> None:
    """Run until `stop`. Raises Fatal."""
    token = join_token(options)
    if not token:
        raise Fatal("--token is required")
    server = options.value("server")
    if not server:
        raise Fatal("--server is required")
    log("info", f"Starting k3s agent {VERSION}")
    places = Places.of(options, environment)
    heartbeat = heartbeat_of(options, places, ())
    access = join(server, token, heartbeat, stop)
    if access is None:
        return
    serve_kubelet_health(options)
    log("info", "k3s agent is up and running")
    keep_alive(access, heartbeat, stop)


def join_token(options: Options) -> str:
    """Return the token given by value or by file."""
    file = options.value("token-file")
    return Path(file).read_text().strip() if file else options.value("token")


def join(server: str, token: str, heartbeat: Heartbeat, stop: threading.Event) -> Access | None:
    """Try until admitted: like k3s', an agent with a wrong token does not give up but complains on."""
    while not stop.is_set():
        try:
            access = Access.validated(server, token, "node")
        except (Refusal, Unreachable) as error:
            log("error", f"Failed to validate connection to cluster at {server}: {error}")
        else:
            try:
                answer = _beat(access, heartbeat, is_first=True)
                # From here on k3s shows the kubelet's certificate, and not the token: that may be rotated meanwhile.
                return access.certified("kubelet", answer["certificate"])
            except (Refusal, Unreachable) as error:
                log("info", f"Waiting to retrieve agent configuration; server is not ready: {error}")
        stop.wait(BEAT)
    return None


def _beat(access: Access, heartbeat: Heartbeat, *, is_first: bool = False) -> dict[str, Any]:
    """Say that this node lives; return the addresses of all servers, and what stands for a client certificate.

    The first of a process registers the node.
    """
    body = {"ip": heartbeat.ip, "labels": heartbeat.labels, "first": is_first}
    headers = {"k3s-Node-Name": heartbeat.name, "k3s-Node-Password": heartbeat.password}
    answer: dict[str, Any] = json.loads(access.ask("POST", "/v1-k3s/node", body, headers))
    return answer


def keep_alive(access: Access, heartbeat: Heartbeat, stop: threading.Event) -> None:
    """Say every second that the node lives, to the server that answered last, until `stop`."""
    known = [access.url]
    failing = False
    while not stop.wait(BEAT):
        for url in list(known):
            try:
                answered = _beat(access.at(url), heartbeat)["servers"]
            except (Refusal, Unreachable) as error:
                if not failing:
                    log("error", f"Remote server {url} is unavailable: {error}")
                continue
            # The server that answered stays the first choice; the one given on the command line is never
            # forgotten.
            known = list(dict.fromkeys([url, *answered, access.url]))
            failing = False
            break
        else:
            failing = True
