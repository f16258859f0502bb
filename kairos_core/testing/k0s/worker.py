"""`k0s worker`: joins by a token, once, and says from then on that it lives."""

from __future__ import annotations

import threading

from kairos_core.testing.k0s.controller import inner_arguments, token_text
from kairos_core.testing.k0s.flags import Options
from kairos_core.testing.k0s.places import Places, Refused
from kairos_core.testing.k0s.tokens import open_token
from kairos_core.testing.k3s.agent import join, keep_alive
from kairos_core.testing.k3s.authority import write_private
from kairos_core.testing.k3s.flags import Options as Inner
from kairos_core.testing.k3s.log import log
from kairos_core.testing.k3s.node import Places as InnerPlaces
from kairos_core.testing.k3s.node import heartbeat_of, serve_kubelet_health


def run_worker(options: Options, stop: threading.Event) -> None:
    """Run until `stop`. Raises Refused."""
    places = Places.of(options)
    kept = places.data / "kubelet.conf"
    text = token_text(options, places)
    if kept.exists():
        text = kept.read_text()  # whoever has joined keeps to that, whatever the token says now
    if not text:
        raise Refused("neither kubelet.conf nor a join token: provide one as an argument, or via --token-file")
    token = open_token(text, "worker")
    if not (places.pki / "ca.crt").exists():  # before it has joined, and never again, as k0s does
        write_private(places.pki / "ca.crt", token.authority)
    inner = Inner("agent", [f"--data-dir={places.inside}", *inner_arguments(options)], {})
    inner_places = InnerPlaces.of(inner, {"KAIROS_STAND_IN_ROOT": str(places.inside)})
    heartbeat = heartbeat_of(inner, inner_places, ())
    log("info", f"bootstrapping kubelet at {token.server}")
    access = join(token.server, token.secret, heartbeat, stop)
    if access is None:
        return
    write_private(kept, text)
    serve_kubelet_health(inner)
    keep_alive(access, heartbeat, stop)
