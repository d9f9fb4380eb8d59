"""Tests of Python as people type it.

They give photographs in any form, names of networks and classes, and the examples of the docs.
"""

import re
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal
from PIL import Image

import axiom_bench as ab
from axiom_bench.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError
from axiom_bench.explanation.heatmaps import Heatmaps
from axiom_bench.run.photographs import photograph
from tests.advice.nets import WithAge

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/your-network.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.partition("## In Python")[2], re.DOTALL)
ORIENTATION = 0x0112  # the EXIF tag that says how a photograph is turned


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return ab.load_model("scenes_resnet")


@pytest.fixture(autouse=True)
def photo(tmp_path, monkeypatch) -> Image.Image:
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(scenes.draw("evaluation", 0, 0).image)
    image.save("photo.png")
    return image


def explain(network: torch.nn.Module, images: object, **options: object) -> Heatmaps:
    return ab.explain(network, images=images, methods=["GradCAM"], **options)


@pytest.mark.slow
def test_every_form_of_a_photograph_has_the_same_map_without_a_warning(network, photo):
    pixels = np.asarray(photo)
    tensor = network.loaded.preprocessing.from_photograph(photo)
    pixels_by_channel = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[ORIENTATION] = 6
    turned.save("turned.png", exif=exif)
    photo.convert("RGBA").save("rgba.png")
    expected = ab.explain(network, "layer4", tensor[None], ["grad_cam"])["grad_cam"]
    forms = [
        "photo.png",
        Path("rgba.png"),
        "turned.png",
        Image.open("turned.png"),
        photo,
        pixels,
        pixels / 255,
        pixels_by_channel,
        tensor,
        tensor.double().numpy(),
    ]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in forms:
            assert torch.equal(explain(network, form)["GradCAM"], expected)
        both = explain(network, ["photo.png", photo], targets="digit 3")
    assert (
        repr(both) == "Heatmaps(GradCAM; 2 of 96 x 96, layer 'layer4', explained: digit 3, digit 3)"
    )

    with pytest.warns(UserWarning, match="floats up to 255") as warned:
        maps = ab.explain(network, images=pixels.astype(np.float32), methods=["GradCAM"])
    assert torch.equal(maps["GradCAM"], expected)
    assert [warning.filename for warning in warned] == [__file__]  # the warning names this line
    with pytest.warns(UserWarning, match="values up to 2.., as pixels of 0 to 255 do"):
        explain(network, pixels_by_channel.float())

    maps_in_half_precision = explain(network.half(), photo)["GradCAM"]
    assert maps_in_half_precision.isfinite().all()
    network.float()


@pytest.mark.slow
def test_a_network_of_which_nobody_says_the_preprocessing(network, photo):
    other = torch.nn.Sequential(network)
    message = "how images are preprocessed for this Sequential: .* preprocessing=weights"
    with pytest.warns(UserWarning, match=message):
        assert explain(other, photo).images.shape == (1, 3, 224, 224)
    prepared = explain(other, photo, preprocessing=network.loaded.preprocessing.from_photograph)
    assert prepared.layer == "0.layer4"
    assert prepared.images.shape[-1] == 96


@pytest.mark.slow
def test_a_network_of_timm_says_its_mean_and_deviation(network, photo):
    other = torch.nn.Sequential(network)
    other.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    with pytest.warns(UserWarning, match="mean and deviation are those in its pretr"):
        images = explain(other, photo).images
    usual = explain(torch.nn.Sequential(network), photo).images
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(images, (usual * std + mean - 0.5) / 0.25, atol=1e-5, rtol=0)


def bytes_of(image: Image.Image) -> torch.Tensor:
    """Return the image as bytes (3, H, W).

    torchvision's PILToTensor and v2.ToImage and albumentations' ToTensorV2 return the same.
    """
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def scaled_batch_of(image: Image.Image) -> torch.Tensor:
    """Return the image as floats of 0 to 1 with an axis for the batch, which is one too many."""
    return bytes_of(image)[None] / 255


MISTAKES = {  # images: (options, the sentence)
    "nowhere.jpg": ({}, "The image nowhere.jpg: there is no file nowhere.jpg."),
    "cut.jpg": ({}, "The image cut.jpg: can't be decoded: image file is truncated"),
    None: ({}, r"Give images by name: ab.explain\(model, images='photo.jpg'\)"),
    3: ({}, "expected a tensor .* not an int"),
    "photo.jpg": (
        {"preprocessing": bytes_of},
        r"Preprocessing gives torch.uint8 \(3, .* in floating point",
    ),
    ("photo.jpg",): (
        {"preprocessing": scaled_batch_of},
        r"\(1, 3, .*tensors \(3, H', W'\)",
    ),
    "photo.png": (
        {"targets": "digit 33"},
        "There is no class 'digit 33' of scenes_resnet; did you mean 'digit 3'",
    ),
}


@pytest.mark.parametrize("images", MISTAKES)
def test_a_mistake_is_one_sentence(network, photo, images):
    photo.save("whole.jpg")
    photo.save("photo.jpg")
    Path("cut.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-900])
    options, sentence = MISTAKES[images]

    with pytest.raises(BenchError, match=sentence):
        explain(network, images, **options)
    with pytest.raises(BenchError, match="give 0 to 255"):
        explain(network, np.full((96, 96, 3), np.nan))
    with pytest.raises(BenchError, match=r"has the shape \(0, 5, 3\)"):
        explain(network, np.zeros((0, 5, 3)))
    with pytest.raises(BenchError, match="is 5 x 0 pixels; give one that isn't empty"):
        explain(network, photo.crop((0, 9, 5, 9)))


@pytest.mark.slow
@pytest.mark.parametrize("example", [example for example in EXAMPLES if "axiom_bench" in example])
def test_the_examples_of_the_docs_have_five_lines_and_run(example, request, photo):
    lines = [line for line in example.splitlines() if line]
    assert len(lines) <= 5
    photo.save("photo.jpg")
    photo.save("other.jpg")
    names: dict[str, object] = {}

    exec(example.replace('"resnet18"', '"scenes_resnet"'), names)

    if "maps.png" in example:
        assert Image.open("maps.png").width > 300
    else:
        assert [*names["table"].columns] == ["conservation_error", "sensitivity_error"]


@pytest.mark.slow
def test_an_example_with_a_trained_network_and_a_photograph(real_root):
    network = ab.load_model("resnet18", weights=str(real_root / "weights/resnet18.safetensors"))
    shark = next((real_root / "data/imagenet_samples").rglob("*great_white_shark.JPEG"))
    maps = explain(network, shark)
    assert (
        repr(maps)
        == "Heatmaps(GradCAM; 1 of 224 x 224, layer 'layer4', explained: great white shark)"
    )
    ab.overlay(maps.picture(0), maps["GradCAM"][0])
    with pytest.raises(BenchError, match=r"maps.picture\(0\)"):
        ab.overlay(shark, maps["GradCAM"][0])


def test_a_layer_that_nobody_names_is_found_by_images_of_any_form():
    grey_network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 8 * 8, 5),
    )
    images = torch.rand(3, 1, 8, 8)
    one_batch = [(images, None)]
    iterator_of_two = iter([(images[:2], None), (images[2:], None)])
    for batches in (one_batch, iterator_of_two):
        values = ab.evaluate(grey_network, None, batches, ["grad_cam"], ["sensitivity_error"])
        assert [*values["image_id"]] == ["0", "1", "2"]
        assert {*values["layer"]} == {"1"}


# Shapes that a network of colour images of 16 x 16 can't take, and the message.
WRONG = {
    "grey": (
        (2, 1, 16, 16),
        r"takes 3 channels, .* have 1; give images.expand\(-1, 3, -1, -1\)\.$",
    ),
    "transparent": ((2, 4, 16, 16), r"takes 3 channels, .* have 4; give images\[:, :3\]\.$"),
    "larger": ((2, 3, 20, 20), r"Sequential can't run on an image of 3 x 20 x 20 \(mat1"),
    "one without its channels": ((16, 16), r"not the shape .*16, 16\); give images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_images_are_told_as_where_the_layer_is_named(name):
    torch.manual_seed(0)
    flat = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(5)
    )
    flat(torch.rand(1, 3, 16, 16))
    shape, sentence = WRONG[name]
    batches = [(torch.rand(shape), None)]

    for layer in (None, "1"):
        with pytest.raises(BenchError, match=sentence):
            ab.evaluate(flat, layer, batches, ["grad_cam"], ["sensitivity_error"])


class DeviceRecorder(torch.nn.Sequential):
    """A network that records the default device at each of its forward passes."""

    devices: ClassVar[set[str]] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.devices.add(torch.get_default_device().type)
        return super().forward(images)  # type: ignore[no-any-return]


def device_recording_cam(trace: ab.Trace) -> torch.Tensor:
    DeviceRecorder.devices.add(f"method on {torch.get_default_device().type}")
    return trace.gradients.mean((2, 3))


@pytest.mark.slow
def test_a_default_device_is_the_users_and_not_ours():
    """Check that our code creates no tensor on the user's default device.

    The device meta holds no values, so any such tensor raises, as a tensor on a GPU would next to
    tensors on the CPU.
    """
    network = DeviceRecorder(
        torch.nn.Conv2d(3, 6, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 4),
    )
    images = torch.rand(2, 3, 16, 16)
    annotation = ab.Annotation(torch.tensor([1]), torch.tensor([[2.0, 2, 9, 9]]))
    batch = ab.Batch(
        images,
        ("a", "b"),
        torch.tensor([1, 1]),
        annotations=(annotation, annotation),
    )
    methods = [
        device_recording_cam,
        "cam",
        "refine_cam",
        "random",
        "smooth_grad",
        "sobel",
        "ss_cam",
    ]
    metrics = [
        "deletion_auc",
        "box_iou",
        "single_deletion",
        "road_morf",
        "gini",
        "model_parameter_randomisation",
    ]

    tables = []
    for device in ("cpu", "meta"):
        DeviceRecorder.devices.clear()
        with torch.device(device):
            # each method with a metric, and each metric with a method
            tables.append(ab.evaluate(network, None, [batch], methods, ["box_iou"]))
            tables.append(ab.evaluate(network, None, [batch], methods[:2], metrics))
        assert DeviceRecorder.devices == {device, f"method on {device}"}
    assert_frame_equal(tables[0], tables[2])
    assert_frame_equal(tables[1], tables[3])


GREY = np.linspace(0, 1, 64 * 64 * 3).reshape(64, 64, 3)
BYTES_OF_GREY = np.round(GREY * 255)


@pytest.mark.parametrize(
    ("values", "same_as"),
    [
        (GREY * (1 + 1e-7), GREY),
        (GREY - 1e-7, GREY),
        (BYTES_OF_GREY, BYTES_OF_GREY.astype("u1")),
        (BYTES_OF_GREY - 1e-7, BYTES_OF_GREY.astype("u1")),
        # dark, but whole numbers: pixels of 0 to 255
        (np.round(GREY * 12), np.round(GREY * 12).astype("u1")),
        ((GREY > 0.5).astype("f4"), (255 * (GREY > 0.5)).astype("u1")),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_floats_near_the_border_of_a_range_are_the_same_photograph(values, same_as):
    assert np.array_equal(np.asarray(photograph(values)), np.asarray(photograph(same_as)))


@pytest.mark.parametrize(
    "values", [GREY * 1.02, GREY * 3.3, GREY - 0.02, BYTES_OF_GREY * 2 + 0.5, BYTES_OF_GREY - 9]
)
def test_floats_of_no_known_range_are_refused_with_ways_that_work(values):
    advice = r"give 0 to 255, as image\.round\(\).*image\.clip\(0, 1\)"
    with pytest.raises(BenchError, match=advice):
        photograph(values)

    fractions = values.clip(0, 1)
    assert np.array_equal(photograph(fractions), np.round(255 * fractions))
    whole_numbers = values.round().clip(0, 255)
    assert np.array_equal(photograph(whole_numbers.astype("u1")), whole_numbers)


@pytest.mark.parametrize("values", [(GREY * 15).astype("u1"), np.round(GREY).astype("u1")])
def test_a_nearly_black_photograph_is_a_warning(network, values):
    with pytest.warns(UserWarning, match="no value above 15 of 255"):
        ab.explain(network, "layer3", values, methods=["grad_cam"])


@pytest.mark.slow
def test_a_run_and_a_suite_are_frames_of_the_columns_of_evaluate(network):
    published = ab.results("photographs-1")
    batches = [(torch.rand(1, 3, 96, 96), None)]
    values = ab.evaluate(network, None, batches, ["GradCAM"], ["sensitivity_error"])
    assert [*published.columns] == [*values.columns, "part"]
    assert {*values["model"]} == {"scenes_resnet"}
    assert {*published["part"]} == {"boxes", "masks", "own"}
    with pytest.raises(BenchError, match="no run folder"):
        ab.read_run("nowhere")
    advice = r"can't take one that a script.*ab.rank\('my_file.my_cam'\)"
    with pytest.raises(BenchError, match=advice):
        ab.rank(lambda trace: trace.gradients)


METHODS = ["grad_cam", "xgrad_cam", "ablation_cam"]
AXIOMS = ["sensitivity_error", "conservation_error"]


@pytest.mark.slow
def test_a_cut_model_gives_the_same_values_and_is_checked_once(network):
    images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    batches = [(images, None)]
    expected = ab.evaluate(network, "layer3", batches, METHODS, AXIOMS)
    cut_model = ab.cut(network, "layer3")

    values = ab.evaluate(cut_model, None, batches, METHODS, AXIOMS)
    assert_frame_equal(values, expected, check_exact=True)

    calls = []

    def record_call(module: torch.nn.Module, *_: object) -> None:
        calls.append(type(module).__name__)

    with torch.nn.modules.module.register_module_forward_hook(record_call):
        values = ab.evaluate(cut_model, "layer3", batches, METHODS, AXIOMS)
    assert_frame_equal(values, expected, check_exact=True)
    assert calls.count("Linear") == 1  # the trace's head; a check would be another call
    assert "ResNet" not in calls


@pytest.mark.parametrize("function", [explain, ab.check], ids=["explain", "check"])
def test_a_cut_model_is_explained_and_examined_as_its_network_is(network, photo, function):
    layer = network.loaded.layer
    cut_model = ab.cut(network, layer)
    expected = function(network, images=photo)

    for _ in range(2):
        with warnings.catch_warnings(action="error"):
            answer = function(cut_model, images=photo)
        if function is ab.check:
            assert answer == expected
        else:
            assert torch.equal(answer["GradCAM"], expected["GradCAM"])
            assert answer.layer == layer


def test_a_cut_model_has_several_inputs_at_every_call():
    network = WithAge().eval()
    inputs = {"image": torch.rand(2, 3, 16, 16), "age": torch.rand(2, 1)}
    expected = ab.evaluate(network, "features", [(inputs, None)], METHODS, AXIOMS)
    cut_model = ab.cut(network, "features")
    for _ in range(2):
        values = ab.evaluate(cut_model, None, [(inputs, None)], METHODS, AXIOMS)
        assert_frame_equal(values, expected, check_exact=True)


@pytest.mark.parametrize(
    "option", [{"layer": "layer2"}, {"reshape": "tokens"}, {"output": "probability"}]
)
def test_a_cut_model_takes_no_other_layer_reshape_or_output(network, option):
    options = {"layer": None, **option}
    batches = [(torch.rand(1, 3, 96, 96), None)]
    cut_model = ab.cut(network, "layer3")
    with pytest.raises(BenchError, match=r"cut at 'layer3' already.*or give the network itself"):
        ab.evaluate(cut_model, batches=batches, methods=METHODS, metrics=AXIOMS, **options)


LABEL = torch.tensor([3])
BOX = [10, 10, 20, 20]
SMALL_MASK = torch.ones(48, 48, dtype=torch.int64)
BOOLEAN_MASK = torch.ones(96, 96, dtype=torch.bool)


@pytest.mark.parametrize(
    ("labels", "box", "mask", "sentence"),
    [
        # Such a box once had an IoU of 0 and the status ok.
        (LABEL, [100, 100, 200, 200], None, "lies outside its 96 x 96 pixels"),
        (LABEL, [50, 50, 20, 20], None, "is empty or isn.t x0 y0 x1 y1"),
        ((3,), BOX, None, r"labels, a tensor \(n,\)"),
        (torch.tensor([3, 4]), BOX, None, "one for each box"),
        (LABEL, BOX, SMALL_MASK, r"class indices \(96, 96\)"),
        # True once counted as class 1.
        (LABEL, BOX, BOOLEAN_MASK, "of class indices"),
    ],
)
def test_an_annotation_of_another_image_is_refused(network, labels, box, mask, sentence):
    annotation = ab.Annotation(labels, torch.tensor([box]), mask)
    batch = ab.Batch(torch.rand(1, 3, 96, 96), ("a",), None, (annotation,))
    with pytest.raises(BenchError, match=sentence):
        ab.evaluate(network, "layer3", [batch], ["cam"], ["box_iou"])


def test_no_image_is_one_sentence(network):
    with pytest.raises(BenchError, match="There is no image in images"):
        ab.explain(network, None, [], ["cam"])
