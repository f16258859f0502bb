"""Fixtures for the whole suite."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from textwrap import dedent

import pytest

Install = Callable[..., list[EntryPoint]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Give a function that installs a one-module plugin and returns all entry points installed so far.

    The distribution is real metadata on disk, found as pip's would be; only the download is missing.
    """
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules: list[str] = []

    def add(distribution: str, source: str, *, value: str = "", version: str = "1.0") -> list[EntryPoint]:
        module = distribution.replace("-", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(dedent(source))
        meta = site / f"{module}-{version}.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (meta / "entry_points.txt").write_text(f"[kairos.plugins]\n{module} = {value or module}\n")
        importlib.invalidate_caches()
        return [
            point
            for found in distributions(path=[str(site)])
            for point in found.entry_points.select(group="kairos.plugins")
        ]

    yield add
    for name in modules:
        sys.modules.pop(name, None)
