"""Curve: one curve per image, which a metric returns beside its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Curve:
    """points: (B, n), a curve for each image. x: positions of the n points, the same for all images; None for a curve
    that is stored but not drawn. title, x_label, y_label: of its figure.
    """

    points: Tensor
    x: Sequence[float] | None = None
    title: str = ""
    x_label: str = ""
    y_label: str = ""

    def axes(self, better: str = "none") -> dict[str, Any] | None:
        """How to draw it, as plain data: {at, x, y, title, better}; None without x."""
        if self.x is None:
            return None
        at = [float(position) for position in self.x]
        return {"at": at, "x": self.x_label, "y": self.y_label, "title": self.title, "better": better}
