"""From the text of cloud-config files to a `Config`, or to one error that says everything that is wrong.

Steps: read each file, lay the later over the earlier, rewrite old spellings, look for unknown keys, then let
the models check the values: ours first, then those of the plugins, each for its section.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from kairos_core.config.advice import advice
from kairos_core.config.blocks import CloudConfig, Config
from kairos_core.config.composer import parse_document
from kairos_core.config.document import Mark, Node, merge
from kairos_core.config.legacy import Modern
from kairos_core.config.problem import Problem, from_validation, nearest, raise_any, unknown_key
from kairos_core.config.shape import Model, fields, is_open, models, select
from kairos_core.errors import ConfigError

Sections: TypeAlias = Mapping[str, Model]

_OURS = tuple(fields(CloudConfig))

OTHER_TOOLS = frozenset(
    (
        *("boot", "bundles", "cloud-init-paths", "debug", "env", "fs", "growpart", "initramfs", "install"),
        *("k0s", "k0s-worker", "kairos", "kcrypt", "logs", "name", "network", "network_config", "options"),
        *("recovery", "reset", "rootfs", "runcmd", "ssh_authorized_keys", "stages", "strict", "system"),
        *("timezone", "upgrade", "users", "vpn", "write_files"),
    )
)
"""Blocks of a cloud-config that others read; never taken for a misspelt one of ours."""


def parse_config(documents: Sequence[tuple[str, str]], sections: Sections | None = None) -> Config:
    """Read cloud-config files, given as (name, text) in the order of their names.

    Mappings of several files merge; lists and scalars of the later file win. `sections` are the settings
    models of the installed plugins by the path of the section that each reads ("p2p.mdns"). A section that
    is absent, and whose model has keys without default, is left out of `Config.settings`.

    Raises ConfigError: up to five lines, each with file, line, path, what is wrong and what was expected. It
    shows no secret.
    """
    sections = sections or {}
    modern = Modern(_read(documents))
    problems = [*modern.problems, *_unknown_keys(modern.root, sections), *_missing_engines(modern.root, sections)]
    config, found = _core(modern.root)
    settings, refused = _settings(modern.root, sections)
    raise_any([*problems, *found, *refused])
    assert config is not None
    warnings = (*modern.warnings, *_misspelt_blocks(modern.root, sections), *advice(config, modern.root))
    ours = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return Config(**ours, settings=settings, warnings=warnings)


def _read(documents: Sequence[tuple[str, str]]) -> Node:
    roots, errors = [Node({}, Mark(0, documents[0][0] if documents else "no file", 1))], []
    for order, (name, text) in enumerate(documents):
        try:
            roots.append(parse_document(name, text, order))
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors[:5]))
    return reduce(merge, roots)


def _core(root: Node) -> tuple[CloudConfig | None, list[Problem]]:
    try:
        return _validate(CloudConfig, root), []
    except ValidationError as error:
        return None, from_validation(error, root, CloudConfig)


def _settings(root: Node, sections: Sections) -> tuple[dict[str, object], list[Problem]]:
    settings: dict[str, object] = {}
    problems: list[Problem] = []
    for section, model in sections.items():
        path = tuple(section.split("."))
        node = root.at(path)
        present = node is not None and node.value is not None
        try:
            settings[section] = _validate(model, node if node is not None and present else Node({}, root.mark))
        except ValidationError as error:
            if present:
                problems.extend(from_validation(error, root, model, path))
        except ConfigError as error:  # a plugin's validator speaks for itself
            mark = node.mark if node is not None else root.mark
            problems.append(Problem(mark, section, f": {error}"))
    return settings, problems


def _validate(model: Model, node: Node) -> Any:
    """Validate strictly, as JSON: "yes" is no boolean and "2" no number, yet "10.1.0.0/24" is a network."""
    return TypeAdapter(model).validate_json(json.dumps(select(node, model)), strict=True)


def _unknown_keys(root: Node, sections: Sections) -> Iterator[Problem]:
    for block in _blocks(sections):
        node = root.at((block,))
        if node is not None:
            yield from _unknown_below(node, (block,), sections)


def _missing_engines(root: Node, sections: Sections) -> Iterator[Problem]:
    """Refuse what the reference would run and nothing here does: a block of k0s that is enabled, without its plugin."""
    for block in ("k0s", "k0s-worker"):
        node = root.at((block, "enabled"))
        if block not in sections and node is not None and node.value is True:
            what = " is true, but no engine for k0s is installed. Install kairos-engine-k0s, or use the k3s block."
            yield Problem(node.mark, f"{block}.enabled", what)


def _blocks(sections: Sections) -> tuple[str, ...]:
    """The top-level keys that are ours or a plugin's."""
    return tuple(dict.fromkeys((*_OURS, *(section.partition(".")[0] for section in sections))))


def _unknown_below(node: Node, path: tuple[str, ...], sections: Sections) -> Iterator[Problem]:
    here = _models_at(path, sections)
    known = set(_known_keys(path, here, sections))
    if not known or any(is_open(model) for model in here):
        return  # a map of any keys, such as `env`
    for key, child in node.children.items():
        if key not in known:
            yield unknown_key(child, (*path, key), known)
            continue
        items = child.value if isinstance(child.value, list) else [child]
        for item in items:
            yield from _unknown_below(item, (*path, key), sections)


def _known_keys(path: tuple[str, ...], here: Sequence[Model], sections: Sections) -> Iterator[str]:
    for model in here:
        yield from fields(model)
    prefix = ".".join(path) + "."
    for section in sections:
        if section.startswith(prefix):
            yield section.removeprefix(prefix).partition(".")[0]


def _models_at(path: tuple[str, ...], sections: Sections) -> tuple[Model, ...]:
    """Return the models that read the keys below a path: the core's, a plugin's, or both."""
    found: list[Model] = [CloudConfig]
    for length, key in enumerate(path, 1):
        inner = [fields(model)[key].annotation for model in found if key in fields(model)]
        found = [model for annotation in inner for model in models(annotation)]
        section = sections.get(".".join(path[:length]))
        found += [section] if section is not None else []
    return tuple(found)


def _misspelt_blocks(root: Node, sections: Sections) -> Iterator[str]:
    blocks = _blocks(sections)
    for key, node in root.children.items():
        meant = None if key in blocks or key in OTHER_TOOLS else nearest(key, blocks)
        if meant is not None:
            yield f"{node.mark}: the block {key} is not read by Kairos; if {meant} is meant, write it so."
