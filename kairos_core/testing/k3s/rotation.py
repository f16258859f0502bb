"""`k3s token rotate`: asks a running server to take another token. Follows k3s-io/k3s pkg/cli/token/token.go."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kairos_core.testing.k3s.access import Access, Refusal, Unreachable
from kairos_core.testing.k3s.flags import Options
from kairos_core.testing.k3s.log import Fatal
from kairos_core.testing.k3s.node import Places

PROPAGATION = 1.0
"""Seconds that k3s waits for the other members of etcd to have what was written: one that has not cannot start."""

_WARNING = (
    "WARNING: Recommended to keep a record of the old token. If restoring from a snapshot, you must use the token "
    "associated with that snapshot."
)


def rotate(options: Options, environment: Mapping[str, str]) -> None:
    """Ask, with the old token: that of this machine's server unless one is given. Raises Fatal, OSError."""
    print(_WARNING)
    saved = Places.of(options, environment).data / "server" / "token"
    token = options.value("token") or saved.read_text().strip()
    try:
        access = Access.validated(options.value("server", "https://127.0.0.1:6443"), token, "server")
        access.ask("PUT", "/v1-k3s/token", {"newToken": options.value("new-token")})
    except (Refusal, Unreachable) as error:
        raise Fatal(str(error)) from None
    time.sleep(PROPAGATION)
    print("Token rotated, restart k3s nodes with new token")
