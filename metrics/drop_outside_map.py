"""Deletion of an object's pixels outside its map.

The metric tests whether the part of the object that a map leaves out matters to the score.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Filling, Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_order import pixel_ranks


@takes_fields
def drop_outside_map(
    explanation: Explanation, fraction: float = 0.5, filling: Filling = Filling()
) -> MetricGenerator[Tensor]:
    """Compute (S - S') / |S|, the drop without the object's pixels that lie outside the map.

    S' is the score when pixels of the object's mask are filled. They are those that aren't among
    the map's highest n pixels. n is `fraction` of the object's pixels, the same for every map; see
    `shared.pixel_order`.

    Args:
        explanation: The explanation, with its heatmap (B, H', W'), mask and trace.
        fraction: The share of the object's pixels, above 0 and below 1.
        filling: The replacement; see `shared.perturbation.Filling`.

    Returns:
        The drops, (B,); lower is better. They may be negative.

    Raises:
        BenchError: If the fraction is outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise BenchError(
            f"Invalid fraction={fraction}; give the share of the object's pixels, above 0 and "
            "below 1."
        )
    masks = explanation.required_masks.to(explanation.required_images.device)
    count = (fraction * masks.sum(axes(masks, 1), keepdim=True)).round()
    # Ranks are over the whole image, so a map that highlights the ground keeps less of the object.
    outside = masks & (pixel_ranks(explanation) >= count)
    perturbation = Perturbation(filling.fill, filling.blur, "logit")
    key = ("outside the map", fraction)
    after = yield perturbation.request(
        explanation, key, 1, lambda rows, copies: outside[rows, None]
    )
    before = perturbation.image_confidence(explanation)
    drop: Tensor = ((before - after) / before.abs())[:, 0]
    return drop
