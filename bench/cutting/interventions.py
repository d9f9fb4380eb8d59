"""Interventions: versions of an image without one of its parts, drawn again with everything else the same.

The difference that leaving a part out makes to the score is the part's true effect: no pixel is filled, blurred or
moved, so every version is an image as the data set has them. Where two objects are both needed, or either is enough,
leaving one out counts their common share twice or not at all. Shapley values share it, and add up to the score less
that of the image without any of its parts. Shapley 1953; for explanations Lundberg and Lee, NeurIPS 2017,
arXiv:1705.07874, there with values of pixels or features that are filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import factorial

import torch
from torch import Tensor

from axiom_bench.cutting.passes import Passes, in_passes
from axiom_bench.errors import BenchError

GROUND = "ground"  # the name of what is left of an image beside its other parts
MAX_ROWS = 16  # of a pass over versions: most images have fewer
MAX_PARTS = 8  # with Shapley values: 255 images without some of them


@dataclass(frozen=True, eq=False)
class Part:
    """A part of an image, and versions of the image without it. Pixels are those of the preprocessed image.

    The parts of an image have disjoint regions that cover it together: objects first, then marks, the ground last. The
    ground alone may have an empty region.

    Attributes:
        name: of this part, once per image.
        label: the class index of an object; None for the ground and for marks.
        region: (H', W') bool.
        images: (r, 3, H', W'), normalised as the image; r is 1 for an object, for the ground the number of other
            grounds.
        bare: of the ground, (r, 3, H', W'): the other grounds without any other part; None where the data set has none.
    """

    name: str
    label: int | None
    region: Tensor
    images: Tensor
    bare: Tensor | None = None

    def __repr__(self) -> str:
        return f"Part({self.name!r}, label {self.label}, {int(self.region.sum())} pixels, {len(self.images)} images)"

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Part:
        """The same part on another device; its images in another type."""
        bare = None if self.bare is None else self.bare.to(device, dtype)
        return replace(self, region=self.region.to(device), images=self.images.to(device, dtype), bare=bare)

    @property
    def is_mark(self) -> bool:
        """Whether it is a mark: neither an object nor the ground."""
        return self.label is None and self.name != GROUND


Parts = tuple[Part, ...]  # of one image; empty where the data set has none for it


def effects(
    images: Tensor,
    scores: Tensor,
    parts: Sequence[Parts],
    score: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    passes: Passes,
) -> tuple[Tensor, ...]:
    """For each image and part, S - the mean over the part's versions of S without it: per image (n_parts,).

    images: (B, 3, H', W'). scores: S, (B,). parts: per image. score(images (R, ...), index (R,)): the scores of
    versions of the images of these numbers. rows: of every pass; the last is filled up with its last version, so that a
    value doesn't depend on how many versions an image's company has, and passes doesn't count what fills it.
    A version that is the image itself, bit by bit, has the image's score, so that such a part's effect is exactly 0.
    """
    counts = [[len(part.images) for part in of_image] for of_image in parts]
    versions = (part.images for of_image in parts for part in of_image)
    answers = scores_of(images, scores, list(map(sum, counts)), versions, score, rows, passes)
    return tuple(
        torch.stack([drop.mean() for drop in (own - answer).split(numbers)]) if numbers else scores[:0]
        for own, answer, numbers in zip(scores, answers, counts, strict=True)
    )


def scores_of(
    images: Tensor,
    scores: Tensor,
    counts: Sequence[int],
    versions: Iterable[Tensor],
    score: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    passes: Passes,
) -> tuple[Tensor, ...]:
    """The scores of each image's versions, one tensor an image. counts: how many versions each has. versions: blocks of
    them, one image's after another's. As `effects` otherwise."""
    index = torch.repeat_interleave(torch.tensor(counts, dtype=torch.long)).to(images.device)
    answers = []
    first = 0
    for block in in_passes(versions, rows):
        missing, of = rows - len(block), index[first : first + len(block)]
        first += len(block)
        filled = torch.cat([block, block[-1:].expand(missing, *block.shape[1:])])
        answer = score(filled, torch.cat([of, of[-1:].expand(missing)]))[: len(block)]
        passes.leave_out(missing)
        unchanged = (block == images[of]).flatten(1).all(1)
        answers.append(torch.where(unchanged, scores[of], answer))
    return (torch.cat(answers) if answers else scores[:0]).split(list(counts))


def shapley_values(
    images: Tensor,
    scores: Tensor,
    parts: Sequence[Parts],
    score: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    passes: Passes,
) -> tuple[Tensor, ...]:
    """For each image the Shapley values of its parts, (n_parts,), from the scores of the image without each set of
    them, each the mean over its versions. As `effects` otherwise.

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
        for part in (parts[place] for place in absent):
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


def checked_interventions(interventions: Sequence[Sequence[Part]], images: Tensor) -> tuple[Parts, ...]:
    """On the device and in the type of the images (B, 3, H', W'). Raises BenchError for parts of other images."""
    if len(interventions) != len(images):
        raise BenchError(
            f"Invalid interventions: expected the parts of each of {len(images)} images, not of {len(interventions)}."
        )
    moved: dict[int, Parts] = {}  # the rows of an image share its parts
    for parts in interventions:
        for part in parts:
            of_image = part.region.shape == images.shape[2:] and part.images.shape[1:] == images.shape[1:]
            of_image &= part.bare is None or part.bare.shape == part.images.shape
            if not of_image or not len(part.images):
                raise BenchError(
                    f"Invalid part {part.name!r}: expected a region {tuple(images.shape[2:])} and one or more images "
                    f"{tuple(images.shape[1:])}, not {tuple(part.region.shape)} and {tuple(part.images.shape)}."
                )
        moved.setdefault(id(parts), tuple(part.to(images.device, images.dtype) for part in parts))
    return tuple(moved[id(parts)] for parts in interventions)


def checked_other_images(other_images: Tensor, images: Tensor) -> Tensor:
    """On the device and in the type of the images (B, 3, H', W'). Raises BenchError for another shape."""
    if other_images.shape != images.shape:
        raise BenchError(
            f"Invalid other_images: expected the shape of the images {tuple(images.shape)}, "
            f"not {tuple(other_images.shape)}."
        )
    return other_images.detach().to(images.device, images.dtype)
