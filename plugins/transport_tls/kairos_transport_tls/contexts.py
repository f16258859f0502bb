"""TLS contexts: one for each accepted network key and side, made on demand and dropped with their key.

A client says which key it uses by the server name, `e493827.kairos.invalid` (`.invalid`: RFC 2606, so it is
nobody's). The label is public. The server answers with the leaf of that very key and verifies against that
key's authority alone, so a leaf of one epoch is worth nothing under another.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kairos_core import Drop, Identity, NetworkKey, TransportHost
from kairos_transport_tls.authority import Authority, leaf_pem
from kairos_transport_tls.drops import TlsDrop

ALPN = "kairos/1"
_SUFFIX = ".kairos.invalid"


def server_name(key: NetworkKey) -> str:
    """Return the name under which a client asks for this key."""
    return key.label + _SUFFIX


class _UndecodableNames:
    """Swallows one message of CPython's and passes on all others (see `sys.unraisablehook`).

    A server name that is not ASCII ends the handshake before our callback is asked, and CPython prints a
    traceback that nothing else can prevent: any stranger could fill the log. It is counted as `not_tls`.
    """

    def __init__(self, following: Callable[[sys.UnraisableHookArgs], object]) -> None:
        self._following = following

    def __call__(self, unraisable: sys.UnraisableHookArgs) -> None:
        if not (isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes)):
            self._following(unraisable)


def _bare(side: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # peers have keys and no names; the chain decides
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([ALPN])
    if side is ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # resumption would outlive the key that the session was verified under
    return context


def _load_leaf(context: ssl.SSLContext, pem: bytes) -> None:
    # The library reads keys from files only. A memory file has no name, so the key never touches a disk and
    # is gone with the descriptor, even after kill -9.
    descriptor = os.memfd_create("kairos-leaf")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@dataclass
class _Pair:
    """The contexts of one key."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def _make_pair(key: NetworkKey, identity: Identity) -> _Pair:
    authority = Authority(key)
    pem = leaf_pem(authority, identity)
    pair = _Pair(_bare(ssl.PROTOCOL_TLS_CLIENT), _bare(ssl.PROTOCOL_TLS_SERVER))
    for context in (pair.client, pair.server):
        context.load_verify_locations(cadata=authority.der)
        _load_leaf(context, pem)
    return pair


@dataclass
class Entrance:
    """The context a client meets first; it has no certificate and only leads to the one the client names.

    One serves one handshake at a time, so that what the client said is known when the handshake fails.
    """

    context: ssl.SSLContext = field(default_factory=lambda: _bare(ssl.PROTOCOL_TLS_SERVER))
    outcome: str = TlsDrop.NOT_TLS
    """Under which name to count the handshake if it ends now; what the client says changes it."""


class Contexts:
    """The contexts of a node, made from its host's network keys."""

    def __init__(self, host: TransportHost) -> None:
        self._host = host
        self._pairs: dict[str, _Pair] = {}
        self._entrances: list[Entrance] = []
        if not isinstance(sys.unraisablehook, _UndecodableNames):
            sys.unraisablehook = _UndecodableNames(sys.unraisablehook)

    def client(self, key: NetworkKey) -> ssl.SSLContext:
        """Return the context to connect with under this key."""
        return self._pair(key, self._host.network_keys()).client

    def enter(self) -> Entrance:
        """Lend an entrance for one handshake; give it back with `leave`. Costs 200 us when none is free."""
        entrance = self._entrances.pop() if self._entrances else Entrance()
        entrance.outcome = TlsDrop.NOT_TLS

        def choose(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
            server = self._server(name)
            if server is None:
                entrance.outcome = Drop.UNKNOWN_KEY
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            entrance.outcome = TlsDrop.ABANDONED
            tls.context = server
            return None

        entrance.context.sni_callback = choose
        return entrance

    def leave(self, entrance: Entrance) -> None:
        """Take an entrance back. As many are kept as handshakes were under way at once."""
        self._entrances.append(entrance)

    def _server(self, name: str | None) -> ssl.SSLContext | None:
        keys = self._host.network_keys()
        for key in keys:
            if name == server_name(key):
                return self._pair(key, keys).server
        return None

    def _pair(self, key: NetworkKey, accepted: Sequence[NetworkKey]) -> _Pair:
        labels = {accepted_key.label for accepted_key in accepted}
        for label in self._pairs.keys() - labels:
            del self._pairs[label]
        pair = self._pairs.get(key.label)
        if pair is None:
            pair = self._pairs[key.label] = _make_pair(key, self._host.identity)
        return pair
