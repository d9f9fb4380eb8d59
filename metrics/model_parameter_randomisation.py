"""Model parameter randomisation test: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import Again
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.randomised import randomised
from axiom_bench.metrics.shared.similarity import similarity as likeness


def model_parameter_randomisation(
    explanation: Explanation,
    order: str = "cascading",
    stages: int = 3,
    similarity: str = "spearman",
    seed: int = 0,
) -> dict[str, Tensor]:
    """The mean over stages of the similarity between the map and the same method's map of a randomised model -> (B,).

    Also the curve: stage by stage, (B, stages).

    Near 0: the map depends on what the model learned. Near 1: it doesn't, however convincing it looks.
    order "cascading": the layers are drawn anew from the top down, a third of them, two thirds, all of them for
    stages=3; "independent": each third alone. arXiv:1810.03292 takes a stage for every layer or block; more
    `stages` than layers means one for each. similarity: see `shared.similarity`; the paper's Spearman without absolute
    values, on the signed raw map. NaN where a map is constant. The copies depend on the model and `seed` alone, and are
    made once for a cut. Costs a trace, for all methods, and the method for each stage.
    Raises BenchError for another order or similarity, and for less than one stage.
    """
    asked = queries(explanation, order, stages, similarity, seed)
    found = torch.stack([query.answer() for query in asked], dim=1)
    return {"model_parameter_randomisation": found.mean(1), "randomisation": found}


def queries(explanation: Explanation, order: str, stages: int, similarity: str, seed: int) -> list[Again]:
    """The similarity with the same method's map of each randomised model: (B,)."""
    if stages < 1:
        raise BenchError(f"model_parameter_randomisation needs at least one stage, not stages={stages}.")
    trace = given(explanation.trace, "trace")
    key = ("model_parameter_randomisation", order, stages, seed)
    read = partial(likeness, explanation, kind=similarity)
    return [
        Again(explanation, (*key, stage), partial(trace.again, model=cut), (*key, stage, similarity), read)
        for stage, cut in enumerate(trace.cut_model.once(key, lambda: _cuts(trace, order, stages, seed)))
    ]


def _cuts(trace: Trace, order: str, stages: int, seed: int) -> list[SplitModel]:
    copies = randomised(trace.cut_model.model, trace.images[:1], order, stages, seed)
    return [trace.cut_model.on(copy) for copy in copies]
