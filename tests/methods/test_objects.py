"""Methods of one object of a network of boxes or of masks: the common suite, and formulas by hand
in float64.
"""

import math

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

OF_OBJECTS = [name for name in plugins.names("method") if methods.get(name).spec.of_objects]
# a place can't be zero
CHECKS = [each for each in METHOD_CHECKS if each is not method_checks.takes_zero_activations]
EACH_KIND = pytest.mark.parametrize("case", [BOXES, MASKS], ids=["boxes", "masks"])


@pytest.mark.slow
@EACH_KIND
@pytest.mark.parametrize("name", OF_OBJECTS)
def test_a_method_of_objects_passes_the_common_suite(name, case):
    method = with_fewer(name)
    run_checks(method, CHECKS, {"the network of objects": case}, exemptions(method))
    with pytest.raises(BenchError, match="one object of a network of boxes or masks"):
        method(CASES["dense"].trace())


@EACH_KIND
@pytest.mark.parametrize("name", methods.names())
def test_every_method_explains_one_object(name, case):
    """Where the score reads a part of the layer alone, and for masked images the box is
    followed.
    """
    method = with_fewer(name)
    try:
        method(case.trace())
    except BenchError:  # a probability, or rules for the head, which the method needs
        return
    checks = [method_checks.finite, method_checks.batch_invariant, method_checks.order_invariant]
    run_checks(method, checks, {"the network of objects": case}, {})


def gradients_at(case, row: int) -> Tensor:
    """Of the class's logit at the position, or of its sum over the region, by autograd of the plain
    network.
    """
    model = case.model()
    images, place = case.images()[row : row + 1], case.places(model)[row : row + 1]
    leaf = model.features(images).detach().requires_grad_()
    logits = model.head(leaf)[0, row]
    score = logits.flatten()[int(place[0, 0])] if case.boxes else (logits * place[0]).sum()
    return torch.autograd.grad(score, leaf)[0][0]


def centre(case, row: int, sides: tuple[int, int]) -> tuple[float, float]:
    """x and y in places of a grid with these sides, rows first."""
    place = case.places(case.model())[row]
    if case.boxes:
        x0, y0, x1, y1 = place[1:].tolist()
        x, y = (x0 + x1) / 2 / case.size[1], (y0 + y1) / 2 / case.size[0]
    else:
        cells = [((b + 0.5) / 6, (a + 0.5) / 4) for a in range(4) for b in range(6) if place[a, b]]
        x, y = (sum(each) / len(cells) for each in zip(*cells, strict=True))
    return x * sides[1], y * sides[0]


def g_came_of(case, row: int, sigma: float | None) -> Tensor:
    """The authors' code (khanhnguyenuet/GCAME), around the object's centre."""
    planes = []
    for g in gradients_at(case, row):
        mean, (H, W) = float(g.mean()), g.shape
        reach = math.floor(math.sqrt(H * W) - 1) / 2 / 3
        width = (
            abs(math.log(abs(mean)) / reach * math.log(case.size[0] / H))
            if sigma is None
            else sigma
        )
        px, py = (
            min(max(math.floor(each), 0), side - 1)
            for each, side in zip(centre(case, row, (H, W)), (W, H), strict=True)
        )
        rows = [
            [math.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * width**2)) for x in range(W)]
            for y in range(H)
        ]
        mask = torch.tensor(rows, dtype=torch.float64)
        planes.append(mean * (mask - mask.min()) / (mask.max() - mask.min()))
    return torch.stack(planes)


def gaussian_of(case, row: int, sigma: float) -> Tensor:
    (H, W), (x, y) = case.size, centre(case, row, (1, 1))
    rows = [
        [((b + 0.5) / W - x) ** 2 + ((a + 0.5) / H - y) ** 2 for b in range(W)] for a in range(H)
    ]
    return torch.exp(-torch.tensor(rows, dtype=torch.float64) / (2 * sigma**2))


def object_of(case, row: int) -> Tensor:
    place = case.places(case.model())[row]
    if not case.boxes:
        return place
    x0, y0, x1, y1 = place[1:].tolist()
    return torch.tensor(
        [[float(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1) for x in range(12)] for y in range(8)],
        dtype=torch.float64,
    )


FORMULAS = [
    *(("g_came", {"sigma": sigma}, g_came_of) for sigma in (None, 1.5)),
    ("box_centre", {"sigma": 0.2}, gaussian_of),
    ("explained_box", {}, object_of),
    ("hires_cam", {}, gradients_at),
    (
        "restricted_grad_cam",
        {},
        lambda *at: gradients_at(*at).mean((1, 2), True) * (gradients_at(*at) != 0).any(0),
    ),
]


@EACH_KIND
@pytest.mark.parametrize(("name", "params", "formula"), FORMULAS)
def test_equals_the_formula(name, params, formula, case):
    answer = plugins.with_params("method", name, params)(case.trace())
    actual = answer.raw if isinstance(answer, ab.Map) else answer
    torch.testing.assert_close(
        actual, torch.stack([formula(case, row, **params) for row in range(3)]), **CLOSE
    )


@EACH_KIND
def test_what_the_score_does_not_read_is_restricted_to_nothing(case):
    trace = case.trace()
    read = (trace.gradients != 0).any(1)
    assert 0 < read.double().mean() < 1
    of_map = restricted(trace, lambda trace: ab.Map(torch.ones_like(trace.activations[:, 0]))).raw
    assert torch.equal(of_map, read.double())
    g, F = trace.gradients, trace.activations
    sums = (F * (g != 0)).sum((2, 3), keepdim=True)
    weights = (g.relu() / (2 + g * sums)).sum((2, 3), keepdim=True)
    expected = weights * g.abs() / g.abs().amax((2, 3), keepdim=True)
    torch.testing.assert_close(methods.get("ss_grad_cam_pp")(trace), expected, **CLOSE)


def mask_of(cells: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear between the centres of the cells, of sides ceil(side / grid), enlarged to one cell
    more: (H', W').
    """
    grid, at = len(cells), []
    for side, part in zip(size, shift.tolist(), strict=True):
        cell = math.ceil(side / grid)
        places = [
            (int(part * cell) + x + 0.5) * grid / ((grid + 1) * cell) - 0.5 for x in range(side)
        ]
        at.append([min(max(place, 0), grid - 1) for place in places])
    triangle = [
        torch.tensor([[max(0.0, 1 - abs(x - i)) for i in range(grid)] for x in each]).double()
        for each in at
    ]
    return triangle[0] @ cells.double() @ triangle[1].T


def likeness(model, returned, place: Tensor, own: Tensor, target: int) -> float:
    """How much of the explained object a masked image has. own: the object's logits in the whole
    image.
    """

    def probabilities(logits: Tensor) -> Tensor:
        values = logits.softmax(0) if model.exclusive else logits.sigmoid()
        return values if model.background is None else values[: model.background]

    if isinstance(returned, Tensor):
        return float((returned[0, target].sigmoid() * place).sum() / place.sum())
    best, own = 0.0, probabilities(own)
    for box, logits in zip(returned[0][0], returned[1][0], strict=True):
        p = probabilities(logits)
        alike = float(p @ own / (p.norm() * own.norm()) * p.max())
        best = max(best, overlap(box.tolist(), place[1:].tolist()) * alike)
    return best


@EACH_KIND
@pytest.mark.parametrize("params", [{}, {"seed": 3, "kept": 0.7}], ids=str)
def test_d_rise_is_a_sum_of_masks_that_the_objects_of_an_image_share(params, case):
    model = case.model()
    if case.boxes and params:
        model.exclusive, model.background = True, -1
    images, places, targets = case.images()[[0, 0, 1]], case.places(model), [0, 1, 0]
    trace = ab.trace(model, case.layer, (images, places), targets)
    method = plugins.with_params("method", "d_rise", {"masks": 40, "grid": 3, **params})
    before = trace.passes.trunk_forward
    actual = method(trace).raw
    assert trace.passes.trunk_forward - before == 2 * 40
    assert torch.equal(torch.cat([method(trace[row : row + 1]).raw for row in range(3)]), actual)
    for row in range(3):
        (draws,) = generators(images[row : row + 1], params.get("seed", 0))
        cells = torch.rand(40, 3, 3, generator=draws, dtype=torch.float64) < params.get("kept", 0.5)
        shifts = torch.rand(40, 2, generator=draws, dtype=torch.float64)
        drawn = [mask_of(*each, case.size) for each in zip(cells, shifts, strict=True)]
        about = places[row], trace.logits[row], targets[row]
        with torch.no_grad():
            weights = [
                likeness(model, model.returned(images[row, None] * mask), *about) for mask in drawn
            ]
        total = sum(weight * mask for weight, mask in zip(weights, drawn, strict=True))
        torch.testing.assert_close(
            actual[row], (total - total.min()) / (total.max() - total.min()), **CLOSE
        )


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
    model, trace = case.model(), case.trace()
    raw = methods.get("other_object")(trace).raw
    for row, found in enumerate(model.found(trace.images, 0.05)):
        own = trace.other_inputs[0][row]
        boxes = [each.box.tolist() for each in found]
        if case.boxes:
            others = [
                each
                for each, box in zip(found, boxes, strict=True)
                if overlap(box, own[1:].tolist()) <= 0.5
            ]
        else:
            others = [each for each in found if not (each.place * own).any()]
        place, label = (
            (others[0].place, others[0].label)
            if others
            else (model.ends(trace.images[:1])[0], int(trace.targets[row]))
        )
        other = ab.trace(model, case.layer, (trace.images[row : row + 1], place[None]), [label])
        torch.testing.assert_close(
            raw[row], (other.gradients * other.activations).sum(1)[0], **CLOSE
        )
        assert others or not case.boxes
