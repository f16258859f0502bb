"""Kairos Kubernetes engine: k0s."""

from kairos_core import Engine, Register, hookimpl
from kairos_engine_k0s.engine import K0sEngine
from kairos_engine_k0s.settings import ControllerSettings, WorkerSettings

__all__ = ["ControllerSettings", "K0sEngine", "WorkerSettings"]


@hookimpl
def register_engine(register: Register[Engine]) -> None:
    """Offer the engine "k0s", configured by the blocks `k0s` and `k0s-worker`."""
    register("k0s", K0sEngine, settings={"k0s": ControllerSettings, "k0s-worker": WorkerSettings})
