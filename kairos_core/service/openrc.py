"""A service under OpenRC's supervise-daemon. Follows k3s' own installer (install.sh of k3s-io/k3s)."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from kairos_core.service.definition import File, Home, Service
from kairos_core.service.environment import format_environment
from kairos_core.service.supervisor import Supervisor, read_tail, run_program, tail_command

_SCRIPT = """#!/sbin/openrc-run
# Written by Kairos; changes are overwritten. Arguments: see the {block} block of its configuration.

description="{title}, run by Kairos"
supervisor=supervise-daemon
name={service}
command={program}
command_args={arguments}
output_log=/var/log/{service}.log
error_log=/var/log/{service}.log
pidfile="/run/{service}.pid"
respawn_delay=5
respawn_max=0

depend() {{
    after network-online
    want cgroups
}}

set -o allexport
if [ -f /etc/environment ]; then . /etc/environment; fi
. {environment}
set +o allexport
"""


class OpenRc(Supervisor):
    """Scripts in /etc/init.d, started in the default runlevel."""

    def __init__(self, home: Home, root: Path = Path("/")) -> None:
        self._home, self._root = home, root

    def files(self, service: Service, program: str) -> tuple[File, ...]:
        environment = f"{self._home.settings}/{service.name}.env"
        return (
            File(f"/etc/init.d/{service.name}", format_script(service, program, environment), 0o755),
            File(environment, format_environment(service.environment), 0o600),
        )

    async def start(self, service: str) -> None:
        await run_program("rc-update", "add", service, "default")
        await run_program("rc-service", service, "start")

    async def restart(self, service: str) -> None:
        await run_program("rc-update", "add", service, "default")
        await run_program("rc-service", service, "restart", timeout=120.0)

    async def stop(self, service: str) -> None:
        await run_program("rc-service", "--ifexists", service, "stop", timeout=120.0)
        await run_program("rc-update", "delete", service, "default", accept=(0, 1))

    async def is_running(self, service: str) -> bool:
        # 3: stopped, 4: crashed-or-unsupervised, 32: crashed, 1: no such service. Source: openrc-run(8).
        code, _ = await run_program("rc-service", service, "status", accept=(0, 1, 3, 4, 32))
        return code == 0

    async def log(self, service: str) -> str:
        return await asyncio.to_thread(read_tail, self._root / f"var/log/{service}.log")

    def log_command(self, service: str, lines: int, *, follow: bool) -> tuple[str, ...]:
        return tail_command(self._root / f"var/log/{service}.log", lines, follow=follow)


def format_script(service: Service, program: str, environment: str) -> str:
    """Return the text of the init script. OpenRC evaluates `command_args` in a shell, hence two quotings."""
    return _SCRIPT.format(
        title=service.title,
        block=service.block,
        service=service.name,
        program=shlex.quote(program),
        arguments=shlex.quote(shlex.join(service.arguments)),
        environment=environment,
    )
