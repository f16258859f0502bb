"""What we must know of k0s' flags to merge them: which are switches, which add up, which have a short name. Pure.

Source: docs.k0sproject.io, pages cli/k0s_controller and cli/k0s_worker, and pkg/config/cli.go of
k0sproject/k0s. A flag that is in no table here takes one value; k0s itself refuses what it does not know.
"""

from __future__ import annotations

from types import MappingProxyType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SWITCHES = _words(
    """
    debug enable-cloud-provider enable-dynamic-config enable-k0s-cloud-provider enable-metrics-scraper enable-worker
    help ignore-pre-flight-checks init-only no-taints single verbose
    """
)
"""Flags without a value (`--debug`, or `--debug=false`)."""

ADDING = _words("disable-components feature-gates labels taints")
"""Flags whose values add up when given several times."""

SHORT = MappingProxyType({"c": "config", "d": "debug", "h": "help", "l": "logging", "v": "verbose"})

TOKEN_VARIABLES = ("K0S_JOIN_TOKEN", "K0S_TOKEN")
"""Variables that hold a join token; k0s refuses them beside --token-file. Source: cmd/internal/tokendata.go."""
