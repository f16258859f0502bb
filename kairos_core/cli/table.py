"""The built-in commands: where each lives, and its help in one line.

The help stands here too, so that `kairos --help` and shell completion import none of them; a test compares it
with what the command says of itself. The order is the order in which people need them.
"""

from __future__ import annotations

from typing import NamedTuple


class Builtin(NamedTuple):
    """A command: `module:attribute`, and its help in one line."""

    target: str
    help: str


COMMANDS: dict[str, Builtin] = {
    "generate-token": Builtin("kairos_core.cli.token:generate_token", "Make a network token and print it."),
    "create-config": Builtin("kairos_core.cli.token:create_config", "Print a cloud-config with a new token."),
    "validate": Builtin(
        "kairos_core.cli.validate:validate", "Check cloud-config files; without any, those of /etc/kairos and /oem."
    ),
    "schema": Builtin(
        "kairos_core.cli.validate:schema",
        "Print the JSON schema of the configuration, with the sections of the installed plugins.",
    ),
    "plan": Builtin(
        "kairos_core.cli.plan:plan", "Show what this machine would run as Kubernetes, and why, without running it."
    ),
    "start": Builtin(
        "kairos_core.cli.start:start", "Run this machine's node: find peers, take a role, start Kubernetes."
    ),
    "install": Builtin("kairos_core.cli.install:install", "Make the agent a service that starts at every boot."),
    "uninstall": Builtin("kairos_core.cli.uninstall:uninstall", "Remove the agent's service from this machine."),
    "bridge": Builtin(
        "kairos_core.cli.start:bridge", "Join the network as an operator: reach every node, and get the kubeconfig."
    ),
    "status": Builtin("kairos_core.cli.control:status", "Show this node and its network."),
    "doctor": Builtin(
        "kairos_core.cli.control:doctor", "Check this node and its network, and say what mends what is wrong."
    ),
    "get-kubeconfig": Builtin("kairos_core.cli.control:get_kubeconfig", "Print the kubeconfig of the cluster."),
    "role": Builtin("kairos_core.cli.control:role", "List and set the roles of nodes."),
    "cluster": Builtin("kairos_core.cli.control:cluster", "Give up a lost cluster, or join the other of two."),
    "leave": Builtin("kairos_core.cli.leave:leave", "Take this machine out of the cluster and the network for good."),
    "join": Builtin("kairos_core.cli.leave:join", "Let this machine take part again after it has left."),
    "uuid": Builtin("kairos_core.cli.control:uuid", "Print the peer id of this machine."),
    "engine": Builtin("kairos_core.cli.engine:engine", "Look after Kubernetes' service on this machine."),
    "ledger": Builtin("kairos_core.cli.control:ledger", "Read, write and watch the ledger."),
    "plugins": Builtin("kairos_core.cli.plugins:plugins", "List the installed plugins, or begin a new one."),
    "demo": Builtin("kairos_core.cli.demo:demo", "Grow a cluster of namespaces on this machine."),
    "version": Builtin("kairos_core.cli.version:version", "Print the versions of Kairos and what it runs on."),
}

ALIASES = {"g": "generate-token", "c": "create-config"}
"""Short names that the reference's command line has."""
