"""The JSON schema of a cloud-config, for editors: completion, descriptions, red underlines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from kairos_core.config.blocks import CloudConfig
from kairos_core.config.legacy import LEGACY_KEYS
from kairos_core.config.shape import Model, is_open

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = "urn:kairos:cloud-config:1"


def config_schema(sections: Mapping[str, Model] | None = None) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of our blocks, with the sections of the installed plugins.

    Other tools' blocks are allowed beside ours; unknown keys within ours are not.
    """
    made = TypeAdapter(CloudConfig).json_schema(schema_generator=_ForEditors)
    definitions: dict[str, Any] = made.pop("$defs", {})
    schema = {
        "$schema": DIALECT,
        "$id": SCHEMA_ID,
        **made,
        "title": "Kairos cloud-config",
        "additionalProperties": True,
        "$defs": definitions,
    }
    schema["properties"]["kairos"] = _legacy()
    p2p = _child(schema, schema, "p2p")
    p2p["properties"]["ha"] = {"$ref": "#/$defs/Ha", "deprecated": True, "description": "Write p2p.auto.ha."}
    for section, model in sorted((sections or {}).items()):
        _add_section(schema, section.split("."), model)
    _prune(schema)
    return schema


class _ForEditors(GenerateJsonSchema):
    """Leaves out what clutters an editor: made-up titles, and null, since one leaves a key out instead."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made


def _legacy() -> dict[str, Any]:
    return {
        "type": "object",
        "deprecated": True,
        "description": "The spelling of 2022; use p2p.",
        "properties": {key: {"deprecated": True} for key in LEGACY_KEYS},
        "additionalProperties": False,
    }


def _add_section(schema: dict[str, Any], path: list[str], model: Model) -> None:
    """Lay a plugin's schema over the place of its section; where the core has keys too, both are there."""
    prefix = ".".join(path)
    # A plugin's definitions get the section as a prefix: two plugins may both call a model `Settings`.
    made = TypeAdapter(model).json_schema(ref_template=f"#/$defs/{prefix}.{{model}}", schema_generator=_ForEditors)
    for name, definition in made.pop("$defs", {}).items():
        schema["$defs"][f"{prefix}.{name}"] = definition
    target = schema
    for key in path:
        target = _child(schema, target, key)
    for key, value in made.get("properties", {}).items():
        target.setdefault("properties", {}).setdefault(key, value)
    target.setdefault("type", "object")
    if "description" in made:
        target.setdefault("description", made["description"])
    target["additionalProperties"] = is_open(model)


def _child(schema: dict[str, Any], parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the schema of a key, made when there is none, to be changed in place.

    A reference is replaced by a copy of what it names: `k3s` and `k3s-agent` share one definition, and a
    plugin may add to one of them only.
    """
    child: dict[str, Any] = parent.setdefault("properties", {}).setdefault(key, {"type": "object"})
    reference = child.pop("$ref", None)
    if reference is not None:
        definition = deepcopy(schema["$defs"][reference.rpartition("/")[2]])
        child.update({**definition, **child})
    return child


def _prune(schema: dict[str, Any]) -> None:
    """Remove definitions that nothing refers to any more."""
    used = json.dumps(schema)
    unused = [name for name in schema["$defs"] if f'"#/$defs/{name}"' not in used]
    for name in unused:
        del schema["$defs"][name]
    if unused:
        _prune(schema)
