"""The quick comparison of many raw maps with an implementation's maps.

A method's map can equal the observed one only if both are equal up to a factor and an offset. So
most candidates are excluded before their normalisations are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from axiom_bench.auditing.observation import Observation
from axiom_bench.auditing.readings import INTERPOLATIONS, RECTIFIED, SIDES, Reading, shaped


class Screen:
    """The quick comparison with the maps of one observation."""

    def __init__(self, observation: Observation, layer_size: Sequence[int]) -> None:
        """Find the shapes that the observed maps can have.

        Args:
            observation: The implementation's maps.
            layer_size: The size of the layer's maps, (h, w).
        """
        self.observation = observation
        tolerance = observation.tolerance
        self.shapes = possible_shapes(observation.maps, layer_size, tolerance)
        # A flat map's deviation from its mean is smaller than its values. Rounded maps would let
        # too many candidates survive.
        self.threshold = min(20 * tolerance, max(3 * tolerance, 1e-3))

    def distances(self, raw_maps: Tensor) -> Iterator[tuple[Reading, Tensor]]:
        """Yield each possible shape with the distances of candidates from the observed maps.

        Args:
            raw_maps: The raw maps of N candidates, (N, B, h, w).

        Yields:
            A reading that has only axes, ReLU and interpolation, and the distances, (N,).
        """
        size = self.observation.maps.shape[1:]
        for shape in self.shapes:
            if shape.interpolation and raw_maps.shape[2:] == size:
                continue
            maps = shaped(raw_maps.flatten(0, 1), size, shape).unflatten(0, raw_maps.shape[:2])
            yield shape, affine_distances(maps, self.observation)


def possible_shapes(maps: Tensor, layer_size: Sequence[int], tolerance: float) -> list[Reading]:
    """Return the readings of axes, ReLU and interpolation that observed maps can come from.

    An interpolated map is a linear function of the map at the layer. So is the positive part of a
    map that was rectified after the resizing.

    Args:
        maps: The observed maps, (B, H, W).
        layer_size: The size of the layer's maps, (h, w).
        tolerance: The tolerance of their comparison.

    Returns:
        The readings, which have only these three fields. If the maps come from no interpolation,
        all readings are possible.
    """
    size = maps.shape[1:]
    before = [name for name in RECTIFIED if "after" not in name]
    if size == torch.Size(layer_size):
        return [Reading(sides=sides, rectified=name) for sides in SIDES for name in before]
    shapes = []
    for sides, interpolation in product(SIDES, INTERPOLATIONS):
        shape = Reading(sides=sides, interpolation=interpolation, rectified="no ReLU")
        if _is_interpolated(maps, layer_size, shape, tolerance, only_positive=False):
            shapes += [replace(shape, rectified=name) for name in before]
        elif _is_interpolated(maps, layer_size, shape, tolerance, only_positive=True):
            shapes.append(replace(shape, rectified="ReLU after resizing"))
    if not shapes:
        choices = product(SIDES, RECTIFIED, INTERPOLATIONS)
        shapes = [
            Reading(sides=sides, rectified=name, interpolation=interpolation)
            for sides, name, interpolation in choices
        ]
    return shapes


def _is_interpolated(
    maps: Tensor,
    layer_size: Sequence[int],
    shape: Reading,
    tolerance: float,
    only_positive: bool,
) -> bool:
    """Return True if every finite map is an interpolation of some map at the layer."""
    height, width = layer_size
    units = torch.eye(height * width, dtype=torch.float64).view(-1, height, width)
    basis = shaped(units, maps.shape[1:], shape).flatten(1).T
    for values in maps.flatten(1):
        if not values.isfinite().all():
            continue
        rows = values > 0 if only_positive else torch.ones_like(values, dtype=torch.bool)
        if not rows.any():
            continue
        solution = torch.linalg.lstsq(basis[rows], values[rows], driver="gelsd").solution
        error = (basis[rows] @ solution - values[rows]).abs().amax()
        if error > max(100 * tolerance, 1e-9) * values.abs().amax():
            return False
    return True


def affine_distances(maps: Tensor, observation: Observation) -> Tensor:
    """Return how far candidates are from the observed maps up to factor and offset.

    The factor may be negative, since some implementations reverse their maps.

    Args:
        maps: The maps of N candidates, (N, B, H, W).
        observation: The observed maps.

    Returns:
        The largest distance of each candidate, (N,), as a share of the map's largest deviation from
        its mean. A constant map is at distance 1 from a map that isn't constant.
    """
    are_finite = observation.maps.flatten(1).isfinite().all(1)
    tolerance = observation.tolerance
    observed, observed_is_flat = _standardised(observation.maps[are_finite], tolerance)
    candidates, is_flat = _standardised(maps[:, are_finite], tolerance)
    largest = observed.abs().amax((-2, -1)).clamp(min=1e-30)
    same_sign = (candidates - observed).abs().amax((-2, -1))
    other_sign = (candidates + observed).abs().amax((-2, -1))
    distances = torch.minimum(same_sign, other_sign) / largest
    distances = torch.where(is_flat & observed_is_flat, 0.0, distances)
    distances = torch.where(is_flat ^ observed_is_flat, 1.0, distances)
    return distances.amax(-1)


def _standardised(maps: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return maps (..., H, W) of mean 0 and norm 1, and whether they are flat, (...)."""
    centred = maps - maps.mean((-2, -1), keepdim=True)
    norm = centred.square().sum((-2, -1), keepdim=True).sqrt()
    largest = maps.abs().amax((-2, -1))
    is_flat = norm[..., 0, 0] <= tolerance * largest
    return centred / norm.clamp(min=1e-300), is_flat
