"""The quick comparison of many raw maps with an implementation's maps.

Equal maps are equal up to a factor and an offset at any pixels. So most candidates are excluded at
some pixels, before their normalisations are tried on the whole map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import prod

import torch
from torch import Tensor

from axiom_bench.auditing.readings import INTERPOLATIONS, RECTIFIED, SIDES, Reading

MAX_PIXELS = 512  # of a map that are compared; more would only cost time
MAX_FITTED = 512  # positions of a layer to which positive pixels are fitted, in seconds
BEFORE = tuple(name for name in RECTIFIED if "after" not in name)


class Screen:
    """The quick comparison with the maps of an implementation for one case."""

    def __init__(self, maps: Tensor, tolerance: float, layer_size: Sequence[int]) -> None:
        """Find the shapes that the observed maps can have.

        Args:
            maps: The implementation's maps, (B, h, w).
            tolerance: The largest difference that rounding explains, as a share of a map's largest
                value.
            layer_size: The size of the layer's maps, (h, w).
        """
        self.size = tuple(maps.shape[1:])
        self.tolerance = tolerance
        # A flat map's deviation from its mean is smaller than its values. Rounded maps would let
        # too many candidates survive.
        self.threshold = min(20 * tolerance, max(3 * tolerance, 1e-3))
        self.are_finite = maps.flatten(1).isfinite().all(1)
        maps = maps[self.are_finite]
        self.pixels = compared_pixels(maps)
        self.observed = maps.flatten(1)[:, self.pixels]
        self.matrices: dict[tuple[Sequence[int], str], Tensor] = {}
        self.are_enlarged = False
        """True if every map is an interpolation of a map of the layer's size."""
        self.shapes = self._possible_shapes(maps, layer_size)

    def distances(self, raw_maps: Tensor) -> Iterator[tuple[Reading, Tensor]]:
        """Yield each possible shape with the distances of candidates from the observed maps.

        Args:
            raw_maps: The raw maps of N candidates, (N, B, h, w).

        Yields:
            A reading that has only axes, ReLU and interpolation, and the distances, (N,).
        """
        for shape in self.shapes:
            if shape.interpolation and raw_maps.shape[2:] == self.size:
                continue
            before, after = RECTIFIED[shape.rectified]
            maps = before(SIDES[shape.sides](raw_maps[:, self.are_finite]))
            if maps.shape[2:] == self.size:
                values = maps.flatten(2)[..., self.pixels]
            else:
                values = maps.flatten(2) @ self._matrix(maps.shape[2:], shape.interpolation)
            yield shape, affine_distances(after(values), self.observed, self.tolerance)

    def distance(self, maps: Tensor) -> float:
        """Return the distance of one candidate's finished maps, (B, h, w)."""
        values = maps[self.are_finite].flatten(1)[:, self.pixels]
        return float(affine_distances(values[None], self.observed, self.tolerance))

    def _matrix(self, size: Sequence[int], interpolation: str) -> Tensor:
        """Return the matrix (h w, P) that gives P pixels of a resized map.

        Rows and columns are resized independently by every interpolation.
        """
        key = tuple(size), interpolation
        if key not in self.matrices:
            height, width = self.size
            rows = resizing_matrix(interpolation, size[0], height)[:, self.pixels // width]
            columns = resizing_matrix(interpolation, size[1], width)[:, self.pixels % width]
            self.matrices[key] = (rows[:, None] * columns[None]).flatten(0, 1)
        return self.matrices[key]

    def _possible_shapes(self, maps: Tensor, layer_size: Sequence[int]) -> list[Reading]:
        """Return the readings of axes, ReLU and interpolation that observed maps can come from.

        An interpolated map is a linear function of the map at the layer. So is the positive part of
        a map that was rectified after the resizing. If the maps come from no interpolation, all
        readings are possible.
        """
        if self.size == tuple(layer_size):
            return [Reading(sides=sides, rectified=name) for sides in SIDES for name in BEFORE]
        shapes: list[Reading] = []
        for sides, interpolation in product(SIDES, INTERPOLATIONS):
            shape = Reading(sides=sides, interpolation=interpolation)
            size = layer_size[::-1] if sides else layer_size
            if self._is_interpolated(maps, size, interpolation):
                shapes += [replace(shape, rectified=name) for name in BEFORE]
                self.are_enlarged = prod(size) < prod(self.size)
            elif self._is_positive_part(size, interpolation):
                shapes.append(replace(shape, rectified="ReLU after resizing"))
        if not shapes:
            choices = product(SIDES, RECTIFIED, INTERPOLATIONS)
            for sides, rectified, interpolation in choices:
                shape = Reading(sides=sides, rectified=rectified, interpolation=interpolation)
                shapes.append(shape)
        return shapes

    def _is_interpolated(self, maps: Tensor, size: Sequence[int], interpolation: str) -> bool:
        """Return True if every map is an interpolation of some map of a size."""
        rows = resizing_matrix(interpolation, size[0], self.size[0])
        columns = resizing_matrix(interpolation, size[1], self.size[1])
        smaller = rows.T.pinverse() @ maps @ columns.pinverse()
        errors = (rows.T @ smaller @ columns - maps).abs().flatten(1).amax(1)
        return bool((errors <= self._fit_tolerance * maps.abs().flatten(1).amax(1)).all())

    def _is_positive_part(self, size: Sequence[int], interpolation: str) -> bool:
        """Return True if the positive pixels of every map are those of an interpolation.

        It is also True if the fit would take long.
        """
        if prod(size) > MAX_FITTED:
            return True
        basis = self._matrix(size, interpolation).T
        for values in self.observed:
            rows = values > 0
            if not rows.any():
                continue
            solution = torch.linalg.lstsq(basis[rows], values[rows], driver="gelsd").solution
            error = (basis[rows] @ solution - values[rows]).abs().amax()
            if error > self._fit_tolerance * values.amax():
                return False
        return True

    @property
    def _fit_tolerance(self) -> float:
        return max(100 * self.tolerance, 1e-9)


def compared_pixels(maps: Tensor) -> Tensor:
    """Return the flat indices of at most MAX_PIXELS pixels, evenly spaced, and of the extremes.

    Args:
        maps: The observed maps, (B, H, W).
    """
    values = maps.flatten(1)
    count = min(MAX_PIXELS, values.shape[1])
    spaced = torch.linspace(0, values.shape[1] - 1, count).round().long()
    # with its extremes, a map that isn't flat isn't flat at these pixels either
    pixels: Tensor = torch.cat([spaced, values.argmin(1), values.argmax(1)]).unique()
    return pixels


def resizing_matrix(interpolation: str, length: int, resized: int) -> Tensor:
    """Return the matrix (length, resized) that resizes one axis of a map."""
    units = torch.eye(length, dtype=torch.float64)[..., None]
    matrix = INTERPOLATIONS[interpolation](units, (resized, 1))
    return matrix[..., 0]


def affine_distances(maps: Tensor, observed: Tensor, tolerance: float) -> Tensor:
    """Return how far candidates are from the observed maps up to factor and offset.

    The factor may be negative, since some implementations reverse their maps.

    Args:
        maps: The maps of N candidates, (N, B, P).
        observed: The observed maps, (B, P).
        tolerance: The share of a flat map's values by which it may deviate from its mean.

    Returns:
        The largest distance of each candidate, (N,), as a share of the map's largest deviation from
        its mean. A constant map is at distance 1 from a map that isn't constant.
    """
    expected, observed_is_flat = _standardised(observed, tolerance)
    candidates, is_flat = _standardised(maps, tolerance)
    largest = expected.abs().amax(-1).clamp(min=1e-30)
    same_sign = (candidates - expected).abs().amax(-1)
    other_sign = (candidates + expected).abs().amax(-1)
    distances = torch.minimum(same_sign, other_sign) / largest
    distances = torch.where(is_flat & observed_is_flat, 0.0, distances)
    distances = torch.where(is_flat ^ observed_is_flat, 1.0, distances)
    return distances.amax(-1)


def _standardised(maps: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return maps (..., P) of mean 0 and norm 1, and whether they are flat, (...)."""
    centred = maps - maps.mean(-1, keepdim=True)
    norm = centred.square().sum(-1, keepdim=True).sqrt()
    is_flat = norm[..., 0] <= tolerance * maps.abs().amax(-1)
    return centred / norm.clamp(min=1e-300), is_flat
