"""Random logit test: Sixt et al., ICML 2020, arXiv:1912.09818.

The paper is "When Explanations Lie: Why Many Modified BP Attributions Fail".
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
    """Compute the similarity of the maps of the explained class and of a random other class.

    The other class is drawn uniformly from all others. The metric costs one trace, shared by all
    methods, and one run of the method.

    Args:
        explanation: The explanation, with its maps and its trace.
        similarity: The kind of similarity; see `shared.similarity`. SSIM of the heatmaps is that of
            the paper.
        seed: The class is drawn from the seed and the image.

    Returns:
        The similarities, (B,); lower is better. A value of 1 means that the map doesn't depend on
        the class.
    """
    trace = explanation.required_trace

    def other_trace() -> Trace:
        # A shift by 1 to C - 1 classes, modulo C, never ends at the explained class.
        num_classes = trace.logits.shape[1]
        offsets = []
        for generator in trace.generators(seed):
            offsets.append(torch.randint(1, num_classes, (), generator=generator))
        shifted = trace.targets + torch.stack(offsets).to(trace.targets)
        return trace.again(targets=shifted % num_classes)

    compare = partial(similarity_of, explanation, kind=similarity)
    answer: Tensor = yield Reexplanation(other_trace, compare, key=("random logit", seed))
    return answer
