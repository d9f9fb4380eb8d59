"""Model parameter randomisation test: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.curve import Curve
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.randomised import number_of_layers, randomised
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def model_parameter_randomisation(
    explanation: Explanation,
    order: str = "cascading",
    stages: int = 3,
    similarity: str = "spearman",
    seed: int = 0,
) -> MetricGenerator[dict[str, Tensor | Curve]]:
    """The mean over stages of the similarity between the map and the same method's map of a randomised model -> (B,).

    Also the curve: stage by stage, (B, stages).

    Near 0: the map depends on what the model learned. Near 1: it doesn't, however convincing it looks.
    order "cascading": the layers are re-initialised from the top down, a third of them, two thirds, all of them for
    stages=3; "independent": each third alone. arXiv:1810.03292 takes a stage for every layer or block; more
    `stages` than layers means one for each. similarity: see `shared.similarity`; the paper's Spearman without absolute
    values, on the signed raw map. NaN where a map is constant. The copies depend on the model and `seed` alone, and are
    made once for a cut. Costs a trace, for all methods, and the method for each stage.
    Raises BenchError for another order or similarity, and for less than one stage.
    """
    if stages < 1:
        raise BenchError(f"model_parameter_randomisation needs at least one stage, not stages={stages}.")
    trace = given(explanation.trace, "trace")
    key = ("model_parameter_randomisation", order, stages, seed)
    similarities = []
    for stage in range(min(stages, number_of_layers(trace.cut_model.model))):
        other_trace = partial(_randomised_trace, trace, key, stage, order, stages, seed)
        compare = partial(similarity_of, explanation, kind=similarity)
        similarities.append((yield Reexplanation(other_trace, compare, key=(*key, stage))))
    points = torch.stack(similarities, dim=1)
    fractions = [(stage + 1) / len(similarities) for stage in range(len(similarities))]
    curve = Curve(points, fractions, "Model parameter randomisation", "fraction of layers randomised", "similarity")
    return {"model_parameter_randomisation": points.mean(1), "randomisation": curve}


def _randomised_trace(trace: Trace, key: Hashable, stage: int, order: str, stages: int, seed: int) -> Trace:
    cuts = trace.cut_model.once(key, lambda: _cuts(trace, order, stages, seed))
    return trace.again(model=cuts[stage])


def _cuts(trace: Trace, order: str, stages: int, seed: int) -> list[SplitModel]:
    copies = randomised(trace.cut_model.model, trace.images[:1], order, stages, seed)
    return [trace.cut_model.on(copy) for copy in copies]
