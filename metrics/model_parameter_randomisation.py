"""Model parameter randomisation test: Adebayo et al., NeurIPS 2018, arXiv:1810.03292.

The paper is "Sanity Checks for Saliency Maps".
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Curve, Explanation
from axiom_bench.metrics.shared.randomised import (
    number_of_layers,
    randomised,
    randomised_key,
    randomised_trace,
)
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def model_parameter_randomisation(
    explanation: Explanation,
    order: str = "cascading",
    stages: int | None = None,
    similarity: str = "spearman",
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Average the similarity of the map and the same method's map of randomised models.

    The mean is over the stages of the randomisation. A value near 0 shows that the map depends on
    what the model learned. The copies depend only on the model and the seed, and are made once for
    a cut. Each stage costs a trace, shared by all methods, and one run of the method.

    Args:
        explanation: The explanation, with its maps and its trace.
        order: "cascading" re-initialises the layers from the top down, one more at each stage.
            "independent" re-initialises one layer at a time.
        stages: The number of groups of layers, or None for one stage per module with parameters of
            its own.
        similarity: The kind of similarity; see `shared.similarity`.
        seed: The seed of the parameters.

    Returns:
        model_parameter_randomisation, (B,), NaN if a map is constant; and the curve randomisation,
        (B, stages), which the paper shows.

    Raises:
        BenchError: If the order or similarity is unknown, or there is less than one stage.
    """
    if stages is not None and stages < 1:
        raise BenchError(
            f"model_parameter_randomisation needs at least one stage, not stages={stages}."
        )
    # A stage re-initialises at least one layer, so there are no more stages than layers.
    layers = number_of_layers(explanation.required_trace.cut_model.model)
    stages = layers if stages is None else min(stages, layers)
    points = yield from _similarities(explanation, order, stages, similarity, seed)
    fractions = [(stage + 1) / stages for stage in range(stages)]
    label = (
        "fraction of layers randomised"
        if order == "cascading"
        else "depth of the randomised layer, from the top"
    )
    curve = Curve(points, fractions, f"Model parameter randomisation, {order}", label, "similarity")
    return {"model_parameter_randomisation": points.mean(1), "randomisation": curve}


def model_parameter_randomisation_independent(
    explanation: Explanation,
    order: str = "independent",
    stages: int | None = None,
    similarity: str = "spearman",
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Compute `model_parameter_randomisation` with one layer at a time re-initialised.

    Args:
        explanation: The explanation, with its maps and its trace.
        order: The order of randomisation; see `model_parameter_randomisation`.
        stages: The number of stages; see `model_parameter_randomisation`.
        similarity: The kind of similarity; see `shared.similarity`.
        seed: The seed of the parameters.

    Returns:
        model_parameter_randomisation_independent, (B,); and the curve randomisation_independent,
        (B, stages).

    Raises:
        BenchError: If the order or similarity is unknown, or there is less than one stage.
    """
    values = yield from model_parameter_randomisation(explanation, order, stages, similarity, seed)
    return {f"{name}_independent": value for name, value in values.items()}


def model_parameter_randomisation_three_stages(
    explanation: Explanation,
    order: str = "cascading",
    stages: int | None = 3,
    similarity: str = "spearman",
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """Compute `model_parameter_randomisation` with a third, two thirds and all of the layers.

    Args:
        explanation: The explanation, with its maps and its trace.
        order: The order of randomisation; see `model_parameter_randomisation`.
        stages: The number of stages; see `model_parameter_randomisation`.
        similarity: The kind of similarity; see `shared.similarity`.
        seed: The seed of the parameters.

    Returns:
        model_parameter_randomisation_three_stages, (B,); and the curve randomisation_three_stages,
        (B, stages).

    Raises:
        BenchError: If the order or similarity is unknown, or there is less than one stage.
    """
    values = yield from model_parameter_randomisation(explanation, order, stages, similarity, seed)
    return {f"{name}_three_stages": value for name, value in values.items()}


def _similarities(
    explanation: Explanation, order: str, stages: int, similarity: str, seed: int
) -> MetricGenerator[Tensor]:
    """Ask for the similarities to the map after each stage of a randomisation: (B, stages)."""
    trace = explanation.required_trace
    compare = partial(similarity_of, explanation, kind=similarity)
    key = ("model_parameter_randomisation", order, stages, seed)
    last_points = []
    if order == "cascading":
        # The last stage has all layers randomised. It is asked for first and under its own key,
        # because other metrics ask for it, too, and so share it.
        random_trace = partial(randomised_trace, trace, seed)
        last_points.append((yield Reexplanation(random_trace, compare, randomised_key(seed))))
    points = []
    for stage in range(stages - len(last_points)):
        stage_trace = partial(_trace_of_stage, trace, key, stage)
        points.append((yield Reexplanation(stage_trace, compare, key=(*key, stage))))
    return torch.stack([*points, *last_points], dim=1)


def _trace_of_stage(trace: Trace, key: tuple[str, str, int, int], stage: int) -> Trace:
    """Return the trace of the randomised model of a stage; the copies are made once for a cut."""

    def cuts() -> list[SplitModel]:
        with bound(trace.cut_model.model, trace[:1].other_inputs):
            copies = randomised(trace.cut_model.model, trace.images[:1], *key[1:])
        return [trace.cut_model.on(copy) for copy in copies]

    return trace.again(model=trace.cut_model.once(key, cuts)[stage])
