"""Metrics of one object of a network of boxes: loops over pixels and plain passes, in float64."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench.evaluation.plugins import with_params
from tests.methods.made_objects import BOXES, MASKS
from tests.metrics.build import close, overlap

H, W = BOXES.size
OWN, SAME, OTHER = (1.0, 1.0, 5.0, 4.0), (3.6, 2.0, 9.0, 6.0), (8.0, 0.0, 12.0, 3.0)
WITH_LOGIT = ["deletion_auc", "insertion_auc", "confidence_drop"]
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
    """Positive, without equal values, the same for an image in any batch."""
    return ab.Map(
        torch.stack([torch.rand(H, W, generator=draw).double() for draw in trace.generators(1)])
    )


def measured(case) -> dict[str, Tensor]:
    """The values of the three images by metric; all of them have one."""
    model, images = case.model(), case.images()
    pixels = torch.arange(W).expand(H, -1)
    notes = tuple(
        ab.Annotation(torch.tensor([row, row, (row + 1) % 3]), torch.tensor([OWN, SAME, OTHER]),
                      torch.where(pixels < 9, row, -1), explained=0)
        for row in range(3)
    )  # fmt: skip
    halves = [pixels < 6, pixels >= 6]
    parts = [[ab.Part(f"object {at}", at, half, image.masked_fill(half, 0)[None]) for at, half in enumerate(halves)]
             for image in images]  # fmt: skip
    batch = ab.Batch((images, case.places(model)), ("a", "b", "c"), torch.arange(3), notes, parts)
    params = {"steps": 4, "fill": "zero", "output": "logit"}
    metrics = [with_params("metric", name, params) for name in WITH_LOGIT[:2]]
    metrics += [
        with_params("metric", "confidence_drop", {"output": "logit"}),
        "drop_outside_map",
        *PLACES,
        *OTHERS,
    ]
    table = ab.evaluate(model, "features.3", [batch], [a_map], metrics)
    assert set(table.status) == {"ok"}, table[table.status != "ok"]
    return {
        name: torch.tensor(rows.value.to_list(), dtype=torch.float64)
        for name, rows in table.groupby("metric")
    }


@torch.no_grad()
def score(case, image: Tensor, row: int) -> float:
    """The class's logit where a box has the highest IoU with the explained one, by a loop; of a
    region the sum.
    """
    model = case.model()
    place, output = case.places(model)[row], model.module(image[None])
    if not case.boxes:
        return float((output[0, row] * place).sum())
    overlaps = [overlap(box, place[1:].tolist()) for box in output[0][0].tolist()]
    return float(output[1][0, overlaps.index(max(overlaps)), row])


@pytest.mark.parametrize("case", [BOXES, MASKS], ids=["boxes", "masks"])
def test_metrics_of_one_object_by_hand(case):
    values, heatmaps = measured(case), a_map(case.trace()).raw
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
            close(values[name][row], sum(a + b for a, b in pairwise(curve)) / 8, 1e-12, 1e-10)
        mean = image.mean((1, 2), keepdim=True)
        blended = score(case, image + heatmap * (mean - image), row)
        close(values["confidence_drop"][row], score(case, image, row) - blended, 1e-12, 1e-9)
        own = torch.tensor(
            [[1 <= x < 5 and 1 <= y < 4 for x in range(W)] for y in range(H)]
        ).flatten()
        left = own.clone()
        left[order[: round(int(own.sum()) / 2)]] = False
        before, after = (
            score(case, image, row),
            score(case, image.masked_fill(left.view(H, W), 0), row),
        )
        close(values["drop_outside_map"][row], (before - after) / abs(before), 1e-12, 1e-9)
        sums = dict.fromkeys((*PLACES, "all"), 0.0)
        for y in range(H):
            for x in range(W):
                own, same, other = (
                    x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1
                    for x0, y0, x1, y1 in (OWN, SAME, OTHER)
                )
                for name, counts in zip(
                    sums, (own, same and not own, (same or other) and not own, True), strict=True
                ):
                    sums[name] += float(heatmap[y, x]) * counts
        close([values[name][row] for name in PLACES], [sums[name] / sums["all"] for name in PLACES])


def test_leakage_of_a_class_and_of_a_lone_object():
    case = BOXES
    trace = case.trace()
    note = ab.Annotation(torch.tensor([0, 0, 1]), torch.tensor([OWN, SAME, OTHER]))
    for annotation, expected in (
        (note, ["one_object", "ok"]),  # of both objects of a class, others are of another
        (replace(note, explained=0), ["ok", "ok"]),
        (ab.Annotation(note.labels[::2], note.boxes[::2], explained=0), ["one_object", "ok"]),
        (ab.Annotation(note.labels[:1], note.boxes[:1], explained=0), ["one_object", "one_object"]),
    ):
        batch = ab.Batch(
            (trace[:1].images, *trace[:1].other_inputs), ("a",), torch.tensor([0]), (annotation,)
        )
        table = ab.evaluate(case.model(), "features.3", [batch], [a_map], PLACES[1:])
        assert table.status.to_list() == expected


@pytest.mark.parametrize("case", [BOXES, MASKS], ids=["boxes", "masks"])
def test_object_correlation_is_that_with_the_map_at_the_largest_other_box(case):
    model, images = case.model(), case.images()
    small, large = (9.0, 5.0, 11.0, 7.0), SAME
    note = ab.Annotation(torch.tensor([1, 1, 1]), torch.tensor([OWN, small, large]), explained=0)
    batch = ab.Batch(
        (images, case.places(model)), ("a", "b", "c"), torch.tensor([1] * 3), (note,) * 3
    )
    table = ab.evaluate(
        model, "features.3", [batch], ["hires_cam", "uniform"], ["object_correlation"]
    )
    inside = torch.tensor(
        [[3.6 <= 2 * x + 1 < 9 and 2 <= 2 * y + 1 < 6 for x in range(6)] for y in range(4)]
    )
    for row, (image, place) in enumerate(zip(images, case.places(model), strict=True)):
        activations = model.module.features(image[None]).detach().requires_grad_()
        logits = model.module.head(activations)[0]
        if case.boxes:
            overlaps = [overlap(each, large) for each in model.module(image[None])[0][0].tolist()]
            at = [
                torch.arange(24).view(4, 6) == each
                for each in (int(place[0]), overlaps.index(max(overlaps)))
            ]
        else:
            of_class = inside & (logits.argmax(0) == 1)
            at = [place > 0, of_class if of_class.any() else inside]
        gradients = [
            torch.autograd.grad(logits[1][each].sum(), activations, retain_graph=True)[0]
            for each in at
        ]
        maps = [(each * activations).sum(1).detach().flatten() for each in gradients]
        expected = torch.corrcoef(torch.stack(maps))[0, 1]
        close(table[table.method == "hires_cam"].value.iloc[row], expected, 1e-9, 1e-9)
    uniform = table[
        (table.method == "uniform") & (table.status == "ok")
    ].value  # a map that no object changes
    close(torch.tensor(uniform.to_list()), torch.ones(len(uniform)))
    assert len(uniform)
