"""Every error that Kairos raises on purpose.

    KairosError
    ├── ConfigError      the operator's file, flag or token is wrong
    ├── PluginError      a plugin is missing, broken, or named twice
    ├── ProtocolError    a peer's bytes break the rules: counted, never fatal
    ├── TransportError   a peer cannot be reached, or left
    ├── StoreError       the ledger cannot be read or written on this disk
    ├── NetworkError     an interface, address or route cannot be made
    ├── EngineError      Kubernetes cannot be installed, started or asked
    ├── ServiceError     the agent's service cannot be installed, started or removed
    └── ControlError     a command cannot be carried out by the running agent

A message says what happened (with the value), why or what was expected, and what to do next. No message
carries a secret. The command line prints it as one line and exits with 1.
"""


class KairosError(Exception):
    """The base of all errors that Kairos raises on purpose."""


class ConfigError(KairosError):
    """The operator's configuration, flag or token is wrong."""


class PluginError(KairosError):
    """A plugin is missing, broken, or offers a name that another offers too."""


class ProtocolError(KairosError):
    """A peer's bytes break the rules.

    `drop` is the name under which the loss is counted (see `kairos_core.protocol.drops.Drop`).
    """

    def __init__(self, drop: str, detail: str = "") -> None:
        super().__init__(f"{drop}: {detail}" if detail else str(drop))
        self.drop = str(drop)


class TransportError(KairosError):
    """A peer cannot be reached, refused us, or left."""


class StoreError(KairosError):
    """The ledger cannot be read from or written to this disk."""


class NetworkError(KairosError):
    """An interface, an address or a route cannot be made."""


class EngineError(KairosError):
    """Kubernetes cannot be installed, started or asked."""


class ServiceError(KairosError):
    """The agent's service cannot be installed, started, stopped or removed on this machine."""


class ControlError(KairosError):
    """A command cannot be carried out by the running agent, or none is running."""
