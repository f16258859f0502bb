"""The JSON schema says what the parser takes, and the reference page names every key of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from kairos_core.config import config_schema

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def keys(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dotted path and the schema of every key."""
    for key, child in node.get("properties", {}).items():
        named = schema["$defs"][child["$ref"].rpartition("/")[2]] if "$ref" in child else {}
        whole = {**named, **child}
        yield f"{path}{key}", whole
        yield from keys(schema, whole, f"{path}{key}.")


SCHEMA = config_schema()
KEYS = dict(keys(SCHEMA, SCHEMA))


def test_the_schema_names_itself_and_leaves_other_blocks_alone() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == "urn:kairos:cloud-config:1"
    assert SCHEMA["title"] == "Kairos cloud-config"
    assert SCHEMA["additionalProperties"] is True
    json.dumps(SCHEMA)


def test_our_blocks_take_no_other_keys() -> None:
    blocks = [path for path, node in KEYS.items() if "properties" in node]
    assert {"p2p", "p2p.vpn", "p2p.auto.ha", "p2p.plugins", "kubevip", "k3s", "k3s-agent"} <= set(blocks)
    assert all(KEYS[path]["additionalProperties"] is False for path in blocks)


def test_every_key_has_a_description() -> None:
    missing = [path for path, node in KEYS.items() if not path.startswith("kairos.") and "description" not in node]
    assert missing == []


def test_secrets_are_marked() -> None:
    assert KEYS["p2p.network_token"]["format"] == "password"
    assert KEYS["p2p.auto.ha.external_db"]["format"] == "password"


def test_the_alias_is_the_key_that_files_use() -> None:
    assert "k3s-agent.args" in KEYS
    assert "k3s_agent" not in KEYS


def test_internal_fields_are_not_in_the_schema() -> None:
    assert not {"settings", "warnings"} & set(KEYS)


@pytest.mark.parametrize("path", [path for path, node in KEYS.items() if "properties" not in node])
def test_the_reference_page_names_every_key(path: str) -> None:
    name = path if not path.startswith("p2p.ha.") else "p2p.ha"
    page = PAGE.read_text()
    assert f"`{name}`" in page or f"`{name}:" in page


class Part(BaseModel):
    size: int = 1


class Settings(BaseModel):
    """What the plugin reads."""

    mtu: int | None = Field(None, description="Bytes in a packet.")
    part: Part = Part()


def test_sections_of_plugins_are_added_to_their_place_only() -> None:
    sections = {"p2p.vpn": Settings, "p2p.file_discovery": Settings, "k3s": Settings}
    schema = config_schema(sections)
    found = dict(keys(schema, schema))
    assert found["p2p.vpn.mtu"] == {"description": "Bytes in a packet.", "type": "integer"}
    assert found["p2p.file_discovery"]["description"] == "What the plugin reads."
    assert "p2p.file_discovery.part.size" in found
    assert "k3s.mtu" in found
    assert "k3s-agent.mtu" not in found
    assert "p2p.vpn.create" in found
    assert "p2p.vpn.mtu" not in dict(keys(SCHEMA, config_schema()))


def test_every_reference_in_the_schema_leads_somewhere() -> None:
    schema = config_schema({"p2p.vpn": Settings})
    text = json.dumps(schema)
    for part in text.split('"#/$defs/')[1:]:
        assert part.partition('"')[0] in schema["$defs"]
