"""The metrics of one object of a network of boxes, against loops over pixels and plain passes."""

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench.evaluation.plugins import with_params
from tests.methods.made_objects import BOXES, MASKS
from tests.metrics.build import close, overlap

H, W = BOXES.size
OWN = (1.0, 1.0, 5.0, 4.0)
SAME = (3.6, 2.0, 9.0, 6.0)
OTHER = (8.0, 0.0, 12.0, 3.0)

PLACES = ["energy_pointing_game", "leakage_to_class", "leakage_to_others"]
OTHERS = [
    "pointing_game",
    "box_iou",
    "mask_iou",
    "mass_accuracy",
    "single_deletion",
    "object_deletion",
]


def a_map(trace: ab.Trace) -> ab.Map:
    """Draw positive maps without equal values, the same for an image in any batch."""
    maps = [torch.rand(H, W, generator=generator).double() for generator in trace.generators(1)]
    return ab.Map(torch.stack(maps))


def measured(case) -> dict[str, Tensor]:
    """Return the values of the three images by metric, all of which have one."""
    model = case.model()
    images = case.images()
    columns = torch.arange(W).expand(H, -1)
    boxes = torch.tensor([OWN, SAME, OTHER])
    annotations = []
    for row in range(3):
        labels = torch.tensor([row, row, (row + 1) % 3])
        mask = torch.where(columns < 9, row, -1)
        annotations.append(ab.Annotation(labels, boxes, mask, explained=0))
    left = columns < 6
    right = columns >= 6
    parts = []
    for image in images:
        left_object = ab.Part("object 0", 0, left, image.masked_fill(left, 0)[None])
        right_object = ab.Part("object 1", 1, right, image.masked_fill(right, 0)[None])
        parts.append([left_object, right_object])
    inputs = (images, case.places(model))
    image_ids = ("a", "b", "c")
    batch = ab.Batch(inputs, image_ids, torch.arange(3), tuple(annotations), parts)
    params = {"steps": 4, "fill": "zero", "output": "logit"}
    metrics = [
        with_params("metric", "deletion_auc", params),
        with_params("metric", "insertion_auc", params),
        with_params("metric", "confidence_drop", {"output": "logit"}),
        "drop_outside_map",
        *PLACES,
        *OTHERS,
    ]

    table = ab.evaluate(model, "features.3", [batch], [a_map], metrics)

    assert set(table.status) == {"ok"}, table[table.status != "ok"]
    values_by_metric = {}
    for name, rows in table.groupby("metric"):
        values_by_metric[name] = torch.tensor(rows.value.to_list(), dtype=torch.float64)
    return values_by_metric


@torch.no_grad()
def score(case, image: Tensor, row: int) -> float:
    """Return the class's logit at the box of the highest IoU with the explained box, by a loop.

    If the case explains a region, the logits of the region are summed.
    """
    model = case.model()
    place = case.places(model)[row]
    output = model.module(image[None])
    if not case.boxes:
        return float((output[0, row] * place).sum())
    overlaps = [overlap(box, place[1:].tolist()) for box in output[0][0].tolist()]
    return float(output[1][0, overlaps.index(max(overlaps)), row])


@pytest.mark.parametrize("case", [BOXES, MASKS], ids=["boxes", "masks"])
def test_metrics_of_one_object_by_hand(case):
    values = measured(case)
    heatmaps = a_map(case.trace()).raw
    for row, (image, heatmap) in enumerate(zip(case.images(), heatmaps, strict=True)):
        heatmap = heatmap / heatmap.max()
        order = heatmap.flatten().argsort(descending=True).tolist()
        curves: dict[str, list[float]] = {"deletion_auc": [], "insertion_auc": []}
        for count in (0, 24, 48, 72, 96):
            first = torch.zeros(H * W, dtype=torch.bool)
            first[order[:count]] = True
            for name, curve in curves.items():
                filled = first if name == "deletion_auc" else ~first
                curve.append(score(case, image.masked_fill(filled.view(H, W), 0), row))
        for name, curve in curves.items():
            area = sum(a + b for a, b in pairwise(curve)) / 8
            close(values[name][row], area, 1e-12, 1e-10)

        before = score(case, image, row)
        mean = image.mean((1, 2), keepdim=True)
        blended = score(case, image + heatmap * (mean - image), row)
        close(values["confidence_drop"][row], before - blended, 1e-12, 1e-9)

        object_pixels = torch.zeros(H, W, dtype=torch.bool)
        object_pixels[1:4, 1:5] = True
        removed = object_pixels.flatten()
        removed[order[: round(int(object_pixels.sum()) / 2)]] = False
        after = score(case, image.masked_fill(removed.view(H, W), 0), row)
        close(values["drop_outside_map"][row], (before - after) / abs(before), 1e-12, 1e-9)

        sums = dict.fromkeys(PLACES, 0.0)
        total = 0.0
        for y, x in product(range(H), range(W)):
            number = float(heatmap[y, x])
            total += number
            if is_inside(OWN, y, x):
                sums["energy_pointing_game"] += number
                continue
            if is_inside(SAME, y, x):
                sums["leakage_to_class"] += number
            if is_inside(SAME, y, x) or is_inside(OTHER, y, x):
                sums["leakage_to_others"] += number
        for name in PLACES:
            close(values[name][row], sums[name] / total)


def is_inside(box, y, x):
    x0, y0, x1, y1 = box
    return x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1


def test_leakage_of_a_class_and_of_a_lone_object():
    case = BOXES
    trace = case.trace()
    labels = torch.tensor([0, 0, 1])
    boxes = torch.tensor([OWN, SAME, OTHER])
    whole_class = ab.Annotation(labels, boxes)  # both objects of class 0 are explained
    one_of_two = replace(whole_class, explained=0)
    one_of_its_class = ab.Annotation(labels[::2], boxes[::2], explained=0)
    only_object = ab.Annotation(labels[:1], boxes[:1], explained=0)
    inputs = (trace[:1].images, *trace[:1].other_inputs)

    def statuses(annotation: ab.Annotation) -> list[str]:
        batch = ab.Batch(inputs, ("a",), torch.tensor([0]), (annotation,))
        table = ab.evaluate(case.model(), "features.3", [batch], [a_map], PLACES[1:])
        return table.status.to_list()

    assert statuses(whole_class) == ["one_object", "ok"]
    assert statuses(one_of_two) == ["ok", "ok"]
    assert statuses(one_of_its_class) == ["one_object", "ok"]
    assert statuses(only_object) == ["one_object", "one_object"]


@pytest.mark.parametrize("case", [BOXES, MASKS], ids=["boxes", "masks"])
def test_object_correlation_is_that_with_the_map_at_the_largest_other_box(case):
    model = case.model()
    images = case.images()
    places = case.places(model)
    small = (9.0, 5.0, 11.0, 7.0)
    large = SAME
    labels = torch.tensor([1, 1, 1])
    note = ab.Annotation(labels, torch.tensor([OWN, small, large]), explained=0)
    batch = ab.Batch((images, places), ("a", "b", "c"), labels, (note,) * 3)

    table = ab.evaluate(
        model, "features.3", [batch], ["hires_cam", "uniform"], ["object_correlation"]
    )

    # The layer's positions, which are 2 x 2 pixels, with their centre in the large box.
    inside = torch.zeros(4, 6, dtype=torch.bool)
    for y, x in product(range(4), range(6)):
        inside[y, x] = 3.6 <= 2 * x + 1 < 9 and 2 <= 2 * y + 1 < 6
    for row, (image, place) in enumerate(zip(images, places, strict=True)):
        activations = model.module.features(image[None]).detach().requires_grad_()
        logits = model.module.head(activations)[0]
        if case.boxes:
            overlaps = [overlap(box, large) for box in model.module(image[None])[0][0].tolist()]
            positions = torch.arange(24).view(4, 6)
            explained_region = positions == int(place[0])
            other_region = positions == overlaps.index(max(overlaps))
        else:
            explained_region = place > 0
            other_region = inside & (logits.argmax(0) == 1)
            if not other_region.any():
                other_region = inside
        maps = []
        for region in (explained_region, other_region):
            region_score = logits[1][region].sum()
            (gradient,) = torch.autograd.grad(region_score, activations, retain_graph=True)
            maps.append((gradient * activations).sum(1).detach().flatten())
        expected = torch.corrcoef(torch.stack(maps))[0, 1]
        close(table[table.method == "hires_cam"].value.iloc[row], expected, 1e-9, 1e-9)
    # No object changes a uniform map.
    uniform = table[(table.method == "uniform") & (table.status == "ok")].value
    close(torch.tensor(uniform.to_list()), torch.ones(len(uniform)))
    assert len(uniform)
