"""torchvision's and transformers' networks of boxes and maps by name, with random weights."""

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.objects import ProposalScores
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.models import of_torchvision
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from tests.models.builders import build, filled
from tests.models.test_conf import compose_model
from tests.models.test_networks_of_libraries import assert_drops, suppress_by_loop

pytestmark = pytest.mark.slow  # networks of their real sizes

# name: the side of the images, and a layer with few channels on which several levels depend
DETECTORS = {
    "fcos_resnet50_fpn": (64, "backbone.fpn.inner_blocks.2.0"),
    "retinanet_resnet50_fpn": (64, "backbone.fpn.inner_blocks.2.0"),
    "retinanet_resnet50_fpn_v2": (64, "backbone.fpn.inner_blocks.2.0"),
    "ssd300_vgg16": (300, "backbone.features.22"),
    "ssdlite320_mobilenet_v3_large": (320, "backbone.features.1.0"),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def network_of(name):
    """Return torchvision's network, our network of its parts, an image and a layer.

    The weights and the threshold let torchvision's network find many objects.
    """
    side, layer = DETECTORS[name]
    network = filled(name, weights_backbone=None, score_thresh=0.02).double()
    network.transform = torchvision.models.detection.transform.GeneralizedRCNNTransform(
        side,
        side,
        [0.0] * 3,
        [1.0] * 3,
        size_divisible=1,
        fixed_size=(side, side),
    )
    names = torchvision.models.get_model_weights(name).DEFAULT.meta["categories"]
    ours = of_torchvision.Detector(network, side, names).double().eval()
    images = torch.rand(1, 3, side, side, dtype=torch.float64)
    return network, ours, images, layer


@pytest.mark.parametrize(
    "name",
    [
        name if name.startswith(("fcos", "ssdlite")) else pytest.param(name, marks=pytest.mark.slow)
        for name in DETECTORS
    ],
)
def test_boxes_and_logits_are_those_that_torchvision_suppresses(name, monkeypatch):
    if not torchvision.extension._has_ops():
        monkeypatch.setattr(torchvision.ops.boxes, "nms", suppress_by_loop)
    network, ours, images, _ = network_of(name)
    with torch.no_grad():
        (detected,) = network(images)
        boxes, logits = ours(images)
        heads = network.head([*network.backbone(images).values()])
    names = torchvision.models.get_model_weights(name).DEFAULT.meta["categories"]
    our_names = [*ours.config.id2label.values()]
    probabilities = (logits.softmax(2) if ours.exclusive else logits.sigmoid())[0]
    if "bbox_ctrness" in heads:
        # FCOS ranks its boxes by the centerness too; the logit of a class is what is explained.
        probabilities = (probabilities * heads["bbox_ctrness"][0].sigmoid()).sqrt()

    compared = 0
    for box, label, score in zip(
        detected["boxes"],
        detected["labels"].tolist(),
        detected["scores"],
        strict=True,
    ):
        if names[label] in ("N/A", "__background__"):
            continue
        is_same_box = torch.isclose(boxes[0], box, rtol=0, atol=1e-4).all(1)
        (positions,) = is_same_box.nonzero(as_tuple=True)
        our_scores = probabilities[positions, our_names.index(names[label])]
        assert torch.isclose(our_scores, score, rtol=1e-9, atol=0).any()
        compared += 1
    assert compared > 10


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("retinanet_resnet50_fpn_v2", marks=pytest.mark.slow),
        "ssdlite320_mobilenet_v3_large",
    ],
)
def test_a_box_is_explained_by_the_network_cut_by_torch_fx(name):
    """Check the logit at a position of a level that has others above it, and the logit's drops.

    The drops are compared with passes in which a hook sets a channel to zero.
    """
    _, ours, images, layer = network_of(name)
    background = 0 if ours.exclusive else None
    network = ab.BoxScores(ours, exclusive=ours.exclusive, background=background)
    with torch.no_grad():
        boxes, logits = ours(images)
    position = 3 * boxes.shape[1] // 4  # of the second level
    place = torch.cat([torch.tensor([position]), boxes[0, position]])[None]

    trace = ab.trace(network, layer, (images, place.double()), [17])

    assert trace.cut_model.trunk_and_head.head_graph is not None
    torch.testing.assert_close(trace.logits, logits[:, position], rtol=1e-9, atol=1e-9)
    channels = trace.ablation_drops[0].abs().argsort(descending=True)[:2].tolist()
    assert trace.ablation_drops[0, channels].abs().min() > 1e-3
    assert_drops(trace, ours, layer, images, lambda output: output[1][:, position, 17], channels)


def test_another_size_of_image_is_told():
    _, ours, images, _ = network_of("retinanet_resnet50_fpn")
    other_images = images.repeat(1, 1, 2, 1)[:, :, :96]
    message = r"built for images of \(64, 64\), not \(96, 64\) pixels"
    with pytest.raises(ab.BenchError, match=message):
        ours(other_images)


def test_a_detector_that_only_gives_what_it_detects_is_told_what_to_do():
    network = build("fasterrcnn_mobilenet_v3_large_320_fpn", weights_backbone=None)
    message = r"FasterRCNN proposes other regions .*; make it ProposalScores\(TwoStageDetector\("
    with pytest.raises(ab.BenchError, match=message):
        of_torchvision.Detector(network, 320)
    scores = ProposalScores(of_torchvision.TwoStageDetector(network, 320), None, True, 0)
    assert scores.ends(torch.rand(1, 3, 320, 320)).shape == (2, 9)
    suppressed = ab.BoxScores(nn.Identity(), lambda images: [{"boxes": images, "scores": images}])
    message = r"before suppression; .* RetinaNet and SSD become one by Detector\("
    with pytest.raises(ab.BenchError, match=message):
        suppressed.found(torch.rand(1, 3, 8, 8), 0.5)


@pytest.mark.parametrize(
    "name",
    [
        name if name.startswith("ssdlite") else pytest.param(name, marks=pytest.mark.slow)
        for name in DETECTORS
    ],
)
def test_a_detector_by_name_takes_a_local_file_and_has_the_names_of_classes(name, tmp_path):
    network = filled(name, weights_backbone=None)
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    side, _ = DETECTORS[name]

    loaded = load_model(
        compose_model(name, f"model.weights={file}", f"model.resize={[side, side]}")
    )

    loaded_state = loaded.module.module.state_dict()
    first_name = next(iter(network.state_dict()))
    assert torch.equal(loaded_state[first_name], network.state_dict()[first_name])
    # COCO's ids leave gaps (cat is 17, dog 18, toothbrush 90); a data set's classes are its
    # categories, counted from 0, after the background if there is a softmax.
    has_softmax = name.startswith("ssd")
    expected = [has_softmax + index for index in (0, 15, 16, 79)]
    indices = [loaded.class_index(word) for word in ("person", "cat", "dog", "toothbrush")]
    assert indices == expected
    assert loaded.number_of_classes == 80 + has_softmax
    assert loaded.output.softmax == has_softmax


@pytest.mark.parametrize(
    "name",
    ["lraspp_mobilenet_v3_large", pytest.param("deeplabv3_resnet50", marks=pytest.mark.slow)],
)
def test_a_segmenter_of_torchvision_by_name(name):
    loaded = load_model({**model_config(name), "weights": None, "resize": [64, 64]})
    images = torch.rand(1, 3, 64, 64)
    assert loaded.classes[0] == "background"
    assert loaded.class_index("cat") == 8
    assert loaded.number_of_classes == 21
    with torch.no_grad():
        maps = loaded.module.module(images)["out"]
    found = loaded.module.found(images, 0.0, whole=True)[0][0]
    trace = ab.trace(loaded.module, loaded.layer, (images, found.place[None]), [found.label])
    assert trace.cut_model.trunk_and_head.head_graph is not None
    torch.testing.assert_close(trace.logits, (maps * found.place).sum((2, 3)), rtol=1e-4, atol=1e-4)


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


def assert_drops_by_hand(loaded, images: Tensor, place: Tensor, label: int, rtol=1e-3, atol=1e-6):
    """Check the drops of the two channels that matter most against the network's own passes."""
    trace = ab.trace(loaded.module, loaded.layer, (images, place), [label], reshape=loaded.reshape)
    channels = trace.ablation_drops[0].abs().argsort(descending=True)[:2].tolist()
    assert trace.ablation_drops[0, channels].abs().min() > 10 * atol

    # The network itself may be inside a wrapper.
    network = getattr(loaded.module.module, "module", loaded.module.module)

    class Score(nn.Module):
        forward = staticmethod(lambda batch: loaded.module(batch, place))
        get_submodule = network.get_submodule

    assert_drops(
        trace,
        Score(),
        loaded.layer,
        images,
        lambda scores: scores[:, label],
        channels,
        rtol,
        atol,
    )


def test_detr_by_name_finds_what_transformers_does(transformers, tmp_path):
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        out_features=["stage2"],
    )
    names = ["N/A", "person", "N/A", "cat", "dog"]
    config = transformers.DetrConfig(
        encoder_layers=2,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_attention_heads=2,
        use_timm_backbone=False,
        backbone_config=backbone,
        d_model=16,
        num_queries=12,
        id2label=dict(enumerate(names)),
        label2id={"person": 1, "cat": 3, "dog": 4},
    )
    network = transformers.DetrForObjectDetection(config).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        network.class_labels_classifier.bias[[0, 2]] -= 9  # few queries have no category
    network.save_pretrained(tmp_path)
    settings = {"resize": [64, 96], "kwargs": {"checkpoint": str(tmp_path)}}
    images = torch.rand(1, 3, 64, 96)

    loaded = load_model({**model_config("detr"), **settings})

    assert loaded.classes == ("person", "cat", "dog", "no object")
    with torch.no_grad():
        (expected,) = transformers.DetrImageProcessor().post_process_object_detection(
            network(pixel_values=images),
            threshold=0.0,
            target_sizes=[(64, 96)],
        )
        boxes, logits = loaded.module.module(images)
    torch.testing.assert_close(boxes[0], expected["boxes"], rtol=1e-5, atol=1e-3)
    best = logits.softmax(2)[0, :, :-1].max(1)
    compared = 0
    for query, label in enumerate(expected["labels"].tolist()):
        if names[label] == "N/A":
            continue
        assert loaded.classes[best.indices[query]] == names[label]
        score = float(expected["scores"][query])
        assert float(best.values[query]) == pytest.approx(score, rel=1e-5)
        compared += 1
    assert compared
    found = loaded.module.found(images, 0.0)[0][0]
    assert_drops_by_hand(loaded, images, found.place[None], found.label)


def test_segformer_by_name_also_where_it_has_run_before(transformers, tmp_path):
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        num_labels=5,
    )
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    network.save_pretrained(tmp_path)
    settings = {"resize": [64, 64], "kwargs": {"checkpoint": str(tmp_path)}}
    loaded = load_model({**model_config("segformer"), **settings})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = network(pixel_values=images).logits
    assert maps.shape == (1, 5, 16, 16)
    found = loaded.module.found(images, 0.0)[0][0]
    trace = ab.trace(loaded.module, loaded.layer, (images, found.place[None]), [found.label])
    torch.testing.assert_close(trace.logits, (maps * found.place).sum((2, 3)), rtol=1e-4, atol=1e-5)
    assert_drops_by_hand(loaded, images, found.place[None], found.label)
