"""Many perturbed copies of each image through the model, in passes of a bounded number of rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.trace import Trace
from methods.masking import chunks
from metrics.perturbation import confidence_in, logits_of

Perturbed = Callable[[slice, slice], Tensor]


@torch.inference_mode(False)
@torch.no_grad()
def perturbed_scores(trace: Trace, count: int, perturbed: Perturbed, output: str = "probability") -> Tensor:
    """What the model says of each image's class for `count` perturbed copies of every image: (B, count), float64.

    perturbed(images, copies): those copies of those images, (images, copies, 3, H', W'); both are slices.
    output: see `metrics.perturbation.confidence`. Each copy is one counted forward pass.

    The memory of the cut bounds a pass's rows. A pass holds some copies of one image or all copies of several, and
    every image is treated alike, so that its values are the same bit by bit wherever it stands in its batch. Rows that
    only fill the batch up are not run.
    """
    pieces = list(chunks(trace, count, trace.images[0]))
    images = _images_at_once(trace, count) if len(pieces) == 1 else 1
    rows = []
    for first in range(0, trace.distinct, images):
        some = slice(first, first + images)
        parts = [_scores(trace, some, perturbed(some, copies), output) for copies in pieces]
        rows.append(torch.cat(parts, dim=1))
    return trace.with_repeats(torch.cat(rows))


def _images_at_once(trace: Trace, count: int) -> int:
    """The most images, of which the batch is a multiple, whose copies make one pass."""
    total = len(trace)
    fitting = (each for each in range(total, 0, -1) if total % each == 0)
    return next(each for each in fitting if each == 1 or len(list(chunks(trace, each * count, trace.images[0]))) == 1)


def _scores(trace: Trace, images: slice, copies: Tensor, output: str) -> Tensor:
    """(images, copies, 3, H', W') -> (images, copies)."""
    each = copies.shape[1]
    logits = logits_of(trace, copies.flatten(0, 1))
    return confidence_in(trace, logits, trace.targets[images].repeat_interleave(each), output).view(-1, each)
