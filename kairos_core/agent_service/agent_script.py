"""The agent as an OpenRC service under supervise-daemon. Pure; read by tests/agent_service/golden/openrc.txt."""

from __future__ import annotations

import shlex

from kairos_core.agent_service.parts import ENVIRONMENT, MARK, RUN, AgentService, File, Link, Part, environment_file

SERVICE = "kairos"
SCRIPT_FILE = f"/etc/init.d/{SERVICE}"
WANTED_BY = f"/etc/runlevels/default/{SERVICE}"
"""The link by which the script is in the default runlevel, as `rc-update add` makes it. Source: rc-update(8)."""
LOG = f"/var/log/{SERVICE}.log"

_SCRIPT = """#!/sbin/openrc-run
{mark}
{record}

description="Kairos, the agent of this node"
supervisor=supervise-daemon
name={service}
command={program}
command_args={arguments}
output_log={log}
error_log={log}
pidfile="/run/{service}.pid"
# Below the five seconds after which the other nodes take it for gone; and for ever, since nobody may be near.
respawn_delay=2
respawn_max=0
retry="SIGTERM/30/SIGKILL/5"
rc_ulimit="-n 65536"

depend() {{
    need localmount
    use net
    after network-online firewall
}}

start_pre() {{
    checkpath --directory --mode 0700 {state} {run}
    # The log says who is in the network: root alone reads it.
    checkpath --file --mode 0600 {log}
}}

set -o allexport
if [ -f {environment} ]; then . {environment}; fi
set +o allexport
"""


def openrc_parts(service: AgentService) -> tuple[Part, ...]:
    """Return what makes the agent a service of OpenRC that starts at each boot."""
    return (environment_file(), File(SCRIPT_FILE, format_script(service), 0o755), Link(WANTED_BY, SCRIPT_FILE))


def format_script(service: AgentService) -> str:
    """Return the text of the init script.

    OpenRC evaluates `command` and `command_args` in a shell once more, hence two quotings. Source: supervise_start in
    its supervise-daemon.sh.
    """
    program, *arguments = service.command()
    return _SCRIPT.format(
        mark=MARK,
        record=service.record(),
        service=SERVICE,
        program=shlex.quote(shlex.quote(program)),
        arguments=shlex.quote(shlex.join(arguments)),
        log=LOG,
        state=shlex.quote(service.state),
        run=RUN,
        environment=ENVIRONMENT,
    )
