"""axiom-bench: which CAM method explains a CNN faithfully."""

from __future__ import annotations

from bench import threads as _threads  # noqa: F401 - before torch is loaded
from bench import torchvision_import as _torchvision_import  # noqa: F401 - before torchvision, for a CPU-only torch
from bench.batch import Annotation, Batch
from bench.cut import Cut, cut, trace
from bench.errors import BenchError
from bench.evaluation import evaluate, explain
from bench.explanation import Explanation
from bench.heatmap import Map, heatmap
from bench.trace import Trace

__all__ = [
    "Annotation",
    "Batch",
    "BenchError",
    "Cut",
    "Explanation",
    "Map",
    "Trace",
    "cut",
    "evaluate",
    "explain",
    "heatmap",
    "trace",
]
