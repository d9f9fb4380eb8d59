"""Advice on what Python gets of objects, boxes and heatmaps."""

from __future__ import annotations

import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.cutting.objects import BoxScores, RegionScores
from tests.advice.nets import Small
from tests.advice.python import LAYER, images, value_of
from tests.advice.user import User, advice_in, follows


class Boxes(nn.Module):
    """A detector (B, 16, 4), (B, 16, C) of stride 4: `change` is what its last lines do with boxes
    and scores.
    """

    def __init__(self, change, classes: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4))
        self.head = nn.Conv2d(4, classes, 1)
        self.change = change

    def forward(self, images):
        scores = self.head(self.net(images)).flatten(2).mT
        place = torch.arange(16.0, device=images.device)
        corner = torch.stack([place % 4 * 4, place // 4 * 4], 1)
        boxes = torch.cat([corner, corner + 4], 1).expand(len(images), -1, -1)
        return self.change(boxes, scores)


def objects_of(detector: nn.Module, **settings: object) -> object:
    return BoxScores(detector, **settings).found(images(1), 0.0)


@follows("A softmax of one class is always 1; set exclusive=False")
def one_class_that_is_exclusive(user: User) -> None:
    detector = Boxes(lambda boxes, scores: (boxes, scores), classes=1)
    message = user.error(lambda: objects_of(detector, exclusive=True, background=0))
    assert objects_of(detector, exclusive=value_of(advice_in(message, r"set exclusive=(\w+)")))


@follows("give logits of read=, such as")
def boxes_with_probabilities(user: User) -> None:
    detector = Boxes(lambda boxes, scores: (boxes, scores.sigmoid()), classes=20)
    message = user.error(lambda: objects_of(detector))
    logit = advice_in(message, r"such as (torch\.logit\(.*\))\.$")
    assert objects_of(detector, read=lambda returned: (returned[0], value_of(logit, p=returned[1])))


@follows("not boxes (B, N, 4) and logits (B, N, C) before suppression")
def scores_with_positions_last(user: User) -> None:
    detector = Boxes(lambda boxes, scores: (boxes, scores.mT))
    message = user.error(lambda: objects_of(detector))
    name = advice_in(message, r"give (\w+)=, a function")
    turned = advice_in(message, r"by (\.mT)\.")
    assert objects_of(
        detector,
        **{name: lambda returned: (returned[0], value_of(f"scores{turned}", scores=returned[1]))},
    )


@follows("is the background; set background=0 if it is the first")
def exclusive_without_a_background(user: User) -> None:
    detector = Boxes(lambda boxes, scores: (boxes, scores))
    message = user.error(lambda: objects_of(detector, exclusive=True))
    for pattern in (r"set background=(-?\d)", r"or background=(-\d) if it is the last"):
        assert objects_of(detector, exclusive=True, background=int(advice_in(message, pattern)))


@follows("gives boxes within 2 pixels of the corner; give read= pixels")
def boxes_as_shares(user: User) -> None:
    detector = Boxes(lambda boxes, scores: (boxes / 16, scores))
    message = user.error(lambda: objects_of(detector))
    name = advice_in(message, r"give (\w+)= pixels: x times the image's width")
    assert objects_of(detector, **{name: lambda returned: (returned[0] * 16, returned[1])})


@follows("gives boxes with x1 < x0 or y1 < y0")
def boxes_as_centres(user: User) -> None:
    detector = Boxes(
        lambda boxes, scores: (torch.cat([boxes[..., :2] + 2, boxes[..., 2:] * 0 + 1], -1), scores)
    )
    message = user.error(lambda: objects_of(detector))
    first = advice_in(message, r"sides, (centre - side / 2)")
    last = advice_in(message, r"and (centre \+ side / 2)")

    def read(returned):
        names = {"centre": returned[0][..., :2], "side": returned[0][..., 2:]}
        return torch.cat([value_of(first, **names), value_of(last, **names)], -1), returned[1]

    assert objects_of(detector, read=read)


@follows("not maps of classes (B, C, h, w); give read=")
def masks_in_a_pair(user: User) -> None:
    class Masks(Small):
        def forward(self, images):
            return self.features(images) - 1, "a note"

    message = user.error(lambda: RegionScores(Masks()).found(images(1), 0.0))
    name = advice_in(message, r"give (\w+)=")
    assert RegionScores(Masks(), **{name: lambda returned: returned[0]}).found(images(1), 0.0)


@follows("scores (B, N, C)); {network} gives {}: give read=")
def detection_in_a_dict(user: User) -> None:
    detector = Boxes(lambda boxes, scores: {"boxes": boxes, "scores": scores})
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    labels = torch.tensor([1])
    output = ab.outputs.detection(boxes, labels)
    message = user.error(lambda: ab.trace(detector, "net", images(1), [0], output=output))
    name = advice_in(message, r"give (\w+)=\.$")
    output = ab.outputs.detection(
        boxes, labels, **{name: lambda returned: (returned["boxes"], returned["scores"])}
    )
    ab.trace(detector, "net", images(1), [0], output=output)


@follows("these images have none; choose a data set that offers interventions")
def truth_of_images_without_parts(user: User) -> None:
    trace = ab.trace(Small(), LAYER, images(1), [0])
    message = user.error(lambda: trace.part_effects)
    command = [
        "doctor",
        "model=planted_or",
        advice_in(message, r"such as (data=\w+)"),
        "data.size=2",
    ]
    user.types(command)
    assert advice_in(message, r"axiom_bench\.(Batch)\(interventions=") in ab.__all__


@follows("pass ab.heatmap(map, (H', W'))")
def raw_map_as_heatmap(user: User) -> None:
    trace = ab.trace(Small(), LAYER, images(), [0, 0])
    raw = trace.activations.sum(1) * 10
    message = user.error(lambda: ab.Explanation(heatmap=raw))
    call = advice_in(message, r"pass (ab\.heatmap\(map, \(H', W'\)\))").replace("H', W'", "16, 16")
    ab.Explanation(heatmap=value_of(call, map=raw))


@follows("which resizes the map")
def heatmap_smaller_than_the_images(user: User) -> None:
    trace = ab.trace(Small(), LAYER, images(2, 16), [0, 0])
    small = torch.rand(2, 4, 4)
    message = user.error(lambda: ab.Explanation(heatmap=small, trace=trace))
    call = advice_in(message, r"pass (ab\.heatmap\(map, \(\d+, \d+\)\))")
    ab.Explanation(heatmap=value_of(call, map=small), trace=trace)


def explanation_with_boxes(boxes: torch.Tensor) -> ab.Explanation:
    return ab.Explanation(heatmap=torch.rand(1, 16, 20), boxes=(boxes,))


@follows("these are shares of the image's sides; give boxes * ")
def boxes_in_shares(user: User) -> None:
    boxes = torch.tensor([[0.25, 0.25, 0.75, 1.0]])
    message = user.error(lambda: explanation_with_boxes(boxes))
    pixels = value_of(advice_in(message, r"give (boxes \* torch\.tensor\(\[.*?\]\))"), boxes=boxes)
    assert explanation_with_boxes(pixels).boxes[0].tolist() == [[5, 4, 15, 16]]


@follows("If the image was resized, give boxes * ")
def boxes_of_the_image_before_it_was_resized(user: User) -> None:
    boxes = torch.tensor([[100.0, 80.0, 150.0, 160.0]])  # of 200 x 160 pixels
    message = user.error(lambda: explanation_with_boxes(boxes))
    resized = advice_in(message, r"give (boxes \* torch\.tensor\(.*?\) / torch\.tensor\(\.\.\.\))")
    pixels = value_of(resized.replace("...", "[200, 160, 200, 160]"), boxes=boxes)
    assert explanation_with_boxes(pixels).boxes[0].tolist() == [[10, 8, 15, 16]]


@follows("in pixels; give boxes=(of_first_image, ...)")
def boxes_in_one_tensor(user: User) -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 9.0, 9.0]])
    heatmap = torch.rand(1, 16, 16)
    message = user.error(lambda: ab.Explanation(heatmap=heatmap, boxes=boxes))
    form = advice_in(message, r"give boxes=(\(of_first_image, )\.\.\.\)") + ")"
    ab.Explanation(heatmap=heatmap, boxes=value_of(form, of_first_image=boxes))


@follows("This metric needs an explanation with {name}")
def metric_without_what_it_reads(user: User) -> None:
    heatmap = torch.rand(1, 16, 16)
    message = user.error(lambda: metrics.get("box_iou")(ab.Explanation(heatmap=heatmap)))
    name = advice_in(message, r"pass Explanation\((\w+)=\.\.\.\)")
    boxes = (torch.tensor([[0.0, 0.0, 4.0, 4.0]]),)
    metrics.get("box_iou")(ab.Explanation(heatmap=heatmap, **{name: boxes}))


@follows("makes one of the image's size, and ab.explain(..., size=...)")
def heatmap_of_another_size(user: User) -> None:
    image = torch.rand(3, 16, 20)
    raw_map = torch.rand(1, 4, 5)
    message = user.error(lambda: ab.overlay(image, ab.heatmap(raw_map, (4, 5))[0]))
    ab.overlay(image, value_of(advice_in(message, r"(ab\.heatmap\(.*?\)\))"), raw_map=raw_map)[0])


@follows("ab.heatmap scales any map to [0, 1]")
def heatmap_out_of_range(user: User) -> None:
    values = torch.rand(1, 16, 16) * 9
    message = user.error(lambda: ab.overlay(torch.rand(3, 16, 16), values[0]))
    function = value_of(advice_in(message, r"(ab\.heatmap) scales"))
    ab.overlay(torch.rand(3, 16, 16), function(values, (16, 16))[0])
