"""model=yolo: boxes, logits and preprocessing of ultralytics' networks, with and without it."""

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.objects import BoxScores
from axiom_bench.data.base import Sample
from axiom_bench.data.preprocessing import LETTERBOX_GREY, Preprocessing
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.models.load import load_model
from axiom_bench.models.of_ultralytics import OVERLAP, YoloBoxes
from axiom_bench.models.spec import named_settings
from axiom_bench.models.weights import read_weights
from tests.models.test_networks_of_libraries import suppress_by_loop

SIDE = 64
INSTALLED = importlib.util.find_spec("ultralytics") is not None
NEEDS_ULTRALYTICS = pytest.mark.skipif(
    not INSTALLED, reason="ultralytics (AGPL-3.0) is not installed"
)
LETTERBOX = Preprocessing(SIDE, None, (0, 0, 0), (1, 1, 1), letterbox=True)


class Layers(nn.Module):
    """The form of a network of ultralytics: a body, two scales and a head with two branches."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        head = nn.Module()
        for prefix in ("", "one2one_"):
            setattr(head, f"{prefix}cv2", nn.ModuleList(nn.Conv2d(8, 16, 1) for _ in range(2)))
            setattr(head, f"{prefix}cv3", nn.ModuleList(nn.Conv2d(8, 5, 1) for _ in range(2)))
        head.stride = torch.tensor([8.0, 16.0])
        head.reg_max = 4
        head.i = 2
        head.f = [0, 1]
        head.type = "Detect"
        head.np = 0
        body = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU())
        self.model = nn.Sequential(body, nn.Conv2d(8, 8, 2, 2), head)

    def forward(self, images):
        first = self.model[0](images)
        return self.model[2]([first, self.model[1](first)])


def boxes_by_loop(codes, stride):
    """Return the boxes of maps of codes (4 n, H, W), position by position."""
    bins = len(codes) // 4
    boxes = []
    for y in range(codes.shape[1]):
        for x in range(codes.shape[2]):
            probabilities = codes[:, y, x].reshape(4, bins).softmax(1)
            left, top, right, bottom = (probabilities * torch.arange(bins)).sum(1).tolist()
            x0, y0 = x + 0.5 - left, y + 0.5 - top
            x1, y1 = x + 0.5 + right, y + 0.5 + bottom
            boxes.append([stride * x0, stride * y0, stride * x1, stride * y1])
    return boxes


@pytest.mark.parametrize("nms", [None, True, False])
def test_boxes_and_logits_are_those_of_the_chosen_branch(nms):
    network = Layers().double()
    head = network.model[2]
    image = torch.rand(1, 3, 32, 48, dtype=torch.float64)
    first = network.model[0](image)
    prefix = "one2one_" if nms is False else ""
    expected = []
    expected_logits = []
    for scale, maps in enumerate((first, network.model[1](first))):
        expected += boxes_by_loop(getattr(head, f"{prefix}cv2")[scale](maps)[0], 8 * 2**scale)
        expected_logits.append(getattr(head, f"{prefix}cv3")[scale](maps)[0].flatten(1).T)
    boxes, logits = YoloBoxes(network, nms)(image)
    # float64, sums of 4 terms
    torch.testing.assert_close(
        boxes[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(logits[0], torch.cat(expected_logits), rtol=1e-12, atol=1e-12)


def test_drops_of_one_box_are_those_of_brute_force():
    detector = BoxScores(YoloBoxes(Layers()).eval()).double()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    trace = ab.trace(detector, "model.0", (images, detector.ends(images[:1])), torch.tensor([1, 3]))
    for channel in range(8):
        activations = trace.activations.clone()
        activations[:, channel] = 0
        scores = trace.head(activations)[torch.arange(2), trace.targets]
        # float64, sums of 8 terms
        torch.testing.assert_close(
            trace.ablation_drops[:, channel], trace.scores - scores, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("nms", [True, False])
def test_suppression_is_torchvisions_and_only_for_the_branch_that_needs_it(nms):
    network = YoloBoxes(Layers(), nms).eval()
    assert network.most_overlap == (OVERLAP if nms else 1)
    network.most_overlap *= 0.5
    detector = BoxScores(network)
    images = torch.rand(1, 3, 32, 32)
    (boxes,), (logits,) = network(images)
    probabilities = logits.sigmoid()
    found = detector.found(images, 0.5)[0]
    positions = [int(each.place[0]) for each in found]
    if not nms:
        network.most_overlap = 1.0
        assert len(detector.found(images, 0.5)[0]) == int((probabilities >= 0.5).sum())
        return
    best, labels = probabilities.max(1)
    kept = []
    for label in labels.unique():
        index = ((labels == label) & (best >= 0.5)).nonzero()[:, 0]
        kept += index[suppress_by_loop(boxes[index], best[index], network.most_overlap)].tolist()
    assert sorted(positions) == sorted(kept)
    assert len(kept) < int((best >= 0.5).sum())


def test_sides_that_no_yolo_takes_have_the_next_one_in_the_message():
    with pytest.raises(BenchError, match=r"multiples of 16 pixels, not 40; set model\.resize=48"):
        YoloBoxes(Layers())(torch.rand(1, 3, 40, 48))


@pytest.mark.parametrize("size", [(40, 20), (21, 64), (200, 131), (64, 64), (1, 300)])
def test_a_letterbox_has_the_longer_side_and_grey_around(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    picture = np.asarray(LETTERBOX.picture(Sample(Image.fromarray(pixels), "a")))
    scale = SIDE / max(size)
    width, height = (max(round(side * scale), 1) for side in size)
    left, top = (SIDE - width) // 2, (SIDE - height) // 2
    inside = np.zeros((SIDE, SIDE), bool)
    inside[top : top + height, left : left + width] = True
    assert (picture[~inside] == LETTERBOX_GREY).all()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    expected = nn.functional.interpolate(tensor, (height, width), mode="bilinear")[0]
    own = picture[top : top + height, left : left + width].transpose(2, 0, 1)
    assert np.abs(own - expected.numpy()).max() <= 1  # rounding of bytes


def test_boxes_follow_a_letterbox():
    sample = Sample(Image.new("RGB", (100, 50)), "a", objects=((0, (10, 10, 60, 40)),))
    annotation = LETTERBOX.annotation(sample)
    scale = SIDE / 100
    expected = [10 * scale, 16 + 10 * scale, 60 * scale, 16 + 40 * scale]
    assert annotation.boxes.tolist() == [pytest.approx(expected)]


@pytest.mark.skipif(INSTALLED, reason="ultralytics is installed")
def test_a_missing_ultralytics_is_named_with_its_licence(tmp_path):
    (tmp_path / "yolo.pt").write_bytes(b"")
    with pytest.raises(BenchError, match=r"AGPL-3\.0.*type pip install ultralytics"):
        load_model(named_settings("yolo", {"weights": str(tmp_path / "yolo.pt")}))


@pytest.mark.parametrize("weights", ["absent.pt", None, "yolo11n"])
def test_a_missing_file_leads_to_a_download(weights):
    with pytest.raises(BenchError, match=r"needs a \.pt file of ultralytics.*YOLO\('"):
        load_model(named_settings("yolo", {"weights": weights}))


def test_a_file_of_weights_as_a_model_leads_to_the_setting():
    with pytest.raises(
        BenchError, match=r"call ab\.load_model\('NAME', weights='a\.pt'\).*is yolo"
    ):
        ab.load_model("a.pt")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return a function that saves a network of ultralytics with varied random weights."""
    folder = tmp_path_factory.mktemp("yolo")

    def save(name):
        from ultralytics import YOLO

        file = folder / f"{name}.pt"
        if file.exists():
            return file
        torch.manual_seed(0)
        yolo = YOLO(f"{name}.yaml")
        network = yolo.model.train()
        images = nn.functional.interpolate(torch.rand(2, 3, 9, 9), (SIDE, SIDE), mode="bilinear")
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 0.9
            network.predict(images)  # the statistics of its layers
            for part in ("cv3", "one2one_cv3"):
                for convolutions in getattr(network.model[-1], part, None) or []:
                    convolutions[-1].weight.mul_(8)
                    convolutions[-1].bias.zero_()
        network.eval()
        yolo.save(str(file))
        return file

    return save


def settings(file, **changes):
    return named_settings("yolo", {"weights": str(file), "resize": SIDE, **changes})


@NEEDS_ULTRALYTICS
@pytest.mark.parametrize(
    ("name", "nms", "least"),
    [("yolov8n", None, 0.6), ("yolo11n", None, 0.6), ("yolo26n", False, 0.8)],
)
def test_objects_are_those_that_ultralytics_predicts(name, nms, least, checkpoint, monkeypatch):
    from ultralytics import YOLO
    from ultralytics.data.augment import LetterBox

    if not torchvision.extension._has_ops():
        monkeypatch.setattr(torchvision.ops, "nms", suppress_by_loop)
    file = checkpoint(name)
    model = load_model(settings(file, kwargs={"nms": nms}))
    yolo = YOLO(str(file))
    assert model.classes == tuple(yolo.names.values())
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((90, 50), Image.Resampling.BICUBIC)
    image = model.preprocessing(picture)[None]
    array = np.ascontiguousarray(np.asarray(picture)[..., ::-1])
    theirs = LetterBox((SIDE, SIDE), stride=32)(image=array)[..., ::-1]
    difference = np.abs(255 * image[0].permute(1, 2, 0).numpy() - theirs)
    assert difference.max() < 1.01  # OpenCV rounds weights to 11 bits

    exact = torch.from_numpy(theirs.copy()).permute(2, 0, 1)[None] / 255
    found = model.module.found(exact, least)[0]
    (result,) = yolo.predict(
        array, conf=least, rect=False, imgsz=SIDE, nms=nms, max_det=100, verbose=False
    )
    assert len(found) == len(result.boxes) > 2
    height = round(50 * SIDE / 90)
    shift = torch.tensor([0, (SIDE - height) // 2] * 2)
    scale = torch.tensor([90 / SIDE, 50 / height] * 2)
    boxes = (torch.stack([each.box for each in found]) - shift) * scale
    boxes = boxes.clamp(min=0).minimum(torch.tensor([90.0, 50.0] * 2))
    expected = result.boxes
    # Probabilities that differ by rounding may have another order.
    rows = [[1000 * each.label, 1000 * each.probability] for each in found]
    own = torch.cat([torch.tensor(rows), boxes], 1)
    others = torch.cat([1000 * expected.cls[:, None], 1000 * expected.conf[:, None]], 1)
    distances = (own[:, None] - torch.cat([others, expected.xyxy], 1)).abs().amax(2)
    assert distances.amin(0).max() < 5e-3  # float32; ultralytics joins layers
    assert distances.amin(1).max() < 5e-3


@NEEDS_ULTRALYTICS
@pytest.mark.parametrize("name", ["yolov8n", "yolov8n-seg", "yolov8n-pose"])
def test_boxes_are_those_of_ultralytics_before_suppression(name, checkpoint):
    from ultralytics import YOLO

    file = checkpoint(name)
    image = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        returned = YOLO(str(file)).model.float().eval()(image)
        boxes, logits = YoloBoxes(YOLO(str(file)).model.float().eval())(image)
    while not isinstance(returned, torch.Tensor):
        returned = returned[0]
    centres, sides = returned[:, :2], returned[:, 2:4]
    expected = torch.cat([centres - sides / 2, centres + sides / 2], 1).mT
    torch.testing.assert_close(boxes, expected, rtol=0, atol=1e-3)
    probabilities = returned[:, 4 : 4 + logits.shape[2]].mT
    torch.testing.assert_close(logits.sigmoid(), probabilities, rtol=0, atol=1e-6)


@NEEDS_ULTRALYTICS
def test_drops_at_the_default_layer_of_a_yolo_are_those_of_brute_force(checkpoint):
    model = load_model(settings(checkpoint("yolov8n")))
    assert model.layer == "model.15"
    assert any("model.15, model.18 and model.21" in line for line in model.lines)
    detector = model.module.double()
    images = torch.rand(2, 3, SIDE, SIDE, dtype=torch.float64)
    trace = ab.trace(detector, model.layer, (images, detector.ends(images[:1])), [3, 5])
    for channel in range(8):
        activations = trace.activations.clone()
        activations[:, channel] = 0
        scores = trace.head(activations)[torch.arange(2), trace.targets]
        torch.testing.assert_close(
            trace.ablation_drops[:, channel], trace.scores - scores, rtol=1e-9, atol=1e-11
        )


@NEEDS_ULTRALYTICS
def test_a_classifier_has_its_logits_and_preprocessing(checkpoint):
    from ultralytics import YOLO
    from ultralytics.data.augment import classify_transforms

    file = checkpoint("yolov8n-cls")
    model = load_model(settings(file, crop=SIDE))
    assert (model.output.name, model.number_of_classes) == ("logits", 1000)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8))
    image = model.preprocessing(picture)[None]
    torch.testing.assert_close(image[0], classify_transforms(SIDE)(picture), rtol=0, atol=0)
    trace = ab.cut(model.module, model.layer).trace(image)
    with torch.no_grad():
        expected = YOLO(str(file)).model.float().eval()(image)
    probabilities = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(trace.logits.softmax(1), probabilities)


@NEEDS_ULTRALYTICS
def test_heads_of_rotated_boxes_and_unreadable_files_have_one_message(checkpoint, tmp_path):
    with pytest.raises(BenchError, match=r"ends in a head OBB\. model=yolo explains the boxes"):
        load_model(settings(checkpoint("yolov8n-obb")))
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    with pytest.raises(BenchError, match=r"ultralytics can't load .*broken\.pt"):
        load_model(settings(tmp_path / "broken.pt"))
    with pytest.raises(BenchError, match=r"no boxes with nms=False; leave out model\.kwargs\.nms"):
        load_model(settings(checkpoint("yolov8n"), kwargs={"nms": False}))


@NEEDS_ULTRALYTICS
def test_as_weights_of_another_model_the_file_leads_to_yolo(checkpoint):
    with pytest.raises(BenchError, match=r"set model=yolo model\.weights=.* if you trust the file"):
        read_weights(checkpoint("yolov8n"))


def test_a_pickled_network_of_ultralytics_is_recognised_without_it(tmp_path, monkeypatch):
    network_class = type("DetectionModel", (), {"__module__": "ultralytics.nn.tasks"})
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        module = ModuleType(name)
        module.DetectionModel = network_class
        monkeypatch.setitem(sys.modules, name, module)
    torch.save({"model": network_class()}, tmp_path / "yolo.pt")
    with pytest.raises(BenchError, match=r"are a YOLO of ultralytics.*set model=yolo"):
        read_weights(tmp_path / "yolo.pt")
