"""Kairos Kubernetes engine: k3s."""

from kairos_core import Engine, Register, hookimpl
from kairos_engine_k3s.engine import K3sEngine
from kairos_engine_k3s.settings import AgentSettings, ServerSettings

__all__ = ["AgentSettings", "K3sEngine", "ServerSettings"]


@hookimpl
def register_engine(register: Register[Engine]) -> None:
    """Offer the engine "k3s", configured by the blocks `k3s` and `k3s-agent`."""
    register("k3s", K3sEngine, settings={"k3s": ServerSettings, "k3s-agent": AgentSettings})
