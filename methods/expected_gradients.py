"""Expected gradients: Erion et al., Nature Machine Intelligence 2021, arXiv:1906.10670.

Improving Performance of Deep Learning Models with Axiomatic Attribution Priors and Expected
Gradients.
"""

from __future__ import annotations

import torch

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.saliency import gradient_at
from axiom_bench.methods.shared.wrapping import required_other_images


def expected_gradients(trace: Trace, samples: int = 50, seed: int = 0) -> Map:
    """Sum over colours of (X - X0) times the mean of dS/dX at X0 + t (X - X0) -> (B, H', W').

    The baseline X0 is another image of the data set, and t is uniform on [0, 1]. The paper draws a
    new baseline for each t. Here an image has one, `trace.other_images`, chosen only by the image's
    id, so a map is an estimate from one baseline. The draws of t are seeded by the original image
    and `seed`. The map is signed, and the layer isn't used. Costs a forward and backward pass per
    sample.

    Args:
        trace: The traced batch, with images X (B, 3, H', W') and other images.
        samples: The number of draws of t, at least 1.
        seed: The seed of the draws.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If samples < 1, or if the trace has no other images.
    """
    if samples < 1:
        raise InvalidParameter(f"Invalid samples={samples}; give the number of draws, at least 1.")
    images = trace.images
    difference = images - required_other_images(trace)
    draws = [
        torch.rand(samples, generator=generator, dtype=torch.float64)
        for generator in trace.generators(seed)
    ]
    total = torch.zeros_like(images)
    for shares in torch.stack(draws, 1).to(images):
        step = over_space(1 - shares[:, None], images)
        total += gradient_at(trace, images - step * difference)
    return Map((difference * total / samples).sum(1))
