"""What Debian's avahi sees of a node: another implementation of the same standards, from another machine."""

import asyncio
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from kairos_discovery_mdns import MdnsDiscovery

from kairos_core.testing.discoveries import FakeBeacon, rendezvous_name

pytestmark = pytest.mark.system

_BUS = """<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*" eavesdrop="true"/><allow receive_sender="*" eavesdrop="true"/></policy>
</busconfig>
"""
_AVAHI = "[server]\nhost-name=observer\nuse-ipv4=yes\nuse-ipv6=yes\nallow-interfaces=eth0\n"
# In a mount and a process namespace of its own: /run is private, and all daemons end with the script.
_BROWSE = """
mount -t tmpfs none /run && mkdir -p /run/dbus /run/avahi-daemon && mount --make-private /run
dbus-daemon --nofork --config-file={bus} &
for n in $(seq 50); do [ -S /run/dbus/system_bus_socket ] && break; sleep 0.1; done
avahi-daemon --no-drop-root --no-chroot --no-rlimits -f {avahi} 2>/dev/null &
for n in $(seq 50); do avahi-browse -a -t -p >/dev/null 2>&1 && break; sleep 0.1; done
for n in $(seq 20); do
    found=$(avahi-browse -r -t -p _kairos._udp 2>/dev/null | grep '^=')
    [ $(echo "$found" | grep -c .) -ge 2 ] && break
    sleep 0.3
done
echo "$found"
"""


def browse(machine: str, directory: Path) -> list[list[str]]:
    """Return the resolved services, each as the ten fields that avahi-browse prints."""
    (directory / "bus.conf").write_text(_BUS)
    (directory / "avahi.conf").write_text(_AVAHI)
    script = _BROWSE.format(bus=directory / "bus.conf", avahi=directory / "avahi.conf")
    command = ["ip", "netns", "exec", machine, "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run([*command, "sh", "-c", script], check=False, capture_output=True, text=True, timeout=60)
    return [line.split(";") for line in done.stdout.splitlines() if line.startswith("=")]


def test_avahi_sees_the_service_by_ipv4_and_ipv6_and_nothing_that_names_the_machine(lan, tmp_path) -> None:
    missing = [tool for tool in ("avahi-daemon", "avahi-browse", "dbus-daemon") if not shutil.which(tool)]
    assert not missing, f"{missing} are missing; install avahi-daemon, avahi-utils and dbus"

    async def announce() -> list[list[str]]:
        task = asyncio.create_task(MdnsDiscovery().run(FakeBeacon("ours", 7373)))
        seen = await asyncio.to_thread(browse, lan[1].name, tmp_path)
        task.cancel()
        await asyncio.wait([task])
        return seen

    seen = lan[0].start(announce).result(90)
    assert {line[2] for line in seen} == {"IPv4", "IPv6"}, seen
    for _, link, _, name, kind, domain, host, address, port, text in seen:
        assert (link, kind, domain, port, text) == ("eth0", "_kairos._udp", "local", "7373", '"v=1"')
        assert name.startswith(rendezvous_name("ours", 1) + "-")
        assert re.fullmatch(r"[a-z2-7]{16}\.local", host)
        assert socket.gethostname() not in host
        assert address == "10.77.0.1" or address.startswith("fe80:")
