"""The JSON schema of a cloud-config, for editors: completion, descriptions, red underlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from kairos_core.config.blocks import CloudConfig
from kairos_core.config.legacy import LEGACY_KEYS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = "urn:kairos:cloud-config:1"


def config_schema(sections: Mapping[str, type[BaseModel]] | None = None) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of our blocks, with the sections of the installed plugins.

    Other tools' blocks are allowed beside ours; unknown keys within ours are not.
    """
    made = CloudConfig.model_json_schema(by_alias=True)
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
    for section, model in sorted((sections or {}).items()):
        _add_section(schema, section.split("."), model)
    return schema


def _legacy() -> dict[str, Any]:
    return {
        "type": "object",
        "deprecated": True,
        "description": "The spelling of 2022; use p2p.",
        "properties": {key: {"deprecated": True} for key in LEGACY_KEYS},
        "additionalProperties": False,
    }


def _add_section(schema: dict[str, Any], path: list[str], model: type[BaseModel]) -> None:
    """Lay a plugin's schema over the place of its section; where the core has keys too, both are there."""
    prefix = ".".join(path)
    # A plugin's definitions get the section as a prefix: two plugins may both call a model `Settings`.
    made = model.model_json_schema(by_alias=True, ref_template=f"#/$defs/{prefix}.{{model}}")
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
    target["additionalProperties"] = model.model_config.get("extra") == "allow"


def _child(schema: dict[str, Any], parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the schema of a key with its reference followed, made when there is none."""
    child: dict[str, Any] = parent.setdefault("properties", {}).setdefault(key, {"type": "object"})
    for candidate in (child, *child.get("anyOf", ())):
        if "$ref" in candidate:
            found: dict[str, Any] = schema["$defs"][candidate["$ref"].rpartition("/")[2]]
            return found
    return child
