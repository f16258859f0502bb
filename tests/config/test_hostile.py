"""Whatever a file holds, the answer is a Config or a ConfigError, and no secret is in it."""

import copy
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from kairos_core.config import Config, parse_config
from kairos_core.errors import ConfigError

KEYS = [
    *(
        "p2p",
        "kubevip",
        "k3s",
        "k3s-agent",
        "hostname",
        "kairos",
        "vpn",
        "k0s",
        "network_token",
        "role",
        "peers",
    ),
    *(
        "auto",
        "ha",
        "enable",
        "master_nodes",
        "env",
        "args",
        "config",
        "plugins",
        "subnet",
        "eip",
        "<<",
        "a",
        "",
    ),
]
SECRETS = ("S3CRET-database-marker", "S3CRET-k3s-env-marker", "S3CRET-arg-marker", "S3CRET-bgp-marker")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KEYS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


class Extra(BaseModel):
    mtu: int = 1
    key: SecretStr | None = None
    parts: list[dict[str, int]] = []


SECTIONS: dict[str, type[BaseModel]] = {"p2p.vpn": Extra, "kubevip": Extra, "other.a": Extra}


def outcome(*texts: str) -> Config | str:
    try:
        return parse_config([(f"{n}.yaml", text) for n, text in enumerate(texts)], SECTIONS)
    except ConfigError as error:
        return str(error)


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_text_gives_a_config_or_a_config_error(texts: list[str]) -> None:
    outcome(*texts)


@given(st.lists(st.text("ab:-[]{}&*!|>'\"#%@ \n\t,?<~0.1eyno", max_size=120), min_size=1, max_size=2))
def test_any_text_of_yaml_s_own_characters_gives_a_config_or_a_config_error(texts: list[str]) -> None:
    outcome(*texts)


@given(st.binary(max_size=200))
def test_any_bytes_read_as_text_give_a_config_or_a_config_error(data: bytes) -> None:
    outcome(data.decode("utf-8", "replace"))
    outcome(data.decode("latin-1"))


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=5), min_size=1, max_size=3))
def test_any_tree_of_our_keys_gives_a_config_or_a_config_error(trees: list[dict[str, Any]]) -> None:
    outcome(*(yaml.safe_dump(tree) for tree in trees))


@pytest.fixture(scope="module")
def example(full_example: str) -> dict[str, Any]:
    """The full example with a marker in every place for a secret."""
    tree: dict[str, Any] = yaml.safe_load(full_example)
    tree["p2p"]["auto"]["ha"]["external_db"] = SECRETS[0]
    tree["k3s"] = {"env": {"K3S_TOKEN": SECRETS[1]}, "args": ["--token", SECRETS[2]]}
    tree["kubevip"]["config"] = {"bgpPeers": [{"password": SECRETS[3]}]}
    return tree


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(inner for key, child in below for inner in paths(child, (*path, key)))]


def holds_secret(tree: Any, secrets: tuple[str, ...]) -> bool:
    return any(secret in yaml.safe_dump(tree, width=10_000) for secret in secrets)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_secret_is_ever_in_an_error_a_warning_or_a_repr(example: dict[str, Any], data: st.DataObject) -> None:
    token = example["p2p"]["network_token"]
    secrets = (*SECRETS, token[:90])
    tree = copy.deepcopy(example)
    for _ in range(data.draw(st.integers(0, 4))):
        path = data.draw(st.sampled_from([path for path in paths(tree) if path]))
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        match data.draw(st.sampled_from(["value", "rename", "wrap", "remove"])):
            case "value" if not holds_secret(parent[path[-1]], secrets):
                parent[path[-1]] = data.draw(values)
            # A secret itself under the key of something public is shown: nothing tells it from a typing error.
            case "rename" if isinstance(parent, dict) and not isinstance(parent[path[-1]], str):
                parent[data.draw(st.sampled_from(KEYS))] = parent.pop(path[-1])
            case "wrap":
                parent[path[-1]] = [parent[path[-1]]]
            case "remove" if isinstance(parent, dict):
                del parent[path[-1]]
    found = outcome(yaml.safe_dump(tree))
    shown = found if isinstance(found, str) else f"{found!r} {found} {found.warnings} {found.settings!r}"
    for secret in secrets:
        assert secret not in shown


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_text_gives_a_config_or_a_config_error_without_the_token(
    full_example: str, token: str, data: st.DataObject
) -> None:
    text = full_example
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.text(":-[]{}&*'\"# \na1", max_size=6)) + text[start + length :]
    found = outcome(text)
    assert token[:90] not in (found if isinstance(found, str) else repr(found))
