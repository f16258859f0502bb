"""From the text of a file to a tree of nodes.

libyaml reads the text as a stream of events (PyYAML's CSafeLoader); the tree is composed here, because three
things matter that a plain load loses: the line of a value, a key written twice, a scalar as it was written.
Words are read as the Go programs read them that share these files: `on`, `yes` are booleans where a boolean
belongs, yet every key is text, `12:30:45` is not a number in base 60, and a date is text.

Whatever the text holds, time and memory are bounded by the three limits below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isfinite

import yaml

from kairos_core.config.document import Mark, Node, Scalar, show_key
from kairos_core.errors import ConfigError

MAX_TEXT = 1 << 20
"""Characters in one file; real ones have a few thousand. Stops a mistaken path (a disk image) early."""

MAX_DEPTH = 32
"""Levels of nesting, aliases expanded; real files have six. Bounds every recursion over the tree."""

_TOO_DEEP = f"the file is nested deeper than {MAX_DEPTH} levels. Make it flatter."

MAX_NODES = 100_000
"""Values in one file, aliases expanded. Stops "a billion laughs", aliases of aliases of aliases."""


_LIMIT_OF_LIBYAML = "maximum nesting depth"
"""What newer versions say, which read ahead of the events that they give."""


_BOOL = {
    spelling: value
    for word, value in (
        ("yes", True),
        ("on", True),
        ("true", True),
        ("no", False),
        ("off", False),
        ("false", False),
    )
    for spelling in (word, word.capitalize(), word.upper())
}
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_INT = re.compile(r"[-+]?(0x[0-9a-fA-F]{1,15}|0o?[0-7]{1,18}|0b[01]{1,60}|0|[1-9][0-9_]{0,17})")
_FLOAT = re.compile(r"[-+]?([0-9]{1,40}\.[0-9]{0,40}|\.[0-9]{1,40}|[0-9]{1,40}(?=[eE]))([eE][-+]?[0-9]{1,3})?")
_RESOLVED_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "null"))


def parse_document(name: str, text: str, order: int = 0) -> Node:
    """Read one file; an empty one is an empty mapping. Raises ConfigError with the file and the line."""
    if len(text) > MAX_TEXT:
        raise ConfigError(
            f"{name}: the file has {len(text)} characters, more than {MAX_TEXT}. "
            "Is it a cloud-config? Name another file, or split it."
        )
    composer = _Composer(name, order)
    try:
        for event in yaml.parse(text, yaml.CSafeLoader):
            composer.receive(event)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax(name, error)) from None
    except (yaml.YAMLError, UnicodeError):
        raise ConfigError(
            f"{name}: the file is not text: it holds characters that YAML forbids. Is it a cloud-config?"
        ) from None
    root = composer.root
    if root is None or (root.text is not None and root.value is None):
        return Node({}, Mark(order, name, 1))
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else "a single value"
        raise ConfigError(
            f"{root.mark}: the file holds {kind}, expected a cloud-config: keys and values, such as "
            '`p2p:` and under it `network_token: "…"`.'
        )
    return root


def _syntax(name: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    if mark and _LIMIT_OF_LIBYAML in (error.problem or ""):
        return f"{name}, line {mark.line + 1}: {_TOO_DEEP}"
    where = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
    what = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{where}: this is not YAML: {what}. Check indentation, colons and quotes here and just above."


@dataclass(slots=True)
class _Frame:
    """A list or mapping whose end has not come yet."""

    mark: Mark
    anchor: str | None
    mapping: bool
    items: list[Node] = field(default_factory=list)
    keys: dict[str, Node] = field(default_factory=dict)
    pending: str | None = None
    pending_mark: Mark | None = None
    bases: Node | None = None  # of the merge key `<<`

    def close(self) -> Node:
        for base in self._bases():
            for key, node in base.children.items():
                self.keys.setdefault(key, node)
        value: dict[str, Node] | list[Node] = self.keys if self.mapping else self.items
        children = self.keys.values() if self.mapping else self.items
        weight = 1 + sum(child.weight for child in children)
        depth = 1 + max((child.depth for child in children), default=0)
        return Node(value, self.mark, None, weight, depth)

    def _bases(self) -> Iterator[Node]:
        if self.bases is None:
            return
        bases = self.bases.value if isinstance(self.bases.value, list) else [self.bases]
        for base in bases:
            if not isinstance(base.value, dict):
                raise ConfigError(f"{base.mark}: the merge key << takes a mapping, or a list of mappings.")
            yield base


class _Composer:
    """Makes a tree of events, one at a time; the stack is its own, so no input exhausts the interpreter's."""

    def __init__(self, name: str, order: int) -> None:
        self.root: Node | None = None
        self._name, self._order = name, order
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def receive(self, event: yaml.Event) -> None:
        mark = Mark(self._order, self._name, _line(event))
        if isinstance(event, yaml.ScalarEvent):
            self._count(mark, 1, 1)
            self._scalar(event, mark)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._count(mark, 1, 1)
            self._refuse_as_key(mark)
            self._stack.append(_Frame(mark, event.anchor, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            frame = self._stack.pop()
            self._place(frame.close(), frame.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, mark)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise ConfigError(
                f"{mark}: a second YAML document starts here (---), expected one in a file. "
                "Write it into a file of its own; files are merged in the order of their names."
            )

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> None:
        if self._awaits_key:
            self._key(event.value, mark)
            return
        unquoted = event.implicit[0] or event.tag in _RESOLVED_TAGS
        self._place(Node(resolve(event.value) if unquoted else event.value, mark, event.value), event.anchor)

    @property
    def _awaits_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].mapping and self._stack[-1].pending is None

    def _key(self, key: str, mark: Mark) -> None:
        frame = self._stack[-1]
        if key in frame.keys or (key == "<<" and frame.bases is not None):
            first = frame.keys[key].mark.line if key in frame.keys else frame.mark.line
            raise ConfigError(f"{mark}: the key {show_key(key)} is written twice, first on line {first}. Remove one.")
        frame.pending, frame.pending_mark = key, mark

    def _alias(self, event: yaml.AliasEvent, mark: Mark) -> None:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            raise ConfigError(
                f"{mark}: an alias (*name) stands before, or inside, the anchor (&name) that it repeats. "
                "Write the anchor first, or put text that starts with * in quotes."
            )
        self._count(mark, node.weight, node.depth)
        if self._awaits_key and node.text is not None:
            self._key(node.text, mark)
            return
        self._refuse_as_key(mark)
        # The line of use is what an error should name; the content is shared.
        self._place(Node(node.value, mark, node.text, node.weight, node.depth), None)

    def _refuse_as_key(self, mark: Mark) -> None:
        if self._awaits_key:
            raise ConfigError(f"{mark}: a list or a mapping stands where a key belongs, expected a word and a colon.")

    def _place(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        if not frame.mapping:
            frame.items.append(node)
        elif frame.pending == "<<":
            frame.bases, frame.pending = node, None
        elif frame.pending is not None:
            # An error names the line of the key: a mapping's own mark is that of its first key, a line below.
            frame.keys[frame.pending] = replace(node, mark=frame.pending_mark or node.mark)
            frame.pending = None

    def _count(self, mark: Mark, weight: int, depth: int) -> None:
        self._nodes += weight
        if self._nodes > MAX_NODES:
            raise ConfigError(
                f"{mark}: the file has more than {MAX_NODES} values, counting what aliases repeat. "
                "Write out less, or use fewer aliases."
            )
        if len(self._stack) + depth > MAX_DEPTH:
            raise ConfigError(f"{mark}: {_TOO_DEEP}")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def resolve(text: str) -> Scalar:
    """Return what an unquoted word means: null, a boolean, a number, or itself."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return _whole_number(text.replace("_", ""))
    if _FLOAT.fullmatch(text) and isfinite(number := float(text)):
        return number
    return text


def _whole_number(text: str) -> int:
    sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-")
    octal = re.fullmatch(r"0[0-7]+", digits)  # 0755, as YAML 1.1 and C write it
    return sign * (int(digits, 8) if octal else int(digits, 0))
