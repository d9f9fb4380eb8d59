"""Tests of methods that explain one object of a network of boxes or masks: the common suite, and
formulas by hand in float64.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.numerics import generators
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.methods.restricted import restricted
from axiom_bench.testing import CASES, METHOD_CHECKS, exemptions, method_checks
from axiom_bench.testing.cases import run_checks
from tests.methods.made_objects import BOXES, MASKS
from tests.methods.plain import CLOSE, with_fewer
from tests.metrics.build import overlap

OBJECT_METHODS = [name for name in plugins.names("method") if methods.get(name).spec.of_objects]
# An object's place can't be zero.
CHECKS = [check for check in METHOD_CHECKS if check is not method_checks.takes_zero_activations]
EACH_KIND = pytest.mark.parametrize("case", [BOXES, MASKS], ids=["boxes", "masks"])


@pytest.mark.slow
@EACH_KIND
@pytest.mark.parametrize("name", OBJECT_METHODS)
def test_a_method_of_objects_passes_the_common_suite(name, case):
    method = with_fewer(name)
    run_checks(method, CHECKS, {"the network of objects": case}, exemptions(method))
    with pytest.raises(BenchError, match="one object of a network of boxes or masks"):
        method(CASES["dense"].trace())


@EACH_KIND
@pytest.mark.parametrize("name", methods.names())
def test_every_method_explains_one_object(name, case):
    """Check networks whose score reads only a part of the layer. In masked images, the box is
    followed.
    """
    method = with_fewer(name)
    case = replace(case, rows=2)  # two rows suffice to confuse their objects
    try:
        method_checks.finite(method, case)
    except BenchError:  # a probability, or rules for the head, which the method needs
        return
    checks = [method_checks.batch_invariant, method_checks.order_invariant]
    run_checks(method, checks, {"the network of objects": case}, {})


def gradients_at(case, row: int) -> Tensor:
    """Return the gradient of the class's logit at the position, or of its sum over the region, by
    autograd of the plain network.
    """
    model = case.model()
    images = case.images()[row : row + 1]
    place = case.places(model)[row : row + 1]
    leaf = model.features(images).detach().requires_grad_()
    logits = model.head(leaf)[0, row]
    score = logits.flatten()[int(place[0, 0])] if case.boxes else (logits * place[0]).sum()
    return torch.autograd.grad(score, leaf)[0][0]


def centre(case, row: int, sides: tuple[int, int]) -> tuple[float, float]:
    """Return the object's centre x, y in cells of a grid with these sides (rows, columns)."""
    place = case.places(case.model())[row]
    if case.boxes:
        x0, y0, x1, y1 = place[1:].tolist()
        x = (x0 + x1) / 2 / case.size[1]
        y = (y0 + y1) / 2 / case.size[0]
    else:
        cells = place.nonzero().double()
        y = float(cells[:, 0].mean() + 0.5) / 4
        x = float(cells[:, 1].mean() + 0.5) / 6
    return x * sides[1], y * sides[0]


def g_came_of(case, row: int, sigma: float | None) -> Tensor:
    """Follow the authors' code (khanhnguyenuet/GCAME), around the object's centre."""
    planes = []
    for g in gradients_at(case, row):
        mean = float(g.mean())
        H, W = g.shape
        if sigma is None:
            reach = math.floor(math.sqrt(H * W) - 1) / 2 / 3
            width = abs(math.log(abs(mean)) / reach * math.log(case.size[0] / H))
        else:
            width = sigma
        x, y = centre(case, row, (H, W))
        px = min(max(math.floor(x), 0), W - 1)
        py = min(max(math.floor(y), 0), H - 1)
        mask = torch.zeros(H, W, dtype=torch.float64)
        for a, b in itertools.product(range(H), range(W)):
            mask[a, b] = math.exp(-((b - px) ** 2 + (a - py) ** 2) / (2 * width**2))
        planes.append(mean * (mask - mask.min()) / (mask.max() - mask.min()))
    return torch.stack(planes)


def gaussian_of(case, row: int, sigma: float) -> Tensor:
    H, W = case.size
    x, y = centre(case, row, (1, 1))
    squares = torch.zeros(H, W, dtype=torch.float64)
    for a, b in itertools.product(range(H), range(W)):
        squares[a, b] = ((b + 0.5) / W - x) ** 2 + ((a + 0.5) / H - y) ** 2
    return torch.exp(-squares / (2 * sigma**2))


def object_of(case, row: int) -> Tensor:
    place = case.places(case.model())[row]
    if not case.boxes:
        return place
    x0, y0, x1, y1 = place[1:].tolist()
    inside = torch.zeros(8, 12, dtype=torch.float64)
    for y, x in itertools.product(range(8), range(12)):
        inside[y, x] = float(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1)
    return inside


def restricted_grad_cam_of(case, row: int) -> Tensor:
    gradients = gradients_at(case, row)
    return gradients.mean((1, 2), keepdim=True) * (gradients != 0).any(0)


FORMULAS = [
    ("g_came", {"sigma": None}, g_came_of),
    ("g_came", {"sigma": 1.5}, g_came_of),
    ("box_centre", {"sigma": 0.2}, gaussian_of),
    ("explained_box", {}, object_of),
    ("hires_cam", {}, gradients_at),
    ("restricted_grad_cam", {}, restricted_grad_cam_of),
]


@EACH_KIND
@pytest.mark.parametrize(("name", "params", "formula"), FORMULAS)
def test_equals_the_formula(name, params, formula, case):
    answer = plugins.with_params("method", name, params)(case.trace())
    actual = answer.raw if isinstance(answer, ab.Map) else answer
    expected = torch.stack([formula(case, row, **params) for row in range(3)])
    torch.testing.assert_close(actual, expected, **CLOSE)


def ones(trace: ab.Trace) -> ab.Map:
    return ab.Map(torch.ones_like(trace.activations[:, 0]))


@EACH_KIND
def test_what_the_score_does_not_read_is_restricted_to_nothing(case):
    trace = case.trace()
    is_read = (trace.gradients != 0).any(1)
    assert 0 < is_read.double().mean() < 1
    assert torch.equal(restricted(trace, ones).raw, is_read.double())

    g = trace.gradients
    F = trace.activations
    sums = (F * (g != 0)).sum((2, 3), keepdim=True)
    weights = (g.relu() / (2 + g * sums)).sum((2, 3), keepdim=True)
    expected = weights * g.abs() / g.abs().amax((2, 3), keepdim=True)
    torch.testing.assert_close(methods.get("ss_grad_cam_pp")(trace), expected, **CLOSE)


def mask_of(cells: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a mask (H', W') that interpolates bilinearly between the centres of the cells.

    Cells have sides of ceil(side / grid) pixels. The grid is stretched to one more cell, and
    shifted by a part of a cell.
    """
    grid = len(cells)

    def interpolation(side: int, part: float) -> Tensor:
        """Return the weights of the cells (side, grid) at each pixel."""
        cell = math.ceil(side / grid)
        offset = int(part * cell)
        weights = torch.zeros(side, grid)
        for x in range(side):
            coordinate = (offset + x + 0.5) * grid / ((grid + 1) * cell) - 0.5
            coordinate = min(max(coordinate, 0), grid - 1)
            for i in range(grid):
                weights[x, i] = max(0.0, 1 - abs(coordinate - i))
        return weights.double()

    down, across = shift.tolist()
    return interpolation(size[0], down) @ cells.double() @ interpolation(size[1], across).T


def likeness(model, returned, place: Tensor, own_logits: Tensor, target: int) -> float:
    """Return how much of the explained object a masked image has. `own_logits` are the object's
    logits in the whole image.
    """

    def probabilities(logits: Tensor) -> Tensor:
        values = logits.softmax(0) if model.exclusive else logits.sigmoid()
        return values if model.background is None else values[: model.background]

    if isinstance(returned, Tensor):
        return float((returned[0, target].sigmoid() * place).sum() / place.sum())
    own = probabilities(own_logits)
    best = 0.0
    for box, logits in zip(returned[0][0], returned[1][0], strict=True):
        p = probabilities(logits)
        similarity = float(p @ own / (p.norm() * own.norm()) * p.max())
        best = max(best, overlap(box.tolist(), place[1:].tolist()) * similarity)
    return best


@EACH_KIND
@pytest.mark.parametrize("params", [{}, {"seed": 3, "kept": 0.7}], ids=str)
def test_d_rise_is_a_sum_of_masks_that_the_objects_of_an_image_share(params, case):
    model = case.model()
    if case.boxes and params:
        model.exclusive = True
        model.background = -1
    images = case.images()[[0, 0, 1]]
    places = case.places(model)
    targets = [0, 1, 0]
    trace = ab.trace(model, case.layer, (images, places), targets)
    method = plugins.with_params("method", "d_rise", {"masks": 40, "grid": 3, **params})
    before = trace.passes.trunk_forward

    actual = method(trace).raw

    assert trace.passes.trunk_forward - before == 2 * 40
    one_by_one = [method(trace[row : row + 1]).raw for row in range(3)]
    assert torch.equal(torch.cat(one_by_one), actual)
    for row in range(3):
        (generator,) = generators(images[row : row + 1], params.get("seed", 0))
        draws = torch.rand(40, 3, 3, generator=generator, dtype=torch.float64)
        cells = draws < params.get("kept", 0.5)
        shifts = torch.rand(40, 2, generator=generator, dtype=torch.float64)
        total = torch.zeros(case.size, dtype=torch.float64)
        for mask_cells, mask_shift in zip(cells, shifts, strict=True):
            mask = mask_of(mask_cells, mask_shift, case.size)
            with torch.no_grad():
                returned = model.returned(images[row, None] * mask)
            weight = likeness(model, returned, places[row], trace.logits[row], targets[row])
            total += weight * mask
        expected = (total - total.min()) / (total.max() - total.min())
        torch.testing.assert_close(actual[row], expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("d_rise", {"masks": 0}, "masks=0 and grid=8; give both"),
        ("d_rise", {"kept": 1.0}, "kept=1.0; give the probability"),
        ("g_came", {"sigma": 0.0}, "sigma=0.0; give the Gaussian's"),
        ("box_centre", {"sigma": -1.0}, "sigma=-1.0; give the standard"),
        ("seg_xres_cam", {"window": 0}, "window=0; give the side"),
        ("seg_xres_cam", {"pooling": "median"}, "pooling"),
    ],
)
def test_refusals(name, params, message):
    with pytest.raises(BenchError, match=message):
        plugins.with_params("method", name, params)(BOXES.trace())


@EACH_KIND
def test_another_object_is_the_most_probable_one_elsewhere(case):
    model = case.model()
    trace = case.trace()

    raw = methods.get("other_object")(trace).raw

    for row, found_objects in enumerate(model.found(trace.images, 0.05)):
        own_place = trace.other_inputs[0][row]
        others = []
        for found in found_objects:
            if case.boxes:
                is_elsewhere = overlap(found.box.tolist(), own_place[1:].tolist()) <= 0.5
            else:
                is_elsewhere = not (found.place * own_place).any()
            if is_elsewhere:
                others.append(found)
        assert others or not case.boxes
        if others:
            place = others[0].place
            label = others[0].label
        else:
            place = model.ends(trace.images[:1])[0]
            label = int(trace.targets[row])
        inputs = (trace.images[row : row + 1], place[None])
        other = ab.trace(model, case.layer, inputs, [label])
        expected = (other.gradients * other.activations).sum(1)[0]
        torch.testing.assert_close(raw[row], expected, **CLOSE)
