"""Tests of `axiom-bench explain` as users type it: pictures, pages, folders and mistakes."""

import json
import os
import re
import shutil
import warnings
from contextlib import nullcontext
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli import explain, explain_images
from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.explain_images import Explainer, chosen_classes, open_upright
from axiom_bench.cli.main import main
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.heatmaps import ClassScore
from axiom_bench.models.load import load_model
from axiom_bench.report.charts.drawing import can_draw
from axiom_bench.run.composing.composition import Composition, composed
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.spine import configuration

pytestmark = pytest.mark.slow  # whole commands

VGG = ["--model", "scenes_vgg", "device=cpu"]
ONE_METHOD = [*VGG, "--methods", "xgrad_cam"]
TWO_METHODS = [*VGG, "--methods", "xgrad_cam,grad_cam"]
ORIENTATION = 0x0112  # the number of EXIF's tag
Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def _composed_once():
    """A cache of compositions, since composing settings takes most of a command's time."""

    @cache
    def cached_composition(words: tuple[str, ...], folder: Path | None) -> Composition:
        with composed(words, folder) as composition:
            return composition

    def composed_once(words, folder):
        return nullcontext(cached_composition(tuple(words), folder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain, "composed", composed_once)
        yield


@pytest.fixture(autouse=True)
def scene(tmp_path, monkeypatch) -> Image.Image:
    """A scene, saved in the current folder, which is outside the checkout as a user's would be."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(scenes.draw("evaluation", 0, 0).image)
    image.save("scene.png")
    return image


def written_names(capsys: Capsys) -> list[str]:
    """Return the names of the files that the commands say they have written."""
    return [line.removeprefix("written: ") for line in capsys.readouterr().out.splitlines()]


def gallery_of(name: str) -> dict[str, Any]:
    """Return the data that a page's gallery shows."""
    text = Path(name).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(re.findall(r'id="gallery-data">(.*?)</script>', text)[0])
    return data


def metric_titles(name: str) -> list[str]:
    """Return the titles of the metrics that a page's gallery shows."""
    return [metric["title"] for metric in gallery_of(name)["metrics"]]


# "Loading ... 9 s" and "Computing maps: 0 of 1 images after 10 s, XGrad-CAM"
PROGRESS = re.compile(r".+( \.\.\. \d+ s|: [\d,]+ of [\d,]+ images\b.*)")


def error_lines(text: str) -> list[str]:
    """Return the lines of stderr without progress, which only a slow machine prints."""
    return [line for line in text.splitlines() if not PROGRESS.fullmatch(line)]


def test_progress_is_no_error() -> None:
    lines = [
        "Loading methods and the model ... 11 s",
        "Computing maps: 0 of 1 images after 10 s",
        "Computing maps: 0 of 1 images after 50 s, RISE: 1,024 of 4,000 passes, about 2 min left",
        "axiom-bench: There is no colour map 'jett'; did you mean 'jet'?",
    ]
    assert error_lines("\n".join(lines)) == lines[-1:]


FORMATS = {  # the first bytes of each format
    "e.png": b"\x89PNG",
    "e.jpg": b"\xff\xd8\xff",
    "e.JPEG": b"\xff\xd8\xff",
    "e.webp": b"RIFF",
    "e.pdf": b"%PDF",
    "e.svg": b"<?xml",
    "e.html": b"<!DOCTYPE html>",
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_file_has_the_format_that_its_name_says(name, capsys):
    may_contain_dates = name in ("e.pdf", "e.svg", "e.html")
    contents = set()
    for _ in range(2 if may_contain_dates else 1):
        assert main(["explain", "scene.png", *ONE_METHOD, "--output", name, "--overwrite"]) == 0
        assert written_names(capsys) == [name]
        contents.add(Path(name).read_bytes())
    (content,) = contents  # no date is in the file, so that a second command writes the same bytes
    assert content.startswith(FORMATS[name])


def test_one_image_is_a_picture_and_several_are_a_page(scene, capsys):
    scene.save("other.png")

    assert main(["explain", "scene.png", *TWO_METHODS]) == 0
    assert main(["explain", "scene.png", "other.png", *TWO_METHODS]) == 0

    assert written_names(capsys) == ["scene-maps.png", "maps.html"]
    data = gallery_of("maps.html")
    assert [image["id"] for image in data["images"]] == ["scene.png", "other.png"]
    assert [method["title"] for method in data["methods"]] == ["XGrad-CAM", "Grad-CAM"]
    assert metric_titles("maps.html") == ["Sensitivity error", "Conservation error"]
    first = data["images"][0]
    assert len(first["maps"]) == 2
    assert len(first["top"]) == 5
    for class_name, share in first["top"]:
        assert len(class_name) > 0
        assert share.endswith("%")
    assert all(isinstance(values["0"][0], float) for values in first["values"])


def test_errors_of_costly_drops_are_left_out(capsys, monkeypatch):
    """Check that costly errors are left out, and computed with the setting that the note gives."""
    monkeypatch.setattr(explain_images, "MOST_PASSES", 1)
    command = ["explain", "scene.png", "--model", "scenes_vgg"]
    command += ["--layer", "features.3", "--methods", "grad_cam,hires_cam"]

    assert main([*command, "--output", "a.html"]) == 0
    output = capsys.readouterr()
    lines = (output.out + output.err).splitlines()
    note = next(line for line in lines if line.startswith("No sensitivity error"))
    assert metric_titles("a.html") == ["Conservation error"]

    setting = re.findall(r"set (\S+)\.$", note)
    assert main([*command, "--output", "b.html", *setting]) == 0
    output = capsys.readouterr()
    assert "No sensitivity error" not in output.out + output.err
    assert metric_titles("b.html") == ["Sensitivity error", "Conservation error"]


def test_a_folder_gets_a_picture_of_each_image_and_a_page(capsys):
    for name in ("a", "b"):
        Path("photos", name).mkdir(parents=True)
        shutil.copy("scene.png", Path("photos", name, "scene.png"))
    assert main(["explain", "photos", *TWO_METHODS, "--output", "maps"]) == 0
    names = written_names(capsys)
    assert names == ["maps/scene.png", "maps/scene-2.png", "maps/index.html"]
    assert all(Path(name).is_file() for name in names)


def test_the_numbers_are_those_of_the_library():
    """Compare top classes, heatmaps and axiom errors with `ab.explain` and `ab.evaluate`."""
    config = configuration(["device=cpu", "model=scenes_vgg"])
    model = load_model(config["model"])
    names = ["xgrad_cam", "grad_cam", "random"]
    errors = ["sensitivity_error", "conservation_error"]
    methods = [plugins.load("method", name) for name in names]
    explainer = Explainer(model, Settings.of(config), methods)
    with Image.open("scene.png") as stored:
        picture = stored.convert("RGB")
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    mean = torch.tensor(model.preprocessing.mean).view(3, 1, 1)
    std = torch.tensor(model.preprocessing.std).view(3, 1, 1)
    images = ((pixels - mean) / std).repeat(2, 1, 1, 1)
    targets = torch.tensor([3, 7])

    maps = explainer.explain(Path("scene.png"), picture, [3, 7], 1).maps
    probabilities = model.module(images)[0].softmax(0).detach()
    heatmaps = ab.explain(model.module, model.layer, images, names, targets, metrics=errors)
    table = ab.evaluate(model.module, model.layer, [(images, targets)], names, errors)
    values = table.set_index(["target_class", "method", "metric"])["value"]

    assert maps.notes == []
    top_scores = [score.value for score in maps.top[0]]
    assert top_scores == pytest.approx(probabilities.topk(5).values.tolist(), rel=1e-4)
    for row, target in enumerate((3, 7)):
        assert maps.scores[row].value == pytest.approx(float(probabilities[target]), rel=1e-4)
        for name in names:
            np.testing.assert_allclose(maps[name][row], heatmaps[name][row], atol=1e-4)
        assert maps.lines(row, "random") == ["No axiom errors: not on score scale"]
    for axiom_errors in (maps.errors, heatmaps.errors):
        for row, method, metric, value, status in axiom_errors.itertuples(index=False):
            expected = values[targets[row].item(), method, metric]
            assert value == pytest.approx(expected, rel=1e-3, nan_ok=True)
            assert (status == "ok") == (method != "random")


def test_the_most_probable_classes(capsys):
    assert main(["explain", "scene.png", *TWO_METHODS, "--top", "3", "--output", "e.html"]) == 0
    assert len(gallery_of("e.html")["images"]) == 3
    text_by_probability = {
        0.0: "0 %",
        1e-12: "<1 %",
        0.004: "<1 %",
        0.294: "29 %",
        0.9999: ">99 %",
        1.0: "100 %",
    }
    for probability, text in text_by_probability.items():
        assert ClassScore(0, "", probability).text == text
    assert ClassScore(0, "", 4.2, is_probability=False).text == "score 4.20"


def test_colours():
    command = ["explain", "scene.png", *ONE_METHOD]
    assert main([*command, "--output", "inferno.png", "--colours", "inferno"]) == 0
    assert main([*command, "--output", "jet.png", "--colours", "jet"]) == 0
    assert Path("inferno.png").read_bytes() != Path("jet.png").read_bytes()

    assert main([*command, "--output", "e.html", "--colours", "cividis"]) == 0
    options = re.findall(r'<option value="(.*?)"', Path("e.html").read_text())
    assert options[:2] == ["cividis", "inferno"]


def test_files_that_arent_read_and_names_that_no_font_has_are_told(scene, capsys):
    Path("photos").mkdir()
    scene.save("photos/a.jfif", "JPEG")
    scene.save("photos/c.jp2")
    Path("photos/b.heic").write_bytes(b"")
    signs = [chr(code) for code in range(0x10000, 0x1F000) if chr(code).isprintable()]
    undrawable = islice((sign for sign in signs if not can_draw(sign)), 10)
    classes = ",".join(f"'{sign}'" for sign in undrawable)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classes_setting = f"model.classes=[{classes}]"
        assert main(["explain", "photos", *ONE_METHOD, classes_setting, "--output", "maps"]) == 0

    text = capsys.readouterr().out
    assert "photos: not read: 1 .heic (b.heic); save photographs as JPEG or PNG." in text
    assert re.search(r"\d class names, as '.+', have signs that no font of this machine has", text)
    assert {path.name for path in Path("maps").iterdir()} == {"a.png", "c.png", "index.html"}


def test_a_user_s_own_network_and_classes(tmp_path, capsys):
    module = "from axiom_bench.embedded.networks import scenes_vgg\nbuild = scenes_vgg\n"
    (tmp_path / "net.py").write_text(module)
    network = [
        "model=user",
        "model.architecture=net.py:build",
        "model.weights=null",
        "model.resize=96",
        "model.crop=96",
        "model.classes=[a,b,'c, d',d,e,f,g,h,i,a]",
        "model.name=mine",
    ]
    command = ["explain", "scene.png", *network, "--methods", "xgrad_cam,uniform"]
    command += ["--output", "e.html", "--overwrite"]

    pages = []
    for targets in ("b,d", "1,3", "b", "c, d"):
        assert main([*command, "--targets", targets]) == 0
        pages.append(Path("e.html").read_text())
    assert pages[0] == pages[1]
    assert gallery_of("e.html")["images"][0]["target"][:2] == [2, "c, d"]

    capsys.readouterr()
    message_by_target = {
        "z": "There is no class 'z' of mine",
        "10": "There is no class '10' of mine; give a name or an index from 0 to 9",
        "a": "2 classes of mine are called 'a'; give an index: 0 and 9",
    }
    for target, sentence in message_by_target.items():
        assert main([*command, "--target", target]) == 2
        assert sentence in capsys.readouterr().err


MODULE_THAT_WARNS = """\
import warnings


def my_cam(trace):
    warnings.warn('Half of the map is left out: it is dark')
    return trace.gradients
"""


def test_which_method_does_not_apply(tmp_path, capsys):
    """Check `cam`, which needs a linear head.

    If other methods apply, a note says that `cam` is left out. Otherwise no picture is written.
    """
    command = ["explain", "scene.png", *VGG, "--output", "e.png", "--overwrite"]
    success = "written: e.png\n"

    assert main([*command, "--methods", "cam,xgrad_cam"]) == 0
    note, _, rest = capsys.readouterr().out.partition("\n")
    assert note.startswith("The method 'cam' is left out: ")
    assert rest == success

    Path("e.png").unlink()
    assert main([*command, "--methods", "cam"]) == 2
    assert "The method 'cam' is left out: " in capsys.readouterr().err
    assert not Path("e.png").exists()

    # Without --methods there is no note, since the user didn't ask for `cam`.
    assert main(command) == 0
    assert capsys.readouterr().out == success

    # A user's warning isn't taken for a note, which is recognised by its class, not its words.
    (tmp_path / "warns.py").write_text(MODULE_THAT_WARNS)
    assert main([*command, "--methods", "warns.my_cam"]) == 0
    assert capsys.readouterr().out == success


def test_torchvision_s_networks_have_imagenet_s_class_names():
    overrides = ["model=resnet18", "model.weights=null", "model.weights_folder=null"]
    model = load_model(configuration(overrides)["model"])
    assert model.classes[207] == "golden retriever"
    assert chosen_classes(model, "golden retriever,5") == [207, 5]
    with pytest.raises(BenchError, match="did you mean 'golden retriever'"):
        chosen_classes(model, "golden retriver")


def test_names_are_text_not_markup():
    shutil.copy("scene.png", "<img onerror=alert(1)>$x$.png")
    for output in ("e.html", "e.png"):
        command = ["explain", "<img onerror=alert(1)>$x$.png", *TWO_METHODS, "--output", output]
        assert main(command) == 0
    text = Path("e.html").read_text()
    assert "<img onerror" not in text
    assert "\\u003cimg onerror" in text


def test_images_of_every_mode_are_explained(scene):
    Path("modes").mkdir()
    scene.convert("L").save("modes/grey.png")
    scene.convert("CMYK").save("modes/cmyk.jpg")
    scene.convert("P").save("modes/palette.gif")
    scene.convert("RGBA").save("modes/alpha.png")
    grey16 = np.asarray(scene.convert("L")).astype(np.uint16) * 257  # 255 becomes 65535
    Image.fromarray(grey16).save("modes/grey16.png")

    assert main(["explain", "modes", *ONE_METHOD, "--output", "e.html"]) == 0

    assert len(gallery_of("e.html")["images"]) == 5
    image_of_8_bits, *_ = open_upright(Path("modes/grey.png"))
    image_of_16_bits, *_ = open_upright(Path("modes/grey16.png"))
    np.testing.assert_array_equal(np.asarray(image_of_8_bits), np.asarray(image_of_16_bits))


def test_values_that_no_image_has_and_unknown_accuracy_are_told(scene, capsys):
    byte_range = ("model.mean=[0,0,0]", "model.std=[0.004,0.004,0.004]")
    assert main(["explain", "scene.png", *ONE_METHOD, *byte_range, "--output", "e.html"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^images of .*, as pixels of 0 to 255 do: divide", printed, re.MULTILINE)
    assert "not known: the images have no labels" in Path("e.html").read_text()


def test_what_cannot_be_read_has_a_sentence_and_the_rest_is_explained(scene, capsys):
    scene.resize((400, 400)).save("whole.jpg")
    Path("truncated.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-2000])
    Path("words.png").write_text("no image")
    Path("empty").mkdir()
    names = ["truncated.jpg", "scene.png", "nowhere.png", "words.png", "empty", "scene.png"]

    assert main(["explain", *names, *ONE_METHOD, "--output", "e.html"]) == 2

    captured = capsys.readouterr()
    assert captured.out == "written: e.html\n"
    lines = error_lines(captured.err)
    assert len(lines) == 4
    assert all(line.startswith("axiom-bench: ") for line in lines)
    for sentence in (
        "There are no images in the folder empty",
        "The image truncated.jpg: can't be decoded: ",
        "The image nowhere.png: there is no file nowhere.png.",
        "The image words.png: can't be decoded: ",
    ):
        assert sum(sentence in line for line in lines) == 1
    assert len(gallery_of("e.html")["images"]) == 1  # named twice, explained once
    assert "The image nowhere.png: there is no file" in Path("e.html").read_text()


def test_a_turned_image_is_a_note(scene, capsys):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # a quarter turn
    scene.save("phone.jpg", exif=exif)

    assert main(["explain", "phone.jpg", *ONE_METHOD, "--output", "e.html"]) == 0

    note, _ = capsys.readouterr().out.splitlines()
    assert note == "phone.jpg is turned upright, as its EXIF orientation says."
    assert note in Path("e.html").read_text()


def test_what_is_no_file_and_names_that_are_not_utf8(scene, capsys):
    Path("odd").mkdir()
    os.mkfifo("odd/pipe.jpg")
    Path("odd/loop.jpg").symlink_to("loop.jpg")
    picture = os.fsdecode(b"odd/caf\xe9.png")
    Path("scene.png").rename(picture)

    assert main(["explain", "odd", *ONE_METHOD, "--output", "e.html"]) == 2
    captured = capsys.readouterr()
    assert error_lines(captured.err) == [
        "axiom-bench: The image odd/loop.jpg: can't be decoded: Too many levels of symbolic links.",
        "axiom-bench: The image odd/pipe.jpg: it is no regular file.",
    ]
    assert gallery_of("e.html")["images"][0]["id"] == r"odd/caf\xe9.png"

    Path("out").mkdir()
    assert main(["explain", picture, *ONE_METHOD, "--output", "out"]) == 0
    assert r"caf\xe9.png" in {path.name for path in Path("out").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scene.png"], "Name the model: --model resnet18"),
        (["model=resnet18"], "Name an image, or a folder of images"),
        (["scene.png", "--model", "scenes_vg"], "did you mean 'scenes_vgg'"),
        (["scene.png", *VGG, "--methods", "grad_cams"], "did you mean 'grad_cam'"),
        (["scene.png", *ONE_METHOD, "--layer", "features.99"], "features.99"),
        (
            ["scene.png", *ONE_METHOD, "model.layer=features.9,features.13"],
            "explain takes one network and one layer",
        ),
        (
            ["scene.png", "--model", "scenes_vgg,scenes_resnet"],
            "explain takes one network and one layer",
        ),
        (["scene.png", *ONE_METHOD, "--top", "0"], "--top is 0"),
        (["scene.png", *ONE_METHOD, "--targets", "12"], "There is no class '12' of scenes_vgg"),
        (
            ["scene.png", *ONE_METHOD, "--colours", "jett"],
            "There is no colour map 'jett'; did you mean 'jet'",
        ),
        (
            ["scene.png", *ONE_METHOD, "--output", "e.gif"],
            "Can't write e.gif: give a name that ends in .png, .jpg",
        ),
        (
            ["scene.png", *ONE_METHOD, "--output", "scene.png"],
            "would replace an image that is to be explained",
        ),
        (
            ["scene.png", *ONE_METHOD, "--output", "."],
            "scene.png would replace an image that is to be explained",
        ),
        (["nowhere.png", *ONE_METHOD], "The image nowhere.png: there is no file nowhere.png."),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys):
    before = Path("scene.png").read_bytes()
    assert main(["explain", *arguments]) == 2
    (message,) = error_lines(capsys.readouterr().err)
    assert message.startswith("axiom-bench: ")
    assert sentence in message
    assert [path.name for path in Path().iterdir()] == ["scene.png"]
    assert Path("scene.png").read_bytes() == before


def test_the_page_in_a_browser(tmp_path, open_page, barriers):
    """Check that the page loads nothing, fits on a phone, and filters its images."""
    Path("photos").mkdir()
    for number in range(2):
        Image.fromarray(scenes.draw("evaluation", number, 0).image).save(f"photos/{number}.png")
    options = [*VGG, "--top", "2", "--methods", "xgrad_cam,random"]
    assert main(["explain", "photos", "nowhere.png", *options, "--output", "e.html"]) == 2

    page = open_page(
        tmp_path / "e.html",
        viewport={"width": 400, "height": 800},
        color_scheme="dark",
        bypass_csp=True,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator(".gallery-map").count() == 2 * 2 * 2
    assert page.locator(".gallery-top li").count() == 4 * 5
    assert page.locator(".gallery-check:visible").count() == 1  # no boxes are known

    page.locator(".gallery-methods summary").click()
    page.get_by_role("checkbox", name="Random").uncheck()
    assert page.locator(".gallery-map").count() == 2 * 2

    page.get_by_role("searchbox", name="Image").fill("1.PNG")
    assert page.locator(".gallery-image").count() == 2

    page.locator(".gallery-image a").first.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert page.get_by_role("dialog").locator(".gallery-map").count() == 1
    assert barriers(page) == []


VIT = """\
from torch import nn
from torchvision.models import VisionTransformer

def build():
    model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10)
    nn.init.normal_(model.heads.head.weight)
    return model
"""


def test_maps_that_must_be_empty_are_explained_once(capsys):
    """Check that `explain` and a run say it once and recommend a layer that works."""
    Path("vit.py").write_text(VIT)
    model = [
        "model=user",
        "model.architecture=vit.py:build",
        "model.weights=null",
        "model.resize=[32,32]",
        "model.reshape=tokens",
        "model.layer=encoder.ln",
        "device=cpu",
    ]
    sentence = (
        "at the layer 'encoder.ln' are zero, and so are maps made of them; choose "
        "'encoder.layers.encoder_"
    )

    assert main(["explain", "scene.png", *model, "--methods", "grad_cam,xgrad_cam"]) == 0
    assert capsys.readouterr().out.count(sentence) == 1

    run = [*model, "method=[grad_cam]", "metric=[zeta]", "data.size=2", "runtime.repeats=0"]
    _, (outcome,) = run_jobs(run)
    assert sum(sentence in note for note in outcome.lines) == 1


# A black image has the standard deviation 0, so that the network computes 0 / 0.
NETWORK_THAT_DIVIDES = """\
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        features = [nn.Conv2d(3, 8, 3, 4), nn.ReLU()]
        super().__init__(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x):
        return super().forward(x / x.std((2, 3), keepdim=True))
"""


def test_an_image_without_finite_scores_is_named_and_the_others_are_explained(
    tmp_path, capsys
) -> None:
    (tmp_path / "net.py").write_text(NETWORK_THAT_DIVIDES)
    Image.new("RGB", (96, 96)).save("black.png")
    model = ["--model", "user", "model.architecture=net.py:Net"]
    model += ["model.weights=null", "model.resize=96"]
    options = ["--methods", "grad_cam", "--output", "maps.html", "device=cpu"]

    assert main(["explain", "black.png", "scene.png", *model, *options]) == 2

    printed = capsys.readouterr()
    assert "written: maps.html" in printed.out
    (line,) = [line for line in printed.err.splitlines() if "axiom-bench:" in line]
    assert "scores of the image black.png are no numbers" in line
