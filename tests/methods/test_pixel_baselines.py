"""Tests of RISE and occlusion: formulas in loops in float64, closed forms, images with several
labels, and networks of other kinds.
"""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.methods.occlusion import occlusion
from axiom_bench.methods.rise import rise
from axiom_bench.methods.shared.random_masks import draw_masks
from axiom_bench.run.shards import expected_passes
from axiom_bench.testing import CASES
from axiom_bench.testing.cases import OTHER_CASES
from tests.methods.plain import (
    CLOSE,
    EACH_CASE,
    Row,
    assert_formula,
    generator_of,
    linear,
    normal,
    resized,
)


def rise_of(row: Row, masks: int, grid: int, kept: float, score: str, seed: int) -> Tensor:
    """Return the sum over masks that are made one by one, as in the authors' generate_masks."""
    generator = generator_of(row.image, seed)
    draws = torch.rand(masks, grid, grid, generator=generator, dtype=torch.float64)
    shifts = torch.rand(masks, 2, generator=generator, dtype=torch.float64)
    height, width = row.case.size
    cell_height = math.ceil(height / grid)
    cell_width = math.ceil(width / grid)
    total = torch.zeros(height, width, dtype=torch.float64)
    for draw, (down, right) in zip(draws, shifts.tolist(), strict=True):
        lines = (draw < kept).double().tolist()
        enlarged = resized(lines, (grid + 1) * cell_height, (grid + 1) * cell_width)
        y = int(down * cell_height)
        x = int(right * cell_width)
        mask = torch.tensor([line[x : x + width] for line in enlarged[y : y + height]]).double()
        total += row.score(row.image * mask, score) * mask
    span = total.max() - total.min()
    return (total - total.min()) / span if span else torch.zeros_like(total)


def occlusion_of(
    row: Row, window: tuple[int, int], stride: tuple[int, int], fill: str, score: str
) -> Tensor:
    """Return each pixel's mean drop, over the windows that cover it."""
    height, width = row.case.size
    corners = itertools.product(
        range(0, height + stride[0], stride[0]), range(0, width + stride[1], stride[1])
    )
    drops: dict[tuple[int, int], list[float]] = {
        pixel: [] for pixel in itertools.product(range(height), range(width))
    }
    for y, x in corners:
        # the last window of a side is the first that reaches its end
        if y >= height - window[0] + stride[0] or x >= width - window[1] + stride[1]:
            continue
        covered = row.image.clone()
        for channel in range(3):
            colour = row.image[channel].mean() if fill == "mean" else 0
            covered[channel, y : y + window[0], x : x + window[1]] = colour
        drop = row.score(row.image, score) - row.score(covered, score)
        for v, u in drops:
            if y <= v < y + window[0] and x <= u < x + window[1]:
                drops[v, u].append(drop)
    means = [sum(values) / len(values) for values in drops.values()]
    return torch.tensor(means, dtype=torch.float64).view(height, width)


@EACH_CASE
@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize(("grid", "kept"), [(3, 0.4), (5, 0.7), (1, 0.5)])
def test_rise_equals_the_formula(case, grid, kept, score):
    params = {"masks": 12, "grid": grid, "kept": kept, "score": score, "seed": 7}
    # the plain resize rounds its masks to float32
    assert_formula(case, partial(rise, **params), partial(rise_of, **params), rtol=1e-6, atol=1e-6)


# On images of 8 x 12 pixels: the parameters, and the window and stride in pixels.
OCCLUSIONS = [
    ({"window": 3, "stride": 2}, (3, 3), (2, 2)),
    ({"window": 4, "stride": 4, "fill": "mean"}, (4, 4), (4, 4)),
    ({"window": 0.5, "stride": 0.25, "score": "probability"}, (4, 6), (2, 3)),
    ({"window": 10, "stride": 5}, (10, 10), (5, 5)),
    ({}, (2, 3), (1, 1)),
]


@EACH_CASE
@pytest.mark.parametrize(("params", "window", "stride"), OCCLUSIONS)
def test_occlusion_equals_the_formula(case, params, window, stride):
    formula = partial(
        occlusion_of,
        window=window,
        stride=stride,
        fill=params.get("fill", "zero"),
        score=params.get("score", "logit"),
    )
    assert_formula(case, partial(occlusion, **params), formula)


class Pixel(nn.Module):
    """A network with two logits: the pixel (3, 4) of the first channel, and zero."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()
            self.maps.weight[0, 0] = 1

    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images)[:, :, 3, 4]


def test_rise_of_one_pixel_is_its_expectation():
    """Check that the map is the pixel's value times E[M M_pixel] / p.

    Far from the pixel, masks are independent of it: the value times p.
    """
    images = torch.ones(1, 3, 28, 28, dtype=torch.float64)
    trace = ab.trace(Pixel().double().eval(), "maps", images, [0])
    (raw,) = rise(trace, masks=4000, kept=0.3, score="logit").raw
    masks = draw_masks(trace, 0, masks=4000, grid=7, kept=0.3, seed=0)[:]
    expected = (masks * masks[:, 3:4, 4:5]).mean(0) / 0.3
    # The deviation of a mean of 4000 products of masks, divided by p, is at most 0.012.
    assert (expected[16:] - 0.3).abs().max() < 0.06
    span = expected.max() - expected.min()
    torch.testing.assert_close(raw, (expected - expected.min()) / span, **CLOSE)
    # Only the pixel's neighbours are high.
    assert raw[16:].max() < 0.3
    assert divmod(int(raw.argmax()), 28)[0] < 8


def test_rise_of_a_constant_score_is_the_share_of_kept_pixels():
    head = linear([0.0] * 8, bias=2.0)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), *head).double().eval()
    trace = ab.trace(network, "0", normal(1, 3, 2, 2), [0])
    raw = rise(trace, masks=500, score="logit").raw
    masks = draw_masks(trace, 0, masks=500, grid=7, kept=0.5, seed=0)[:]
    shares = masks.mean(0)
    span = shares.max() - shares.min()
    torch.testing.assert_close(raw[0], (shares - shares.min()) / span, **CLOSE)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 2), (5, 5)])
def test_occlusion_of_a_linear_network_is_exact(window, stride):
    """Check that a window's drop is the sum of weight times pixel in it."""
    network = nn.Sequential(nn.Identity(), *linear(normal(3 * 7 * 9, seed=4).tolist(), bias=5.0))
    images = normal(1, 3, 7, 9)
    (raw,) = occlusion(ab.trace(network.eval(), "0", images), window, stride).raw
    terms = (images[0] * network[2].weight.detach().view(3, 7, 9)).sum(0)
    for y, x in itertools.product(range(7), range(9)):
        drops = []
        for top, left in itertools.product(range(0, 7, stride), range(0, 9, stride)):
            is_used = top < 7 - window + stride and left < 9 - window + stride
            if is_used and top <= y < top + window and left <= x < left + window:
                drops.append(terms[top : top + window, left : left + window].sum().item())
        assert raw[y, x].item() == pytest.approx(sum(drops) / len(drops), rel=1e-11, abs=1e-11)


# A window of 3 along 8 and 12 pixels, with stride 2, has 4 and 6 positions.
@pytest.mark.parametrize(
    ("method", "passes"),
    [(partial(rise, masks=40), 40), (partial(occlusion, window=3, stride=2), 4 * 6 + 1)],
)
def test_labels_of_an_image_share_its_passes(method, passes):
    case = CASES["dense"]
    images = case.images()
    trace = ab.trace(case.model(), case.layer, images[[0, 0, 1, 1]], [0, 2, 1, 1])
    trace = replace(trace, num_padding=1)
    before = trace.passes.trunk_forward
    raw = method(trace).raw
    assert trace.passes.trunk_forward - before == 2 * passes
    for row, (image, target) in enumerate(((0, 0), (0, 2), (1, 1), (1, 1))):
        alone = ab.trace(case.model(), case.layer, images[image : image + 1], [target])
        assert torch.equal(method(alone).raw[0], raw[row])


@pytest.mark.parametrize(
    "method", [partial(rise, masks=40), partial(occlusion, window=3, stride=2)]
)
def test_the_memory_of_a_pass_changes_only_rounding(method):
    """Check passes of one copy, and passes of all copies that an ordinary limit allows."""
    case = CASES["signed"]
    expected = method(case.trace()).raw
    cut = ab.cut(case.model(), case.layer, ablation_memory=1)
    trace = cut.trace(case.images(), [0, 1, 2])
    assert cut.rows_at_once(trace.images[0]) == 1
    torch.testing.assert_close(method(trace).raw, expected, **CLOSE)


@pytest.mark.parametrize("side", [32, 64, 224])
def test_occlusion_takes_170_passes_by_default(side):
    trace = ab.trace(Pixel().eval(), "maps", torch.rand(1, 3, side, side))
    before = trace.passes.trunk_forward
    methods.get("occlusion")(trace)
    assert trace.passes.trunk_forward - before == 13 * 13 + 1


def test_masks_are_those_of_image_and_seed():
    trace = CASES["dense"].trace()
    first = draw_masks(trace, 0, masks=20, grid=4, kept=0.5, seed=0)[:]
    assert torch.equal(first[5:9], draw_masks(trace, 0, masks=20, grid=4, kept=0.5, seed=0)[5:9])
    assert not torch.equal(first, draw_masks(trace, 1, masks=20, grid=4, kept=0.5, seed=0)[:])
    assert not torch.equal(first, draw_masks(trace, 0, masks=20, grid=4, kept=0.5, seed=1)[:])
    maps = [rise(trace, masks=20, seed=seed).raw for seed in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("case", OTHER_CASES.values(), ids=OTHER_CASES)
def test_signals_and_volumes_have_maps_of_their_size(case):
    trace = case.trace()
    for method in (partial(rise, masks=9, grid=3), occlusion):
        raw = method(trace).raw
        assert raw.shape == (3, *case.size)
        assert raw.flatten(1).std(1).min() > 0
    masks = draw_masks(trace, 0, masks=300, grid=3, kept=0.5, seed=0)[:]
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.mean().item() == pytest.approx(0.5, abs=0.05)  # 5 deviations of the mean


def test_a_network_of_one_logit_needs_the_logit():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 1))
    trace = ab.trace(network.double().eval(), "1", normal(2, 3, 8, 8))
    for name in ("rise", "occlusion"):
        method = methods.get(name).call.func
        with pytest.raises(BenchError, match="the network has one logit; set score=logit"):
            method(trace, score="probability")
        assert method(trace, score="logit").raw.shape == (2, 8, 8)


class Scaled(nn.Module):
    """A network of an image and a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 3)

    def forward(self, images: Tensor, factor: Tensor) -> Tensor:
        return self.maps(images).relu().mean((2, 3)) * factor


def test_other_inputs_are_those_of_the_image():
    network = Scaled().double().eval()
    images = normal(1, 3, 8, 8).repeat(2, 1, 1, 1)
    factors = torch.tensor([[1.0], [-3.0]], dtype=torch.float64)
    trace = ab.trace(network, "maps", (images, factors), [0, 0], explained=0)
    one, negative = occlusion(trace, window=3, stride=2).raw
    torch.testing.assert_close(negative, -3 * one, **CLOSE)
    # the map is scaled to [0, 1]
    one, negative = rise(trace, masks=20, score="logit").raw
    torch.testing.assert_close(negative, 1 - one, **CLOSE)


def test_the_number_of_passes_follows_the_parameter():
    trace = CASES["dense"].trace()
    assert methods.get("rise").spec.passes == 4000
    fewer = plugins.with_params("method", "rise", {"masks": 30})
    assert fewer.spec.passes == 30
    assert fewer.spec.as_dict()["passes"] == 30
    assert expected_passes(fewer, trace) == 3 * 30
    assert expected_passes(methods.get("score_cam"), trace) == 3 * 4
    assert expected_passes(methods.get("occlusion"), trace) is None
    assert plugins.with_params("method", "smooth_grad", {"samples": 3}).spec.passes is None
    shared = ab.trace(CASES["dense"].model(), trace.layer, trace.images[[0, 0]], [0, 1])
    assert expected_passes(fewer, shared) == 30
    assert expected_passes(methods.get("score_cam"), shared) == 2 * 4
    config = {"_target_": "axiom_bench.methods.rise.rise", "passes": "mask"}
    with pytest.raises(BenchError, match="or the name of a parameter"):
        plugins.from_config("method", "mine", config)
