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
    "validate": Builtin("kairos_core.cli.validate:validate", "Check configuration files."),
    "schema": Builtin("kairos_core.cli.validate:schema", "Print the JSON schema of the configuration."),
    "start": Builtin("kairos_core.cli.start:start", "Run the agent of this machine."),
    "bridge": Builtin("kairos_core.cli.start:bridge", "Join the network as an operator, without Kubernetes."),
    "status": Builtin("kairos_core.cli.control:status", "Show this node and its network."),
    "get-kubeconfig": Builtin("kairos_core.cli.control:get_kubeconfig", "Print the kubeconfig of the cluster."),
    "role": Builtin("kairos_core.cli.control:role", "List and set the roles of nodes."),
    "uuid": Builtin("kairos_core.cli.control:uuid", "Print the peer id of this machine."),
    "ledger": Builtin("kairos_core.cli.control:ledger", "Read, write and watch the ledger."),
    "plugins": Builtin("kairos_core.cli.plugins:plugins", "List the installed plugins, or start a new one."),
    "demo": Builtin("kairos_core.cli.demo:demo", "Grow a cluster of namespaces on this machine."),
    "version": Builtin("kairos_core.cli.version:version", "Print the versions of Kairos and what it runs on."),
}

ALIASES = {"g": "generate-token", "c": "create-config"}
"""Short names that the reference's command line has."""
