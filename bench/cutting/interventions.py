"""Interventions: versions of an image without one of its parts.

Everything else is drawn again as it was.

The true effect of a part is the difference in the score when the part is left out. No pixel is
filled, blurred or moved, so that every version is an image of the data set's kind. If two objects
are both needed, or if either is enough, leaving one out counts their common share twice or not at
all. Shapley values divide this share. They add up to the score minus the score of the image without
any of its parts. Shapley 1953; for explanations Lundberg and Lee, NeurIPS 2017, arXiv:1705.07874,
who fill the values of pixels or features instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import factorial

import torch
from torch import Tensor

from axiom_bench.cutting.passes import Passes, in_passes
from axiom_bench.errors import BenchError, plural

GROUND = "ground"  # the name of the part that is left of an image without its other parts
FINDER_PATTERNS = "finder patterns"  # the names of a QR code's parts that every code has
TIMING_PATTERNS = "timing patterns"
MAX_ROWS = 16  # the most rows of a pass over versions; most images have fewer versions
MAX_PARTS = 8  # the most parts with Shapley values: 255 images without some of them


@dataclass(frozen=True, eq=False)
class Part:
    """A part of an image, and versions of the image without it.

    Pixels are those of the preprocessed image.

    The parts of an image have disjoint regions that cover it together: objects first, then marks,
    the ground last. Only the ground may have an empty region.

    Attributes:
        name: The part's name, which is unique in the image.
        label: The class index of an object; None for the ground and for marks.
        region: The pixels of the part, (H', W') bool.
        images: The versions, (r, 3, H', W'), normalised like the image. r is 1 for an object, and
            the number of other grounds for the ground.
        bare: The other grounds without any other part, (r, 3, H', W'), for the ground. None if the
            data set has none.
    """

    name: str
    label: int | None
    region: Tensor
    images: Tensor
    bare: Tensor | None = None

    def __repr__(self) -> str:
        return (
            f"Part({self.name!r}, label {self.label}, {int(self.region.sum())} pixels, "
            f"{plural(len(self.images), 'image')})"
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Part:
        """Return the same part on another device, with its images in another type.

        Args:
            device: The device of all tensors.
            dtype: The type of the images. None: their own.
        """
        bare = None if self.bare is None else self.bare.to(device, dtype)
        return replace(
            self, region=self.region.to(device), images=self.images.to(device, dtype), bare=bare
        )

    @property
    def is_mark(self) -> bool:
        """True for a mark: neither an object nor the ground."""
        return self.label is None and self.name != GROUND


Parts = tuple[Part, ...]  # the parts of one image; empty if the data set has none for it


def effects(
    images: Tensor,
    scores: Tensor,
    parts: Sequence[Parts],
    score: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    passes: Passes,
) -> tuple[Tensor, ...]:
    """Compute S minus the mean of S over a part's versions, (n_parts,) per image.

    A version that equals its image bit by bit has the image's score, so that such a part's effect
    is exactly 0.

    Args:
        images: The images, (B, 3, H', W').
        scores: S, (B,).
        parts: The parts of each image.
        score: A function from versions (R, ...) and the numbers of their images (R,) to their
            scores.
        rows: The rows of every pass. The last pass is filled with copies of its last version, so
            that a value doesn't depend on the number of versions of other images.
        passes: The count of passes, which leaves these copies out.
    """
    counts = [[len(part.images) for part in image_parts] for image_parts in parts]
    totals = [sum(image_counts) for image_counts in counts]
    versions = (part.images for image_parts in parts for part in image_parts)
    answers = version_scores(images, scores, totals, versions, score, rows, passes)
    image_effects = []
    for own, answer, image_counts in zip(scores, answers, counts, strict=True):
        if image_counts:
            drops = (own - answer).split(image_counts)
            image_effects.append(torch.stack([drop.mean() for drop in drops]))
        else:
            # an empty tensor of the scores' type and device, since stack refuses an empty list
            image_effects.append(scores[:0])
    return tuple(image_effects)


def version_scores(
    images: Tensor,
    scores: Tensor,
    counts: Sequence[int],
    versions: Iterable[Tensor],
    score: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    passes: Passes,
) -> tuple[Tensor, ...]:
    """Compute the scores of each image's versions, one tensor per image.

    `counts` are the numbers of versions of each image. `versions` are blocks of them, one image's
    after another's. The other arguments are those of `effects`.
    """
    numbers = torch.repeat_interleave(torch.tensor(counts, dtype=torch.long)).to(images.device)
    answers = []
    start = 0
    for block in in_passes(versions, rows):
        # The last pass is filled up, so that rounding doesn't depend on the number of versions.
        missing = rows - len(block)
        block_numbers = numbers[start : start + len(block)]
        start += len(block)
        filled = torch.cat([block, block[-1:].expand(missing, *block.shape[1:])])
        filled_numbers = torch.cat([block_numbers, block_numbers[-1:].expand(missing)])
        answer = score(filled, filled_numbers)[: len(block)]
        passes.leave_out(missing)
        unchanged = (block == images[block_numbers]).flatten(1).all(1)
        answers.append(torch.where(unchanged, scores[block_numbers], answer))
    answers_by_image: tuple[Tensor, ...] = (torch.cat(answers) if answers else scores[:0]).split(
        list(counts)
    )
    return answers_by_image


def shapley_values(
    images: Tensor,
    scores: Tensor,
    parts: Sequence[Parts],
    score: Callable[[Tensor, Tensor], Tensor],
    rows: int,
    passes: Passes,
) -> tuple[Tensor, ...]:
    """Compute the Shapley values of the parts of each image, (n_parts,) per image.

    They are made from the scores of the image without each set of its parts, each the mean over its
    versions. The arguments are those of `effects`.

    Raises:
        BenchError: If an image has more than MAX_PARTS parts, or if a ground has no `bare` images.
    """
    for image_parts in parts:
        _check(image_parts)
    # Only the numbers of versions are listed: all versions of all sets may not fit into memory.
    counts = [
        [_count(image_parts, absent) for absent in _absent(image_parts)] for image_parts in parts
    ]
    totals = [sum(image_counts) for image_counts in counts]

    def versions() -> Iterator[Tensor]:
        for image, image_parts in zip(images, parts, strict=True):
            for absent in _absent(image_parts):
                yield _without(image, image_parts, absent)

    answers = version_scores(images, scores, totals, versions(), score, rows, passes)
    values = []
    for own, image_parts, sizes, answer in zip(scores, parts, counts, answers, strict=True):
        means = [own, *(set_scores.mean() for set_scores in answer.split(sizes))] if sizes else []
        values.append(_shapley(torch.stack(means), len(image_parts)) if means else scores[:0])
    return tuple(values)


def _check(parts: Parts) -> None:
    """Raise BenchError if the parts of an image have no Shapley values."""
    if len(parts) > MAX_PARTS:
        raise BenchError(
            f"Shapley values of {len(parts)} parts need {2 ** len(parts)} sets; {MAX_PARTS} parts "
            "are the most. Take their total effects (Trace.part_effects, "
            "spoiled=[truth_effects]), which need one set for each."
        )
    for part in parts:
        if part.name == GROUND and len(parts) > 1 and part.bare is None:
            raise BenchError(
                "Shapley values need the other grounds without any object: give the part 'ground' "
                "its `bare` images, or take total effects (Trace.part_effects, "
                "spoiled=[truth_effects]), which need none."
            )


def _absent(parts: Parts) -> Iterator[tuple[int, ...]]:
    """Return all sets of parts except the empty one.

    Part i is absent if bit i of the set's number is set.
    """
    places = range(len(parts))
    return (tuple(i for i in places if bits >> i & 1) for bits in range(1, 2 ** len(parts)))


def _count(parts: Parts, absent: Sequence[int]) -> int:
    return max(len(parts[place].images) for place in absent)


def _without(image: Tensor, parts: Parts, absent: Sequence[int]) -> Tensor:
    """Return the versions of an image without these parts, (r, 3, H', W').

    Each pixel comes from a version without the part that it belongs to. If the ground is absent,
    the pixel comes from the other ground, except in the regions of present parts.
    """
    ground: Part | None = next(
        (parts[place] for place in absent if parts[place].name == GROUND), None
    )
    count = _count(parts, absent)
    if ground is None or ground.bare is None:  # a ground without `bare` images is the only part
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
    """Return the first `count` versions, starting over if there are fewer."""
    return versions[torch.arange(count, device=versions.device) % len(versions)]


def _shapley(scores: Tensor, count: int) -> Tensor:
    """Compute the Shapley values of `count` players, (count,).

    The scores, (2^count,), are in the order of binary numbers whose bits are the absent players.
    """
    weights = [
        factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)
    ]
    rows = []
    for place in range(count):
        present = [bits for bits in range(2**count) if not bits >> place & 1]
        absent = [bits | 1 << place for bits in present]
        gains = scores[present] - scores[absent]
        factors = [weights[count - 1 - bits.bit_count()] for bits in present]
        rows.append((gains * torch.tensor(factors, dtype=scores.dtype, device=scores.device)).sum())
    return torch.stack(rows)


def checked_interventions(
    interventions: Sequence[Sequence[Part]], images: Tensor
) -> tuple[Parts, ...]:
    """Return the parts on the device and in the type of the images (B, 3, H', W').

    Raises BenchError for parts of other images.
    """
    if len(interventions) != len(images):
        raise BenchError(
            "Invalid interventions: expected the parts of each of "
            f"{plural(len(images), 'image')}, not of {len(interventions)}."
        )
    moved: dict[int, Parts] = {}  # the rows of an image share its parts
    for parts in interventions:
        for part in parts:
            fits_image = (
                part.region.shape == images.shape[2:] and part.images.shape[1:] == images.shape[1:]
            )
            fits_image &= part.bare is None or part.bare.shape == part.images.shape
            if not fits_image or not len(part.images):
                raise BenchError(
                    f"Invalid part {part.name!r}: expected a region {tuple(images.shape[2:])} and "
                    f"one or more images {tuple(images.shape[1:])}, not "
                    f"{tuple(part.region.shape)} and {tuple(part.images.shape)}."
                )
        moved.setdefault(id(parts), tuple(part.to(images.device, images.dtype) for part in parts))
    return tuple(moved[id(parts)] for parts in interventions)


def checked_other_images(other_images: Tensor, images: Tensor) -> Tensor:
    """Return other images on the device and in the type of the images (B, 3, H', W').

    Raises BenchError for another shape.
    """
    if other_images.shape != images.shape:
        raise BenchError(
            f"Invalid other_images: expected the shape of the images {tuple(images.shape)}, "
            f"not {tuple(other_images.shape)}."
        )
    return other_images.detach().to(images.device, images.dtype)
