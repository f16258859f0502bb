"""What k3s needs of this machine, looked at without changing anything. Source: docs.k3s.io, requirements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kairos_core import Finding, Verdict, examine_kernel

_MODULES = {"vxlan": "flannel"}


def examine(root: Path, program: str | None, *, installs: bool) -> Iterator[Finding]:
    """Yield what is as it should be, and what is not. `installs`: a missing k3s will be fetched."""
    if program is None and not installs:
        remedy = "put the k3s binary into /usr/local/bin, or set k3s.install"
        yield Finding("k3s", Verdict.WRONG, "k3s is not installed", remedy)
    else:
        yield Finding("k3s", Verdict.OK, program or "is installed at the first start")
    yield from examine_kernel(root, _MODULES)
