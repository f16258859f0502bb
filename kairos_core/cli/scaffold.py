"""The beginning of a plugin: a project that can be published, made from the interface of its kind.

Class and methods are taken from the abstract class itself, with their contracts as docstrings, so a new plugin
always has those of the version that it is written for.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from textwrap import dedent, indent

import kairos_core
from kairos_core import interfaces
from kairos_core.errors import PluginError
from kairos_core.version import __version__

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")

_STANDARD = {
    "AsyncIterator": "collections.abc",
    "Iterable": "collections.abc",
    "Mapping": "collections.abc",
    "AbstractAsyncContextManager": "contextlib",
}
"""Where names in the signatures come from that are not ours."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a plugin of one kind is made from."""

    prefix: str  # of the package, as the built-in plugins are called
    interface: type
    check: str  # module.function in kairos_core.testing
    needs_directory: bool = False
    is_async: bool = True


PATTERNS = {
    "discovery": Pattern("discovery", interfaces.Discovery, "discoveries.check_discovery"),
    "transport": Pattern("transport", interfaces.Transport, "transports.check_transport"),
    "ledger_store": Pattern(
        "store", interfaces.LedgerStore, "stores.check_ledger_store", needs_directory=True, is_async=False
    ),
    "network": Pattern("net", interfaces.Network, "networks.check_network"),
    "engine": Pattern("engine", interfaces.Engine, "engines.check_engine"),
}


def write_project(kind: str, name: str, directory: Path) -> list[Path]:
    """Write a plugin project and return its files. Raises PluginError for a bad name or a directory in use."""
    if not _NAME.fullmatch(name):
        raise PluginError(f"{name!r} cannot be a plugin's name: begin with a letter; use a-z, 0-9 and _.")
    written = []
    try:
        if directory.exists() and any(directory.iterdir()):
            raise PluginError(f"{directory} is not empty. Name a directory that is, or that does not exist.")
        for path, text in _project(kind, name):
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            written.append(file)
    except OSError as error:
        raise PluginError(f"{directory} cannot be written: {error.strerror}. Name another directory.") from error
    return written


def _project(kind: str, name: str) -> Iterator[tuple[str, str]]:
    pattern = PATTERNS.get(kind)
    words = _words(kind, name, pattern)
    source, test = ("provider", "provider_test") if pattern else ("command", "command_test")
    yield "pyproject.toml", _filled("pyproject", words)
    yield "README.md", _filled("readme", words)
    yield f"{words['package']}/__init__.py", _filled(source, words)
    yield f"{words['package']}/py.typed", ""
    yield f"tests/test_{name}.py", _filled(test, words)


def _filled(template: str, words: dict[str, str]) -> str:
    text = files(kairos_core).joinpath("cli", "templates", f"{template}.txt").read_text()
    return Template(text).substitute(words)


def _words(kind: str, name: str, pattern: Pattern | None) -> dict[str, str]:
    package = f"kairos_{pattern.prefix if pattern else 'command'}_{name}"
    major, minor, *_ = __version__.split(".")
    words = {
        "kind": kind.replace("_", " ") if pattern else "command",
        "hook": f"register_{kind}",
        "name": name if pattern else name.replace("_", "-"),
        "function": name,
        "package": package,
        "distribution": package.replace("_", "-"),
        "core": f"kairos-core>={major}.{minor},<{major}.{int(minor) + 1}",
        "extra": ', "pytest-asyncio>=1"' if pattern and pattern.is_async else "",
    }
    return {**words, **_class_words(name, pattern)} if pattern else words


def _class_words(name: str, pattern: Pattern) -> dict[str, str]:
    interface = pattern.interface.__name__
    body = "\n\n".join(_method(method) for method in _abstract_methods(pattern.interface))
    module, _, check = pattern.check.partition(".")
    words = {word for word in re.findall(r"\w+", body) if word in kairos_core.__all__}
    ours = {word for word in words if not word.endswith("Error")}  # those stand in the docstrings
    standard = {(home, word) for word, home in _STANDARD.items() if re.search(rf"\b{word}\b", body)}
    made = f"{''.join(part.title() for part in name.split('_'))}{interface}"
    lines = [f"from {home} import {word}" for home, word in sorted(standard)]
    lines += ["from pathlib import Path"] if pattern.needs_directory else []
    return {
        "interface": interface,
        "made": made,
        "methods": indent(body, "    "),
        "init": _INIT if pattern.needs_directory else "",
        "standard": "".join(f"{line}\n" for line in lines) + "\n" * bool(lines),
        "ours": ", ".join(sorted({*ours, interface, "Register", "hookimpl"})),
        "module": module,
        "check": check,
        "test": "async def" if pattern.is_async else "def",
        "wait": "await " if pattern.is_async else "",
        "argument": "tmp_path: Path" if pattern.needs_directory else "",
        "make": f"lambda: {made}(directory=tmp_path)" if pattern.needs_directory else made,
        "test_imports": "from pathlib import Path\n\n" if pattern.needs_directory else "",
    }


_INIT = """
    def __init__(self, directory: Path) -> None:
        \"\"\"Keep everything below this directory; open nothing before the first call.\"\"\"
        self.directory = directory
"""


def _abstract_methods(interface: type) -> Iterator[str]:
    for member in vars(interface).values():
        if getattr(member, "__isabstractmethod__", False):
            yield dedent(inspect.getsource(member))


def _method(source: str) -> str:
    text = source.replace("@abstractmethod\n", "").rstrip()
    return f"{text}\n    raise NotImplementedError"
