"""One shared token on every machine, and a Kubernetes cluster grows by itself.

These are the names that a plugin author needs; everything else is internal.
"""

from kairos_core.errors import (
    ConfigError,
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
    LedgerStore,
    Network,
    NetworkHost,
    PeerLink,
    StoreBatch,
    Stream,
    Transport,
    TransportHost,
)
from kairos_core.lan import is_lan_interface
from kairos_core.model import (
    Address,
    Attachment,
    EngineState,
    EngineStatus,
    Join,
    Manifest,
    NodePlan,
    PeerId,
    Role,
)
from kairos_core.version import __version__

__all__ = [
    "MAX_DATAGRAM",
    "MAX_MESSAGE",
    "Address",
    "Attachment",
    "Beacon",
    "BeaconNames",
    "ConfigError",
    "Discovery",
    "Engine",
    "EngineError",
    "EngineState",
    "EngineStatus",
    "Join",
    "KairosError",
    "LedgerStore",
    "Manifest",
    "Network",
    "NetworkError",
    "NetworkHost",
    "NodePlan",
    "PeerId",
    "PeerLink",
    "PluginError",
    "ProtocolError",
    "Register",
    "Role",
    "StoreBatch",
    "StoreError",
    "Stream",
    "Transport",
    "TransportError",
    "TransportHost",
    "__version__",
    "hookimpl",
    "is_lan_interface",
]
