"""GridPG and Focus: against a planted network, brute force and the other shares of energy, and without mosaics."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation

SIDE = 8  # of a cell


def colours(grid, classes):
    """(image (1, 3, H, W), annotation) of a mosaic of plain colours: class 0 is red, 1 green, 2 blue, others black."""
    side = grid * SIDE
    image, mask, boxes = torch.zeros(1, 3, side, side), torch.empty(side, side, dtype=torch.long), []
    for place, label in enumerate(classes):
        y, x = (SIDE * number for number in divmod(place, grid))
        mask[y : y + SIDE, x : x + SIDE] = label
        boxes.append([x, y, x + SIDE, y + SIDE])
        if label < 3:
            image[0, label, y : y + SIDE, x : x + SIDE] = 1
    return image, Annotation(torch.tensor(classes), torch.tensor(boxes).float(), mask, cells=True)


def planted():
    """A network of nine classes whose logit c < 3 is the mean of colour c: a 1 x 1 convolution at full size, ReLU,
    global mean. The other classes' logits are 0."""
    net = nn.Sequential(nn.Conv2d(3, 9, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.eye_(net[0].weight.data.view(9, 3))
    return net.eval()


def explanation(grid, classes, target, method, cells=True):
    image, annotation = colours(grid, classes)
    trace = ab.trace(planted(), "1", image, torch.tensor([target]))
    batch = Batch(image, ("mosaic",), torch.tensor([target]), (replace(annotation, cells=cells),))
    explain = plugins.load("method", method) if isinstance(method, str) else method
    return Explanation.of(trace, explain(trace), batch, explain)


def random_map(_):
    return ab.Map(torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(1)) ** 4)


def value(metric, of):
    ((values, statuses),) = measure(plugins.load("metric", metric), of, True).values()
    return float(values[0]), str(statuses[0])


GRIDS = [(2, [0, 1, 2, 3]), (2, [5, 0, 1, 2]), (3, [3, 4, 5, 6, 1, 7, 2, 8, 0]), (2, [0, 3, 1, 0]), (2, [1, 2, 0, 0])]


@pytest.mark.parametrize("metric", ["grid_pointing_game", "focus"])
@pytest.mark.parametrize(("grid", "classes"), GRIDS)
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_a_network_of_colours_is_located_wholly(metric, grid, classes, method):
    for target in {0, 1, 2} & set(classes):
        assert value(metric, explanation(grid, classes, target, method)) == (1.0, "ok")


@pytest.mark.parametrize(("grid", "classes"), GRIDS)
def test_a_constant_map_has_exactly_the_cells_share(grid, classes):
    for target in {0, 1, 2} & set(classes):
        of = explanation(grid, classes, target, lambda trace: ab.Map(torch.ones(1, grid * SIDE, grid * SIDE)))
        share = classes.count(target) / grid**2
        assert value("grid_pointing_game", of) == value("focus", of) == (share, "ok")


@pytest.mark.parametrize(("grid", "classes"), GRIDS[:3])
def test_a_map_that_knows_no_class_has_the_cells_share_on_average_over_the_classes(grid, classes):
    """Its shares of all cells add up to 1, so that the mean over a mosaic's classes is 1 / n^2, whatever it shows."""
    rows = [explanation(grid, classes, target, random_map) for target in classes]
    shares = [float(ab.metrics.get("grid_pointing_game")(row)[0]) for row in rows]
    assert sum(shares) / len(shares) == pytest.approx(1 / grid**2, rel=1e-12)
    assert max(shares) > 1.2 / grid**2  # a single one may lie anywhere


@pytest.mark.parametrize(("grid", "classes"), GRIDS)
def test_equals_brute_force_and_the_other_shares_of_energy(grid, classes):
    for target in {0, 1, 2} & set(classes):
        of = explanation(grid, classes, target, "random")
        heat = of.heatmap[0].double().numpy()
        inside = total = 0.0
        for (y, x), number in np.ndenumerate(heat):
            total += number
            inside += number * (classes[grid * (y // SIDE) + x // SIDE] == target)
        answer, _ = value("grid_pointing_game", of)
        assert answer == pytest.approx(inside / total, rel=1e-12)  # float64 sums of some hundred terms
        assert answer == value("focus", of)[0] == value("energy_pointing_game", of)[0]
        mass = measure(plugins.load("metric", "mass_accuracy"), of, True)["mass_accuracy"][0]
        assert float(mass[0]) == pytest.approx(answer, rel=1e-12)


def test_the_published_code_on_an_upsampled_map_gives_the_same_number():
    """GridPG's and Focus's code score the positive part of the map resized to the mosaic, whatever its scale."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.rand(1, 4, 4, generator=generator)
    resized = nn.functional.interpolate(7.5 * raw[:, None], size=(16, 16), mode="bilinear")[0, 0].double()
    cells = (torch.tensor([[8.0, 0.0, 16.0, 8.0]]),)
    of = Explanation(heatmap=ab.heatmap(raw, (16, 16)), cells=cells)
    expected = float(resized[:8, 8:].sum() / resized.sum())
    assert float(ab.metrics.get("grid_pointing_game")(of)) == pytest.approx(expected, rel=1e-6)  # a float32 heatmap


def test_batch_rows_do_not_depend_on_company():
    image, annotation = colours(2, [0, 1, 2, 3])
    targets = torch.tensor([0, 1, 2])
    trace = ab.trace(planted(), "1", image.expand(3, -1, -1, -1), targets)
    method = plugins.load("method", "random")
    batch = Batch(trace.images, ("a",) * 3, targets, (annotation,) * 3)
    together = Explanation.of(trace, method(trace), batch, method)
    alone = [value("grid_pointing_game", explanation(2, [0, 1, 2, 3], target, "random"))[0] for target in range(3)]
    assert ab.metrics.get("grid_pointing_game")(together).tolist() == alone


@pytest.mark.parametrize("metric", ["grid_pointing_game", "focus"])
def test_statuses(metric):
    of = explanation(2, [0, 1, 2, 3], 0, "grad_cam")
    assert value(metric, explanation(2, [0, 1, 2, 3], 0, "grad_cam", cells=False))[1] == "no_cells"
    assert value(metric, replace(of, cells=None))[1] == "no_cells"
    assert value(metric, replace(of, wrong_class=torch.tensor([True])))[1] == "wrong_class"
    assert value(metric, replace(of, heatmap=torch.zeros_like(of.heatmap)))[1] == "zero_map"


def test_a_class_that_the_mosaic_does_not_show():
    of = explanation(2, [0, 1, 3, 4], 2, "uniform")
    assert value("grid_pointing_game", of)[1] == "wrong_class"


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("pointing_game", 1), ("pointing_game_strict", 1), ("box_iou", 1), ("mask_iou", 1), ("energy_pointing_game", 1),
        ("gt_known_loc", 1), ("top1_loc", 1), ("top5_loc", 1),
    ],
)  # fmt: skip
def test_localization_metrics_on_a_map_of_the_cell(metric, expected):
    """A map of exactly one cell is perfect for all of them; class 3 is none of the network's."""
    assert value(metric, explanation(2, [3, 1, 3, 3], 1, "grad_cam")) == (expected, "ok")


def test_focus_scores_the_better_of_two_boxes_and_both_masks():
    """Mask metrics see both cells. Box metrics see one box for each: of cells side by side the region's box is twice
    as wide, of cells on a diagonal, which touch at a corner, four times as large."""
    of = explanation(2, [0, 1, 2, 0], 0, "grad_cam")
    assert value("mask_iou", of) == (1.0, "ok")
    assert value("box_iou", of)[0] == 0.25
    assert value("box_iou", explanation(2, [0, 0, 1, 2], 0, "grad_cam"))[0] == 0.5
    assert value("pointing_game_strict", of) == (1.0, "ok")
