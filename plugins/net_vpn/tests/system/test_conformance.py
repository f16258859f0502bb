"""The VPN passes the check that every network must pass, in a namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

CHECK = """
import asyncio
from kairos_core.testing.networks import check_network
from kairos_net_vpn.network import Vpn
from kairos_net_vpn.settings import VpnSettings
asyncio.run(check_network(lambda: Vpn(VpnSettings(use={use}))))
"""


@pytest.mark.parametrize("use", [True, False])
def test_the_vpn_is_a_network_as_it_should_be(use: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("TUN devices need root")
    command = ["unshare", "--net", sys.executable, "-W", "error", "-X", "dev", "-c", CHECK.format(use=use)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
