"""Random logit test: Sixt et al., When Explanations Lie: Why Many Modified BP Attributions Fail,
ICML 2020.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def random_logit(
    explanation: Explanation, similarity: str = "ssim", seed: int = 0
) -> MetricGenerator[Tensor]:
    """Similarity of the maps of the explained class and of a random other class -> (B,), lower is
    better.

    The other class is uniform over all others, seeded by the image and `seed`. similarity: see
    `shared.similarity`; SSIM of the heatmaps as in arXiv:1912.09818. A value of 1: the map doesn't
    depend on the class. Costs one trace, shared by all methods, and one run of the method.
    """
    trace = explanation.required_trace

    def other_trace() -> Trace:
        num_classes = trace.logits.shape[1]
        offsets = [
            torch.randint(1, num_classes, (), generator=draw) for draw in trace.generators(seed)
        ]
        return trace.again(
            targets=(trace.targets + torch.stack(offsets).to(trace.targets)) % num_classes
        )

    compare = partial(similarity_of, explanation, kind=similarity)
    return (yield Reexplanation(other_trace, compare, key=("random logit", seed)))
