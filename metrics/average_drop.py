"""Average drop: Chattopadhay et al., Grad-CAM++, WACV 2018, arXiv:1710.11063, section 4.1."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill, kept_copies, probabilities


def average_drop(explanation: Explanation, fill: Fill = "zero", blur: float = 0.05) -> Tensor:
    """max(0, p - p') / p, where p' sees only what the map highlights: image h + fill (1 - h) -> (B,) in [0, 1].

    p: softmax probability of the class. Lower is better. A fraction per image, not x 100; the average is the table's.
    fill and blur: see `shared.perturbation.filling`; "zero" is the published image x map, in normalised pixels.
    """
    trace, seen = given(explanation.trace, "trace"), kept_copies(explanation, fill, blur).answer()[:, 0]
    return drop_in(trace, seen)


def drop_in(trace: Trace, seen: Tensor) -> Tensor:
    """max(0, p - p') / p -> (B,), p' of the logits (B, C) that are seen."""
    p, p_kept = (probabilities(logits, trace.targets) for logits in (trace.logits, seen))
    return (p - p_kept).clamp(min=0) / p
