"""One shared token on every machine, and a Kubernetes cluster grows by itself.

These are the names that a plugin author needs; everything else is internal. Each is loaded at its first use,
so that `kairos --help` and shell completion need not import pydantic and cryptography.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kairos_core.api.client import ApiClient
    from kairos_core.cli.columns import format_columns, print_json
    from kairos_core.cli.options import api_option, json_option
    from kairos_core.errors import (
        ConfigError,
        ControlError,
        EngineError,
        KairosError,
        NetworkError,
        PluginError,
        ProtocolError,
        StoreError,
        TransportError,
    )
    from kairos_core.hookspecs import Register, hookimpl
    from kairos_core.interfaces import (
        MAX_DATAGRAM,
        MAX_MESSAGE,
        Beacon,
        BeaconNames,
        Discovery,
        Engine,
        EngineService,
        LedgerStore,
        Network,
        NetworkHost,
        PeerLink,
        StoreBatch,
        Stream,
        Transport,
        TransportHost,
    )
    from kairos_core.kubernetes.credentials import with_server
    from kairos_core.kubernetes.health import ask_kubelet, server_health
    from kairos_core.kubernetes.kernel import examine_kernel
    from kairos_core.kubernetes.kubectl import ClusterNode, Kubectl
    from kairos_core.lan import is_lan_interface
    from kairos_core.model import (
        Address,
        Attachment,
        EngineState,
        EngineStatus,
        Finding,
        Join,
        Manifest,
        NodePlan,
        PeerId,
        Preview,
        Role,
        Step,
        StepKind,
        Verdict,
    )
    from kairos_core.ports import Port, examine_ports
    from kairos_core.protocol.drops import Drop
    from kairos_core.protocol.identity import Identity
    from kairos_core.protocol.otp import NetworkKey
    from kairos_core.service.arguments import Argument, CommandLine, argument_value
    from kairos_core.service.convergence import WantedService, converge_service
    from kairos_core.service.definition import File, Home, Service
    from kairos_core.service.detection import detect_supervisor
    from kairos_core.service.disk import Disk, DiskState
    from kairos_core.service.journal import Journal
    from kairos_core.service.program import locate_program
    from kairos_core.service.settings import ServiceSettings
    from kairos_core.service.supervised import SupervisedService
    from kairos_core.service.supervisor import Supervisor, run_program
    from kairos_core.settings import After, Before, SecretStr, Settings, Shown, setting
    from kairos_core.version import __version__

__all__ = [
    "MAX_DATAGRAM",
    "MAX_MESSAGE",
    "Address",
    "After",
    "ApiClient",
    "Argument",
    "Attachment",
    "Beacon",
    "BeaconNames",
    "Before",
    "ClusterNode",
    "CommandLine",
    "ConfigError",
    "ControlError",
    "Discovery",
    "Disk",
    "DiskState",
    "Drop",
    "Engine",
    "EngineError",
    "EngineService",
    "EngineState",
    "EngineStatus",
    "File",
    "Finding",
    "Home",
    "Identity",
    "Join",
    "Journal",
    "KairosError",
    "Kubectl",
    "LedgerStore",
    "Manifest",
    "Network",
    "NetworkError",
    "NetworkHost",
    "NetworkKey",
    "NodePlan",
    "PeerId",
    "PeerLink",
    "PluginError",
    "Port",
    "Preview",
    "ProtocolError",
    "Register",
    "Role",
    "SecretStr",
    "Service",
    "ServiceSettings",
    "Settings",
    "Shown",
    "Step",
    "StepKind",
    "StoreBatch",
    "StoreError",
    "Stream",
    "SupervisedService",
    "Supervisor",
    "Transport",
    "TransportError",
    "TransportHost",
    "Verdict",
    "WantedService",
    "__version__",
    "api_option",
    "argument_value",
    "ask_kubelet",
    "converge_service",
    "detect_supervisor",
    "examine_kernel",
    "examine_ports",
    "format_columns",
    "hookimpl",
    "is_lan_interface",
    "json_option",
    "locate_program",
    "print_json",
    "run_program",
    "server_health",
    "setting",
    "with_server",
]

# Where the names live, what is cheap to import first.
_HOMES = (
    "version",
    "errors",
    "settings",
    "hookspecs",
    "model",
    "interfaces",
    "lan",
    "protocol.drops",
    "protocol.identity",
    "protocol.otp",
    "service.definition",
    "service.supervisor",
    "service.disk",
    "service.convergence",
    "service.detection",
    "service.arguments",
    "service.journal",
    "service.program",
    "service.settings",
    "service.supervised",
    "kubernetes.credentials",
    "kubernetes.health",
    "kubernetes.kernel",
    "kubernetes.kubectl",
    "ports",
    "api.client",
    "cli.options",
    "cli.columns",
)


def __getattr__(name: str) -> Any:
    """Import the home of a public name at its first use (PEP 562)."""
    if name in __all__:
        for home in _HOMES:
            found = vars(import_module(f"{__name__}.{home}")).get(name)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
