"""Networks of boxes and masks, one object at a time: scores, exact drops and passes against loops
by hand.
"""

import re
from functools import partial

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.objects import scored_boxes, scored_regions

SIDE = 48
CLASSES = 5


def strided_features():
    first = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()]
    second = [nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*first, *second)


def two(build):
    return nn.ModuleList([build(), build()])


class Detector(nn.Module):
    """Two levels of 12 x 12 and 6 x 6 positions, each with a head of one hidden layer."""

    def __init__(self):
        super().__init__()
        self.features = strided_features()
        self.down = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 1), nn.ReLU())
        self.heads = two(lambda: nn.Sequential(nn.Conv2d(12, 8, 3, 1, 1), nn.ReLU()))
        self.classes = two(lambda: nn.Conv2d(8, CLASSES, 1))
        self.sides = two(lambda: nn.Conv2d(8, 4, 1))
        for level, stride in enumerate((4, 8)):
            places = torch.arange(stride / 2, SIDE, stride)
            rows, columns = torch.meshgrid(places, places, indexing="ij")
            centres = torch.stack([columns, rows, columns, rows], 2).flatten(0, 1)
            self.register_buffer(f"centres{level}", centres)
        self.register_buffer("signs", torch.tensor([-1.0, -1, 1, 1]))

    def forward(self, images):
        maps = self.features(images)
        return self.boxes_and_logits(maps)

    def boxes_and_logits(self, maps):
        boxes = []
        logits = []
        for level, maps_of_level in enumerate((maps, self.down(maps))):
            hidden = self.heads[level](maps_of_level)
            logits.append(self.classes[level](hidden).flatten(2).transpose(1, 2))
            sides = 8 * self.sides[level](hidden).flatten(2).transpose(1, 2).exp()
            boxes.append(getattr(self, f"centres{level}") + self.signs * sides)
        return torch.cat(boxes, 1), torch.cat(logits, 1)


class Segmenter(nn.Module):
    """Maps of classes of half the image's size, of which the last is the ground."""

    def __init__(self):
        super().__init__()
        self.features = strided_features()
        last = nn.Conv2d(8, CLASSES, 1)
        self.up = nn.Sequential(nn.ConvTranspose2d(12, 8, 2, 2), nn.ReLU(), last)

    def forward(self, images):
        return {"out": self.up(self.features(images))}


def out(returned):
    return returned["out"]


def images_of(count=3):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return ab.BoxScores(Detector().eval())


@pytest.fixture
def segmenter():
    torch.manual_seed(1)
    return ab.RegionScores(Segmenter().eval(), out, exclusive=True, background=-1)


def rows_of(network, images, least, most=2):
    """Return the images, places and labels of the first objects of each image."""
    copies = []
    places = []
    labels = []
    for image, objects in zip(images, network.found(images, least), strict=True):
        for found in objects[:most]:
            copies.append(image)
            places.append(found.place)
            labels.append(found.label)
    return torch.stack(copies), torch.stack(places), torch.tensor(labels)


def labels_and_places(objects):
    return [(found.label, int(found.place[0])) for found in objects]


def drops_by_hand(score, maps):
    """Compute S - S_k of each channel; score: from maps (n, K, H, W) to (n,)."""
    drops = []
    for channel in range(maps.shape[1]):
        ablated = maps.clone()
        ablated[:, channel] = 0
        drops.append(score(maps) - score(ablated))
    return torch.stack(drops, 1)


def test_a_box_is_explained_by_the_logit_at_its_position(detector):
    images, places, labels = rows_of(detector, images_of(), 0.5)
    assert len({*places[:, 0].tolist()}) > 2
    trace = ab.trace(detector, "features.3", (images, places), labels)
    boxes, logits = detector.module(images)
    rows = torch.arange(len(images))
    positions = places[:, 0].long()
    assert torch.equal(trace.logits, logits.detach()[rows, positions])
    assert torch.equal(scored_boxes(trace), boxes.detach()[rows, positions])
    assert scored_regions(trace) is None

    exact = Detector().double().eval()
    exact.load_state_dict(detector.module.state_dict())
    maps = exact.features(images.double()).detach().requires_grad_()

    def score(maps):
        _, logits = exact.boxes_and_logits(maps)
        return logits[rows, positions, labels]

    (gradients,) = torch.autograd.grad(score(maps).sum(), maps)
    torch.testing.assert_close(trace.gradients.double(), gradients, rtol=1e-5, atol=1e-7)
    expected = drops_by_hand(score, maps.detach()).detach()
    # float32's rounding of sums of some hundred terms
    torch.testing.assert_close(trace.ablation_drops.double(), expected, rtol=0, atol=1e-6)
    # the graph cuts it: no pass a channel
    assert trace.cut_model.trunk_and_head.head_graph is not None


def test_a_box_is_followed_through_images_that_were_changed(detector):
    images, places, labels = rows_of(detector, images_of(), 0.5)
    trace = ab.trace(detector, "features.3", (images, places), labels)
    # its own box has the highest IoU
    torch.testing.assert_close(trace.forward(images), trace.logits)
    changed = images.roll((9, 5), (2, 3))
    boxes, logits = detector.module(changed)
    for row, logits_of_row in enumerate(trace.forward(changed)):
        x0, y0, x1, y1 = boxes[row].T
        left, top, right, bottom = places[row, 1:]
        width = (torch.minimum(x1, right) - torch.maximum(x0, left)).clamp(min=0)
        height = (torch.minimum(y1, bottom) - torch.maximum(y0, top)).clamp(min=0)
        union = (x1 - x0) * (y1 - y0) + (right - left) * (bottom - top) - width * height
        assert torch.equal(logits_of_row, logits[row, (width * height / union).argmax()])
    trunk_before = trace.passes.trunk_forward
    head_before = trace.passes.head_forward
    trace.forward(changed)
    assert trace.passes.trunk_forward == trunk_before + len(images)
    assert trace.passes.head_forward == head_before + len(images)


def test_of_boxes_that_overlap_the_most_probable_of_a_class_stays():
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10], [5, 0, 15, 10]]
    )
    logits = torch.full((1, 5, 2), -9.0)
    # the first is suppressed by the second; the last overlaps by .28
    logits[0, :, 0] = torch.tensor([1.0, 2, -9, 0.5, 0])
    logits[0, 2, 1] = 3  # of another class
    build = partial(ab.BoxScores, nn.Identity(), lambda _: (boxes[None], logits))
    (found,) = build().found(images_of(1), 0.5)
    assert labels_and_places(found) == [(1, 2), (0, 1), (0, 3), (0, 4)]
    assert found[0].probability == pytest.approx(torch.tensor(3.0).sigmoid().item())
    assert torch.equal(found[1].box, boxes[1])
    (found,) = build(exclusive=True, background=0).found(images_of(1), 0.5)
    assert labels_and_places(found) == [(1, 2)]


def test_objects_are_found_as_in_a_trace_whatever_the_network_s_mode(detector):
    detector.module.features.append(nn.Dropout(0.9))

    def labels_and_probabilities():
        (objects,) = detector.found(images_of(1), 0.5)
        return [(found.label, found.probability) for found in objects]

    detector.eval()
    expected = labels_and_probabilities()
    detector.train()
    assert labels_and_probabilities() == expected
    assert detector.module.features[-1].training


def test_a_region_is_explained_by_the_sum_of_its_logits(segmenter):
    images, places, labels = rows_of(segmenter, images_of(), 0.0)
    trace = ab.trace(segmenter, "features.3", (images, places), labels)
    maps = segmenter.module(images)["out"].detach()
    torch.testing.assert_close(trace.logits, (maps * places[:, None]).sum((2, 3)))
    assert torch.equal(scored_regions(trace), places)
    exact = Segmenter().double().eval()
    exact.load_state_dict(segmenter.module.state_dict())

    def score(maps):
        sums = (exact.up(maps) * places[:, None]).sum((2, 3))
        return sums[torch.arange(len(labels)), labels]

    drops = drops_by_hand(score, exact.features(images.double())).detach()
    torch.testing.assert_close(trace.ablation_drops.double(), drops, rtol=1e-5, atol=1e-5)


def test_regions_are_connected_or_all_of_a_class():
    classes = torch.full((6, 8), 4)  # the ground
    classes[1:3, 1:3] = 2
    classes[4:, 5:] = 2
    classes[0, 6] = 0
    maps = 9 * nn.functional.one_hot(classes, CLASSES).movedim(2, 0)[None].double()
    segmenter = ab.RegionScores(nn.Identity(), lambda _: maps, exclusive=True, background=-1)
    (objects,) = segmenter.found(images_of(1), 0.5)
    boxes = [(found.label, *found.box.tolist()) for found in objects]
    # 48 pixels are 6 rows of 8 and 8 columns of 6
    assert sorted(boxes) == [(0, 36, 0, 42, 8), (2, 6, 8, 18, 24), (2, 30, 32, 48, 48)]
    (objects,) = segmenter.found(images_of(1), 0.5, whole=True)
    sizes = [(found.label, int(found.place.sum())) for found in objects]
    assert sorted(sizes) == [(0, 1), (2, 10)]


N = SIDE**2 // 16
CORNERS = torch.rand(1, N, 2, generator=torch.Generator().manual_seed(5)) * 30
BOXES = torch.cat([CORNERS, CORNERS + 9], 2)
LOGITS = torch.randn(1, N, CLASSES, generator=torch.Generator().manual_seed(6))
MAPS = LOGITS.mT.unflatten(2, (SIDE // 4, SIDE // 4))


def assert_refused(sentence, scores, returned, **settings):
    network = scores(nn.Identity(), lambda _: returned, **settings)
    with pytest.raises(ab.BenchError, match=re.escape(sentence)):
        network.found(images_of(1), 0.5)


SIZES = BOXES[..., [0, 1, 2, 2]] - BOXES[..., [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ([{"boxes": BOXES}], "a list of a dict of boxes: shape (1, 144, 4), not boxes"),
        ((MAPS, MAPS), "shape (1, 5, 12, 12), not boxes (B, N, 4) and logits (B, N, C)"),
        ({"boxes": BOXES}, "Identity gives a dict of boxes: shape (1, 144, 4), not boxes"),
        ((BOXES.mT, LOGITS.mT), "(B, C, N) becomes (B, N, C) by .mT"),
        ((BOXES / SIDE, LOGITS), "gives boxes within 2 pixels of the corner; give read= pixels"),
        ((SIZES, LOGITS), "x1 < x0 or y1 < y0"),
        ((BOXES, LOGITS.sigmoid()), "give logits of read=, such as torch.logit("),
    ],
)
def test_a_network_without_boxes_and_logits_is_refused(returned, sentence):
    assert_refused(sentence, ab.BoxScores, returned)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "is the background; set background=0 if it is the first"),
        ({"background": 5}, "no class 5; background is 0 to 4, or -1"),
    ],
)
def test_exclusive_classes_without_a_background_are_refused(settings, sentence):
    assert_refused(sentence, ab.BoxScores, (BOXES, LOGITS), exclusive=True, **settings)


@pytest.mark.parametrize(
    ("returned", "settings", "sentence"),
    [
        (LOGITS, {}, "not maps of classes (B, C, h, w)"),
        ([MAPS, MAPS], {}, "a list of shape (1, 5, 12, 12), shape (1, 5, 12, 12), not maps"),
        (
            MAPS.softmax(1),
            {"exclusive": True, "background": 0},
            "give logits of read=, such as .log()",
        ),
        (
            MAPS[:, :1],
            {"exclusive": True},
            "A softmax of one class is always 1; set exclusive=False",
        ),
    ],
)
def test_a_network_without_maps_of_classes_is_refused(returned, settings, sentence):
    assert_refused(sentence, ab.RegionScores, returned, **settings)


def test_an_error_in_read_is_one_sentence():
    network = ab.BoxScores(nn.Identity(), lambda _: {}["boxes"])
    sentence = r"^The function read fails on the output of Identity \(KeyError: 'boxes'"
    with pytest.raises(ab.BenchError, match=sentence):
        network.found(images_of(1), 0.5)


def test_objects_of_a_network_in_half_precision_are_found_for_any_images(detector):
    half = ab.BoxScores(detector.module.bfloat16())
    images, places, labels = rows_of(half, images_of(), 0.5)
    assert ab.trace(half, "features.3", (images, places), labels).scores.dtype == torch.bfloat16


class Positions(nn.Module):
    """A detector of 24 x 24 positions, more than half precision can number."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ReLU())
        self.classes = nn.Conv2d(4, CLASSES, 1)
        lower = torch.arange(576)[:, None].expand(-1, 2)
        self.register_buffer("boxes", torch.cat([lower, lower + 1], 1).float())

    def forward(self, images):
        logits = self.classes(self.features(images)).flatten(2).transpose(1, 2)
        return self.boxes.expand(len(images), -1, -1), logits


def test_half_precision_rounds_no_position():
    torch.manual_seed(0)
    network = ab.BoxScores(Positions().eval().bfloat16())
    images = images_of(1).bfloat16()
    (found,) = network.found(images, 0.0)
    odd = [each for each in found if each.place[0] > 256 and each.place[0] % 2]
    places = torch.stack([each.place for each in odd])
    labels = torch.tensor([each.label for each in odd])
    assert len(odd) > 3
    trace = ab.trace(network, "features.1", (images.expand(len(odd), -1, -1, -1), places), labels)
    _, logits = network.module(images)
    expected = logits.detach()[0, places[:, 0].long(), labels]
    assert torch.equal(trace.scores, expected)
    assert network.ends(images)[:, 0].tolist() == [0, 575]
    nearest = network.nearest(images, places[:1, 1:5], labels)
    assert nearest.dtype == torch.float32


def decoded_in_place(returned):  # as YOLOv5 and v7 do
    made = torch.cat(returned, 2).sigmoid()
    made[..., :4] = returned[0]
    return made[..., :4], made[..., 4:].logit()


def test_scores_that_are_changed_in_place_are_refused(detector):
    decoded = ab.BoxScores(detector.module, decoded_in_place)
    images, places, labels = rows_of(decoded, images_of(), 0.5)
    sentence = r"^Detector changes a tensor in place that its gradient needs; .* read="
    with pytest.raises(ab.BenchError, match=sentence):
        ab.trace(decoded, "features.3", (images, places), labels)


def test_a_forward_without_gradient_is_refused_if_its_gradient_is_needed(detector, monkeypatch):
    monkeypatch.setattr(Detector, "forward", torch.no_grad()(Detector.forward))
    images, places, labels = rows_of(detector, images_of(), 0.5)
    trace = ab.trace(detector, "features.3", (images, places), labels)
    with pytest.raises(ab.BenchError, match="forward stops the gradient"):
        ab.methods.get("saliency")(trace)
