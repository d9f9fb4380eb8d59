"""Random logit test: Sixt et al., When Explanations Lie: Why Many Modified BP Attributions Fail, ICML 2020."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.seeding import generators
from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import Asking, Reexplanation
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def random_logit(explanation: Explanation, similarity: str = "ssim", seed: int = 0) -> Asking[Tensor]:
    """How alike the maps of the explained class and of a random other class are -> (B,), lower is better.

    The other class is uniform over all others, seeded by the image and `seed`. similarity: see `shared.similarity`;
    SSIM of the heatmaps as in arXiv:1912.09818. 1: the map doesn't depend on the class.
    Costs a trace, the same one for all methods, and the method.
    """
    trace = given(explanation.trace, "trace")

    def other() -> Trace:
        classes = trace.logits.shape[1]
        steps = [torch.randint(1, classes, (), generator=draw) for draw in generators(trace.images, seed)]
        return trace.again(targets=(trace.targets + torch.stack(steps).to(trace.targets)) % classes)

    read = partial(similarity_of, explanation, kind=similarity)
    return (yield Reexplanation(other, read, key=("random logit", seed)))
