"""axiom-bench: which CAM method explains a CNN faithfully.

Names are imported on first use (PEP 562), so that importing the package doesn't import torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axiom_bench import methods, metrics
    from axiom_bench.auditing.audit import Audit, audit
    from axiom_bench.cli.racing.in_python import choose
    from axiom_bench.cli.rank import rank, results
    from axiom_bench.cutting import output_presets as outputs
    from axiom_bench.cutting.cut_model import CutModel, cut, trace
    from axiom_bench.cutting.dependence import FixedDraws
    from axiom_bench.cutting.interventions import Part
    from axiom_bench.cutting.objects import BoxScores, RegionScores
    from axiom_bench.cutting.trace import Trace
    from axiom_bench.data.batch import Annotation, Batch
    from axiom_bench.errors import BenchError
    from axiom_bench.explanation.explanation import Explanation, Map, heatmap
    from axiom_bench.models.words import WordScores
    from axiom_bench.records.reading import read_run
    from axiom_bench.run.notebook import check, evaluate, explain, load_model, overlay

# By default, idle OpenMP threads spin for milliseconds and keep other processes from the core.
# Without spinning, each small operation waits until a thread wakes. OpenMP reads this variable when
# torch is loaded. A setting of the user has priority.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_MODULES = {  # the names that each module defines
    "auditing.audit": ("Audit", "audit"),
    "cli.racing.in_python": ("choose",),
    "cli.rank": ("rank", "results"),
    "cutting.dependence": ("FixedDraws",),
    "cutting.interventions": ("Part",),
    "cutting.objects": ("BoxScores", "RegionScores"),
    "cutting.cut_model": ("CutModel", "cut", "trace"),
    "cutting.trace": ("Trace",),
    "data.batch": ("Annotation", "Batch"),
    "errors": ("BenchError",),
    "explanation.explanation": ("Explanation", "Map", "heatmap"),
    "models.words": ("WordScores",),
    "records.reading": ("read_run",),
    "run.notebook": ("check", "evaluate", "explain", "load_model", "overlay"),
}
__all__ = [
    "Annotation", "Audit", "Batch", "BenchError", "BoxScores", "CutModel", "Explanation",
    "FixedDraws", "Map", "Part", "RegionScores", "Trace", "WordScores", "audit", "check", "choose",
    "cut", "evaluate", "explain", "heatmap", "load_model", "methods", "metrics", "outputs",
    "overlay", "rank", "read_run", "results", "trace",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in ("methods", "metrics"):
        return import_module(f"{__name__}.{name}")
    if name == "outputs":
        return import_module(f"{__name__}.cutting.output_presets")
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
