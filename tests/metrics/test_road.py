"""Linear imputation against a sparse direct solve, and ROAD against an image at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from axiom_bench.cutting.numerics import generators
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.road import road_combined, road_lerf, road_morf
from axiom_bench.metrics.shared.imputation import impute
from axiom_bench.metrics.shared.perturbation import confidence
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.testing import answered
from axiom_bench.testing.other_device import OtherDevice

road_combined = answered(road_combined)
road_lerf = answered(road_lerf)
road_morf = answered(road_morf)


NEIGHBOURS = {
    (dy, dx): 1 / 6 if dy == 0 or dx == 0 else 1 / 12 for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
}


def direct(image: NDArray[np.float64], hole: NDArray[np.bool_]) -> NDArray[np.float64]:
    """ROAD's sparse system, solved by LU: (3, H, W), (H, W) -> (3, H, W)."""
    missing = np.argwhere(hole)
    number = {(y, x): i for i, (y, x) in enumerate(missing.tolist())}
    rows, columns, weights, right = [], [], [], np.zeros((len(missing), len(image)))
    for i, (y, x) in enumerate(missing.tolist()):
        around = [((y + dy, x + dx), weight) for (dy, dx), weight in NEIGHBOURS.items()]
        inside = [(at, weight) for at, weight in around if 0 <= at[0] < hole.shape[0] and 0 <= at[1] < hole.shape[1]]
        entries = [(i, sum(weight for _, weight in inside))]
        for at, weight in inside:
            if at in number:
                entries.append((number[at], -weight))
            else:
                right[i] += weight * image[:, at[0], at[1]]
        rows += [i] * len(entries)
        columns += [column for column, _ in entries]
        weights += [weight for _, weight in entries]
    solution = splu(csc_matrix((weights, (rows, columns)))).solve(right)
    filled = image.copy()
    filled[:, hole] = solution.T
    return filled


def ordered(kind: str, height: int, width: int, seed: int) -> torch.Tensor:
    """A map to order pixels by: smooth, as a CAM's, noise, or a ramp from one side."""
    draw = torch.Generator().manual_seed(seed)
    if kind == "noise":
        return torch.rand(1, height, width, generator=draw)
    if kind == "ramp":
        return torch.linspace(0, 1, height * width).view(1, height, width)
    return torch.nn.functional.interpolate(
        torch.rand(1, 1, 5, 5, generator=draw), size=(height, width), mode="bilinear", align_corners=False
    )[0]


@pytest.mark.parametrize("kind", ["smooth", "noise", "ramp"])
@pytest.mark.parametrize("first", ["highest", "lowest"])
@pytest.mark.parametrize("size", [(48, 48), (31, 65)])
def test_imputation_equals_a_direct_solve(kind, first, size):
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)).cumsum(2).cumsum(3)
    images = (images - images.mean()) / images.std()  # smooth on a large scale, as photographs
    images = images + torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2))
    ranks = pixel_ranks(Explanation(heatmap=ordered(kind, *size, seed=3)), first)
    holes = torch.cat([ranks < round(fraction * ranks.numel()) for fraction in (0.1, 0.5, 0.9, 0.99)])
    actual = impute(images.expand(4, -1, -1, -1), holes)
    for filled, hole in zip(actual, holes, strict=True):
        expected = direct(images[0].double().numpy(), hole.numpy())
        np.testing.assert_allclose(filled.numpy(), expected, rtol=0, atol=1e-3)


@given(st.integers(0, 2**20), st.integers(3, 20), st.integers(3, 20), st.floats(0, 1))
@settings(max_examples=30)
def test_any_hole_is_filled_as_directly_and_within_the_range_of_observed_pixels(seed, height, width, share):
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, height, width, generator=draw, dtype=torch.float64)
    hole = torch.rand(1, height, width, generator=draw) < share
    hole[0, height // 2, width // 2] = False
    filled = impute(image, hole, tolerance=1e-8)
    assert torch.equal(filled[:, :, ~hole[0]], image[:, :, ~hole[0]])
    if hole.any():
        np.testing.assert_allclose(filled[0].numpy(), direct(image[0].numpy(), hole[0].numpy()), rtol=0, atol=1e-6)
        observed = image[0][:, ~hole[0]]
        assert (filled[0].amax((1, 2)) <= observed.amax(1) + 1e-6).all()
        assert (filled[0].amin((1, 2)) >= observed.amin(1) - 1e-6).all()


@pytest.mark.parametrize("share", [0.7, 0.9])
def test_a_hole_known_in_one_corner_only_equals_a_direct_solve(share):
    """No norm of the error bounds a single pixel there: the hardest of ROAD's holes, at ROAD's image size."""
    image = functional.interpolate(
        torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), (224, 224), mode="bicubic"
    )
    image = (image - image.mean()) / image.std()
    diagonal = torch.arange(224.0)[:, None] + torch.arange(224.0)
    hole = pixel_ranks(Explanation(heatmap=diagonal[None] / 446), "lowest") < round(share * 224 * 224)
    expected = direct(image[0].double().numpy(), hole[0].numpy())
    np.testing.assert_allclose(impute(image, hole)[0].numpy(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("factor", [1e-4, 100.0])
def test_imputation_follows_the_images_unit(factor):
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).cumsum(3) / 8
    hole = torch.zeros(1, 64, 64, dtype=torch.bool)
    hole[0, :50, :50] = True
    torch.testing.assert_close(impute(factor * image, hole) / factor, impute(image, hole), rtol=0, atol=1e-5)


def test_an_even_image_is_filled_as_it_is():
    image = torch.full((1, 3, 32, 32), 0.3)
    hole = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.9
    torch.testing.assert_close(impute(image, hole), image, rtol=0, atol=1e-6)


def test_an_image_is_filled_the_same_in_any_batch():
    """One is done after a few iterations, the other's hole of all pixels but one takes many more."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).cumsum(3) / 8
    holes = torch.zeros(2, 64, 64, dtype=torch.bool)
    holes[0, 3::7, 2::5] = True
    holes[1] = True
    holes[1, 20, 30] = False
    both = impute(images, holes)
    for row in range(2):
        assert torch.equal(both[row], impute(images[row : row + 1], holes[row : row + 1])[0])


def test_a_channel_that_is_not_finite_changes_no_other():
    image = torch.randn(1, 3, 24, 30, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(1, 24, 30, dtype=torch.bool)
    hole[0, 5:20, 6:25] = True
    broken = image.clone()
    broken[0, 0, 0, 0] = torch.nan
    assert torch.equal(impute(broken, hole)[0, 1:], impute(image, hole)[0, 1:])


def test_nothing_is_known_without_an_observed_pixel():
    images = torch.randn(2, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    holes = images[:, 0] > 0.5
    holes[0] = True
    filled = impute(images, holes)
    assert filled[0].isnan().all()
    assert filled[1].isfinite().all()


def test_images_of_a_gpu_come_back_to_it():
    images = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    holes = images[:, 0] > 0.5
    expected = impute(images, holes)
    with OtherDevice() as device:
        device.put(images, holes)
        filled = impute(images, holes)
        assert device.holds(filled)
    torch.testing.assert_close(filled, expected, rtol=0, atol=0)


def test_one_missing_pixel_by_hand():
    """Beside 6, 12, 18, 24 and across the corners 0: (6 + 12 + 18 + 24) / 6 = 10. In a corner, 1/6, 1/6 and 1/12."""
    image = torch.tensor([[[[0.0, 6, 0], [12, 99, 18], [0, 24, 0]]] * 3]).double()
    centre, corner = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    centre[0, 1, 1], corner[0, 0, 0] = True, True
    assert impute(image, centre)[0, 0, 1, 1].item() == pytest.approx(10)
    assert impute(image, corner)[0, 0, 0, 0].item() == pytest.approx((2 * 6 + 2 * 12 + 99) / 5)


def test_a_plane_is_imputed_as_it_is():
    """A mean of neighbours leaves what is linear: a hole in a ramp, away from the border, is filled by the ramp."""
    image = torch.arange(40.0).double().expand(1, 3, 40, 40) / 10
    hole = torch.zeros(1, 40, 40, dtype=torch.bool)
    hole[0, 8:30, 5:33] = True
    torch.testing.assert_close(impute(image, hole, tolerance=1e-8), image.contiguous(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("output", ["accuracy", "probability", "logit"])
def test_road_is_the_mean_over_fractions_of_imputed_images(trace, explanation, output):
    options = {"fractions": (0.2, 0.5, 0.8), "noise": 0.3, "output": output, "seed": 4}
    actual = {**road_morf(explanation, **options), **road_lerf(explanation, **options)}
    for curve, first in (("morf", "highest"), ("lerf", "lowest")):
        ranks, rows = pixel_ranks(explanation, first), []
        for row, (image, target) in enumerate(zip(trace.images, trace.targets, strict=True)):
            (draw,) = generators(image[None], 4)
            noise = 0.3 * torch.randn(image.shape, generator=draw, dtype=torch.float64)
            holes = [ranks[row] < round(share * 144) for share in (0.2, 0.5, 0.8)]
            filled = [torch.from_numpy(direct(image.numpy(), hole.numpy())) + noise * hole for hole in holes]
            rows.append(confidence(trace.forward(torch.stack(filled)), target.expand(3), output))
        torch.testing.assert_close(actual[curve], torch.stack(rows), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(actual[f"road_{curve}"], torch.stack(rows).mean(1), rtol=1e-5, atol=1e-5)
    before = replace(trace.passes)
    half = (actual["road_lerf"] - actual["road_morf"]) / 2
    torch.testing.assert_close(road_combined(explanation, **options), half, rtol=0, atol=0)
    assert trace.passes == before


def test_the_most_relevant_of_one_map_are_the_least_of_its_opposite(trace, explanation):
    """No two pixels of the map are alike, or ties would go to the first in both orders."""
    heatmap = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(0)).double() * 0.9 + 0.05
    upright, inverted = replace(explanation, heatmap=heatmap), replace(explanation, heatmap=1 - heatmap)
    options = {"output": "logit"}
    torch.testing.assert_close(
        road_morf(upright, **options)["morf"], road_lerf(inverted, **options)["lerf"], rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        road_combined(upright, **options), -road_combined(inverted, **options), rtol=1e-9, atol=1e-9
    )


def test_fractions_are_checked(explanation):
    for fractions in ((), (0.5, 1.0), (0.0,)):
        with pytest.raises(BenchError, match="between 0 and 1"):
            road_morf(explanation, fractions=fractions)
