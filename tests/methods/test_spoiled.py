"""Tests of the truth and of the truth spoiled by degrees: closed forms, loops over numbers, and the
common suite.
"""

import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from axiom_bench import methods
from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Explanation, Map
from axiom_bench.methods.shared.true_map import permute_live_totals, weights_from_totals
from axiom_bench.methods.spoiled.blur import blur
from axiom_bench.methods.spoiled.channels import channels
from axiom_bench.methods.spoiled.drops_noise import drops_noise
from axiom_bench.methods.spoiled.drops_permuted import drops_permuted
from axiom_bench.methods.spoiled.noise import noise
from axiom_bench.methods.spoiled.other_image import other_image
from axiom_bench.methods.spoiled.shift import shift
from axiom_bench.methods.spoiled.truth import truth
from axiom_bench.methods.spoiled.truth_drops import truth_drops
from axiom_bench.methods.spoiled.truth_effects import truth_effects
from axiom_bench.methods.spoiled.truth_grid import truth_grid
from axiom_bench.methods.spoiled.upside_down import upside_down
from axiom_bench.methods.xgrad_cam import xgrad_cam
from axiom_bench.testing import METHOD_CHECKS, Case, exemptions
from axiom_bench.testing.cases import Check, TinyNetwork
from tests.methods.plain import (
    CHECKS_OF_ANY_NETWORK,
    generator_of,
    linear,
    normal,
    run_each,
    seeded,
)

NAMES = plugins.names(plugins.SPOILED)
ONE_DEGREE = [name for name in NAMES if not name.endswith(("_25", "_75", "_100"))]
MAPS: tuple[Callable[..., Map], ...] = (noise, blur, shift, upside_down, other_image)
CONTRIBUTIONS: tuple[Callable[..., Tensor], ...] = (channels, drops_noise, drops_permuted)
DEGREES = (0.0, 0.25, 0.5, 0.75, 1.0)
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64, values of the size of 1


class TellingNetwork(TinyNetwork):
    """A network of global average pooling and a linear layer, which tells its contributions:
    W_ck F_k / (H W).
    """

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        readout = self.head[-1].weight[targets][..., None, None]
        return readout * activations / activations[0, 0].numel()


@dataclass(frozen=True)
class TellingCase(Case):
    """A case whose network tells its contributions, and whose images have no interventions."""

    def build(self) -> TellingNetwork:
        return seeded(lambda: TellingNetwork("pooled", self.channels, self.size), 1).to(self.dtype)


@dataclass(frozen=True)
class PartsCase(Case):
    """A case of images of two objects and a background. Each image has versions in which one part
    is replaced by a constant colour.
    """

    def trace(self, model=None, device=None) -> Trace:
        trace = super().trace(model, device)
        return replace(trace, interventions=tuple(map(parts_of, trace.images)))


def parts_of(image: Tensor) -> tuple[Part, ...]:
    """Return three parts: the upper left quarter, the lower half, and the rest in two versions."""
    height, width = image.shape[-2:]
    first, second = torch.zeros(2, height, width, dtype=torch.bool, device=image.device)
    first[: height // 2, : width // 2] = True
    second[height // 2 :] = True
    objects = first | second

    one = Part("one", 0, first, image.masked_fill(first, 0)[None])
    two = Part("two", 1, second, image.masked_fill(second, 0)[None])
    grounds = torch.stack([image.masked_fill(~objects, value) for value in (0.0, 1.0)])
    ground = Part("ground", None, ~objects, grounds, bare=grounds.masked_fill(objects, 0))
    return one, two, ground


TELLING = TellingCase("pooled")
PARTS = PartsCase("dense")


@cache
def cases_of(name: str) -> dict[str, Case]:
    """Return the cases that the entry accepts."""
    accepted = {}
    for network, case in (("telling", TELLING), ("parts", PARTS)):
        with suppress(BenchError):
            methods.get(name)(case.trace())
            accepted[network] = case
    return accepted


def test_truth_of_a_network_that_tells_it():
    """Check w = W_ck / (H W), which is the same at each position, and 0 if the activation is 0."""
    trace = TELLING.trace()
    readout = TELLING.model().head[-1].weight[range(3)][..., None, None] / 24
    expected = torch.where(trace.activations != 0, readout, 0)
    torch.testing.assert_close(truth(trace), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", [truth, truth_effects])
def test_a_part_s_value_is_spread_over_its_area(method):
    """Check maps of Shapley values and of effects, by passes of the plain network.

    A map of Shapley values sums to the score minus that of the bare background versions.
    """
    trace = PARTS.trace()
    model = PARTS.model()
    answer = method(trace)
    assert isinstance(answer, Map)
    for i, image in enumerate(PARTS.images()):
        parts = parts_of(image)
        S = model(image[None])[0, i].item()
        effects = [S - model(part.images)[:, i].mean().item() for part in parts]
        if method is truth:
            values = trace.part_shapley_values[i].tolist()
            total = S - model(parts[-1].bare)[:, i].mean().item()
        else:
            values = effects
            total = sum(effects)
        for part, value in zip(parts, values, strict=True):
            area = int(part.region.sum())
            density = torch.full((area,), value / area, dtype=torch.float64)
            torch.testing.assert_close(answer.raw[i][part.region], density, **CLOSE)

        assert answer.raw[i].sum().item() == pytest.approx(total, abs=1e-12)


def test_truth_at_the_layer_s_grid_has_the_means_of_its_cells():
    trace = PARTS.trace()
    height, width = trace.activations.shape[-2:]
    fine = truth(trace).raw
    coarse = truth_grid(trace).raw
    assert coarse.shape == (len(trace), height, width)
    rows = fine.shape[-2] // height
    columns = fine.shape[-1] // width
    covered = fine[:, : rows * height, : columns * width]
    blocks = covered.reshape(len(trace), height, rows, width, columns)
    torch.testing.assert_close(coarse, blocks.mean((2, 4)), **CLOSE)
    assert torch.equal(truth_grid(TELLING.trace()), truth(TELLING.trace()))


def test_truth_is_refused_where_nothing_tells_it():
    trace = Case().trace()
    unknown = r"The truth is known for networks that tell .* and for images with inter"
    with pytest.raises(BenchError, match=unknown):
        truth(trace)
    for spoiled in MAPS:
        with pytest.raises(BenchError, match=unknown):
            spoiled(trace, 0.5)
    with pytest.raises(BenchError, match="doesn't tell its contributions"):
        channels(PARTS.trace(), 0.5)
    single = replace(PARTS.trace(), other_images=None)
    no_other = "needs another image of the data set, and there is none"
    with pytest.raises(BenchError, match=no_other):
        other_image(single, 0.5)


KINDS = [
    *itertools.product(MAPS, (TELLING, PARTS)),
    *((spoiled, TELLING) for spoiled in CONTRIBUTIONS),
]


@pytest.mark.parametrize(("spoiled", "case"), KINDS)
def test_degree_0_is_the_truth_and_higher_ones_are_further_away(spoiled, case):
    """Check the Euclidean distance in each image. Its steps are larger than rounding."""
    trace = case.trace()
    if spoiled in MAPS:
        expected = truth(trace)
        known = expected.raw if isinstance(expected, Map) else trace.true_contributions.sum(1)
        answers = [spoiled(trace, degree).raw for degree in DEGREES]
        assert torch.equal(answers[0], known)
    else:
        expected = truth(trace) if spoiled is channels else truth_drops(trace)
        assert torch.equal(spoiled(trace, 0.0), expected)
        answers = [spoiled(trace, degree) * trace.activations for degree in DEGREES]
    # The parts of a 4 x 6 map are smaller than a shift's step, so a part may replace another one.
    if spoiled is not shift or case is not TELLING:
        distances = [(answer - answers[0]).flatten(1).norm(dim=1) for answer in answers]
        distances = torch.stack(distances)
        assert (distances.diff(dim=0) > 1e-3 * distances[-1]).all()


@pytest.mark.parametrize("case", [TELLING, PARTS], ids=["telling", "parts"])
def test_noise_in_loops(case):
    trace = case.trace()
    known = noise(trace, 0.0).raw
    actual = noise(trace, 0.25, seed=5).raw
    for i, image in enumerate(case.images()):
        draw = torch.randn(known.shape[1:], generator=generator_of(image, 5), dtype=torch.float64)
        size = math.sqrt((known[i] ** 2).sum() / (draw**2).sum())
        torch.testing.assert_close(actual[i], 0.75 * known[i] + 0.25 * draw * size, **CLOSE)


def test_degree_1_is_the_spoil_alone():
    trace = PARTS.trace()
    known = noise(trace, 0.0).raw
    assert torch.equal(upside_down(trace, 1.0).raw, known.flip(1))
    assert torch.equal(shift(trace, 1.0).raw, known.roll(4, 2))  # a third of 12
    predicted = PARTS.model()(trace.other_images).argmax(1)
    other = trace.again(images=trace.other_images, targets=predicted)
    heatmaps = Explanation.of(other, xgrad_cam(other)).heatmap
    actual = other_image(trace, 1.0).raw
    for i, heatmap in enumerate(heatmaps):
        expected = heatmap * (known[i].norm() / heatmap.norm())
        torch.testing.assert_close(actual[i], expected, **CLOSE)


def test_other_image_of_a_network_that_tells_its_contributions():
    trace = TELLING.trace()
    model = TELLING.model()
    known = noise(trace, 0.0).raw
    for i, actual in enumerate(other_image(trace, 1.0).raw):
        image = trace.other_images[i : i + 1]
        weights = model.head[-1].weight[model(image)[0].argmax()][:, None, None]
        expected = (weights * model.features(image)[0] / 24).sum(0)
        torch.testing.assert_close(actual, expected * (known[i].norm() / expected.norm()), **CLOSE)


@pytest.mark.parametrize("position", [(0, 0), (3, 5)])
def test_blur_is_a_gaussian_between_mirrors(position, readout):
    """Check the blur of one bright pixel. It equals the sum over the pixel's mirror images of a
    Gaussian of 1.5 and 2 pixels.
    """
    image = torch.zeros(1, 3, 6, 8)
    image[0, 0, position[0], position[1]] = 1

    actual = blur(trace_with_truth(readout, image), 0.5, sigma=0.5).raw[0]

    rows = [mirrored_gaussian(y, position[0], 6, 1.5) for y in range(6)]
    columns = [mirrored_gaussian(x, position[1], 8, 2.0) for x in range(8)]
    expected = torch.outer(torch.tensor(rows).double(), torch.tensor(columns).double())
    # The blur's matrix has only frequencies below half a cycle per pixel. The Gaussian has
    # exp(-(1.5 pi)^2 / 2) = 2e-5 of its spectrum beyond that.
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    assert actual.sum().item() == pytest.approx(1, abs=1e-12)


def mirrored_gaussian(position: int, source: int, size: int, sigma: float) -> float:
    """Return the sum at a position of Gaussians around a source and around its mirror images."""
    total = 0.0
    for period in range(-4, 5):
        for centre in (source, -1 - source):
            distance = position - (2 * size * period + centre)
            total += math.exp(-(distance**2) / (2 * sigma**2))
    return total / (sigma * math.sqrt(2 * math.pi))


def trace_with_truth(readout: Callable[..., Trace], image: Tensor) -> Trace:
    """Return a trace whose true map is the image's first channel."""
    trace = readout(linear([1.0] * image[0].numel()), image)
    known = torch.zeros_like(trace.activations)
    known[:, 0] = trace.activations[:, 0]
    vars(trace)["true_contributions"] = known
    return trace


def test_shift_between_positions(readout):
    """Check a line of 6 positions, moved by 0.5 of a third (1), and by 0.75 of a third (1.5)."""
    image = torch.zeros(1, 3, 1, 6)
    image[0, 0, 0] = torch.tensor([1.0, 2, 3, 4, 5, 6])
    trace = trace_with_truth(readout, image)
    assert shift(trace, 0.5).raw[0, 0].tolist() == [6, 1, 2, 3, 4, 5]
    assert shift(trace, 0.75).raw[0, 0].tolist() == [5.5, 3.5, 1.5, 2.5, 3.5, 4.5]


def test_totals_of_contributions_are_those_given():
    """Check also a channel whose values cancel, and a dead channel, which has no contributions."""
    F = normal(2, 4, 3, 5)
    F[0, 0] -= F[0, 0].mean()
    F[1, 2] = 0
    totals = torch.tensor([[1.0, -2, 3, 0], [4, 5, 0, -6]], dtype=torch.float64)
    weights = weights_from_totals(totals, F)
    torch.testing.assert_close((weights * F).sum((2, 3)), totals, **CLOSE)
    assert not weights[1, 2].any()


def test_permuted_totals_are_one_circle_over_live_channels():
    F = torch.ones(4, 5, 2, 2)
    F[1, [0, 3]] = 0
    F[2, 1:] = 0
    F[3] = 0
    totals = torch.arange(20.0).view(4, 5)
    generators = [torch.Generator().manual_seed(row) for row in range(4)]
    actual = permute_live_totals(totals, F, generators)
    assert sorted(actual[0].tolist()) == totals[0].tolist()
    assert (actual[0] != totals[0]).all()
    assert actual[1, [0, 3]].tolist() == totals[1, [0, 3]].tolist()
    assert sorted(actual[1].tolist()) == totals[1].tolist()
    assert (actual[1, [1, 2, 4]] != totals[1, [1, 2, 4]]).all()
    assert torch.equal(actual[2:], totals[2:])


@pytest.mark.parametrize("spoiled", [drops_noise, drops_permuted])
def test_totals_of_spoiled_drops(spoiled):
    """Check that totals are a mixture of the drops and the spoil. If totals are only permuted, the
    sorted totals stay the same.
    """
    trace = PARTS.trace()
    drops = trace.ablation_drops
    actual = [(spoiled(trace, degree) * trace.activations).sum((2, 3)) for degree in DEGREES]
    torch.testing.assert_close(actual[0], drops, **CLOSE)
    torch.testing.assert_close(actual[1], 0.75 * drops + 0.25 * actual[4], **CLOSE)
    if spoiled is drops_permuted:
        assert torch.equal(actual[4].sort().values.argsort(), drops.sort().values.argsort())
        torch.testing.assert_close(actual[4].sort().values, drops.sort().values, **CLOSE)
    else:
        for i, image in enumerate(PARTS.images()):
            draw = torch.randn(4, generator=generator_of(image, 0), dtype=torch.float64)
            expected = draw * (drops[i].norm() / draw.norm())
            torch.testing.assert_close(actual[4][i], expected, **CLOSE)


@pytest.mark.parametrize("degree", DEGREES)
def test_spoiled_channels_keep_the_score(degree):
    """Check that the channels' contributions have the same sum at each degree."""
    trace = TELLING.trace()
    actual = (channels(trace, degree) * trace.activations).sum((1, 2, 3))
    torch.testing.assert_close(actual, trace.true_contributions.sum((1, 2, 3)), **CLOSE)


INVALID = [
    *(
        (spoiled, {"degree": degree}, f"degree={degree}; give a number from 0")
        for spoiled in (*MAPS, *CONTRIBUTIONS)
        for degree in (-0.1, 1.5)
    ),
    (blur, {"degree": 0.5, "sigma": 0.0}, "sigma=0.0"),
    (shift, {"degree": 0.5, "distance": 0.7}, "distance=0.7"),
]


@pytest.mark.parametrize(("spoiled", "params", "message"), INVALID)
def test_invalid_parameters(spoiled, params, message):
    with pytest.raises(BenchError, match=f"Invalid {message}"):
        spoiled(TELLING.trace(), **params)


def quick_cases(name: str, check: Check[Case]) -> dict[str, Case]:
    """Return only the last network if the check doesn't depend on the head. A check that must fail
    gets all networks, because it may fail on any of them.
    """
    cases = cases_of(name)
    must_fail = check.__name__ in exemptions(methods.get(name))
    if check not in CHECKS_OF_ANY_NETWORK or must_fail:
        return cases
    last = list(cases)[-1]
    return {last: cases[last]}


@pytest.mark.parametrize("name", ONE_DEGREE)
def test_common_checks(name):
    run_each(methods.get(name), METHOD_CHECKS, lambda check: quick_cases(name, check))


@pytest.mark.parametrize("name", NAMES)
def test_metadata(name):
    """Check that the metadata's kind and degree are those that the function is called with."""
    method = methods.get(name)
    assert cases_of(name)
    function = method.spec.spoiling or name
    assert method.target == f"axiom_bench.methods.spoiled.{function}.{function}"
    assert method.spec.title
    # The truth is a map or weights, depending on the network, so its YAML doesn't say.
    assert isinstance(method.spec.on_score_scale, bool) or name in ("truth", "truth_grid")
    assert method.spec.degree == method.params.get("degree")
    if method.spec.spoiling is not None:
        assert name == f"{method.spec.spoiling}_{100 * method.spec.degree:.0f}"
        assert methods.get(method.spec.unspoiled).spec.spoiling is None
