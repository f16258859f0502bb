"""A cloud-config as a tree of nodes that know the line they stand on, and how two of them merge."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Scalar: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """Where something is written: the place of its file among the files, the file's name, the line from 1."""

    order: int
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A value and its line. `text` is a scalar as it was written, None for lists and mappings.

    Values may be secrets, so a repr shows none.
    """

    value: dict[str, Node] | list[Node] | Scalar = field(repr=False)
    mark: Mark
    text: str | None = field(default=None, repr=False)
    weight: int = field(default=1, repr=False)
    depth: int = field(default=1, repr=False)

    @property
    def children(self) -> dict[str, Node]:
        """The keys and values of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def plain(self) -> Any:
        """Return the value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def at(self, path: tuple[str | int, ...]) -> Node | None:
        """Return the node under a path of keys and list positions, None where there is none."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            if isinstance(node.value, list):
                node = node.value[part] if isinstance(part, int) and part < len(node.value) else None
            else:
                node = node.children.get(str(part))
        return node


def merge(earlier: Node, later: Node) -> Node:
    """Lay a later file over an earlier one: mappings merge, lists and scalars of the later win.

    A key without a value (`key:`) counts as not written, so it leaves what the earlier file says.
    """
    if later.value is None:
        return earlier
    if not (isinstance(earlier.value, dict) and isinstance(later.value, dict)):
        return later
    merged = dict(earlier.value)
    for key, node in later.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, later.mark)


def show_key(key: str) -> str:
    """Return a key for an error; what does not look like one may be a misplaced secret, and is not shown."""
    return key if re.fullmatch(r"[A-Za-z0-9_.<-]{1,40}", key) else f"(of {len(key)} characters)"
