"""What the report's picture figures need: some images with every method's map and the image that it perturbs."""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import logits_of, perturb, probabilities
from axiom_bench.records import files
from axiom_bench.run.facts import Facts
from axiom_bench.run.job import Job


def ensure(job: Job, whole: CutModel, config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """The file with the job's pictures, relative to the run folder; made where it isn't there yet.

    config: rows (how many; 0: no file) and perturbation (the metric whose perturbation is shown).
    """
    if not config["rows"]:
        return ()
    how = perturbation(job, config["perturbation"])
    name = Facts(job).step("pictures", config["rows"], sorted(how.items()))
    path = f"pictures/{job.model.name}-{job.model.layer}-{name[:12]}.npz"
    if not (folder / path).is_file():
        batch = spread_rows(job, config["rows"])
        if batch is None:
            return ()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays(job, whole, batch, how))  # type: ignore[arg-type]
        files.write(folder / path, buffer.getvalue())
    return (path,)


def perturbation(job: Job, metric: str) -> dict[str, Any]:
    """The keyword arguments of `perturb` among a metric's parameters, as this run configures it."""
    chosen = {entry.name: entry for entry in job.metrics}
    entry = chosen.get(metric) or plugins.load("metric", metric)
    return {name: value for name, value in entry.params.items() if name in inspect.signature(perturb).parameters}


def spread_rows(job: Job, count: int) -> Batch | None:
    """At most `count` rows of images spread over the chosen ones, which often stand in the order of their classes.

    Images that can't be read give their place to the first that can; None where there are none.
    """
    spread = job.indices[:: max(1, len(job.indices) // count)]
    each_once = tuple(dict.fromkeys((*spread, *job.indices)))
    found = batches(job.data, each_once, job.model.preprocessing, job.target, count, 0)
    batch = next((batch for batch in found if isinstance(batch, Batch)), None)
    return None if batch is None else batch.to(job.device.device)


def arrays(job: Job, whole: CutModel, batch: Batch, how: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What a file holds, of N rows and the M methods that apply.

    images (N, H, W, 3) uint8, image_ids, class_names and confidence (N,), methods (M,), heatmaps (M, N, H, W) float16,
    perturbed (M, N, H, W, 3) uint8, confidence_perturbed (M, N), model, layer.
    """
    trace = whole.trace(batch.images, batch.targets)
    maps = {method.name: shown for method in job.methods if (shown := _heatmap(job, method, trace)) is not None}
    perturbed = {name: perturb(trace.images, heatmap, **how) for name, heatmap in maps.items()}
    confidences = [
        probabilities(logits_of(trace, images), trace.targets).cpu().numpy() for images in perturbed.values()
    ]
    return {
        "images": job.model.preprocessing.denormalise(trace.images),
        "image_ids": np.array(batch.image_ids),
        "class_names": np.array([_class_name(job, target) for target in trace.targets.tolist()]),
        "confidence": probabilities(trace.logits, trace.targets).cpu().numpy(),
        "methods": np.array(list(maps)),
        "heatmaps": np.array([heatmap.cpu().numpy() for heatmap in maps.values()], dtype=np.float16),
        "perturbed": np.array(
            [job.model.preprocessing.denormalise(images) for images in perturbed.values()], dtype=np.uint8
        ),
        "confidence_perturbed": np.array(confidences),
        "model": np.array(job.model.name),
        "layer": np.array(job.model.layer),
    }


def _heatmap(job: Job, method: Plugin, trace: Trace) -> Tensor | None:
    """(N, H, W) in [0, 1]; None where the method doesn't apply to the model, which the records say."""
    try:
        return Explanation.of(trace, method(trace), normalise=job.normalise).heatmap
    except BenchError:
        return None


def _class_name(job: Job, target: int) -> str:
    names = job.data.class_names if job.shares_classes else job.model.classes or ()
    return names[target] if target < len(names) else str(target)
