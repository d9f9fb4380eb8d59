"""Deletion of an object's pixels outside its map: whether what a map leaves out of the object matters to the score."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill, blended, scoring
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


def drop_outside_map(
    explanation: Explanation, fraction: float = 0.5, fill: Fill = "zero", blur: float = 0.05
) -> MetricGenerator[Tensor]:
    """(S - S') / |S|: the drop without the object's pixels that lie outside the map -> (B,); lower is better.

    S': with those pixels of the object's mask filled that aren't among the map's highest n, n = `fraction` of the
    object's pixels, as many for every map; see `shared.pixel_order`. fill and blur: see `shared.perturbation.filling`.
    It may be negative. Raises BenchError for a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise BenchError(f"Invalid fraction={fraction}; give the share of the object's pixels, above 0 and below 1.")
    trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")
    masks = given(explanation.masks, "masks").to(images.device)
    count = (fraction * masks.sum(axes(masks, 1), keepdim=True)).round()
    outside = masks & (pixel_ranks(explanation) >= count)

    def perturbed(rows: slice, copies: slice) -> Tensor:
        return blended(images[rows], outside[rows], fill, blur)[:, None]

    score = scoring(trace, "logit")
    after = yield PerturbedImages(("outside the map", fraction, str(fill), blur), 1, perturbed, score)
    before = score(trace.logits, trace.targets)
    return (before - after[:, 0]) / before.abs()
