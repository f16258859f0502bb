"""How the plugin presents itself, and that its data plane stays light."""

from __future__ import annotations

import errno
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pluggy
import pytest
from kairos_net_vpn.device import _no_tunnel
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.network import Vpn
from kairos_net_vpn.settings import VpnSettings

from kairos_core import NetworkHost, hookspecs
from kairos_core.testing.networks import SharedLedger


def test_the_entry_point_offers_the_network_vpn() -> None:
    (point,) = entry_points(group="kairos.plugins", name="net_vpn")
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(point.load())
    offers: list[tuple[Any, ...]] = []
    manager.hook.register_network(
        register=lambda name, factory, *, settings, section: offers.append((name, factory, settings, section))
    )
    assert offers == [("vpn", Vpn, VpnSettings, "p2p.vpn")]


def test_the_data_plane_imports_neither_the_core_nor_an_event_loop() -> None:
    source = (
        "import sys, kairos_net_vpn.dataplane; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}, key=str))"
    )
    loaded = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True).stdout
    assert not {"kairos_core", "pydantic", "asyncio", "logging"} & set(loaded.split())


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.EBUSY, "an interface of this name exists"),
        (errno.EPERM, "Run as root or grant CAP_NET_ADMIN"),
        (errno.EACCES, "Run as root or grant CAP_NET_ADMIN"),
        (errno.ENOENT, "modprobe tun"),
        (errno.ENFILE, "p2p.vpn.create: false"),
    ],
)
def test_a_tunnel_that_cannot_be_made_says_what_to_do(code: int, says: str) -> None:
    message = str(_no_tunnel("kairos0", OSError(code, "reason")))
    assert message.startswith("cannot create the tunnel 'kairos0': ")
    assert says in message


async def test_create_false_does_nothing_at_all() -> None:
    host: NetworkHost = SharedLedger().host(1)
    async with Vpn(VpnSettings(create=False)).attach(host) as attachment:
        assert (attachment.interface, attachment.node_ip) == (None, None)
    assert not host.published("vpn")


def test_every_drop_is_explained_in_the_readme() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    table = readme[readme.index("## Drops") :]
    assert [drop for drop in VpnDrop if f"`{drop}`" not in table] == []


def test_every_setting_is_explained_in_the_readme() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    assert [name for name in VpnSettings.__dataclass_fields__ if f"`{name}" not in readme] == []
