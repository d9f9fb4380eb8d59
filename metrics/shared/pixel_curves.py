"""Insertion and deletion curves: Petsiuk et al., RISE, BMVC 2018, arXiv:1806.07421, section 4 and algorithm 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation.queries import Copies, in_blocks
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.perturbation import Fill, confidence_in, filling, judged
from axiom_bench.metrics.shared.rounding import rounded

ORDERS = ("highest", "lowest")


def insertion_curve(explanation: Explanation, steps: int, fill: Fill, blur: float, output: str, first: str) -> Tensor:
    """What the model says as the image's pixels appear on what fills it, in the map's order: (B, steps + 1), float64.

    Entry j: with round(j / steps x pixels) of them. The last is the image itself, which is no pass of its own.
    first: "highest" or "lowest" pixels of the map; see `pixel_ranks`. fill and blur: see
    `shared.perturbation.filling`. output: see `shared.perturbation.confidence`.
    """
    scores = insertion_copies(explanation, steps, fill, blur, output, first).answer()
    return torch.cat([scores, _whole(explanation, output)], dim=1)


def deletion_curve(explanation: Explanation, steps: int, fill: Fill, blur: float, output: str, first: str) -> Tensor:
    """The same as the image's pixels are filled in, in the map's order: (B, steps + 1). The first is the image."""
    scores = deletion_copies(explanation, steps, fill, blur, output, first).answer()
    return torch.cat([_whole(explanation, output), scores], dim=1)


def insertion_copies(explanation: Explanation, steps: int, fill: Fill, blur: float, output: str, first: str) -> Copies:
    """What the model says with the first j / steps of the pixels on what fills the image, j < steps: (B, steps)."""
    return _copies(explanation, steps, fill, blur, output, first, inserts=True)


def deletion_copies(explanation: Explanation, steps: int, fill: Fill, blur: float, output: str, first: str) -> Copies:
    """What the model says without the first j / steps of the image's pixels, 0 < j <= steps: (B, steps)."""
    return _copies(explanation, steps, fill, blur, output, first, inserts=False)


def area(curve: Tensor) -> Tensor:
    """The area under a curve over fractions from 0 to 1, by trapezoids: (B, n) -> (B,)."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def pixel_ranks(heatmap: Tensor, first: str = "highest") -> Tensor:
    """The place of each pixel in the map's order, 0 for the first: (B, H', W') -> int64 (B, H', W').

    The map is rounded to 1e-6, ties go to the first pixel in reading order, whichever comes first.
    Raises BenchError for another `first`.
    """
    if first not in ORDERS:
        raise unknown("order of pixels (first)", str(first), ORDERS)
    order = rounded(heatmap).flatten(1).sort(dim=1, descending=first == "highest", stable=True).indices
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(heatmap)


def shown_copies(
    explanation: Explanation, counts: Tensor, fill: Fill, blur: float, first: str, inserts: bool
) -> Callable[[int], Iterator[Tensor]]:
    """Copies of each image that show its first `counts` pixels in the map's order on what fills it, or all but them.

    counts: (n,), one for each copy. inserts: whether they are shown, or filled in.
    """

    def blocks(rows: int) -> Iterator[Tensor]:
        trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")
        ranks = pixel_ranks(given(explanation.heatmap, "heatmap"), first)
        filled = filling(images, fill, blur).expand_as(images)
        start, end = (filled, images) if inserts else (images, filled)
        limits = counts.to(ranks.device)

        def perturbed(some: slice, copies: slice) -> Tensor:
            changed = ranks[some, None, None] < limits[copies, None, None, None]
            return torch.where(changed, end[some, None], start[some, None])

        return in_blocks(trace, len(counts), perturbed)(rows)

    return blocks


def _copies(
    explanation: Explanation, steps: int, fill: Fill, blur: float, output: str, first: str, inserts: bool
) -> Copies:
    if steps < 1:
        raise BenchError(f"A curve needs at least one step, not steps={steps}.")
    trace, heatmap = given(explanation.trace, "trace"), given(explanation.heatmap, "heatmap")
    # The image itself is one end of the curve, and its logits are in the trace.
    passed = torch.arange(steps + 1)[:-1] if inserts else torch.arange(1, steps + 1)
    counts = (passed.double() * heatmap[0].numel() / steps).round()
    key = ("insertion" if inserts else "deletion", steps, str(fill), blur, output, first)
    blocks = shown_copies(explanation, counts, fill, blur, first, inserts)
    return Copies(trace, explanation, key, steps, blocks, judged(trace, output))


def _whole(explanation: Explanation, output: str) -> Tensor:
    """What the model says of the images themselves: (B, 1)."""
    trace = given(explanation.trace, "trace")
    return confidence_in(trace, trace.logits, trace.targets, output)[:, None]
