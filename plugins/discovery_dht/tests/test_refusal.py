import sys
from importlib.metadata import entry_points, requires

import pytest

from kairos_core import PluginError


def test_the_plugin_refuses_to_load_and_says_what_to_use_instead() -> None:
    (entry,) = entry_points(group="kairos.plugins", name="discovery_dht")
    with pytest.raises(PluginError, match=r"DHT is not part of this version.*p2p\.peers"):
        entry.load()


def test_a_plugin_that_refused_leaves_no_half_loaded_module() -> None:
    (entry,) = entry_points(group="kairos.plugins", name="discovery_dht")
    with pytest.raises(PluginError):
        entry.load()
    assert "kairos_discovery_dht" not in sys.modules


def test_it_needs_no_library_of_its_own() -> None:
    needed = requires("kairos-discovery-dht") or []
    assert [requirement for requirement in needed if not requirement.startswith("kairos-core")] == []
