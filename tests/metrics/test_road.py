"""Linear imputation against a sparse direct solve, and ROAD against an image at a time."""

from dataclasses import replace
from itertools import product

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
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.imputation import impute
from axiom_bench.metrics.shared.perturbation import confidence
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.testing.other_device import OtherDevice
from tests.metrics.build import close, functions, picture

road_combined, road_lerf, road_morf = functions("road_combined", "road_lerf", "road_morf")
# A neighbour's weight per number of dimensions and number of axes on which the neighbour differs.
NEIGHBOURS = {
    2: {1: 1 / 6, 2: 1 / 12},
    3: {1: 1 / 14, 2: 1 / 28, 3: 1 / 56},
}


def direct(image: NDArray[np.float64], hole: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Solve ROAD's sparse system by LU, for an image (C, *space) and a hole (*space)."""
    missing = np.argwhere(hole)
    number_by_place = {tuple(place): i for i, place in enumerate(missing.tolist())}
    steps = [step for step in product((-1, 0, 1), repeat=hole.ndim) if any(step)]
    rows = []
    columns = []
    weights = []
    right = np.zeros((len(missing), len(image)))
    for i, place in enumerate(missing.tolist()):
        total = 0.0
        for step in steps:
            neighbour = tuple(np.add(place, step).tolist())
            if not all(map(range.__contains__, map(range, hole.shape), neighbour)):
                continue
            weight = NEIGHBOURS[hole.ndim][np.abs(step).sum()]
            total += weight
            if neighbour in number_by_place:
                rows.append(i)
                columns.append(number_by_place[neighbour])
                weights.append(-weight)
            else:
                right[i] += weight * image[:, *neighbour]
        rows.append(i)
        columns.append(i)
        weights.append(total)
    solution = splu(csc_matrix((weights, (rows, columns)))).solve(right)
    filled = image.copy()
    filled[:, hole] = solution.T
    return filled


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ordered(kind: str, height: int, width: int) -> torch.Tensor:
    """Return a map that orders pixels: smooth like a CAM's, noise, or a ramp from one side."""
    generator = torch.Generator().manual_seed(3)
    if kind == "noise":
        return torch.rand(1, height, width, generator=generator)
    if kind == "ramp":
        return torch.linspace(0, 1, height * width).view(1, height, width)
    coarse = torch.rand(1, 1, 5, 5, generator=generator)
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return smooth[0]


SQUARE = (48, 48)
ODD = (31, 65)


@pytest.mark.parametrize(
    ("kind", "first", "size"),
    [  # each two of a kind, an order and a size are in one row
        ("smooth", "highest", SQUARE),
        ("smooth", "lowest", ODD),
        ("noise", "highest", ODD),
        ("noise", "lowest", SQUARE),
        ("ramp", "highest", SQUARE),
        ("ramp", "lowest", ODD),
    ],
)
def test_imputation_equals_a_direct_solve(kind, first, size):
    images = noise(1, 3, *size, seed=1).cumsum(2).cumsum(3)
    images = (images - images.mean()) / images.std()  # smooth on a large scale, like photographs
    images = images + noise(1, 3, *size, seed=2)
    ranks = pixel_ranks(Explanation(heatmap=ordered(kind, *size)), first)
    counts = [round(fraction * ranks.numel()) for fraction in (0.1, 0.5, 0.9, 0.99)]
    holes = torch.cat([ranks < count for count in counts])
    for filled, hole in zip(impute(images.expand(4, -1, -1, -1), holes), holes, strict=True):
        close(filled, direct(images[0].double().numpy(), hole.numpy()), atol=1e-3, rtol=0)


@given(st.integers(0, 2**20), st.integers(3, 20), st.integers(3, 20), st.floats(0, 1))
@settings(max_examples=30)
def test_any_hole_is_filled_as_directly_and_within_the_range_of_observed_pixels(
    seed, height, width, share
):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)
    hole = torch.rand(1, height, width, generator=generator) < share
    hole[0, height // 2, width // 2] = False
    observed = image[0][:, ~hole[0]]

    filled = impute(image, hole, tolerance=1e-8)[0]

    assert torch.equal(filled[:, ~hole[0]], observed)
    if hole.any():
        close(filled, direct(image[0].numpy(), hole[0].numpy()), atol=1e-6, rtol=0)
        assert (filled.amax((1, 2)) <= observed.amax(1) + 1e-6).all()
        assert (filled.amin((1, 2)) >= observed.amin(1) - 1e-6).all()


@pytest.mark.parametrize(
    ("side", "share"),
    [
        (112, 0.9),
        pytest.param(224, 0.9, marks=pytest.mark.slow),
        pytest.param(224, 0.7, marks=pytest.mark.slow),
    ],
)
def test_a_hole_observed_in_one_corner_only_equals_a_direct_solve(side, share):
    """Check the hardest of ROAD's holes, at ROAD's image size and at half of it.

    No norm of the error bounds a single pixel there.
    """
    image = functional.interpolate(noise(1, 3, 4, 4), (side, side), mode="bicubic")
    image = (image - image.mean()) / image.std()
    diagonal = torch.arange(float(side))[:, None] + torch.arange(float(side))
    ranks = pixel_ranks(Explanation(heatmap=diagonal[None] / (2 * side - 2)), "lowest")
    hole = ranks < round(share * side * side)
    expected = direct(image[0].double().numpy(), hole[0].numpy())
    close(impute(image, hole)[0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_volume_equals_a_direct_solve(share):
    volume = noise(1, 2, 9, 12, 14).cumsum(2).cumsum(3).cumsum(4)
    volume = (volume - volume.mean()) / volume.std()
    hole = ordered("noise", 9 * 12, 14).view(1, 9, 12, 14) < share
    if share == 0.9:
        hole = torch.ones_like(hole)  # observed only in one corner
        hole[..., :3, :4, :5] = False
    filled = impute(volume, hole)[0]
    close(filled, direct(volume[0].double().numpy(), hole[0].numpy()), atol=1e-4, rtol=0)

    # A broken voxel that isn't next to the hole is still in the mean of the observed ones.
    broken = volume.clone()
    broken[0, 0, 0, 0, 0] = torch.nan
    hole[..., :2, :2, :2] = False
    refilled = impute(broken, hole)[0]
    assert torch.equal(refilled[1], impute(volume, hole)[0, 1])
    assert refilled[0][hole[0]].isnan().all()
    assert impute(volume, torch.ones_like(hole)).isnan().all()


@pytest.mark.parametrize("factor", [1e-4, 100.0])
def test_imputation_follows_the_images_unit(factor):
    image = noise(1, 3, 64, 64).cumsum(3) / 8
    hole = rectangle(0, 50, 0, 50, size=(64, 64))
    close(impute(factor * image, hole) / factor, impute(image, hole), atol=1e-5, rtol=0)


def rectangle(top: int, bottom: int, left: int, right: int, size: tuple[int, int]) -> torch.Tensor:
    return picture((left, top, right, bottom, 1), size=size)[None] > 0


def test_an_image_is_filled_the_same_in_any_batch():
    """Check two images: one is done after a few iterations, the other takes many more.

    The second image's hole has all pixels except one.
    """
    images = noise(2, 3, 64, 64).cumsum(3) / 8
    holes = torch.zeros(2, 64, 64, dtype=torch.bool)
    holes[0, 3::7, 2::5] = True
    holes[1] = ~rectangle(20, 21, 30, 31, size=(64, 64))[0]
    both = impute(images, holes)
    for row in range(2):
        assert torch.equal(both[row], impute(images[row : row + 1], holes[row : row + 1])[0])


def test_a_channel_that_is_not_finite_changes_no_other():
    image = noise(1, 3, 24, 30)
    hole = rectangle(5, 20, 6, 25, size=(24, 30))
    broken = image.clone()
    broken[0, 0, 0, 0] = torch.nan
    assert torch.equal(impute(broken, hole)[0, 1:], impute(image, hole)[0, 1:])


def test_nothing_is_imputed_without_an_observed_pixel():
    images = noise(2, 3, 12, 14)
    holes = images[:, 0] > 0.5
    holes[0] = True
    assert impute(images, holes).isfinite().flatten(1).any(1).tolist() == [False, True]
    assert impute(images, holes)[1].isfinite().all()


def test_images_of_a_gpu_come_back_to_it():
    images = noise(2, 3, 20, 20)
    holes = images[:, 0] > 0.5
    expected = impute(images, holes)
    with OtherDevice() as device:
        device.put(images, holes)
        filled = impute(images, holes)
        assert device.holds(filled)
    assert torch.equal(filled, expected)


@pytest.mark.parametrize("output", ["accuracy", "probability", "logit"])
def test_road_is_the_mean_over_fractions_of_imputed_images(trace, explanation, output):
    options = {"fractions": (0.2, 0.5, 0.8), "noise": 0.3, "output": output, "seed": 4}
    actual = road_morf(explanation, **options) | road_lerf(explanation, **options)
    for curve, first in (("morf", "highest"), ("lerf", "lowest")):
        ranks = pixel_ranks(explanation, first)
        rows = []
        for row, (image, target) in enumerate(zip(trace.images, trace.targets, strict=True)):
            (generator,) = generators(image[None], 4)
            noise = 0.3 * torch.randn(image.shape, generator=generator, dtype=torch.float64)
            filled_images = []
            for share in (0.2, 0.5, 0.8):
                hole = ranks[row] < round(share * 144)
                filled = torch.from_numpy(direct(image.numpy(), hole.numpy()))
                filled_images.append(filled + noise * hole)
            logits = trace.forward(torch.stack(filled_images))
            rows.append(confidence(logits, target.expand(3), output))
        close(actual[curve], torch.stack(rows), 1e-5, 1e-5)
        close(actual[f"road_{curve}"], torch.stack(rows).mean(1), 1e-5, 1e-5)
    before = replace(trace.passes)
    half = (actual["road_lerf"] - actual["road_morf"]) / 2
    assert torch.equal(road_combined(explanation, **options), half)
    assert trace.passes == before
