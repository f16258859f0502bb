"""For authors of engines: an init system that runs nothing, and notes what it is told."""

from __future__ import annotations

from kairos_core.service.definition import File, Service
from kairos_core.service.supervisor import Supervisor


class FakeSupervisor(Supervisor):
    """Notes its orders; whether a service runs, and what its log holds, is what the test sets in `runs` and `words`.

    A service has one file, `/etc/units/NAME`, with its command.
    """

    def __init__(self) -> None:
        self.runs, self.words = True, ""
        self._orders: list[str] = []

    def orders(self) -> list[str]:
        """Return what it was told since the last call, like `restart NAME`."""
        orders, self._orders = self._orders, []
        return orders

    def files(self, service: Service, program: str) -> tuple[File, ...]:
        return (File(f"/etc/units/{service.name}", " ".join((program, *service.arguments))),)

    async def start(self, service: str) -> None:
        self._orders.append(f"start {service}")

    async def restart(self, service: str) -> None:
        self._orders.append(f"restart {service}")

    async def stop(self, service: str) -> None:
        self._orders.append(f"stop {service}")

    async def is_running(self, service: str) -> bool:
        return self.runs

    async def log(self, service: str) -> str:
        return self.words

    def log_command(self, service: str, lines: int, *, follow: bool) -> tuple[str, ...]:
        return ("printf", "%s", self.words)
