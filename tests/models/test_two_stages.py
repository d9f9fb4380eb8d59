"""Networks of two stages: a box's score with the region fixed that made it."""

import importlib
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.objects import ProposalScores
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.models.load import load_model
from axiom_bench.models.of_torchvision import TwoStageDetector
from axiom_bench.models.weights import Weights, load_into
from tests.models.test_conf import compose_model
from tests.models.test_networks_of_libraries import suppress_by_loop

SIDE = 96
NAMES = ("__background__", "cat", "N/A", "dog")


@pytest.fixture
def operators(monkeypatch):
    """Replace torchvision's compiled operators, if this installation lacks them."""
    if torchvision.extension._has_ops():
        return
    module = importlib.import_module("torchvision.ops.roi_align")
    poolers = importlib.import_module("torchvision.ops.poolers")

    def align(features, regions, output_size, spatial_scale, sampling_ratio):
        function = module._roi_align.__wrapped__  # compiling it takes a minute
        return function(features, regions, spatial_scale, *output_size, sampling_ratio, False)

    monkeypatch.setattr(poolers, "roi_align", align)
    monkeypatch.setattr(torchvision.ops.boxes, "nms", suppress_by_loop)


@pytest.fixture
def network() -> nn.Module:
    """Return torchvision's Faster R-CNN on a small body with two levels."""
    torch.manual_seed(0)
    body = nn.Sequential(
        OrderedDict(
            layer1=nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU()),
            layer2=nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        )
    )
    detection = torchvision.models.detection
    backbone = detection.backbone_utils.BackboneWithFPN(
        body, {"layer1": "0", "layer2": "1"}, [8, 8], 8
    )
    network = detection.FasterRCNN(
        backbone,
        num_classes=len(NAMES),
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator(
            ((8,), (16,), (32,)), ((0.5, 1.0, 2.0),) * 3
        ),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0", "1"], 7, 2),
        rpn_pre_nms_top_n_test=40,
        rpn_post_nms_top_n_test=30,
        box_score_thresh=0.3,
    )
    for parameter in network.roi_heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    network.transform = detection.transform.GeneralizedRCNNTransform(
        SIDE, SIDE, [0.0] * 3, [1.0] * 3, size_divisible=1, fixed_size=(SIDE, SIDE)
    )
    return network.double().eval()


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)


def test_a_file_of_torchvisions_own_network_fits(network):
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    ours = TwoStageDetector(network, SIDE, NAMES)
    assert load_into(ours, Weights(state, "mine.pth", ""), "fasterrcnn") == []
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


def test_boxes_and_logits_are_those_of_torchvision(network, images, operators):
    ours = TwoStageDetector(network, SIDE, NAMES).double().eval()
    assert ours.config.id2label == {0: "background", 1: "cat", 2: "dog"}
    with torch.no_grad():
        boxes, logits, regions = ours(images)
        for row, image in enumerate(images):
            shapes = [(SIDE, SIDE)]
            features = network.backbone(image[None])
            stacked = torchvision.models.detection.image_list.ImageList(image[None], shapes)
            proposals, _ = network.rpn(stacked, features)
            torch.testing.assert_close(regions[row, : len(proposals[0])], proposals[0])
            pooled = network.roi_heads.box_roi_pool(features, proposals, shapes)
            scores, _ = network.roi_heads.box_predictor(network.roi_heads.box_head(pooled))
            found = logits[row, : len(scores)]
            torch.testing.assert_close(found[:, 1:], scores[:, [1, 3]], rtol=1e-6, atol=1e-6)
            # output 2 has no category, so the background takes its probability
            expected = scores.softmax(1)[:, [1, 3]]
            torch.testing.assert_close(found.softmax(1)[:, 1:], expected, rtol=1e-6, atol=1e-6)
        (detected,) = network(images[:1])
    compared = 0
    for box, label in zip(detected["boxes"], detected["labels"].tolist(), strict=True):
        is_same_box = torch.isclose(boxes[0], box, rtol=0, atol=1e-3).all(1)
        compared += bool(is_same_box.any()) and NAMES[label] != "N/A"
    assert compared


@pytest.mark.slow
def test_a_box_is_explained_with_its_region_fixed(network, images):
    ours = TwoStageDetector(network, SIDE, NAMES).double().eval()
    scores = ProposalScores(ours, exclusive=True, background=0).eval()
    found = [objects[0] for objects in scores.found(images, 0.05)]
    places = torch.stack([each.place for each in found]).double()
    labels = [each.label for each in found]
    assert places.shape == (2, 9)
    with torch.no_grad():
        _, logits, _ = ours(images)
        expected = logits[[0, 1], places[:, 0].long()]

    trace = ab.trace(scores, "backbone.body.layer2", (images, places), labels)

    assert trace.cut_model.trunk_and_head.head_graph is not None
    torch.testing.assert_close(trace.logits, expected, rtol=1e-5, atol=1e-5)
    for channel in range(8):

        def without_channel(_, __, output: Tensor, channel: int = channel) -> Tensor:
            return output.index_fill(1, torch.tensor(channel), 0)

        hook = ours.backbone.body.layer2.register_forward_hook(without_channel)
        with torch.no_grad(), hook:
            changed = scores(images, places)[[0, 1], labels]
        drops = trace.scores - changed
        torch.testing.assert_close(trace.ablation_drops[:, channel], drops, rtol=1e-9, atol=1e-9)
    # the nearest box of an unchanged image is the box itself
    torch.testing.assert_close(scores.following(images[:1], places[:1])[0], expected[0])
    torch.testing.assert_close(scores.nearest(images, places[:, 1:5], labels), places)


def test_another_size_is_refused_and_an_image_without_regions_has_one(network, images):
    ours = TwoStageDetector(network, SIDE, NAMES).double().eval()
    with pytest.raises(ab.BenchError, match=r"built for images of \(96, 96\), not \(64, 96\)"):
        ours(images[:, :, :64])
    ours.rpn.min_size = 1000
    _, _, regions = ours(images)
    assert regions.tolist() == [[[0, 0, SIDE, SIDE]]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn", "maskrcnn", "keypointrcnn"])
def test_networks_of_torchvision_by_name(name):
    model = compose_model(f"{name}_resnet50_fpn", "model.weights=null", "model.resize=[64,64]")
    loaded = load_model(model)
    assert isinstance(loaded.module, ProposalScores)
    assert loaded.layer == "backbone.body.layer4"
    is_of_persons = name == "keypointrcnn"
    assert loaded.number_of_classes == (2 if is_of_persons else 81)
    assert loaded.class_index("person") == 1
    assert loaded.output.softmax
