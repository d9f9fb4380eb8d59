"""The planted networks: truth against closed forms and against brute force, in float64; Shapley
values by subsets.
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
    """Evidence of each colour by image, its cells over a patch's: {colour: (n, 2)}, of the image
    and its left half.
    """
    axes = batch.images.ndim - 2
    dataset = load_dataset({"kind": "planted", "size": IMAGES, "seed": 5, "axes": axes})
    counted = {
        colour: torch.zeros(IMAGES, 2, dtype=torch.float64)
        for colour in ("red", "green", "blue", "yellow", "cyan")
    }
    for row in range(IMAGES):
        for patch in dataset.draw(row).patches:
            (x0, *starts), (x1, *ends) = patch.box[:axes], patch.box[axes:]
            others = prod(end - start for start, end in zip(starts, ends, strict=True))
            widths = torch.tensor([x1 - x0, max(0, min(x1, batch.images.shape[-1] // 2) - x0)])
            counted[patch.colour][row] += (
                others * widths / GRIDS[axes].cell ** axes / GRIDS[axes].full
            )
    return counted


def traced(name: str, batch: ab.Batch) -> ab.Trace:
    return ab.trace(BUILDERS[name](batch.images.ndim - 2), "features", batch.images, batch.targets)


def wave(evidence: Tensor) -> Tensor:
    """A triangle wave of period 7/32 and slope 8, so of height 7/16."""
    return 7 / 8 / pi * (2 * pi * evidence * 32 / 7).sin().asin()


def closed_form(name: str, areas: dict[str, Tensor]) -> list[Tensor]:
    """The true channel totals, (n,) each, before the two channels that the score doesn't read."""
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
        # Alone each gives a, after one other 1 - a_other, after both nothing.
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
    torch.testing.assert_close(
        totals, torch.stack([*expected, nothing, nothing], 1), rtol=1e-12, atol=1e-14
    )
    # what the forms assume
    assert all(area.max() <= 1 for area, _ in (areas[colour].unbind(1) for colour in areas))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_channel_that_never_matters_has_exactly_nothing(name, batch):
    trace = traced(name, batch)
    assert (trace.true_contributions[:, -2:] == 0).all()
    assert (trace.activations[:, -2:] > 0).flatten(2).any(2).all()
    other = trace.again(targets=1 - trace.targets)
    assert (other.true_contributions[:, :-2] == 0).all()
    torch.testing.assert_close(
        other.true_contributions[:, -2],
        other.activations[:, -2] / GRIDS[batch.images.ndim - 2].full,
    )


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
    # there is red in the right half
    assert (trace.activations[:, 0, ..., half:] > 0).flatten(1).any(1).all()
    # and yellow, of which nothing counts
    assert (trace.activations[:, 2] > 0).flatten(1).any(1).all()
    trace = traced("planted_cancelling", batch)
    assert (trace.activations[:, 1].flatten(1).sum(1) == 0).all()
    assert (trace.true_contributions[:, 1] >= 0).all()
    assert (trace.true_contributions[:, 1].flatten(1).sum(1) > 1).all()


def test_the_input_gradient_vanishes_and_the_layers_does_not(batch):
    images = batch.images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        BUILDERS["planted_vanishing"](images.ndim - 2)(images)[:, 0].sum(), images
    )
    assert (gradient == 0).all()
    vanishing, additive = (
        traced(name, batch) for name in ("planted_vanishing", "planted_additive")
    )
    torch.testing.assert_close(
        vanishing.activations[:, :4], additive.activations[:, :4], rtol=0, atol=0
    )
    torch.testing.assert_close(vanishing.gradients, additive.gradients, rtol=0, atol=0)


def test_the_layers_gradients_alternate_where_the_score_is_nearly_linear(batch):
    shattered, additive = (
        traced(name, batch) for name in ("planted_shattered", "planted_additive")
    )
    assert (shattered.scores - additive.scores).abs().max() <= 3 * 7 / 16 + 1e-5  # of float32
    moved = GRIDS[batch.images.ndim - 2].full * (shattered.gradients - additive.gradients)[:, :3]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 8))
    seen = moved.flatten(2)[..., 0][additive.activations[:, :3].flatten(2).any(2)]
    assert (seen > 0).any()
    assert (seen < 0).any()


@pytest.mark.parametrize("name", BUILDERS)
def test_detectors_answer_in_their_patches_alone_and_with_one_value(name, batch):
    """What the rule for positions relies on: the active positions of a channel are equal."""
    activations = traced(name, batch).activations[:, :-1]
    assert set(activations.unique().tolist()) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("batch", [2], indirect=True, ids=["images"])
@pytest.mark.parametrize("name", BUILDERS)
def test_images_of_the_size_of_photographs_have_the_same_truth(name, batch):
    """A cell is then 14 x 14 pixels."""
    dataset = load_dataset({"kind": "planted", "size": IMAGES, "seed": 5})
    preprocessing = Preprocessing(224, 224, *THIRDS, "nearest")
    large = next(iter(batches(dataset, range(IMAGES), preprocessing, "label", IMAGES)))
    assert large.images.shape[2:] == (224, 224)
    ours, expected = traced(name, large), traced(name, batch)
    torch.testing.assert_close(
        ours.activations[:, :-1], expected.activations[:, :-1], rtol=0, atol=0
    )
    torch.testing.assert_close(
        ours.true_contributions, expected.true_contributions, rtol=0, atol=1e-7
    )


def position_values(network: PlantedNetwork, maps: Tensor, unions: bool) -> Tensor:
    """Of the first two channels' first two positions: the Shapley value by all orders of the four,
    (2, 2); with unions the Owen value, over those orders alone in which the positions of a channel
    follow one another.
    """

    @torch.no_grad()
    def score(rows: Tensor) -> Tensor:
        part = torch.zeros_like(maps)
        part[0, :2].flatten(1)[:, :2] = rows.view(2, 2)
        return network.head(network.flatten(network.readout(part)))[:, 0]

    orders = [
        order for order in permutations(range(4)) if not unions or order[0] // 2 == order[1] // 2
    ]
    return by_orders(score, maps[0, :2].flatten(1)[:, :2].flatten(), orders).view(2, 2)


def truth_of(
    name: str, positions: list[list[float]], axes: int
) -> tuple[Tensor, PlantedNetwork, Tensor]:
    """Of maps (1, K, *cells) that are 0 but for two positions of two channels, few enough to
    enumerate: the true contributions there (2, 2), the network, and the maps.
    """
    network = BUILDERS[name](axes).double()
    maps = torch.zeros_like(network.features(torch.zeros(1, 3, *(24,) * axes, dtype=torch.float64)))
    maps[0, :2].flatten(1)[:, :2] = torch.tensor(positions, dtype=torch.float64)
    return (
        network.true_contributions(maps, torch.tensor([0]))[0, :2].flatten(1)[:, :2],
        network,
        maps,
    )


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
        torch.testing.assert_close(
            truth, position_values(network, maps, unions), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("axes", GRIDS)
@pytest.mark.parametrize("name", ["planted_saturating", "planted_and", "planted_or"])
def test_positions_have_their_owen_value_where_active_positions_are_equal(name, axes):
    truth, network, maps = truth_of(name, POSITIONS["of equal values"], axes)
    torch.testing.assert_close(
        truth, position_values(network, maps, unions=True), rtol=1e-12, atol=1e-14
    )
    assert (truth != 0).all()


def test_positions_of_different_values_may_have_another_owen_value():
    """The rule's limit, which the images for these networks stay clear of."""
    truth, network, maps = truth_of("planted_and", [[12.0, 4.0], [7.0, 5.0]], 2)
    owen = position_values(network, maps, unions=True)
    torch.testing.assert_close(truth.sum(1), owen.sum(1), rtol=1e-12, atol=1e-14)
    assert (truth - owen).abs().max() > 0.01


@pytest.mark.parametrize("batch", [2], indirect=True, ids=["images"])
def test_each_box_has_the_truth_of_its_half(batch, areas):
    """Red is in both halves, and one channel: what the axioms ask for doesn't tell where it
    counts.
    """
    network = ab.BoxScores(planted_boxes().double().eval())
    side = batch.images.shape[-1] / 2
    for half in (0, 1):
        places = torch.tensor([[half, half * side, 0, (1 + half) * side, 2 * side]]).expand(
            IMAGES, -1
        )
        trace = ab.trace(network, "features", (batch.images.double(), places), batch.targets)
        of_half = {
            colour: area[:, 0] - area[:, 1] if half else area[:, 1]
            for colour, area in areas.items()
        }
        expected = [of_half["red"], 2 * of_half["green"], 3 * of_half["blue"]]
        truth = trace.true_contributions
        torch.testing.assert_close(
            truth.sum((2, 3))[:, :3], torch.stack(expected, 1), rtol=1e-12, atol=1e-14
        )
        torch.testing.assert_close(truth.sum((2, 3)), trace.ablation_drops, rtol=1e-12, atol=1e-14)
        other_half = truth[..., :8] if half else truth[..., 8:]
        assert (other_half == 0).all()
        of_methods = {
            name: ab.methods.get(name)(trace) * trace.activations
            for name in ("hires_cam", "xgrad_cam")
        }
        torch.testing.assert_close(of_methods["hires_cam"], truth, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(
            of_methods["xgrad_cam"].sum((2, 3)), truth.sum((2, 3)), rtol=1e-6, atol=1e-9
        )
        assert (of_methods["xgrad_cam"][:, 0] - truth[:, 0]).abs().amax(
            (1, 2)
        ).min() > 0  # red leaks into the other


def by_orders(
    score: Callable[[Tensor], Tensor], players: Tensor, orders: Iterable[tuple[int, ...]] = ()
) -> Tensor:
    """The mean over all orders, or some, of what each player's joining gains: (K,) from players
    (K,).
    """
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
    evidence = (
        torch.randn(
            3, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(channels)
        )
        + 1
    )
    expected = torch.stack([by_orders(GAMES[game], row) for row in evidence])
    torch.testing.assert_close(
        channel_shapley(GAMES[game], evidence), expected, rtol=1e-12, atol=1e-12
    )


def test_values_add_up_to_the_score_beside_that_of_nothing_in_float64_for_at_most_12_channels():
    evidence = torch.rand(4, 12, generator=torch.Generator().manual_seed(0))
    score = GAMES["with a score of nothing"]
    expected = score(evidence.double()) - score(torch.zeros(4, 12, dtype=torch.float64))
    torch.testing.assert_close(
        channel_shapley(score, evidence).sum(1), expected, rtol=1e-12, atol=0
    )
    with pytest.raises(BenchError, match=r"13 channels take 2\^13 subsets; give at most 12"):
        channel_shapley(GAMES["sum"], torch.zeros(1, 13))
