"""Every hook is documented and used: a hook nobody needs is a promise nobody tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from kairos_core import hookspecs
from kairos_core.runtime.offers import Kind
from kairos_core.runtime.plugins import load_plugins

HOOKS: dict[str, Callable[..., None]] = {
    name: function
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
    if getattr(function, f"{hookspecs.PROJECT}_spec", None) is not None
}

BUILT_IN = {
    Kind.DISCOVERY: "mdns",
    Kind.TRANSPORT: "tls",
    Kind.LEDGER_STORE: "sqlite",
    Kind.NETWORK: "vpn",
    Kind.ENGINE: "k3s",
    Kind.COMMANDS: "vpn",
}


def test_there_is_one_hook_for_each_kind() -> None:
    assert set(HOOKS) == {kind.hook for kind in Kind}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_says_what_it_is_for_and_takes_only_register(name: str) -> None:
    assert inspect.getdoc(HOOKS[name])
    assert list(inspect.signature(HOOKS[name]).parameters) == ["register"]
    assert not inspect.iscoroutinefunction(HOOKS[name])


@pytest.mark.parametrize(("kind", "name"), BUILT_IN.items())
def test_a_built_in_plugin_uses_each_hook(kind: Kind, name: str) -> None:
    plugins = load_plugins()
    assert name in plugins.offers(kind), [record for record in plugins.records if record.state != "loaded"]


def test_every_kind_has_a_built_in_plugin() -> None:
    assert set(Kind) == set(BUILT_IN)
