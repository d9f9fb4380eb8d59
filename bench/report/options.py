"""What a report shows: the manifest's `config.report` over these defaults, so that an old run still gets a report.

The names here are the paper's own quantities. No method is named: which one a figure picks comes from the config alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from axiom_bench.errors import unknown


@dataclass(frozen=True)
class Figures:
    """Which metrics and methods the figures show; an empty choice leaves a figure out."""

    over_models: tuple[str, ...] = ("zeta", "epsilon")
    by_depth: tuple[str, ...] = ("zeta", "epsilon")
    plane: tuple[str, ...] = ("sensitivity_error", "conservation_error")
    floor: tuple[str, ...] = ("axiom_floor_sensitivity", "axiom_floor_conservation")
    grid: tuple[str, ...] | None = None
    perturbed: str | None = None
    pair: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """headline: the metrics of a run's last lines. columns: the metrics of the overview table, in order.
    compare: the method that the paired tests hold against every other; None: no such tests."""

    headline: tuple[str, ...] = ("conservation_error", "confidence_drop", "box_iou")
    columns: tuple[str, ...] = (
        "sensitivity_error",
        "conservation_error",
        "sensitivity_error_raw",
        "conservation_error_raw",
        "confidence_drop",
        "box_iou",
    )
    compare: str | None = None
    figures: Figures = Figures()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Options:
        """From the manifest's config. Raises BenchError, with the nearest names, for a key that means nothing."""
        said = dict(config.get("report") or {})
        figures = _known("report.figures key", Figures, dict(said.pop("figures", None) or {}))
        return cls(**_known("report key", cls, said), figures=Figures(**figures))


def _known(kind: str, options: type, said: dict[str, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(options)]
    for key in said:
        if key not in names:
            raise unknown(kind, key, names)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
