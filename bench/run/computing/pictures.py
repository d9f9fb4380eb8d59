"""The arrays of the report's picture figures: a few images, every method's maps, and the images perturbed by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel, Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.answers import first_request
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.plugins import Plugin, required
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.records import sealed, store
from axiom_bench.run.computing.compute import first_batch
from axiom_bench.run.jobs.job import Job
from axiom_bench.run.stages import PICTURES, Step

STAGE = PICTURES

# Of the arrays that have an axis of rows.
ROW_AXIS = {
    **dict.fromkeys(("images", "image_ids", "class_names", "confidence"), 0),
    **dict.fromkeys(("heatmaps", "perturbed", "confidence_perturbed"), 1),
}


def ensure(step: Step) -> tuple[str, ...]:
    """The file with the job's pictures, relative to the run folder; made where it isn't there yet.

    Settings of pictures: rows (how many; 0: no file) and perturbation (the metric whose perturbation is shown).
    """
    job, cut_model, folder, config = step.facts.job, step.cut_model, step.folder, step.config["pictures"]
    if not config["rows"]:
        return ()
    metric = perturbing(job, config["perturbation"])
    name = step.facts.step("pictures", config["rows"], metric.target, sorted(metric.params.items()))
    path = f"pictures/{job.file_stem}-{name[:12]}.npz"
    if not sealed.is_usable(folder / path):
        batch = spread_rows(job, config["rows"])
        if batch is None:
            return ()
        of_parts = partial(arrays, job, cut_model, metric)
        parts = list(by_halves(batch, len(batch), cut_model.limits, lambda part, _: of_parts(part)))
        store.write_arrays(folder / path, _joined(parts))
    return (path,)


def perturbing(job: Job, name: str) -> Plugin:
    """The metric whose perturbed images are shown, as this run configures it."""
    configured = {entry.name: entry for entry in job.metrics}
    return configured.get(name) or plugins.load("metric", name)


def spread_rows(job: Job, count: int) -> Batch | None:
    """At most `count` rows of images spread over the chosen ones, which often stand in the order of their classes.

    Images that can't be read give their place to the first that can; None where there are none.
    """
    spread = job.indices[:: max(1, len(job.indices) // count)]
    each_once = tuple(dict.fromkeys((*spread, *job.indices)))
    extras = required(job.methods)
    return first_batch(job, each_once, count, extras)


def arrays(job: Job, cut_model: CutModel, metric: Plugin, batch: Batch) -> dict[str, np.ndarray]:
    """The arrays of a file, of N rows and the M methods that apply.

    images (N, H, W, 3) uint8, image_ids, class_names and confidence (N,), methods (M,), heatmaps (M, N, H, W) uint8,
    255 for 1, perturbed (M, N, H, W, 3) uint8, confidence_perturbed (M, N), model, layer. confidence_of: "probability",
    of the class, or "score", S itself where the output has no probability.
    """
    trace = trace_of_batch(cut_model, batch)
    explanations = {
        method.name: explanation
        for method in job.methods
        if (explanation := explanation_of(job, method, trace, batch)) is not None
    }
    perturbed = [_perturbed(metric, explanation) for explanation in explanations.values()]
    with torch.no_grad():
        confidences = [_confidences(trace, trace.network.forward_logits(images)) for images in perturbed]
    denormalise = job.model.preprocessing.denormalise
    return {
        "images": denormalise(trace.images),
        "image_ids": np.array(batch.image_ids),
        "class_names": np.array([class_name(job, target) for target in trace.targets.tolist()]),
        "confidence": _confidences(trace, trace.logits),
        "methods": np.array(list(explanations)),
        "heatmaps": np.array([_quantised(explanation) for explanation in explanations.values()], dtype=np.uint8),
        "perturbed": np.array([denormalise(images) for images in perturbed], dtype=np.uint8),
        "confidence_perturbed": np.array(confidences),
        "confidence_of": np.array("probability" if trace.has_probability else "score"),
        "model": np.array(job.model.name),
        "layer": np.array(job.model.layer),
    }


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all rows, from those of some rows each; where no method applies, those of methods have no rows."""
    joined = dict(parts[0])
    for name, axis in ROW_AXIS.items():
        if joined[name].ndim > axis:
            joined[name] = np.concatenate([part[name] for part in parts], axis)
    return joined


def explanation_of(job: Job, method: Plugin, trace: Trace, batch: Batch) -> Explanation | None:
    """A method's explanation; None where the method doesn't apply to the model: its records have the status."""
    try:
        return Explanation.of(trace, method(trace), batch, method, job.normalise)
    except BenchError:
        return None


def _quantised(explanation: Explanation) -> np.ndarray:
    """The heatmaps (N, H, W), 255 for 1; what isn't finite is shown as no heat."""
    heatmap = given(explanation.heatmap, "heatmap").nan_to_num(0.0)
    quantised: np.ndarray = (255 * heatmap).round().byte().cpu().numpy()
    return quantised


def _perturbed(metric: Plugin, explanation: Explanation) -> Tensor:
    """The first perturbed images that a metric asks the model about: (N, 3, H, W).

    Raises BenchError for a metric that doesn't start with one perturbed copy of each image.
    """
    request = first_request(metric, explanation)
    if not isinstance(request, PerturbedImages) or request.count != 1:
        raise BenchError(
            f"pictures.perturbation={metric.name} can't be shown: the metric doesn't ask about one perturbed copy of "
            "each image; choose one such as confidence_drop."
        )
    return request.perturbed(slice(0, len(explanation)), slice(0, 1))[:, 0]


def _confidences(trace: Trace, logits: Tensor) -> np.ndarray:
    """The class's probability, or S where there is none, in logits (N, C) of the trace's model: (N,)."""
    values = logits.double().softmax(1) if trace.has_probability else trace.network.explained(logits).double()
    confidence: np.ndarray = values.gather(1, trace.targets[:, None])[:, 0].cpu().numpy()
    return confidence


def class_name(job: Job, target: int) -> str:
    """What people call a class of the model; its index where neither data nor model tells."""
    names = job.data.class_names if job.shares_classes else job.model.classes or ()
    return names[target] if target < len(names) else str(target)
