"""`axiom-bench explain` as it is typed: pictures, pages and folders; mistakes are sentences, other
images go on.
"""

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
ONE = [*VGG, "--methods", "xgrad_cam"]
TWO = [*VGG, "--methods", "xgrad_cam,grad_cam"]
ORIENTATION = 0x0112
Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def _composed_once():
    """Composing the same settings again takes most of a command's time."""

    @cache
    def once(words: tuple[str, ...], folder: Path | None) -> Composition:
        with composed(words, folder) as composition:
            return composition

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            explain, "composed", lambda words, folder: nullcontext(once(tuple(words), folder))
        )
        yield


@pytest.fixture(autouse=True)
def scene(tmp_path, monkeypatch) -> Image.Image:
    """Outside the checkout, as a user would be, with a scene."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(scenes.draw("evaluation", 0, 0).image)
    image.save("scene.png")
    return image


def written(capsys: Capsys) -> list[str]:
    return [line.removeprefix("written: ") for line in capsys.readouterr().out.splitlines()]


def shown(name: str) -> dict[str, Any]:
    """What a page's gallery shows."""
    text = Path(name).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(re.findall(r'id="gallery-data">(.*?)</script>', text)[0])
    return data


FORMATS = {
    **{"e.png": b"\x89PNG", "e.jpg": b"\xff\xd8\xff", "e.JPEG": b"\xff\xd8\xff", "e.webp": b"RIFF"},
    **{"e.pdf": b"%PDF", "e.svg": b"<?xml", "e.html": b"<!DOCTYPE html>"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_file_has_the_format_that_its_name_says(name, capsys):
    contents = set()
    for _ in range(2 if name in ("e.pdf", "e.svg", "e.html") else 1):
        assert main(["explain", "scene.png", *ONE, "--output", name, "--overwrite"]) == 0
        assert written(capsys) == [name]
        contents.add(Path(name).read_bytes())
    (content,) = contents  # no date in it
    assert content.startswith(FORMATS[name])


def test_one_image_is_a_picture_and_several_are_a_page(scene, capsys):
    scene.save("other.png")
    assert main(["explain", "scene.png", *TWO]) == 0
    assert main(["explain", "scene.png", "other.png", *TWO]) == 0
    assert written(capsys) == ["scene-maps.png", "maps.html"]
    data = shown("maps.html")
    assert [image["id"] for image in data["images"]] == ["scene.png", "other.png"]
    assert [method["title"] for method in data["methods"]] == ["XGrad-CAM", "Grad-CAM"]
    assert [metric["title"] for metric in data["metrics"]] == [
        "Sensitivity error",
        "Conservation error",
    ]
    first = data["images"][0]
    assert len(first["maps"]) == 2
    assert [len(name) > 0 and share.endswith("%") for name, share in first["top"]] == [True] * 5
    assert all(isinstance(values["0"][0], float) for values in first["values"])


def test_errors_of_costly_drops_are_left_out(capsys, monkeypatch):
    """The picture comes without them; the setting that the note gives computes them."""
    monkeypatch.setattr(explain_images, "MOST_PASSES", 1)
    command = [
        "explain",
        "scene.png",
        "--model",
        "scenes_vgg",
        "--layer",
        "features.3",
        "--methods",
        "grad_cam,hires_cam",
    ]
    assert main([*command, "--output", "a.html"]) == 0
    output = capsys.readouterr()
    note = next(
        line
        for line in (output.out + output.err).splitlines()
        if line.startswith("No sensitivity error")
    )
    assert [metric["title"] for metric in shown("a.html")["metrics"]] == ["Conservation error"]
    setting = re.findall(r"set (\S+)\.$", note)
    assert main([*command, "--output", "b.html", *setting]) == 0
    output = capsys.readouterr()
    assert "No sensitivity error" not in output.out + output.err
    assert [metric["title"] for metric in shown("b.html")["metrics"]] == [
        "Sensitivity error",
        "Conservation error",
    ]


def test_a_folder_gets_a_picture_of_each_image_and_a_page(capsys):
    for name in ("a", "b"):
        Path("photos", name).mkdir(parents=True)
        shutil.copy("scene.png", Path("photos", name, "scene.png"))
    assert main(["explain", "photos", *TWO, "--output", "maps"]) == 0
    names = written(capsys)
    assert names == ["maps/scene.png", "maps/scene-2.png", "maps/index.html"]
    assert all(Path(name).is_file() for name in names)


def test_the_numbers_are_those_of_the_library():
    """Top classes, heatmaps and axiom errors, against `ab.explain` and `ab.evaluate`."""
    config = configuration(["device=cpu", "model=scenes_vgg"])
    model = load_model(config["model"])
    names, errors = ["xgrad_cam", "grad_cam", "random"], ["sensitivity_error", "conservation_error"]
    methods = [plugins.load("method", name) for name in names]
    explainer = Explainer(model, Settings.of(config), methods)
    with Image.open("scene.png") as stored:
        maps = explainer.explain(Path("scene.png"), stored.convert("RGB"), [3, 7], 1).maps
    pixels = torch.from_numpy(np.array(stored.convert("RGB"))).permute(2, 0, 1)[None] / 255
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (model.preprocessing.mean, model.preprocessing.std)
    )
    images = ((pixels - mean) / std).repeat(2, 1, 1, 1)
    probabilities = model.module(images)[0].softmax(0).detach()
    assert maps.notes == []
    assert [score.value for score in maps.top[0]] == pytest.approx(
        probabilities.topk(5).values.tolist(), rel=1e-4
    )
    targets = torch.tensor([3, 7])
    heatmaps = ab.explain(model.module, model.layer, images, names, targets, metrics=errors)
    table = ab.evaluate(model.module, model.layer, [(images, targets)], names, errors)
    values = table.set_index(["target_class", "method", "metric"])["value"]
    for row, target in enumerate((3, 7)):
        assert maps.scores[row].value == pytest.approx(float(probabilities[target]), rel=1e-4)
        for name in names:
            np.testing.assert_allclose(maps[name][row], heatmaps[name][row], atol=1e-4)
        assert maps.lines(row, "random") == ["No axiom errors: not on score scale"]
    for of_command in (maps.errors, heatmaps.errors):
        for row, method, metric, value, status in of_command.itertuples(index=False):
            expected = values[targets[row].item(), method, metric]
            assert value == pytest.approx(expected, rel=1e-3, nan_ok=True)
            assert (status == "ok") == (method != "random")


def test_the_most_probable_classes(capsys):
    assert main(["explain", "scene.png", *TWO, "--top", "3", "--output", "e.html"]) == 0
    assert len(shown("e.html")["images"]) == 3
    percents = [
        ClassScore(0, "", probability).text
        for probability in (0.0, 1e-12, 0.004, 0.294, 0.9999, 1.0)
    ]
    assert percents == ["0 %", "<1 %", "<1 %", "29 %", ">99 %", "100 %"]
    assert ClassScore(0, "", 4.2, is_probability=False).text == "score 4.20"


def test_colours():
    pictures = []
    for colours in ("inferno", "jet"):
        assert (
            main(["explain", "scene.png", *ONE, "--output", f"{colours}.png", "--colours", colours])
            == 0
        )
        pictures.append(Path(f"{colours}.png").read_bytes())
    assert pictures[0] != pictures[1]
    assert main(["explain", "scene.png", *ONE, "--output", "e.html", "--colours", "cividis"]) == 0
    options = re.findall(r'<option value="(.*?)"', Path("e.html").read_text())
    assert options[:2] == ["cividis", "inferno"]


def test_files_that_arent_read_and_names_that_no_font_has_are_told(scene, capsys):
    Path("photos").mkdir()
    scene.save("photos/a.jfif", "JPEG")
    scene.save("photos/c.jp2")
    Path("photos/b.heic").write_bytes(b"")
    signs = filter(str.isprintable, map(chr, range(0x10000, 0x1F000)))
    nobodys = islice((sign for sign in signs if not can_draw(sign)), 10)
    classes = ",".join(f"'{sign}'" for sign in nobodys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            main(["explain", "photos", *ONE, f"model.classes=[{classes}]", "--output", "maps"]) == 0
        )
    text = capsys.readouterr().out
    assert "photos: not read: 1 .heic (b.heic); save photographs as JPEG or PNG." in text
    assert re.search(r"\d class names, as '.+', have signs that no font of this machine has", text)
    assert {path.name for path in Path("maps").iterdir()} == {"a.png", "c.png", "index.html"}


def test_a_user_s_own_network_and_classes(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "from axiom_bench.embedded.networks import scenes_vgg\nbuild = scenes_vgg\n"
    )
    network = [
        "model=user",
        "model.architecture=net.py:build",
        "model.weights=null",
        "model.resize=96",
    ]
    network += ["model.crop=96", "model.classes=[a,b,'c, d',d,e,f,g,h,i,a]", "model.name=mine"]
    command = [
        "explain",
        "scene.png",
        *network,
        "--methods",
        "xgrad_cam,uniform",
        "--output",
        "e.html",
        "--overwrite",
    ]
    pages = []
    for targets in ("b,d", "1,3", "b", "c, d"):
        assert main([*command, "--targets", targets]) == 0
        pages.append(Path("e.html").read_text())
    assert pages[0] == pages[1]
    assert shown("e.html")["images"][0]["target"][:2] == [2, "c, d"]
    capsys.readouterr()
    for target, sentence in {
        "z": "There is no class of mine 'z'",
        "10": "There is no class '10' of mine; give a name or an index from 0 to 9",
        "a": "2 classes of mine are called 'a'; give an index: 0 and 9",
    }.items():
        assert main([*command, "--target", target]) == 2
        assert sentence in capsys.readouterr().err


def test_which_method_does_not_apply(tmp_path, capsys):
    """`cam` needs a linear head: beside another method it is a note, alone there is no picture to
    write.
    """
    command = ["explain", "scene.png", *VGG, "--output", "e.png", "--overwrite"]
    written = "written: e.png\n"
    assert main([*command, "--methods", "cam,xgrad_cam"]) == 0
    note, _, rest = capsys.readouterr().out.partition("\n")
    assert note.startswith("The method 'cam' is left out: ")
    assert rest == written
    Path("e.png").unlink()
    assert main([*command, "--methods", "cam"]) == 2
    assert "The method 'cam' is left out: " in capsys.readouterr().err
    assert not Path("e.png").exists()
    assert main(command) == 0  # nobody named it
    assert capsys.readouterr().out == written
    warns = (
        "    warnings.warn('Half of the map is left out: it is dark')\n    return trace.gradients\n"
    )
    (tmp_path / "warns.py").write_text(f"import warnings\n\n\ndef my_cam(trace):\n{warns}")
    # a note is told by its class, not by its words
    assert main([*command, "--methods", "warns.my_cam"]) == 0
    assert capsys.readouterr().out == written


def test_torchvision_s_networks_have_imagenet_s_class_names():
    config = configuration(["model=resnet18", "model.weights=null", "model.weights_folder=null"])[
        "model"
    ]
    model = load_model(config)
    assert model.classes[207] == "golden retriever"
    assert chosen_classes(model, "golden retriever,5") == [207, 5]
    with pytest.raises(BenchError, match="did you mean 'golden retriever'"):
        chosen_classes(model, "golden retriver")


def test_names_are_text_not_markup():
    shutil.copy("scene.png", "<img onerror=alert(1)>$x$.png")
    for output in ("e.html", "e.png"):
        assert main(["explain", "<img onerror=alert(1)>$x$.png", *TWO, "--output", output]) == 0
    text = Path("e.html").read_text()
    assert "<img onerror" not in text
    assert "\\u003cimg onerror" in text


def test_images_of_every_mode_are_explained(scene):
    Path("modes").mkdir()
    for name, mode in {
        "grey.png": "L",
        "cmyk.jpg": "CMYK",
        "palette.gif": "P",
        "alpha.png": "RGBA",
    }.items():
        scene.convert(mode).save(f"modes/{name}")
    grey16 = np.asarray(scene.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey16).save("modes/grey16.png")
    assert main(["explain", "modes", *ONE, "--output", "e.html"]) == 0
    assert len(shown("e.html")["images"]) == 5
    np.testing.assert_array_equal(
        *(np.asarray(open_upright(Path("modes", n))[0]) for n in ("grey.png", "grey16.png"))
    )


def test_values_that_no_image_has_and_unknown_accuracy_are_told(scene, capsys):
    as_bytes = ("model.mean=[0,0,0]", "model.std=[0.004,0.004,0.004]")
    assert main(["explain", "scene.png", *ONE, *as_bytes, "--output", "e.html"]) == 0
    assert re.search(
        r"^images of .*, as pixels of 0 to 255 do: divide", capsys.readouterr().out, re.MULTILINE
    )
    assert "not known: the images have no labels" in Path("e.html").read_text()


def test_what_cannot_be_read_has_a_sentence_and_the_rest_is_explained(scene, capsys):
    scene.resize((400, 400)).save("whole.jpg")
    Path("truncated.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-2000])
    Path("words.png").write_text("no image")
    Path("empty").mkdir()
    names = ["truncated.jpg", "scene.png", "nowhere.png", "words.png", "empty", "scene.png"]
    assert main(["explain", *names, *ONE, "--output", "e.html"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "written: e.html\n"
    # on a slow machine
    lines = [line for line in captured.err.splitlines() if not line.startswith("maps: ")]
    assert [line.startswith("axiom-bench: ") for line in lines] == [True] * 4
    for sentence in (
        *("There are no images in the folder empty", "The image truncated.jpg: can't be decoded: "),
        *(
            "The image nowhere.png: there is no file nowhere.png.",
            "The image words.png: can't be decoded: ",
        ),
    ):
        assert sum(sentence in line for line in lines) == 1
    assert len(shown("e.html")["images"]) == 1  # named twice, explained once
    assert "The image nowhere.png: there is no file" in Path("e.html").read_text()


def turned_by(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def test_a_turned_image_is_a_note(scene, capsys):
    scene.save("phone.jpg", exif=turned_by(6))
    assert main(["explain", "phone.jpg", *ONE, "--output", "e.html"]) == 0
    note, _ = capsys.readouterr().out.splitlines()
    assert note == "phone.jpg is turned upright, as its EXIF orientation says."
    assert note in Path("e.html").read_text()


def test_what_is_no_file_and_names_that_are_not_utf8(scene, capsys):
    Path("odd").mkdir()
    os.mkfifo("odd/pipe.jpg")
    Path("odd/loop.jpg").symlink_to("loop.jpg")
    Path("scene.png").rename(os.fsdecode(b"odd/caf\xe9.png"))
    assert main(["explain", "odd", *ONE, "--output", "e.html"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "axiom-bench: The image odd/loop.jpg: can't be decoded: Too many levels of symbolic links.",
        "axiom-bench: The image odd/pipe.jpg: it is no regular file.",
    ]
    assert shown("e.html")["images"][0]["id"] == r"odd/caf\xe9.png"
    picture = os.fsdecode(b"odd/caf\xe9.png")
    Path("out").mkdir()
    assert main(["explain", picture, *ONE, "--output", "out"]) == 0
    assert r"caf\xe9.png" in {path.name for path in Path("out").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scene.png"], "Name the model: --model resnet18"),
        (["model=resnet18"], "Name an image, or a folder of images"),
        (["scene.png", "--model", "scenes_vg"], "did you mean 'scenes_vgg'"),
        (["scene.png", *VGG, "--methods", "grad_cams"], "did you mean 'grad_cam'"),
        (["scene.png", *ONE, "--layer", "features.99"], "features.99"),
        (
            ["scene.png", *ONE, "model.layer=features.9,features.13"],
            "explain takes one network and one layer",
        ),
        (
            ["scene.png", "--model", "scenes_vgg,scenes_resnet"],
            "explain takes one network and one layer",
        ),
        (["scene.png", *ONE, "--top", "0"], "--top is 0"),
        (["scene.png", *ONE, "--targets", "12"], "There is no class '12' of scenes_vgg"),
        (
            ["scene.png", *ONE, "--colours", "jett"],
            "There is no colour map 'jett'; did you mean 'jet'",
        ),
        (
            ["scene.png", *ONE, "--output", "e.gif"],
            "Can't write e.gif: give a name that ends in .png, .jpg",
        ),
        (
            ["scene.png", *ONE, "--output", "scene.png"],
            "would replace an image that is to be explained",
        ),
        (
            ["scene.png", *ONE, "--output", "."],
            "scene.png would replace an image that is to be explained",
        ),
        (["nowhere.png", *ONE], "The image nowhere.png: there is no file nowhere.png."),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys):
    before = Path("scene.png").read_bytes()
    assert main(["explain", *arguments]) == 2
    (message,) = (
        line for line in capsys.readouterr().err.splitlines() if not line.startswith("maps: ")
    )
    assert message.startswith("axiom-bench: ")
    assert sentence in message
    assert [path.name for path in Path().iterdir()] == ["scene.png"]
    assert Path("scene.png").read_bytes() == before


def test_the_page_in_a_browser(tmp_path, open_page, barriers):
    """Nothing is loaded, nothing is wider than a phone."""
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
    """By explain, and by a run, before it computes; a layer that works is named."""
    Path("vit.py").write_text(VIT)
    own = [
        "model=user",
        "model.architecture=vit.py:build",
        "model.weights=null",
        "model.resize=[32,32]",
    ]
    own += ["model.reshape=tokens", "model.layer=encoder.ln", "device=cpu"]
    sentence = (
        "at the layer 'encoder.ln' are zero, and so are maps made of them; choose "
        "'encoder.layers.encoder_"
    )
    assert main(["explain", "scene.png", *own, "--methods", "grad_cam,xgrad_cam"]) == 0
    assert capsys.readouterr().out.count(sentence) == 1
    (outcome,) = run_jobs(
        [*own, "method=[grad_cam]", "metric=[zeta]", "data.size=2", "runtime.repeats=0"]
    )[1]
    assert sum(sentence in note for note in outcome.lines) == 1


def test_an_image_without_finite_scores_is_named_and_the_others_are_explained(
    tmp_path, capsys
) -> None:
    """A network that divides by the spread of its image has 0 / 0 on a black one."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\nclass Net(nn.Sequential):\n    def __init__(self):\n        "
        "super().__init__(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten(), nn.Linear(8, 4))\n\n    def forward(self, x):\n        return "
        "super().forward(x / x.std((2, 3), keepdim=True))\n"
    )
    Image.new("RGB", (96, 96)).save("black.png")
    own = [
        "--model",
        "user",
        "model.architecture=net.py:Net",
        "model.weights=null",
        "model.resize=96",
    ]
    chosen = ["--methods", "grad_cam", "--output", "maps.html", "device=cpu"]
    assert main(["explain", "black.png", "scene.png", *own, *chosen]) == 2
    printed = capsys.readouterr()
    assert "written: maps.html" in printed.out
    (line,) = [line for line in printed.err.splitlines() if "axiom-bench:" in line]
    assert "scores of the image black.png are no numbers" in line
