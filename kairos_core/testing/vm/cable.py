"""What is wrong with the cables of virtual machines: delay, jitter and loss, of each frame by itself."""

from __future__ import annotations

from dataclasses import dataclass

from kairos_core.testing.lab import LabError


@dataclass(frozen=True, slots=True)
class Cable:
    """What a cable does to what its machine sends: each frame is lost, or comes late, by a chance of its own.

    The delay of a frame lies anywhere in `delay_ms` plus or minus `jitter_ms`, so with jitter frames overtake each
    other; `loss` percent are lost. Raises LabError for what no cable can do.
    """

    delay_ms: int = 0
    jitter_ms: int = 0
    loss: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.jitter_ms <= self.delay_ms:
            raise LabError(
                f"a cable cannot have a delay of {self.delay_ms} ms give or take {self.jitter_ms} ms: no frame arrives "
                "before it is sent. Let jitter_ms be from 0 to delay_ms"
            )
        if not 0 <= self.loss <= 100:
            raise LabError(f"a cable cannot lose {self.loss} % of the frames. Let loss be from 0 to 100")

    def words(self) -> str:
        """Return what `lab-link` in the machine reads of it from the kernel's command line."""
        return f"lab.delay={self.delay_ms}ms lab.jitter={self.jitter_ms}ms lab.loss={self.loss}%"
