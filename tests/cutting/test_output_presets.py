"""Segmentation, similarity, regression, multi-label and detection, each against plain torch in
float64.
"""

import re
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.output_presets import intersection_over_union
from axiom_bench.errors import BenchError
from axiom_bench.notes import ZeroMaps
from tests.cutting.test_output import (
    REGION,
    Deciding,
    Dense,
    assert_equal_by_hand,
    assert_output_by_hand,
    images,
    out_of,
    pooled,
    sums,
)

SEGMENT = ab.outputs.segmentation
SIMILAR = ab.outputs.similarity
DETECT = ab.outputs.detection
REFERENCES = torch.randn(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def winners(maps: Tensor) -> Tensor:
    """Sum each class's logits over the positions where it has the highest, by loops."""
    sums = maps.new_zeros(maps.shape[:2])
    for row, y, x in product(range(len(maps)), range(6), range(6)):
        best = int(maps[row, :, y, x].argmax())
        sums[row, best] = sums[row, best] + maps[row, best, y, x]
    return sums


def cosines(maps: Tensor) -> Tensor:
    rows = []
    for z in pooled(maps):
        rows.append(torch.stack([z @ r / (z.norm() * r.norm()) for r in REFERENCES]))
    return torch.stack(rows)


def first_two(maps: Tensor) -> Tensor:
    return pooled(maps)[:, :2]


def sums_of_regions(maps: Tensor) -> Tensor:
    first = maps[:, 1, 1:4, 2:5].sum((1, 2))
    outside = (maps[:, 4] * (1 - REGION)).sum((1, 2))
    last = maps[:, 1, 2:5, 1:4].sum((1, 2))
    return torch.stack([first, outside, last], 1)


REGIONS = SEGMENT(torch.stack([REGION, 1 - REGION, REGION.T]), [1, 4, 1])
EMBEDDED = SIMILAR(REFERENCES, scale=100, read=lambda output: output.image_embeds)
# name: (what the network returns, the output, the scores by hand, targets)
PRESETS: dict[
    str, tuple[Callable[[Tensor], Any], Output, Callable[[Tensor], Tensor], list[int]]
] = {
    "segmentation": (out_of, SEGMENT(), sums, [0, 1, 4]),
    "segmentation of a region": (
        out_of,
        SEGMENT(REGION.bool()),
        lambda z: z[:, :, 1:4, 2:5].sum((2, 3)),
        [0, 1, 4],
    ),
    "segmentation of a region of each image": (
        lambda maps: maps,
        REGIONS,
        sums_of_regions,
        [2, 1, 0],
    ),
    "segmentation where predicted": (lambda maps: maps, SEGMENT("predicted"), winners, [0, 1, 4]),
    "cosine": (pooled, SIMILAR(REFERENCES), cosines, [0, 2, 1]),
    "scaled cosine": (
        lambda maps: SimpleNamespace(image_embeds=pooled(maps)),
        EMBEDDED,
        lambda maps: 100 * cosines(maps),
        [0, 2, 1],
    ),
    "one reference": (pooled, SIMILAR(REFERENCES[0]), lambda maps: cosines(maps)[:, :1], [0, 0, 0]),
    "scalar product": (
        pooled,
        SIMILAR(REFERENCES, "dot"),
        lambda maps: pooled(maps) @ REFERENCES.T,
        [0, 2, 1],
    ),
    "regression": (
        lambda z: pooled(z)[:, 2],
        ab.outputs.regression(),
        lambda z: pooled(z)[:, 2:3],
        [0] * 3,
    ),
    "regression of several": (
        lambda maps: {"age": first_two(maps)},
        ab.outputs.regression(lambda o: o["age"]),
        first_two,
        [0, 1, 0],
    ),
    "multi-label": (pooled, ab.outputs.multi_label(), pooled, [0, 1, 4]),
    "multi-label probability": (
        pooled,
        ab.outputs.multi_label(probability=True),
        lambda maps: 1 / (1 + (-pooled(maps)).exp()),
        [0, 1, 4],
    ),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("network", [Dense, Deciding])
@pytest.mark.parametrize("name", PRESETS)
def test_preset_equals_plain_torch(name: str, network: type[Dense]) -> None:
    assert_output_by_hand(network, *PRESETS[name])


def test_scalar_products_are_the_class_layer_of_the_head() -> None:
    """Behind global average pooling the drops are a closed form, and CAM applies."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    trace = ab.trace(model, "0", images(), [0, 1, 2], output=SIMILAR(REFERENCES, kind="dot"))
    expected = trace.activations.mean((2, 3)) * REFERENCES[[0, 1, 2]]
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(trace.linear_head(), REFERENCES, rtol=0, atol=0)


PROBABILITY = ["average_drop", "increase_in_confidence", "average_gain", "deletion_auc"]
SENSITIVITY = "sensitivity_error"


@pytest.mark.parametrize("name", ["segmentation", "regression of several", "multi-label"])
def test_metrics_of_probabilities_have_no_value_where_there_is_none(name: str) -> None:
    wrap, output, _, targets = PRESETS[name]
    model = Dense(wrap).double()
    batches = [(images(), torch.tensor(targets))]
    measured = [*PROBABILITY, SENSITIVITY]
    table = ab.evaluate(model, "trunk", batches, ["hires_cam"], measured, output=output)
    statuses = dict(table.groupby("metric")["status"].agg(set))
    for metric in PROBABILITY:
        assert "no_probability" in statuses[metric] <= {"no_probability", "zero_map"}
    assert statuses[SENSITIVITY] == {"ok"}


def test_a_class_that_is_predicted_nowhere_has_no_region() -> None:
    model = Dense(lambda maps: torch.cat([maps, maps[:, :1] - 100], 1)).double()
    sentence = "since no position of the network's maps counts for the class; choose another class"
    with pytest.warns(ZeroMaps, match=sentence):
        maps = ab.explain(
            model, "trunk", images(), ["grad_cam"], [5, 5, 5], output=SEGMENT("predicted")
        )
    assert not maps["grad_cam"].any()


@pytest.mark.parametrize(
    "wrap",
    [lambda maps: maps[:, :1], lambda maps: sums(maps)[:, :1], lambda maps: sums(maps)[:, 0]],
)
def test_both_classes_of_one_logit_as_the_message_says(wrap: Any) -> None:
    """A map of one class and one logit, (B, 1) or (B,)."""
    model = Dense(wrap).double()
    with pytest.raises(BenchError, match=r"only 0. .*def both") as refusal:
        ab.trace(model, "trunk", images(), [1, 1, 1])
    functions: dict[str, Any] = {"torch": torch}
    code = re.search(r"def both.*flatten\(1\)|def both.*mean\(2\)", str(refusal.value))
    assert code is not None
    exec(code[0], functions)
    trace = ab.trace(model, "trunk", images(), [1, 0, 1], output=functions["both"])
    logit = model(images()).detach().reshape(3, -1).mean(1)
    torch.testing.assert_close(trace.scores, logit * torch.tensor([1, -1, 1]))


class Detector(nn.Module):
    """Two anchors an image, with a score for each of three classes; as a list of detections or as
    anchors.
    """

    ANCHORS = torch.tensor([[0.0, 0, 3, 3], [2, 2, 6, 6]], dtype=torch.float64)

    def __init__(self, suppressed: bool) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 6))
        self.suppressed = suppressed

    def forward(self, batch: Tensor) -> Any:
        scores = self.head(self.trunk(batch)).unflatten(1, (2, 3)).sigmoid()
        if not self.suppressed:
            return self.ANCHORS.expand(len(batch), 2, 4), scores
        return [self.kept(*scores_of_image.max(1)) for scores_of_image in scores]

    def kept(self, best: Tensor, classes: Tensor) -> dict[str, Tensor]:
        return {
            "boxes": self.ANCHORS[best > 0.1],
            "labels": classes[best > 0.1],
            "scores": best[best > 0.1],
        }


def test_intersection_over_union() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 4]])
    others = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]])
    expected = torch.tensor([[1, 1 / 3, 0], [1 / 9, 2 / 8, 0]])
    torch.testing.assert_close(intersection_over_union(boxes, others), expected)
    of_batch = intersection_over_union(boxes, others.expand(5, 3, 4))
    torch.testing.assert_close(of_batch, expected.expand(5, 2, 3))


def test_anchors_are_matched_by_iou() -> None:
    model = Detector(suppressed=False).double()
    boxes = torch.tensor([[2.0, 2, 5, 6], [0, 0, 3, 2], [0, 4, 2, 6]])
    trace = ab.trace(model, "trunk", images(), [0, 1, 2], output=DETECT(boxes, [1, 2, 0]))

    def by_hand(maps: Tensor) -> Tensor:
        scores = model.head(maps).sigmoid()
        # anchor 1, anchor 0, none
        return torch.stack([scores[:, 3 + 1], scores[:, 2], 0 * scores[:, 0]], 1)

    assert_equal_by_hand(model, by_hand, trace)
    assert trace.scores[2] == 0
    assert not trace.ablation_drops[2].any()


@pytest.mark.parametrize("suppressed", [False, True])
def test_each_image_has_a_box_of_its_own(suppressed: bool) -> None:
    """The boxes of all images in one list: an image's target is the place of its own box there."""
    model = Detector(suppressed).double()
    places = [1, 0, 1]
    anchors = model.ANCHORS[places]
    labels = [0, 2, 1]
    if suppressed:
        detections = zip(model(images()), places, strict=True)
        labels = [int(detected["labels"][place]) for detected, place in detections]
    together = ab.trace(model, "trunk", images(), [0, 1, 2], output=DETECT(anchors, labels))
    for number in range(3):
        row = slice(number, number + 1)
        output = DETECT(anchors[row], labels[row])
        trace = ab.trace(model, "trunk", images()[row], [0], output=output)
        for name in ("scores", "gradients", "ablation_drops"):
            values = getattr(together[row], name)
            torch.testing.assert_close(values, getattr(trace, name), rtol=1e-11, atol=1e-13)
        assert trace.scores > 0


def test_detections_are_matched_by_iou_and_class_and_none_is_a_score_of_zero() -> None:
    model = Detector(suppressed=True).double()
    detected = model(images()[:1])[0]
    output = DETECT(detected["boxes"] + 0.1, detected["labels"])
    trace = ab.trace(model, "trunk", images()[:1], [1], output=output)
    # a list for each image can't be a graph
    assert trace.cut_model.trunk_and_head.head_graph is None
    torch.testing.assert_close(trace.scores[0], detected["scores"][1].detach(), rtol=1e-12, atol=0)
    maps = model.trunk(images()[:1]).detach()
    drops = []
    for channel in range(4):
        ablated = maps.clone()
        ablated[:, channel] = 0
        scores = model.head(ablated).sigmoid()[0, 3:]
        kept = scores.argmax() == detected["labels"][1] and scores.max() > 0.1
        drops.append(trace.scores[0] - (scores.max() if kept else 0))
    expected = torch.stack(drops).detach()
    torch.testing.assert_close(trace.ablation_drops[0], expected, rtol=1e-11, atol=1e-13)
    elsewhere = DETECT(torch.tensor([[40.0, 40, 50, 50]]), [0])
    nothing = ab.trace(model, "trunk", images(), [0, 0, 0], output=elsewhere)
    assert not nothing.scores.any()
    assert not nothing.gradients.any()


def fit(output: Output) -> object:
    return ab.trace(Dense(lambda maps: maps).double(), "trunk", images(), output=output)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SEGMENT(torch.ones(2)), r"A region is \(H, W\), .*'predicted' or None, not shape"),
        (lambda: SEGMENT("where"), r"A region is \(H, W\), .*'predicted' or None, not a str"),
        (lambda: SEGMENT(torch.ones(2, 3, 4)), r"region is shape \(2, 3, 4\): no labels"),
        (lambda: SEGMENT(torch.ones(2, 3, 4), [1]), r"one for each; .* \(2, 3, 4\): 1 label"),
        (lambda: SEGMENT("predicted", [1, 2]), r"Labels are those of regions .*a str: 2 labels"),
        (
            lambda: SIMILAR(REFERENCES, kind="cos"),
            r"There is no similarity 'cos'; did you mean 'cosine'",
        ),
        (
            lambda: SIMILAR(REFERENCES[None]),
            r"References are \(n, D\) or \(D,\), not shape \(1, 3, 5\)",
        ),
        (
            lambda: DETECT(torch.ones(4), [1]),
            r"Reference boxes are \(n, 4\) with n labels, not shape",
        ),
        (lambda: DETECT(torch.ones(2, 4), [1]), r"not shape \(2, 4\) with 1 label"),
        (
            lambda: fit(SEGMENT(torch.ones(3, 3))),
            r"region is shape \(3, 3\), and the maps of Dense are \(6, 6\)",
        ),
        (
            lambda: fit(SEGMENT(read=lambda o: o.sum((2, 3)))),
            r"needs maps .*; Dense gives shape \(1, 5\)",
        ),
        (
            lambda: fit(SIMILAR(REFERENCES)),
            r"References of 5 numbers need embeddings \(B, 5\); Dense gives shape",
        ),
        (
            lambda: fit(DETECT(torch.ones(1, 4), [0])),
            r"needs a list of dicts .*; Dense gives a torch\.Tensor: give",
        ),
    ],
)
def test_a_mistake_is_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ab.BenchError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
