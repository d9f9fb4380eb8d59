"""Shapley values of an image's parts: what each adds to the score, the mean over all orders in which parts can come.

Where two objects are both needed, or either is enough, leaving one out counts their common share twice or not at all.
Shapley values share it, and add up to the score less that of the image without any of its parts. Shapley 1953; for
explanations Lundberg and Lee, NeurIPS 2017, arXiv:1705.07874, there with values of pixels or features that are filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import factorial

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import GROUND, Part, Parts, scores_of
from axiom_bench.cutting.passes import Passes
from axiom_bench.errors import BenchError

MAX_PARTS = 8  # 255 images without some of them


def shapley_values(
    images: Tensor,
    scores: Tensor,
    parts: Sequence[Parts],
    score: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    passes: Passes,
) -> tuple[Tensor, ...]:
    """For each image the Shapley values of its parts, (n_parts,), from the scores of the image without each set of
    them, each the mean over its versions. As `interventions.effects` otherwise.

    Raises BenchError for an image of more than MAX_PARTS parts, and for a ground without `bare` images.
    """
    for of_image in parts:
        _check(of_image)
    counts = [[_count(of_image, absent) for absent in _absent(of_image)] for of_image in parts]
    versions = (
        _without(image, of_image, absent)
        for image, of_image in zip(images, parts, strict=True)
        for absent in _absent(of_image)
    )
    answers = scores_of(images, scores, list(map(sum, counts)), versions, score, rows, passes)
    values = []
    for own, of_image, sizes, answer in zip(scores, parts, counts, answers, strict=True):
        means = [own, *(part.mean() for part in answer.split(sizes))] if sizes else []
        values.append(_shapley(torch.stack(means), len(of_image)) if means else scores[:0])
    return tuple(values)


def versions_of_all_sets(parts: Parts) -> int:
    """The number of images of which `shapley_values` asks the score, for an image of these parts."""
    return sum(_count(parts, absent) for absent in _absent(parts))


def _check(parts: Parts) -> None:
    if len(parts) > MAX_PARTS:
        raise BenchError(
            f"Shapley values of {len(parts)} parts need {2 ** len(parts)} sets; {MAX_PARTS} parts are the most. "
            "Take their total effects (Trace.part_effects, spoiled=[truth_effects]), which need one set for each."
        )
    for part in parts:
        if part.name == GROUND and len(parts) > 1 and part.bare is None:
            raise BenchError(
                "Shapley values need the other grounds without any object: give the part 'ground' its `bare` images, "
                "or take total effects (Trace.part_effects, spoiled=[truth_effects]), which need none."
            )


def _absent(parts: Parts) -> Iterator[tuple[int, ...]]:
    """All sets of parts but the empty one, as numbers of bits: part i is absent where bit i is set."""
    places = range(len(parts))
    return (tuple(i for i in places if bits >> i & 1) for bits in range(1, 2 ** len(parts)))


def _count(parts: Parts, absent: Sequence[int]) -> int:
    return max(len(parts[place].images) for place in absent)


def _without(image: Tensor, parts: Parts, absent: Sequence[int]) -> Tensor:
    """The versions of an image without these parts, (r, 3, H', W'). Each pixel is that of a version without the part to
    which it belongs; where the ground is absent, that of the other ground, but where a part is present."""
    ground: Part | None = next((parts[place] for place in absent if parts[place].name == GROUND), None)
    count = _count(parts, absent)
    if ground is None or ground.bare is None:  # a ground that is the only part
        versions = image.expand(count, *image.shape).clone()
        replaced = [parts[place] for place in absent]
        for part in replaced:
            versions[..., part.region] = _repeated(part.images, count)[..., part.region]
        return versions
    versions = _repeated(ground.bare, count).clone()
    for place, part in enumerate(parts):
        if place not in absent:
            versions[..., part.region] = image[..., part.region]
    return versions


def _repeated(versions: Tensor, count: int) -> Tensor:
    """The first `count` versions, in a circle where there are fewer."""
    return versions[torch.arange(count, device=versions.device) % len(versions)]


def _shapley(scores: Tensor, count: int) -> Tensor:
    """Of the scores by the bits of what is absent, (2^count,), those of `count` players: (count,)."""
    weights = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
    rows = []
    for place in range(count):
        present = [bits for bits in range(2**count) if not bits >> place & 1]
        gains = scores[present] - scores[[bits | 1 << place for bits in present]]
        factors = [weights[count - 1 - bits.bit_count()] for bits in present]
        rows.append((gains * torch.tensor(factors, dtype=scores.dtype, device=scores.device)).sum())
    return torch.stack(rows)
