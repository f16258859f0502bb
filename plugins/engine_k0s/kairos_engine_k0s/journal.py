"""How k0s' log is read: what its lines look like, and what no waiting mends. Pure."""

from __future__ import annotations

import re
from types import MappingProxyType

from kairos_core import Journal

JOURNAL = Journal(
    program="k0s",
    start=re.compile(r"^Started .*run by Kairos"),  # systemd's words: k0s has none of its own
    lines=MappingProxyType({"fatal": re.compile(r"^Error: (.*)$")}),  # the last words of spf13/cobra
    # Wording of k0s' source (cmd/controller, pkg/token, pkg/component/worker).
    hopeless=MappingProxyType(
        {
            "401 Unauthorized": "the join token is wrong: it is that of another cluster, or it was invalidated",
            "signing request: Unauthorized": (
                "the join token is wrong: it is that of another cluster, or it was invalidated"
            ),
            "certificate signed by unknown authority": "the join token belongs to another cluster than this server",
            "wrong token type": "the join token is one for the other role (controller or worker)",
            "failed to decode": "the join token is damaged",
            "unknown flag": "k0s does not know one of the operator's arguments",
            "invalid node config": "k0s.yaml does not hold: look at k0s.config",
            "pre-flight check": "this machine lacks what k0s needs: run k0s sysinfo",
        }
    ),
    join_token=re.compile(r"\bH4sI[A-Za-z0-9+/=]{16,}|\b[a-z0-9]{6}\.[a-z0-9]{16}\b"),
)
