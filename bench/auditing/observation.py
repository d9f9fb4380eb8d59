"""Run a CAM implementation on a case, and compare its maps with others."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from axiom_bench.auditing.case import CamFunction, Case
from axiom_bench.auditing.references import References, references_of
from axiom_bench.auditing.screening import Screen
from axiom_bench.errors import plural

# The largest differences that rounding explains, as shares of a map's largest value. Sums of some
# hundred float64 products are exact to 1e-13, and a min-max of a flat map loses four digits.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5}
HALF_TOLERANCE = 1e-2
# Sums of other orders have other rounding errors, which seldom differ by more than this factor.
FLOAT32_MARGIN = 10
ROUNDED = 2  # a rounded map's largest value is rounded, too


@dataclass(frozen=True, eq=False)
class Observation:
    """The maps of an implementation for a case."""

    case: Case
    maps: Tensor
    """The maps, (B, h, w) in float64."""
    tolerance: float
    """The largest difference that rounding explains, as a share of a map's largest value."""
    float64_error: str = ""
    """The error of the implementation for the case's float64, if it was run in float32 instead."""

    @property
    def references(self) -> References:
        """The maps of all methods for the case."""
        return references_of(self.case)

    @cached_property
    def screen(self) -> Screen:
        """The quick comparison with these maps."""
        return Screen(self.maps, self.tolerance, self.references.layer_size)

    @cached_property
    def first_image(self) -> Observation:
        """The first image alone, or all images if the first map isn't finite."""
        if len(self.maps) == 1 or not self.maps[0].isfinite().all():
            return self
        case = replace(self.case, images=self.case.images[:1], targets=self.case.targets[:1])
        return replace(self, case=case, maps=self.maps[:1])

    @cached_property
    def twin(self) -> Case | None:
        """The case in the other precision, or None if the implementation ran in float64.

        It shows how many digits a formula loses in float32.
        """
        if self.case.images.dtype == torch.float32:
            return _cast(self.case, torch.float64)
        return _cast(self.case, torch.float32) if self.float64_error else None

    @property
    def is_constant(self) -> bool:
        """True if no map has two different finite values."""
        values = self.maps[self.maps.flatten(1).isfinite().all(1)].flatten(1)
        return torch.equal(values.amin(1), values.amax(1))


def observe(cam: CamFunction, case: Case, rounding: float = 0.0) -> Observation:
    """Run an implementation on a copy of a case's network.

    If it fails in float64, it runs in float32, which is all that some libraries know.

    Args:
        cam: The implementation.
        case: The case.
        rounding: The largest rounding error of the maps, as a share of the largest value.

    Raises:
        ValueError: If it returns no map for each image.
        Exception: What the implementation raises.
    """
    run_case = case
    float64_error = ""
    try:
        returned = _call(cam, case)
    except Exception as error:
        if case.images.dtype != torch.float64:
            raise
        run_case = _cast(case, torch.float32)
        try:
            returned = _call(cam, run_case)
        except Exception:  # noqa: BLE001 - a user's code may raise anything
            raise error from None
        float64_error = error_line(error)
    maps = torch.as_tensor(returned).detach().cpu()
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 3 or len(maps) != len(case.images):
        raise ValueError(
            f"it returned {tuple(maps.shape)} for {plural(len(case.images), 'image')}, not one "
            "map each"
        )
    if not maps.flatten(1).isfinite().all(1).any():
        raise ValueError("none of its maps is finite")
    kinds = {maps.dtype, run_case.images.dtype}
    tolerance = max(TOLERANCES.get(kind, HALF_TOLERANCE) for kind in kinds)
    tolerance = max(tolerance, ROUNDED * rounding)
    return Observation(case, maps.double(), tolerance, float64_error)


def _cast(case: Case, dtype: torch.dtype) -> Case:
    """Return a case whose network and images have another type."""
    model = copy.deepcopy(case.model).to(dtype)
    return replace(case, model=model, images=case.images.to(dtype))


def _call(cam: CamFunction, case: Case) -> object:
    """Call an implementation with a copy of a case's network, without its warnings."""
    with warnings.catch_warnings(action="ignore"):
        return case.arguments().call(cam)


def error_line(error: Exception) -> str:
    """Return the type and the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def largest_difference(maps: Tensor, observed: Tensor) -> float:
    """Return the largest difference of maps (B, H, W), as a share of each map's largest value.

    A map that isn't finite may be a constant one that was divided by 0.
    """
    largest = 0.0
    overall = float(maps.abs().amax())
    for row, seen in zip(maps, observed, strict=True):
        if not seen.isfinite().all():
            if row.amax() != row.amin():
                return float("inf")
            continue
        scale = max(float(row.abs().amax()), float(seen.abs().amax()), 1e-6 * overall)
        if scale:
            largest = max(largest, float((row - seen).abs().amax()) / scale)
    return largest
