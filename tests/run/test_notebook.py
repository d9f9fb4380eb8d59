"""Python as people type it: photographs in any form, names of networks and classes, and the
examples of the docs.
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
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError
from axiom_bench.explanation.heatmaps import Heatmaps
from axiom_bench.run.photographs import photograph
from tests.advice.nets import WithAge

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(
    r"```python\n(.*?)```",
    (ROOT / "docs/your-network.md").read_text().partition("## In Python")[2],
    re.S,
)
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return ab.load_model("scenes_resnet")


@pytest.fixture(autouse=True)
def photo(tmp_path, monkeypatch) -> Image.Image:
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(scenes.draw("evaluation", 0, 0).image)
    image.save("photo.png")
    return image


def explained(network: torch.nn.Module, images: object, **options: object) -> Heatmaps:
    return ab.explain(network, images=images, methods=["GradCAM"], **options)


@pytest.mark.slow
def test_every_form_of_a_photograph_has_the_same_map_without_a_warning(network, photo):
    pixels = np.asarray(photo)
    tensor = network.loaded.preprocessing.of_photograph(photo)
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    (exif := turned.getexif())[ORIENTATION] = 6
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
    ]
    forms += [torch.from_numpy(pixels.copy()).permute(2, 0, 1), tensor, tensor.double().numpy()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in forms:
            assert torch.equal(explained(network, form)["GradCAM"], expected)
        both = explained(network, ["photo.png", photo], targets="digit 3")
    assert (
        repr(both) == "Heatmaps(GradCAM; 2 of 96 x 96, layer 'layer4', explained: digit 3, digit 3)"
    )
    with pytest.warns(UserWarning, match="floats up to 255"):
        assert torch.equal(explained(network, pixels.astype(np.float32))["GradCAM"], expected)
    with pytest.warns(UserWarning, match="values up to 2.., as pixels of 0 to 255 do"):
        explained(network, torch.from_numpy(pixels.copy()).permute(2, 0, 1).float())
    assert ab.explain(network.half(), images=photo, methods=["GradCAM"])["GradCAM"].isfinite().all()
    network.float()


def test_a_network_of_which_nobody_says_the_preprocessing(network, photo):
    other = torch.nn.Sequential(network)
    with pytest.warns(
        UserWarning,
        match="how images are preprocessed for this Sequential: .* preprocessing=weights",
    ):
        assert explained(other, photo).images.shape == (1, 3, 224, 224)
    prepared = explained(other, photo, preprocessing=network.loaded.preprocessing.of_photograph)
    assert (prepared.layer, prepared.images.shape[-1]) == ("0.layer4", 96)


def of_bytes(image: Image.Image) -> torch.Tensor:
    """As torchvision's PILToTensor and v2.ToImage leave an image, and ToTensorV2 of
    albumentations.
    """
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


MISTAKES = {  # images and options, and the sentence
    "nowhere.jpg": ({}, "The image nowhere.jpg: there is no file nowhere.jpg."),
    "cut.jpg": ({}, "The image cut.jpg: can't be decoded: image file is truncated"),
    None: ({}, r"Give images by name: ab.explain\(model, images='photo.jpg'\)"),
    3: ({}, "expected a tensor .* not an int"),
    "photo.jpg": (
        {"preprocessing": of_bytes},
        r"Preprocessing gives torch.uint8 \(3, .* in floating point",
    ),
    ("photo.jpg",): (
        {"preprocessing": lambda image: of_bytes(image)[None] / 255},
        r"\(1, 3, .*tensors \(3, H', W'\)",
    ),
    "photo.png": (
        {"targets": "digit 33"},
        "There is no class of scenes_resnet 'digit 33'; did you mean 'digit 3'",
    ),
}


@pytest.mark.parametrize("images", MISTAKES)
def test_a_mistake_is_one_sentence(network, photo, images):
    photo.save("whole.jpg")
    photo.save("photo.jpg")
    Path("cut.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-900])
    options, sentence = MISTAKES[images]
    with pytest.raises(BenchError, match=sentence):
        explained(network, images, **options)
    with pytest.raises(BenchError, match="give 0 to 255"):
        explained(network, np.full((96, 96, 3), np.nan))
    with pytest.raises(BenchError, match=r"has the shape \(0, 5, 3\)"):
        explained(network, np.zeros((0, 5, 3)))
    with pytest.raises(BenchError, match="is 5 x 0 pixels; give one that isn't empty"):
        explained(network, photo.crop((0, 9, 5, 9)))


@pytest.mark.parametrize("example", [example for example in EXAMPLES if "axiom_bench" in example])
def test_the_examples_of_the_docs_have_five_lines_and_run(example, request, photo):
    assert len(list(filter(None, example.splitlines()))) <= 5
    photo.save("photo.jpg")
    photo.save("other.jpg")
    names: dict[str, object] = {}
    exec(example.replace('"resnet18"', '"scenes_resnet"'), names)
    if "maps.png" in example:
        assert Image.open("maps.png").width > 300
    else:
        assert [*names["table"].columns] == ["conservation_error", "sensitivity_error"]


def test_an_example_with_a_trained_network_and_a_photograph(real_root):
    network = ab.load_model("resnet18", weights=str(real_root / "weights/resnet18.safetensors"))
    shark = next((real_root / "data/imagenet_samples").rglob("*great_white_shark.JPEG"))
    maps = explained(network, shark)
    assert (
        repr(maps)
        == "Heatmaps(GradCAM; 1 of 224 x 224, layer 'layer4', explained: great white shark)"
    )
    ab.overlay(maps.picture(0), maps["GradCAM"][0])
    with pytest.raises(BenchError, match=r"maps.picture\(0\)"):
        ab.overlay(shark, maps["GradCAM"][0])


def test_a_layer_that_nobody_names_is_found_by_images_of_any_form():
    parts = (
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 8 * 8, 5),
    )
    grey, images = torch.nn.Sequential(*parts), torch.rand(3, 1, 8, 8)
    for batches in ([(images, None)], iter([(images[:2], None), (images[2:], None)])):
        values = ab.evaluate(grey, None, batches, ["grad_cam"], ["sensitivity_error"])
        assert [*values["image_id"]] == ["0", "1", "2"]
        assert {*values["layer"]} == {"1"}


WRONG = {  # what a network of colour images of 16 x 16 can't take
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
    for layer in (None, "1"):
        with pytest.raises(BenchError, match=sentence):
            ab.evaluate(
                flat, layer, [(torch.rand(shape), None)], ["grad_cam"], ["sensitivity_error"]
            )


class Placed(torch.nn.Sequential):
    devices: ClassVar[set[str]] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.devices.add(torch.get_default_device().type)
        return super().forward(images)  # type: ignore[no-any-return]


def placed_cam(trace: ab.Trace) -> torch.Tensor:
    Placed.devices.add(f"method on {torch.get_default_device().type}")
    return trace.gradients.mean((2, 3))


def test_a_default_device_is_the_users_and_not_ours():
    """The device meta holds no values: all that is made there is found, as it would be on a GPU
    beside a CPU.
    """
    parts = (
        torch.nn.Conv2d(3, 6, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    network, images = Placed(*parts, torch.nn.Linear(6, 4)), torch.rand(2, 3, 16, 16)
    whole = ab.Annotation(torch.tensor([1]), torch.tensor([[2.0, 2, 9, 9]]))
    batch = ab.Batch(images, ("a", "b"), torch.tensor([1, 1]), annotations=(whole, whole))
    methods = [placed_cam, "cam", "refine_cam", "random", "smooth_grad", "sobel", "ss_cam"]
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
        Placed.devices.clear()
        with torch.device(device):
            tables.append(ab.evaluate(network, None, [batch], methods, metrics))
        assert Placed.devices == {device, f"method on {device}"}
    assert_frame_equal(*tables)


GREY = np.linspace(0, 1, 64 * 64 * 3).reshape(64, 64, 3)
BYTES_OF_GREY = np.round(GREY * 255)


@pytest.mark.parametrize(
    ("values", "same_as"),
    [
        (GREY * (1 + 1e-7), GREY),
        (GREY - 1e-7, GREY),
        (BYTES_OF_GREY, BYTES_OF_GREY.astype("u1")),
        (BYTES_OF_GREY - 1e-7, BYTES_OF_GREY.astype("u1")),
        (
            np.round(GREY * 12),
            np.round(GREY * 12).astype("u1"),
        ),  # dark, and whole numbers: pixels of 0 to 255
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
    with pytest.raises(
        BenchError, match=r"give 0 to 255, as image\.round\(\).*image\.clip\(0, 1\)"
    ):
        photograph(values)
    assert np.array_equal(photograph(values.clip(0, 1)), np.round(255 * values.clip(0, 1)))
    assert np.array_equal(
        photograph(values.round().clip(0, 255).astype("u1")), values.round().clip(0, 255)
    )


@pytest.mark.parametrize("values", [(GREY * 15).astype("u1"), np.round(GREY).astype("u1")])
def test_a_nearly_black_photograph_is_a_warning(network, values):
    with pytest.warns(UserWarning, match="no value above 15 of 255"):
        ab.explain(network, "layer3", values, methods=["grad_cam"])


@pytest.mark.slow
def test_a_run_and_a_suite_are_frames_of_the_columns_of_evaluate(network):
    published = ab.results("photographs-1")
    one = ab.evaluate(
        network, None, [(torch.rand(1, 3, 96, 96), None)], ["GradCAM"], ["sensitivity_error"]
    )
    assert [*published.columns] == [*one.columns, "part"]
    assert {*one["model"]} == {"scenes_resnet"}
    assert {*published["part"]} == {"boxes", "masks", "own"}
    with pytest.raises(BenchError, match="no run folder"):
        ab.read_run("nowhere")
    with pytest.raises(
        BenchError, match=r"can't import one of a script.*ab.rank\('my_file.my_cam'\)"
    ):
        ab.rank(lambda trace: trace.gradients)


METHODS, AXIOMS = (
    ["grad_cam", "xgrad_cam", "ablation_cam"],
    ["sensitivity_error", "conservation_error"],
)


def test_a_cut_model_gives_the_same_values_and_is_checked_once(network):
    batches = [(torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0)), None)]
    expected = ab.evaluate(network, "layer3", batches, METHODS, AXIOMS)
    cut_model = ab.cut(network, "layer3")
    assert_frame_equal(
        ab.evaluate(cut_model, None, batches, METHODS, AXIOMS), expected, check_exact=True
    )
    calls = []
    with torch.nn.modules.module.register_module_forward_hook(
        lambda part, *_: calls.append(type(part).__name__)
    ):
        assert_frame_equal(
            ab.evaluate(cut_model, "layer3", batches, METHODS, AXIOMS), expected, check_exact=True
        )
    assert calls.count("Linear") == 1  # the trace's head; a check would be another call
    assert "ResNet" not in calls


@pytest.mark.parametrize("ask", [explained, ab.check], ids=["explain", "check"])
def test_a_cut_model_is_explained_and_examined_as_its_network_is(network, photo, ask):
    layer = network.loaded.layer
    cut_model = ab.cut(network, layer)
    expected = ask(network, images=photo) if ask is ab.check else ask(network, photo)["GradCAM"]
    for _ in range(2):
        with warnings.catch_warnings(action="error"):
            answer = ask(cut_model, images=photo)
        if ask is ab.check:
            assert answer == expected
        else:
            assert torch.equal(answer["GradCAM"], expected)
            assert answer.layer == layer


def test_a_cut_model_has_several_inputs_at_every_call():
    network = WithAge().eval()
    inputs = {"image": torch.rand(2, 3, 16, 16), "age": torch.rand(2, 1)}
    expected = ab.evaluate(network, "features", [(inputs, None)], METHODS, AXIOMS)
    cut_model = ab.cut(network, "features")
    for _ in range(2):
        assert_frame_equal(
            ab.evaluate(cut_model, None, [(inputs, None)], METHODS, AXIOMS),
            expected,
            check_exact=True,
        )


@pytest.mark.parametrize(
    "option", [{"layer": "layer2"}, {"reshape": "tokens"}, {"output": "probability"}]
)
def test_a_cut_model_takes_no_other_layer_reshape_or_output(network, option):
    options = {"layer": None, **option}
    images = [(torch.rand(1, 3, 96, 96), None)]
    with pytest.raises(BenchError, match=r"cut at 'layer3' already.*or give the network itself"):
        ab.evaluate(
            ab.cut(network, "layer3"), batches=images, methods=METHODS, metrics=AXIOMS, **options
        )


@pytest.mark.parametrize(("labels", "box", "mask", "sentence"), [
    # its IoU was 0, and ok
    (torch.tensor([3]), [100, 100, 200, 200], None, "lies outside its 96 x 96 pixels"),
    (torch.tensor([3]), [50, 50, 20, 20], None, "Boxes are x0 y0 x1 y1"),
    ((3,), [10, 10, 20, 20], None, r"labels, a tensor \(n,\)"),
    (torch.tensor([3, 4]), [10, 10, 20, 20], None, "one for each box"),
    (torch.tensor([3]), [10, 10, 20, 20], torch.ones(48, 48, dtype=torch.int64), r"class indices \(96, 96\)"),
    # was class 1
    (torch.tensor([3]), [10, 10, 20, 20], torch.ones(96, 96, dtype=torch.bool), "of class indices"),
])  # fmt: skip
def test_an_annotation_of_another_image_is_refused(network, labels, box, mask, sentence):
    note = ab.Annotation(labels, torch.tensor([box]), mask)
    with pytest.raises(BenchError, match=sentence):
        ab.evaluate(
            network,
            "layer3",
            [ab.Batch(torch.rand(1, 3, 96, 96), ("a",), None, (note,))],
            ["cam"],
            ["box_iou"],
        )


def test_no_image_is_one_sentence(network):
    with pytest.raises(BenchError, match="There is no image in images"):
        ab.explain(network, None, [], ["cam"])
