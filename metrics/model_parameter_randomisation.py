"""Model parameter randomisation test: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS
2018.
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
    """The mean over stages of the similarity between the map and the same method's map of a
    randomised model -> (B,).

    {model_parameter_randomisation: (B,), randomisation: the curve that the paper shows, (B,
    stages)}. Near 0: the map depends on what the model learned. order "cascading": the layers are
    re-initialised from the top down, one more at each stage; "independent": each layer alone.
    stages: None, one for each module with parameters of its own; or a number of groups of layers.
    similarity: see `shared.similarity`. NaN where a map is constant. The copies depend on the model
    and `seed` alone, and are made once for a cut. Costs a trace, for all methods, and the method
    for each stage. Raises BenchError for another order or similarity, and for less than one stage.
    """
    if stages is not None and stages < 1:
        raise BenchError(
            f"model_parameter_randomisation needs at least one stage, not stages={stages}."
        )
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
    """`model_parameter_randomisation` with one layer at a time re-initialised, the others as
    trained -> (B,).

    {model_parameter_randomisation_independent: (B,), randomisation_independent: the curve, (B,
    stages)}.
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
    """`model_parameter_randomisation` in three stages: a third of the layers, two thirds, all of
    them -> (B,).

    {model_parameter_randomisation_three_stages: (B,), randomisation_three_stages: the curve, (B,
    stages)}.
    """
    values = yield from model_parameter_randomisation(explanation, order, stages, similarity, seed)
    return {f"{name}_three_stages": value for name, value in values.items()}


def _similarities(
    explanation: Explanation, order: str, stages: int, similarity: str, seed: int
) -> MetricGenerator[Tensor]:
    """Similarities to the map after each stage of a randomisation -> (B, stages).

    Where all layers are randomised, that is asked for first, since other metrics ask for it and so
    share it.
    """
    trace = explanation.required_trace
    compare = partial(similarity_of, explanation, kind=similarity)
    key = ("model_parameter_randomisation", order, stages, seed)
    of_all = []
    if order == "cascading":
        of_all = [
            (
                yield Reexplanation(
                    partial(randomised_trace, trace, seed), compare, randomised_key(seed)
                )
            )
        ]
    points = []
    for stage in range(stages - len(of_all)):
        points.append(
            (
                yield Reexplanation(
                    partial(_trace_of_stage, trace, key, stage), compare, key=(*key, stage)
                )
            )
        )
    return torch.stack([*points, *of_all], dim=1)


def _trace_of_stage(trace: Trace, key: tuple[str, str, int, int], stage: int) -> Trace:
    def cuts() -> list[SplitModel]:
        with bound(trace.cut_model.model, trace[:1].other_inputs):
            copies = randomised(trace.cut_model.model, trace.images[:1], *key[1:])
        return [trace.cut_model.on(copy) for copy in copies]

    return trace.again(model=trace.cut_model.once(key, cuts)[stage])
