"""The maps of a CAM implementation, with what a run reports about the call."""

from __future__ import annotations

from dataclasses import dataclass

from axiom_bench.explanation.explanation import Map
from axiom_bench.notes import HooksLeft


@dataclass(frozen=True)
class CamMap(Map):
    """The maps of a CAM implementation that was called on a copy of the network."""

    num_hooks_left: int = 0
    """The number of hooks that the call left on the copy, or on all modules of torch."""

    def note(self, method: str) -> HooksLeft | None:
        """Return the note about the hooks that the call left; None if there are none."""
        if not self.num_hooks_left:
            return None
        hooks = "a hook" if self.num_hooks_left == 1 else f"{self.num_hooks_left} hooks"
        return HooksLeft(
            f"Each call of {method!r} leaves {hooks} on the model. The run's copy of the model "
            "ends with the call; in your own code, remove hooks by handle.remove()."
        )
