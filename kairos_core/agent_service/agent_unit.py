"""The agent as a systemd service. Pure; read by tests/agent_service/golden/systemd.txt."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kairos_core.agent_service.parts import ENVIRONMENT, MARK, STATE, AgentService, File, Link, Part, environment_file

UNIT = "kairos.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
WANTED_BY = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
"""The link by which the unit is enabled, as `systemctl enable` makes it. Source: systemd.unit(5), [Install]."""

DEFAULT_PLACES = ("/etc/kairos", "/oem")

_UNIT = """{mark} Yours belong into: systemctl edit {unit}
{record}
[Unit]
Description=Kairos, the agent of this node
Wants=network-online.target
After=network-online.target local-fs.target
RequiresMountsFor={places}
# A node that cannot start tries for ever: nobody may be near.
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=-{environment}
ExecStart={command}
Restart=always
# Below the five seconds after which the other nodes take it for gone.
RestartSec=2s
# Only the agent: the VPN's data plane outlives one that was killed, and the next takes it over; an orderly stop ends
# both. Kubernetes is a service of its own.
KillMode=process
TimeoutStopSec=30s
# When the kernel kills a part of it for its memory, the agent starts that part again.
OOMPolicy=continue
LimitNOFILE=65536
{state}RuntimeDirectory=kairos
RuntimeDirectoryMode=0700
# A bridge on the same machine has its socket there too.
RuntimeDirectoryPreserve=yes
# It is root, since it makes devices and services; what it never does is taken from it. Nothing here makes a mount
# namespace (Kubernetes' mounts must be those of the machine) or a system call filter, which the VPN's data plane would
# inherit and pay for with each packet; that one gives up all privileges by itself.
NoNewPrivileges=yes
CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_RAWIO CAP_SYS_PACCT

[Install]
WantedBy=multi-user.target
"""

_STATE = "StateDirectory=kairos\nStateDirectoryMode=0700\n"


def systemd_parts(service: AgentService) -> tuple[Part, ...]:
    """Return what makes the agent a service of systemd that starts at each boot."""
    return (environment_file(), File(UNIT_FILE, format_unit(service)), Link(WANTED_BY, UNIT_FILE))


def format_unit(service: AgentService) -> str:
    """Return the text of the unit."""
    return _UNIT.format(
        mark=MARK,
        unit=UNIT.removesuffix(".service"),
        record=service.record(),
        places=" ".join(map(_quoted, (*(service.configs or DEFAULT_PLACES), service.state))),
        environment=ENVIRONMENT,
        command=_command(service.command()),
        state=_STATE if service.state == STATE else "",
    )


def _command(argv: Sequence[str]) -> str:
    """Write a command line for ExecStart=, in which a dollar sign begins a variable. Source: systemd.service(5)."""
    return " \\\n    ".join(_quoted(word.replace("$", "$$")) for word in argv)


def _quoted(word: str) -> str:
    """Quote a word, in which a percent sign begins a specifier. Source: systemd.syntax(7), "Quoting"."""
    literal = word.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_@%$+=:,./-]+", literal):
        return literal
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
