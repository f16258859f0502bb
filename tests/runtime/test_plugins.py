"""The loader: plugins are found, isolated, checked, and chosen by configuration."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from kairos_core import ConfigError, PluginError
from kairos_core.runtime.plugins import Plugins, Record, load_plugins

GOOD = """
    from pydantic import BaseModel
    from kairos_core import Discovery, hookimpl

    class Settings(BaseModel):
        path: str = "/etc/peers"

    class FromFile(Discovery):
        def __init__(self, settings):
            self.settings = settings
        async def run(self, beacon):
            pass

    @hookimpl
    def register_discovery(register):
        register("file", FromFile, settings=Settings, section="p2p.file_discovery")
"""

ENGINE = """
    from kairos_core import Engine, hookimpl

    class Fake(Engine):
        async def installed(self): return None
        async def apply(self, plan): pass
        async def status(self): raise NotImplementedError
        async def remove(self): pass

    @hookimpl
    def register_engine(register):
        register({name!r}, Fake)
"""


def only(plugins: Plugins) -> Record:
    (record,) = plugins.records
    return record


def test_a_plugin_is_found_and_its_offer_carries_its_origin(install: Any) -> None:
    plugins = load_plugins(found=install("acme-file", GOOD, version="3.2"))
    assert only(plugins) == Record("discovery", "file", "acme_file", "acme-file", "3.2", "loaded", "")
    assert list(plugins.offers("discovery")) == ["file"]
    assert plugins.offers("engine") == {}


def test_the_installed_entry_points_are_scanned_when_none_are_given(install: Any) -> None:
    install("acme-file", GOOD)
    assert "acme-file" in {record.distribution for record in load_plugins().records}


def test_the_factory_gets_its_validated_section(install: Any) -> None:
    plugins = load_plugins(found=install("acme-file", GOOD))
    model = plugins.sections()["p2p.file_discovery"]
    made = plugins.get("discovery", "file").create({"p2p.file_discovery": model(path="/x")})
    assert made.settings.path == "/x"
    assert plugins.get("discovery", "file").create().settings.path == "/etc/peers"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library_at_all", "ModuleNotFoundError: No module named 'no_such_library_at_all'"),
        ("raise SystemExit('I leave')", "SystemExit: I leave"),
        ("def broken(:", "SyntaxError: invalid syntax (acme_bad.py, line 1)"),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_discovry(register): pass",
            "no hook is called register_discovry: did you mean register_discovery?",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef frobnicate(): pass",
            "no hook is called frobnicate: the hooks are register_discovery, register_transport, ",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\nasync def register_engine(register): pass",
            "register_engine is async, but hooks are plain functions",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(register): yield",
            "register_engine yields, but hooks are plain functions",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(registry): pass",
            "register_engine takes (registry), but its only argument is called register",
        ),
        ("def register_engine(register): pass", "register_engine is not marked as a hook"),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(register): 1 / 0",
            "ZeroDivisionError: division by zero",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(register):\n    register('A b', int)",
            "register_engine offers the name 'A b'",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(register): register('a', 3)",
            "register_engine offers 'a' with a int that cannot be called",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(register):\n"
            "    register('a', int)\n    register('a', int)",
            "register_engine offers 'a' twice",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(register):\n"
            "    register('a', int, settings=dict, section='p2p.a')",
            "settings must be a class derived from pydantic.BaseModel",
        ),
        (
            "from kairos_core import hookimpl\n@hookimpl\ndef register_engine(register):\n"
            "    register('a', int, section='p2p.a')",
            "section 'p2p.a' has no settings model",
        ),
    ],
)
def test_a_broken_plugin_fails_with_a_reason_and_the_others_stay(install: Any, source: str, reason: str) -> None:
    install("acme-bad", source)
    plugins = load_plugins(found=install("acme-file", GOOD))
    bad, good = plugins.records
    assert (bad.state, good.state) == ("failed", "loaded")
    assert bad.reason.startswith(reason)
    assert "\n" not in bad.reason
    assert set(plugins.offers("discovery")) == {"file"}


def test_a_plugin_that_fails_half_way_keeps_none_of_its_offers(install: Any) -> None:
    source = GOOD + "\n    @hookimpl\n    def register_network(register):\n        raise OSError('no tunnel')\n"
    plugins = load_plugins(found=install("acme-half", source))
    assert only(plugins).state == "failed"
    assert only(plugins).kind == "discovery, network"
    assert plugins.offers("discovery") == {}
    assert plugins.sections() == {}


def test_a_plugin_refuses_on_purpose_with_its_own_words(install: Any) -> None:
    source = "from kairos_core import PluginError\nraise PluginError('the DHT comes with 0.2')"
    record = only(load_plugins(found=install("acme-later", source)))
    assert (record.state, record.reason) == ("refused", "the DHT comes with 0.2")


def test_an_entry_point_that_leads_nowhere_is_a_reason(install: Any) -> None:
    record = only(load_plugins(found=install("acme-file", GOOD, value="acme_file:missing")))
    assert (record.state, record.reason) == (
        "failed",
        "AttributeError: module 'acme_file' has no attribute 'missing'",
    )


def test_a_plugin_may_be_an_object_with_methods(install: Any) -> None:
    source = """
        from kairos_core import hookimpl
        class Plugin:
            @property
            def boom(self): raise RuntimeError("a property ran")
            @hookimpl
            def register_engine(self, register): register("x", int)
        plugin = Plugin()
    """
    plugins = load_plugins(found=install("acme-object", source, value="acme_object:plugin"))
    assert list(plugins.offers("engine")) == ["x"]


def test_a_disabled_plugin_is_not_even_imported(install: Any) -> None:
    points = install("acme-bad", "raise SystemExit('imported')")
    for name in ("acme_bad", "acme-bad", "Acme.Bad"):
        assert only(load_plugins(disabled=[name], found=points)).state == "disabled"


def test_disabling_what_is_not_installed_is_a_warning(install: Any) -> None:
    plugins = load_plugins(disabled=["acme_fiel"], found=install("acme-file", GOOD))
    assert plugins.warnings == ("p2p.plugins.disabled names 'acme_fiel', which is not installed; installed: acme_file",)


def test_an_unknown_name_lists_what_is_installed(install: Any) -> None:
    plugins = load_plugins(found=install("acme-k3s", ENGINE.format(name="k3s")))
    with pytest.raises(PluginError) as caught:
        plugins.choose("engine", "k0s", "k3s")
    assert str(caught.value) == (
        "no engine is called 'k0s'; installed: k3s. Install the plugin that offers it, or set "
        "p2p.plugins.engine to one of the installed names."
    )


def test_an_unknown_name_points_at_the_plugin_that_failed(install: Any) -> None:
    plugins = load_plugins(found=install("engine-k0s", "import no_such_library_at_all"))
    with pytest.raises(PluginError, match="The plugin 'engine_k0s' is failed: ModuleNotFoundError"):
        plugins.choose("engine", "k0s", None)


def test_two_offers_of_one_name_set_both_aside_and_the_error_names_them(install: Any) -> None:
    install("acme-one", ENGINE.format(name="k3s"))
    install("acme-two", ENGINE.format(name="k3s"))
    plugins = load_plugins(found=install("acme-other", ENGINE.format(name="k0s")))
    assert list(plugins.offers("engine")) == ["k0s"]
    assert [r.state for r in plugins.records] == ["failed", "loaded", "failed"]
    for wanted in ("k3s", None):
        with pytest.raises(PluginError, match=r"acme-one 1\.0 and acme-two 1\.0 both offer the engine 'k3s'"):
            plugins.choose("engine", wanted, "k3s")


def test_two_plugins_cannot_read_one_section(install: Any) -> None:
    install("acme-file", GOOD)
    plugins = load_plugins(found=install("acme-twin", GOOD.replace('"file"', '"twin"')))
    assert [(r.plugin, r.state) for r in plugins.records] == [
        ("acme_file", "loaded"),
        ("acme_twin", "failed"),
    ]
    assert plugins.records[1].reason == (
        "the section p2p.file_discovery of the configuration is already read by the discovery 'file' of acme-file"
    )


def test_the_default_is_chosen_else_the_only_one_and_never_one_of_several(install: Any) -> None:
    points = install("acme-a", ENGINE.format(name="a"))
    assert load_plugins(found=[]).choose("engine", None, "k3s") is None
    alone = load_plugins(found=points).choose("engine", None, "k3s")
    assert alone is not None
    assert alone.name == "a"
    several = load_plugins(found=install("acme-b", ENGINE.format(name="b")))
    chosen = several.choose("engine", None, "b")
    assert chosen is not None
    assert chosen.name == "b"
    with pytest.raises(PluginError, match=r"which engine to use; installed: a, b\. Set p2p\.plugins\.engine"):
        several.choose("engine", None, "k3s")


def test_select_keeps_the_order_of_the_configuration(install: Any) -> None:
    install("acme-a", ENGINE.format(name="a"))
    plugins = load_plugins(found=install("acme-b", ENGINE.format(name="b")))
    assert [offer.name for offer in plugins.select("engine", ["b", "a", "b"])] == ["b", "a"]
    assert [offer.name for offer in plugins.select("engine", None)] == ["a", "b"]
    with pytest.raises(PluginError, match="no engine is called 'c'"):
        plugins.select("engine", ["c"])


def test_a_missing_required_setting_is_a_configuration_error(install: Any) -> None:
    plugins = load_plugins(found=install("acme-file", GOOD.replace('str = "/etc/peers"', "str")))
    with pytest.raises(ConfigError, match=r"the discovery 'file' needs p2p\.file_discovery\.path"):
        plugins.get("discovery", "file").create({})


def test_a_factory_that_fails_or_makes_something_else_is_a_plugin_error(install: Any) -> None:
    source = """
        from kairos_core import hookimpl
        def broken(): raise SystemExit(3)
        @hookimpl
        def register_engine(register):
            register("broken", broken)
            register("number", int)
    """
    plugins = load_plugins(found=install("acme-wrong", source))
    with pytest.raises(PluginError, match=r"the engine 'broken' cannot be made: SystemExit: 3"):
        plugins.get("engine", "broken").create()
    with pytest.raises(PluginError, match=r"'number' of acme-wrong 1\.0 made a int, expected a kairos_core Engine"):
        plugins.get("engine", "number").create()


def test_settings_of_another_section_are_not_handed_over(install: Any) -> None:
    class Other(BaseModel):
        path: str = "wrong"

    plugins = load_plugins(found=install("acme-file", GOOD))
    assert plugins.get("discovery", "file").create({"p2p.other": Other()}).settings.path == "/etc/peers"


SEVERAL = """
    from pydantic import BaseModel
    from kairos_core import Discovery, hookimpl

    class Near(BaseModel):
        port: int = 1

    class Far(BaseModel):
        port: int = 2

    class Both(Discovery):
        def __init__(self, near, far):
            self.ports = near.port, far.port
        async def run(self, beacon):
            pass

    @hookimpl
    def register_discovery(register):
        register("both", Both, settings={"p2p.near": Near, "p2p.far": Far})
"""


def test_an_offer_may_read_several_sections_in_their_order(install: Any) -> None:
    plugins = load_plugins(found=install("acme-both", SEVERAL))
    sections = plugins.sections()
    assert list(sections) == ["p2p.near", "p2p.far"]
    made = plugins.get("discovery", "both").create({"p2p.far": sections["p2p.far"](port=9)})
    assert made.ports == (1, 9)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("settings={'p2p.near': Near}, section='p2p.near'", "section 'p2p.near' is given beside settings"),
        ("settings={'p2p.near': dict}", "settings must be a class derived from pydantic.BaseModel"),
        ("settings={'p2p near': Near}", "section 'p2p near' is not a path such as 'p2p.example'"),
    ],
)
def test_wrong_sections_are_a_reason(install: Any, arguments: str, reason: str) -> None:
    source = SEVERAL.replace('settings={"p2p.near": Near, "p2p.far": Far}', arguments)
    assert only(load_plugins(found=install("acme-both", source))).reason.startswith(reason)


def test_of_two_plugins_that_share_one_of_their_sections_the_second_fails(install: Any) -> None:
    install("acme-both", SEVERAL)
    twin = GOOD.replace("p2p.file_discovery", "p2p.far")
    plugins = load_plugins(found=install("acme-file", twin))
    assert [(record.plugin, record.state) for record in plugins.records] == [
        ("acme_both", "loaded"),
        ("acme_file", "failed"),
    ]
    assert "the section p2p.far of the configuration is already read" in plugins.records[1].reason
