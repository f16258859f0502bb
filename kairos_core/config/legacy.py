"""Old and mistaken spellings, rewritten to today's: files from 2022 on keep working, with a warning.

- The `kairos:` block and the `vpn:` block beside it, as the provider read them until `p2p:` replaced them.
- `p2p.ha`, which the reference's own documents show though it never was a key; meant is `p2p.auto.ha`.
- `p2p.vpn.auto`, a slip in a table of these documents; it never did anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from kairos_core.config.document import Node
from kairos_core.config.problem import Problem, dotted, unknown_key

Path = tuple[str, ...]

_VPN_OFF = (("p2p", "vpn", "create"), ("p2p", "vpn", "use"))

_MOVES: dict[Path, Path] = {
    ("kairos", "network_token"): ("p2p", "network_token"),
    ("kairos", "network_id"): ("p2p", "network_id"),
    ("kairos", "role"): ("p2p", "role"),
    ("kairos", "dns"): ("p2p", "dns"),
    ("kairos", "loglevel"): ("p2p", "loglevel"),
    ("kairos", "minimum_nodes"): ("p2p", "minimum_nodes"),
    ("kairos", "disable_dht"): ("p2p", "disable_dht"),
    ("kairos", "ha"): ("p2p", "auto", "ha"),
    ("vpn",): ("p2p", "vpn", "env"),
    ("p2p", "ha"): ("p2p", "auto", "ha"),
}
"""Old path to new path, the value unchanged."""

LEGACY_KEYS = (*(path[1] for path in _MOVES if path[0] == "kairos"), "skip_auto", "hybrid", "hybrid_vpn")
"""The keys of the `kairos:` block."""


class Modern:
    """A configuration tree in today's spelling (`root`), and what was found on the way there."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.warnings: list[str] = []
        self.problems: list[Problem] = []
        legacy = root.at(("kairos",))
        if legacy is not None and legacy.value is not None:
            self._kairos_block(legacy)
        for old, new in _MOVES.items():
            if old != ("vpn",) or legacy is not None:  # without the old block, `vpn:` is another tool's
                self._move(old, new)
        self._drop_vpn_auto()

    def _kairos_block(self, block: Node) -> None:
        if not isinstance(block.value, dict):
            self.problems.append(Problem(block.mark, "kairos", ": expected keys and values below it"))
            return
        for key, node in block.value.items():
            if key not in LEGACY_KEYS:
                self.problems.append(unknown_key(node, ("kairos", key), LEGACY_KEYS))
        self._skip_auto(block)
        self._hybrid(block)

    def _skip_auto(self, block: Node) -> None:
        node = self._flag(block, "skip_auto")
        if node is not None:
            enable = ("p2p", "auto", "enable")
            self._put(enable, _bool(node, not node.value), ("kairos", "skip_auto"))
            self._warn(node, ("kairos", "skip_auto"), f"{dotted(enable)}: {'false' if node.value else 'true'}")

    def _hybrid(self, block: Node) -> None:
        """`hybrid` meant kube-vip instead of the VPN; with `hybrid_vpn`, both."""
        hybrid, both = self._flag(block, "hybrid"), self._flag(block, "hybrid_vpn")
        off = hybrid is not None and hybrid.value is True and not (both is not None and both.value is True)
        if hybrid is not None and off:
            for path in _VPN_OFF:
                self._put(path, _bool(hybrid, False), ("kairos", "hybrid"))
        for key, node in (("hybrid", hybrid), ("hybrid_vpn", both)):
            if node is not None:
                word = "false" if off else "true"
                self._warn(node, ("kairos", key), f"p2p.vpn.create: {word} and p2p.vpn.use: {word}")

    def _flag(self, block: Node, key: str) -> Node | None:
        node = block.children.get(key)
        if node is None or node.value is None or isinstance(node.value, bool):
            return node if node is not None and node.value is not None else None
        self.problems.append(Problem(node.mark, f"kairos.{key}", ": expected true or false, without quotes"))
        return None

    def _move(self, old: Path, new: Path) -> None:
        node = self.root.at(old)
        if node is None or node.value is None:
            return
        self._warn(node, old, dotted(new))
        for path, leaf in _leaves(node, new):
            self._put(path, leaf, (*old, *path[len(new) :]))
        self.root = _without(self.root, old)

    def _put(self, path: Path, node: Node, old: Path) -> None:
        """Set a value in its new place, unless another stands there already."""
        there = self.root.at(path)
        if there is None or there.value in (None, ""):
            self.root = _with(self.root, path, node)
        elif there.plain() != node.plain():
            what = f" contradicts {dotted(path)} ({there.mark}), its new spelling. Keep only {dotted(path)}."
            self.problems.append(Problem(node.mark, dotted(old), what))

    def _warn(self, node: Node, old: Path, new: str) -> None:
        self.warnings.append(f"{node.mark}: {dotted(old)} is an old spelling; write {new}.")

    def _drop_vpn_auto(self) -> None:
        node = self.root.at(("p2p", "vpn", "auto"))
        if node is not None:
            self.warnings.append(f"{node.mark}: p2p.vpn.auto does nothing; p2p.auto is meant. Remove it.")
            self.root = _without(self.root, ("p2p", "vpn", "auto"))


def _bool(node: Node, value: bool) -> Node:
    return replace(node, value=value, text="true" if value else "false")


def _leaves(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    """Yield what is to be put where: a mapping key by key, as half of it may stand there already."""
    if not node.children:
        yield path, node
    for key, child in node.children.items():
        yield from _leaves(child, (*path, key))


def _with(node: Node, path: Path, value: Node) -> Node:
    if not path:
        return value
    child = node.children.get(path[0])
    if child is None or child.value is None:
        child = Node({}, value.mark)
    elif len(path) > 1 and not isinstance(child.value, dict):
        return node  # of the wrong type; it is reported where its block is checked
    return _changed(node, lambda keys: {**keys, path[0]: _with(child, path[1:], value)})


def _without(node: Node, path: Path) -> Node:
    child = node.children.get(path[0])
    if child is None:
        return node
    if len(path) == 1:
        return _changed(node, lambda keys: {key: kept for key, kept in keys.items() if key != path[0]})
    return _changed(node, lambda keys: {**keys, path[0]: _without(child, path[1:])})


def _changed(node: Node, change: Callable[[dict[str, Node]], dict[str, Node]]) -> Node:
    return replace(node, value=change(node.children), text=None)
