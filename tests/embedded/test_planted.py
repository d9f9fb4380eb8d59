"""Tests of the planted networks in float64: truth against closed forms and against brute force, and
Shapley values from subsets.
"""

from collections.abc import Callable, Iterable
from itertools import permutations
from math import pi, prod

import pytest
import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded.planted import (
    BUILDERS,
    GRIDS,
    MEAN,
    STD,
    PlantedNetwork,
    channel_shapley,
    planted_boxes,
)
from axiom_bench.errors import BenchError

IMAGES = 24
THIRDS = (MEAN,) * 3, (STD,) * 3


@pytest.fixture(scope="module", params=[2, 1, 3], ids=["images", "signals", "volumes"])
def batch(request):
    dataset = load_dataset({"kind": "planted", "size": IMAGES, "seed": 5, "axes": request.param})
    preprocessing = Preprocessing(None, None, *THIRDS, shape=dataset.shape)
    return next(iter(batches(dataset, range(IMAGES), preprocessing, "label", IMAGES)))


@pytest.fixture(scope="module")
def areas(batch):
    """Return the evidence of each colour per image (n, 2): in the image and in its left half.

    The evidence is the number of cells of that colour, divided by the cells of a full patch.
    """
    axes = batch.images.ndim - 2
    dataset = load_dataset({"kind": "planted", "size": IMAGES, "seed": 5, "axes": axes})
    middle = batch.images.shape[-1] // 2
    pixels_per_patch = GRIDS[axes].cell ** axes * GRIDS[axes].full
    evidence = {}
    for colour in ("red", "green", "blue", "yellow", "cyan"):
        evidence[colour] = torch.zeros(IMAGES, 2, dtype=torch.float64)
    for row in range(IMAGES):
        for patch in dataset.draw(row).patches:
            (x0, *starts) = patch.box[:axes]
            (x1, *ends) = patch.box[axes:]
            other_sides = prod(end - start for start, end in zip(starts, ends, strict=True))
            widths = torch.tensor([x1 - x0, max(0, min(x1, middle) - x0)], dtype=torch.float64)
            evidence[patch.colour][row] += other_sides * widths / pixels_per_patch
    return evidence


def traced(name: str, batch: ab.Batch) -> ab.Trace:
    return ab.trace(BUILDERS[name](batch.images.ndim - 2), "features", batch.images, batch.targets)


def wave(evidence: Tensor) -> Tensor:
    """Return a triangle wave of period 7/32 and slope 8, whose height is therefore 7/16."""
    return 7 / 8 / pi * (2 * pi * evidence * 32 / 7).sin().asin()


def closed_form(name: str, areas: dict[str, Tensor]) -> list[Tensor]:
    """Return the true totals (n,) of all channels except the last two, which the score ignores."""
    r, g, b, y = (areas[colour][:, 0] for colour in ("red", "green", "blue", "yellow"))
    left = {colour: areas[colour][:, 1] for colour in ("red", "green", "yellow")}
    nothing = torch.zeros_like(r)
    largest = torch.maximum(r, g)
    return {
        "planted_additive": [r, 2 * g, 3 * b],
        "planted_bias": [r, 2 * g, 3 * b],
        "planted_vanishing": [r, 2 * g, 3 * b],
        "planted_shattered": [k * a + wave(a) for k, a in enumerate((r, g, b), 1)],
        "planted_suppressing": [2 * r, -g],
        # Joining first, a channel adds a; joining after one other, 1 - a_other; last, nothing.
        "planted_saturating": [
            a / 3 + (1 - c) / 6 + (1 - d) / 6 for a, c, d in ((r, g, b), (g, r, b), (b, r, g))
        ],
        "planted_and": [(r + g - 1) / 2] * 2,
        "planted_or": [(r + largest - g) / 2, (g + largest - r) / 2],
        "planted_duplicate": [r - r**2 / 2, r - r**2 / 2, nothing, g],
        "planted_cancelling": [r, b + y],
        "planted_region": [left["red"], left["green"], nothing],
    }[name]


@pytest.mark.parametrize("name", BUILDERS)
def test_channel_totals_are_the_closed_form(name, batch, areas):
    network = BUILDERS[name](batch.images.ndim - 2).double()
    trace = ab.trace(network, "features", batch.images, batch.targets)
    expected = closed_form(name, areas)
    nothing = torch.zeros_like(expected[0])
    totals = trace.true_contributions.flatten(2).sum(2)
    expected = torch.stack([*expected, nothing, nothing], 1)
    torch.testing.assert_close(totals, expected, rtol=1e-12, atol=1e-14)
    for area in areas.values():
        assert area[:, 0].max() <= 1  # the closed forms assume it


@pytest.mark.parametrize("name", BUILDERS)
def test_a_channel_that_never_matters_has_exactly_nothing(name, batch):
    trace = traced(name, batch)
    assert (trace.true_contributions[:, -2:] == 0).all()
    assert (trace.activations[:, -2:] > 0).flatten(2).any(2).all()
    other = trace.again(targets=1 - trace.targets)
    assert (other.true_contributions[:, :-2] == 0).all()
    expected = other.activations[:, -2] / GRIDS[batch.images.ndim - 2].full
    torch.testing.assert_close(other.true_contributions[:, -2], expected)


def test_where_equal_dead_unconnected_and_cancelling_channels_contribute(batch):
    trace = traced("planted_duplicate", batch)
    first, second, dead = trace.true_contributions[:, :3].unbind(1)
    assert torch.equal(first, second)
    assert (first > 0).any()
    assert (trace.activations[:, 2] == 0).all()
    assert (dead == 0).all()

    trace = traced("planted_region", batch)
    half = trace.activations.shape[-1] // 2
    assert (trace.true_contributions[..., half:] == 0).all()
    # Every image has red in the right half, and yellow, neither of which counts.
    is_red_on_the_right = trace.activations[:, 0, ..., half:] > 0
    is_yellow = trace.activations[:, 2] > 0
    assert is_red_on_the_right.flatten(1).any(1).all()
    assert is_yellow.flatten(1).any(1).all()

    trace = traced("planted_cancelling", batch)
    assert (trace.activations[:, 1].flatten(1).sum(1) == 0).all()
    assert (trace.true_contributions[:, 1] >= 0).all()
    assert (trace.true_contributions[:, 1].flatten(1).sum(1) > 1).all()


def test_the_input_gradient_vanishes_and_the_layers_does_not(batch):
    images = batch.images.clone().requires_grad_()
    network = BUILDERS["planted_vanishing"](images.ndim - 2)
    (gradient,) = torch.autograd.grad(network(images)[:, 0].sum(), images)
    assert (gradient == 0).all()

    vanishing = traced("planted_vanishing", batch)
    additive = traced("planted_additive", batch)
    torch.testing.assert_close(
        vanishing.activations[:, :4], additive.activations[:, :4], rtol=0, atol=0
    )
    torch.testing.assert_close(vanishing.gradients, additive.gradients, rtol=0, atol=0)


def test_the_layers_gradients_alternate_where_the_score_is_nearly_linear(batch):
    shattered = traced("planted_shattered", batch)
    additive = traced("planted_additive", batch)
    # The three waves have a height of 7/16 each; 1e-5 is float32's rounding.
    assert (shattered.scores - additive.scores).abs().max() <= 3 * 7 / 16 + 1e-5
    moved = GRIDS[batch.images.ndim - 2].full * (shattered.gradients - additive.gradients)[:, :3]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 8))
    seen = moved.flatten(2)[..., 0][additive.activations[:, :3].flatten(2).any(2)]
    assert (seen > 0).any()
    assert (seen < 0).any()


@pytest.mark.parametrize("name", BUILDERS)
def test_detectors_answer_in_their_patches_alone_and_with_one_value(name, batch):
    """The active positions of a channel are equal, which the rule for positions relies on."""
    activations = traced(name, batch).activations[:, :-1]
    assert set(activations.unique().tolist()) <= {-1.0, 0.0, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2], indirect=True, ids=["images"])
@pytest.mark.parametrize("name", BUILDERS)
def test_images_of_the_size_of_photographs_have_the_same_truth(name, batch):
    """A cell is then 14 x 14 pixels."""
    dataset = load_dataset({"kind": "planted", "size": IMAGES, "seed": 5})
    preprocessing = Preprocessing(224, 224, *THIRDS, "nearest")
    large = next(iter(batches(dataset, range(IMAGES), preprocessing, "label", IMAGES)))
    assert large.images.shape[2:] == (224, 224)
    ours = traced(name, large)
    expected = traced(name, batch)
    torch.testing.assert_close(
        ours.activations[:, :-1], expected.activations[:, :-1], rtol=0, atol=0
    )
    torch.testing.assert_close(
        ours.true_contributions, expected.true_contributions, rtol=0, atol=1e-7
    )


def position_values(network: PlantedNetwork, maps: Tensor, unions: bool) -> Tensor:
    """Return the Shapley values (2, 2) of the first two channels' first two positions.

    They are the means over all orders of the four positions. With `unions` they are Owen values,
    the means over only those orders in which the positions of a channel follow one another.
    """

    @torch.no_grad()
    def score(rows: Tensor) -> Tensor:
        part = torch.zeros_like(maps)
        part[0, :2].flatten(1)[:, :2] = rows.view(2, 2)
        return network.head(network.flatten(network.readout(part)))[:, 0]

    orders = list(permutations(range(4)))
    if unions:  # positions 0 and 1 are those of the first channel
        orders = [order for order in orders if order[0] // 2 == order[1] // 2]
    positions = maps[0, :2].flatten(1)[:, :2].flatten()
    return by_orders(score, positions, orders).view(2, 2)


def truth_of(
    name: str, positions: list[list[float]], axes: int
) -> tuple[Tensor, PlantedNetwork, Tensor]:
    """Return true contributions (2, 2), the network, and maps (1, K, *cells).

    The maps are 0 except at two positions of two channels, which are few enough to enumerate. The
    contributions are those of the four positions.
    """
    network = BUILDERS[name](axes).double()
    image = torch.zeros(1, 3, *(24,) * axes, dtype=torch.float64)
    maps = torch.zeros_like(network.features(image))
    maps[0, :2].flatten(1)[:, :2] = torch.tensor(positions, dtype=torch.float64)
    contributions = network.true_contributions(maps, torch.tensor([0]))
    return contributions[0, :2].flatten(1)[:, :2], network, maps


POSITIONS = {
    "of different values": [[9.0, 3.0], [7.0, 5.0]],
    "of equal values": [[6.0, 6.0], [6.5, 6.5]],
}


@pytest.mark.parametrize("axes", GRIDS)
@pytest.mark.parametrize("name", ["planted_additive", "planted_duplicate"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_positions_have_their_shapley_value_where_the_head_is_multilinear(name, positions, axes):
    truth, network, maps = truth_of(name, POSITIONS[positions], axes)
    for unions in (False, True):
        expected = position_values(network, maps, unions)
        torch.testing.assert_close(truth, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("axes", GRIDS)
@pytest.mark.parametrize("name", ["planted_saturating", "planted_and", "planted_or"])
def test_positions_have_their_owen_value_where_active_positions_are_equal(name, axes):
    truth, network, maps = truth_of(name, POSITIONS["of equal values"], axes)
    owen = position_values(network, maps, unions=True)
    torch.testing.assert_close(truth, owen, rtol=1e-12, atol=1e-14)
    assert (truth != 0).all()


def test_positions_of_different_values_may_have_another_owen_value():
    """Check the limit of the rule. Images for these networks have no positions of this kind."""
    truth, network, maps = truth_of("planted_and", [[12.0, 4.0], [7.0, 5.0]], 2)
    owen = position_values(network, maps, unions=True)
    torch.testing.assert_close(truth.sum(1), owen.sum(1), rtol=1e-12, atol=1e-14)
    assert (truth - owen).abs().max() > 0.01


@pytest.mark.parametrize("batch", [2], indirect=True, ids=["images"])
def test_each_box_has_the_truth_of_its_half(batch, areas):
    """Red is in both halves and has one channel, so the axioms don't decide where it counts."""
    network = ab.BoxScores(planted_boxes().double().eval())
    side = batch.images.shape[-1] / 2
    for half in (0, 1):
        box = torch.tensor([[half, half * side, 0, (1 + half) * side, 2 * side]])
        boxes = box.expand(IMAGES, -1)

        trace = ab.trace(network, "features", (batch.images.double(), boxes), batch.targets)

        evidence = {}
        for colour, area in areas.items():
            evidence[colour] = area[:, 0] - area[:, 1] if half else area[:, 1]
        expected = [evidence["red"], 2 * evidence["green"], 3 * evidence["blue"]]
        expected_totals = torch.stack(expected, 1)
        truth = trace.true_contributions
        totals = truth.sum((2, 3))
        torch.testing.assert_close(totals[:, :3], expected_totals, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(totals, trace.ablation_drops, rtol=1e-12, atol=1e-14)
        other_half = truth[..., :8] if half else truth[..., 8:]
        assert (other_half == 0).all()

        hires_cam = ab.methods.get("hires_cam")(trace) * trace.activations
        xgrad_cam = ab.methods.get("xgrad_cam")(trace) * trace.activations
        torch.testing.assert_close(hires_cam, truth, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(xgrad_cam.sum((2, 3)), totals, rtol=1e-6, atol=1e-9)
        # XGrad-CAM's red leaks into the other half in every image.
        errors_of_red = (xgrad_cam[:, 0] - truth[:, 0]).abs()
        assert errors_of_red.amax((1, 2)).min() > 0


def by_orders(
    score: Callable[[Tensor], Tensor], players: Tensor, orders: Iterable[tuple[int, ...]] = ()
) -> Tensor:
    """Return the mean gain (K,) from adding each of the players (K,), over all or some orders."""
    total = torch.zeros(len(players), dtype=torch.float64)
    orders = list(orders or permutations(range(len(players))))
    for order in orders:
        joined = torch.zeros_like(players)
        before = score(joined[None])[0]
        for player in order:
            joined[player] = players[player]
            after = score(joined[None])[0]
            total[player] += after - before
            before = after
    return total / len(orders)


GAMES = {
    "sum": lambda rows: rows.sum(1),
    "sine of products": lambda rows: (rows[:, 0] * rows[:, -1] - rows[:, -1]).sin() + rows.prod(1),
    "maximum": lambda rows: rows.amax(1),
    "with a score of nothing": lambda rows: (rows.sum(1) - 1).relu() + 3,
}


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_it_is_the_mean_over_all_orders(game, channels):
    generator = torch.Generator().manual_seed(channels)
    evidence = torch.randn(3, channels, dtype=torch.float64, generator=generator) + 1
    values = channel_shapley(GAMES[game], evidence)
    expected = torch.stack([by_orders(GAMES[game], row) for row in evidence])
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)


def test_values_add_up_to_the_score_less_that_of_nothing_in_float64_for_at_most_12_channels():
    evidence = torch.rand(4, 12, generator=torch.Generator().manual_seed(0))
    score = GAMES["with a score of nothing"]
    expected = score(evidence.double()) - score(torch.zeros(4, 12, dtype=torch.float64))
    totals = channel_shapley(score, evidence).sum(1)
    torch.testing.assert_close(totals, expected, rtol=1e-12, atol=0)
    with pytest.raises(BenchError, match=r"13 channels take 2\^13 subsets; give at most 12"):
        channel_shapley(GAMES["sum"], torch.zeros(1, 13))
