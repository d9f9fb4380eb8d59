"""The same method's map of what a map keeps of its image, which ADCC and ARCC compare with the map itself."""

from __future__ import annotations

from axiom_bench.evaluation.queries import Reexplanation
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill, kept_images


def kept_map(explanation: Explanation, fill: Fill, blur: float) -> Reexplanation:
    """Explain image h + fill (1 - h) again, h the heatmap; the answer is (heatmap (B, H', W'), logits (B, C)).

    fill and blur: see `shared.perturbation.filling`.
    """
    trace = given(explanation.trace, "trace")
    return Reexplanation(
        trace=lambda: trace.again(images=kept_images(explanation, fill, blur)),
        read=lambda kept: (given(kept.heatmap, "heatmap"), given(kept.trace, "trace").logits),
        key=("kept map", str(fill), blur),
        of_map=True,
    )
