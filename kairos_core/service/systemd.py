"""A service under systemd. The unit follows those of the installers of k3s (install.sh of k3s-io/k3s) and k0s."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kairos_core.service.definition import File, Service
from kairos_core.service.environment import format_environment
from kairos_core.service.supervisor import Supervisor, run_program

_UNIT = """# Written by Kairos; changes are overwritten. Arguments: see the {block} block of its configuration.
[Unit]
Description={title}, run by Kairos
Documentation={documentation}
Wants=network-online.target
After=network-online.target

[Service]
Type={type}
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile={environment}
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart={command}
KillMode=process
Delegate=yes
# A limit other than infinity would cost accounting in the kernel; cgroups limit containers.
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
"""


class Systemd(Supervisor):
    """Units in /etc/systemd/system; starts do not wait until the service is ready."""

    def files(self, service: Service, program: str) -> tuple[File, ...]:
        unit = f"/etc/systemd/system/{service.name}.service"
        return (
            File(unit, format_unit(service, program), 0o644),
            File(f"{unit}.env", format_environment(service.environment), 0o600),
        )

    async def start(self, service: str) -> None:
        await self._enable(service)
        await run_program("systemctl", "start", "--no-block", f"{service}.service")

    async def restart(self, service: str) -> None:
        await self._enable(service)
        await run_program("systemctl", "reset-failed", f"{service}.service", accept=(0, 1))
        await run_program("systemctl", "restart", "--no-block", f"{service}.service")

    async def stop(self, service: str) -> None:
        # 5: no such unit. Source: systemctl(1), exit status.
        await run_program("systemctl", "stop", f"{service}.service", accept=(0, 5), timeout=120.0)
        await run_program("systemctl", "disable", f"{service}.service", accept=(0, 1))

    async def is_running(self, service: str) -> bool:
        _, output = await run_program("systemctl", "show", "-p", "SubState", "--value", f"{service}.service")
        return output.strip() in ("running", "start", "start-pre", "start-post", "reload")

    async def log(self, service: str) -> str:
        _, output = await run_program("journalctl", "-u", f"{service}.service", "-o", "cat", "-n", "200", "--no-pager")
        return output

    def log_command(self, service: str, lines: int, *, follow: bool) -> tuple[str, ...]:
        flags = ("--follow",) if follow else ("--no-pager",)
        return ("journalctl", "-u", f"{service}.service", "-o", "cat", "-n", str(lines), *flags)

    async def _enable(self, service: str) -> None:
        await run_program("systemctl", "daemon-reload")
        await run_program("systemctl", "enable", f"{service}.service")


def format_unit(service: Service, program: str) -> str:
    """Return the text of the unit."""
    return _UNIT.format(
        title=service.title,
        documentation=service.documentation,
        block=service.block,
        type="notify" if service.notifies else "exec",
        environment=f"/etc/systemd/system/{service.name}.service.env",
        command=format_command((program, *service.arguments)),
    )


def format_command(argv: Sequence[str]) -> str:
    """Quote a command line for ExecStart=. Source: systemd.service(5), "Command lines"."""
    return " \\\n    ".join(_quoted(word) for word in argv)


def _quoted(word: str) -> str:
    literal = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_@%$+=:,./-]+", literal):
        return literal
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
