"""Fixtures for tests with real processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kairos_core.testing.lab import Lab

ROOT = Path(__file__).parents[2]
OUTSIDE_PLUGIN = Path(__file__).parent / "outside_plugin"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheels of the core, of every built-in plugin and of the outside plugin, as for a release."""
    directory = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, *sorted(ROOT.glob("plugins/*/")), OUTSIDE_PLUGIN):
        argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
        subprocess.run(argv, cwd=project, check=True, capture_output=True)
    return directory


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of links to the libraries of this environment, without anything of Kairos.

    A fresh environment reads it through a .pth file, so it needs no network and its Kairos is only what a test
    installs.
    """
    directory = tmp_path_factory.mktemp("libraries")
    for home in {Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))}:
        for entry in home.iterdir():
            is_kairos = "kairos" in entry.name.lower()
            if not is_kairos and entry.suffix != ".pth" and not entry.name.startswith(("pip", "setuptools")):
                (directory / entry.name).symlink_to(entry)
    return directory


@pytest.fixture
def outside_venv(tmp_path: Path, wheels: Path, libraries: Path) -> Path:
    """Make a virtual environment in which plain pip has installed the core and all built-in plugins."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{libraries}\n")
    pip_install(venv, *sorted(wheels.glob("kairos_*.whl")))
    return venv


@pytest.fixture
def install_outside_plugin(wheels: Path) -> Callable[[Path], None]:
    """Give a function that installs the outside plugin, a discovery from a file, into an environment."""

    def add(venv: Path) -> None:
        pip_install(venv, *wheels.glob("acme_*.whl"))

    return add


def pip_install(venv: Path, *wheels: Path) -> None:
    """Install wheels with plain pip. Their dependencies are checked, and must be there already."""
    argv = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index"]
    done = subprocess.run([*argv, *map(str, wheels)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """An empty lab; a test adds the machines it needs."""
    async with Lab() as lab:
        yield lab
        # pytest-timeout ends a test and not its task, which would go on while the lab is taken down, and leave what it
        # has open to be complained of in whichever test comes next.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
