"""`axiom-bench explain` as it is typed: pictures, pages and folders; mistakes are sentences, other images go on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.cli.explain_images import Classes, ClassScore, Explainer
from axiom_bench.cli.main import main, parse
from axiom_bench.embedded import scenes
from axiom_bench.evaluation import plugins
from axiom_bench.models.load import load_model
from axiom_bench.run.sweep import configuration

VGG = ["--model", "scenes_vgg", "device=cpu"]
TWO = ["--methods", "xgrad_cam,grad_cam"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Outside the checkout, as a user would be, with two scenes."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        Image.fromarray(scenes.draw("evaluation", number, 0).image).save(f"scene{number}.png")


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.removeprefix("written: ") for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("name", "kind"), [("e.png", "PNG"), ("e.jpg", "JPEG"), ("e.JPEG", "JPEG"), ("e.webp", "WEBP")]
)
def test_the_file_has_the_format_that_its_name_says(name: str, kind: str, capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "scene0.png", *VGG, *TWO, "--output", name]) == 0
    assert written(capsys) == [name]
    with Image.open(name) as picture:
        assert picture.format == kind


@pytest.mark.parametrize(("name", "start"), [("e.pdf", b"%PDF"), ("e.svg", b"<?xml"), ("e.html", b"<!DOCTYPE html>")])
def test_vectors_and_pages(name: str, start: bytes):
    assert main(["explain", "scene0.png", *VGG, *TWO, "--output", name]) == 0
    first = Path(name).read_bytes()
    assert first.startswith(start)
    assert main(["explain", "scene0.png", *VGG, *TWO, "--output", name]) == 0
    assert Path(name).read_bytes() == first  # no date in it


def test_one_image_is_a_picture_and_several_are_a_page(capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "scene0.png", *VGG, *TWO]) == 0
    assert main(["explain", "scene0.png", "scene1.png", *VGG, *TWO]) == 0
    assert written(capsys) == ["explanation.png", "explanation.html"]
    text = Path("explanation.html").read_text()
    assert text.count('class="page-section"') == 2
    assert text.count("<strong>XGrad-CAM</strong>") == 2
    assert "Sensitivity error: " in text


def test_a_folder_gets_a_picture_of_each_image_and_a_page(capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b"):
        Path("photos", name).mkdir(parents=True)
        shutil.copy("scene0.png", Path("photos", name, "scene.png"))
    assert main(["explain", "photos", *VGG, *TWO, "--output", "maps"]) == 0
    assert written(capsys) == ["maps/scene.png", "maps/scene-2.png", "maps/index.html"]
    assert all(Path(name).is_file() for name in ("maps/scene.png", "maps/scene-2.png", "maps/index.html"))


def test_the_numbers_are_those_of_the_library():
    """Top classes, heatmaps and axiom errors, against `ab.explain` and `ab.evaluate`."""
    config = configuration([*VGG[2:], "model=scenes_vgg"])
    model = load_model(config["model"])
    names = ["xgrad_cam", "grad_cam", "random"]
    methods = [plugins.load("method", name) for name in names]
    explainer = Explainer(model, Classes.of(model, config["model"]), config, methods)
    with Image.open("scene0.png") as stored:
        shown, notes = explainer.explain(Path("scene0.png"), stored.convert("RGB"), [3, 7], 1)
    pixels = torch.from_numpy(np.array(stored.convert("RGB"))).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.preprocessing.mean, model.preprocessing.std))
    images = (pixels - mean) / std
    probabilities = model.module(images)[0].softmax(0).detach()
    assert notes == []
    assert [score.value for score in shown.top] == pytest.approx(probabilities.topk(5).values.tolist(), rel=1e-4)
    targets = torch.tensor([3, 7])
    heatmaps = ab.explain(model.module, model.layer, images.repeat(2, 1, 1, 1), names, targets)
    table = ab.evaluate(
        model.module, model.layer, [(images.repeat(2, 1, 1, 1), targets)], names,
        ["sensitivity_error", "conservation_error"],
    ).set_index(["target_class", "method", "metric"])["value"]  # fmt: skip
    for (score, maps), target in zip(shown.maps, (3, 7), strict=True):
        assert score.value == pytest.approx(float(probabilities[target]), rel=1e-4)
        for name, own in zip(names, maps, strict=True):
            np.testing.assert_allclose(own.heatmap, heatmaps[name][[3, 7].index(target)], atol=1e-4)
        for place, name in enumerate(names[:2]):
            assert maps[place].errors["Sensitivity error"] == pytest.approx(
                table[target, name, "sensitivity_error"], rel=1e-3
            )
        assert maps[2].lines() == ["No axiom errors: not on score scale"]


def test_the_most_probable_classes(capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "scene0.png", *VGG, *TWO, "--top", "3", "--output", "e.html"]) == 0
    assert Path("e.html").read_text().count("<h3>Explained: ") == 3
    assert main(["explain", "scene0.png", *VGG, *TWO, "--top", "0"]) == 2
    assert "--top is 0" in capsys.readouterr().err


def test_a_probability_is_zero_or_one_alone():
    percents = [ClassScore("", probability).text for probability in (0.0, 1e-12, 0.004, 0.294, 0.9999, 1.0)]
    assert percents == ["0 %", "<1 %", "<1 %", "29 %", ">99 %", "100 %"]
    assert ClassScore("", 4.2, is_probability=False).text == "score 4.20"


def test_a_user_s_own_network_and_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "net.py").write_text("from axiom_bench.embedded.networks import scenes_vgg\nbuild = scenes_vgg\n")
    own = ["model=user", "model.architecture=net.py:build", "model.weights=null", "model.resize=96", "model.crop=96"]
    own += ["model.classes=[a,b,'c, d',d,e,f,g,h,i,a]", "model.name=mine", "--methods", "xgrad_cam,uniform"]
    command = ["explain", "scene0.png", *own, "--output", "e.html"]
    pages = []
    for targets in ("b,d", "1,3", "b", "c, d"):
        assert main([*command, "--targets", targets]) == 0
        pages.append(Path("e.html").read_text())
    assert pages[0] == pages[1]
    assert pages[2].count("<h3>Explained: b ") == pages[3].count("<h3>Explained: c, d ") == 1
    capsys.readouterr()
    for target, sentence in {
        "z": "There is no class of mine 'z'",
        "10": "There is no class '10' of mine; give a name or an index from 0 to 9",
        "a": "2 classes of mine are called 'a'; give an index: 0 and 9",
    }.items():
        assert main([*command, "--target", target]) == 2
        assert sentence in capsys.readouterr().err


def test_which_method_does_not_apply(capsys: pytest.CaptureFixture[str]):
    """`cam` needs a linear head: beside another method it is a note, alone there is no picture to write."""
    assert main(["explain", "scene0.png", *VGG, "--methods", "cam,xgrad_cam"]) == 0
    note, picture = capsys.readouterr().out.splitlines()
    assert note.startswith("The method 'cam' is left out: ")
    assert picture == "written: explanation.png"
    Path("explanation.png").unlink()
    assert main(["explain", "scene0.png", *VGG, "--methods", "cam"]) == 2
    assert "The method 'cam' is left out: " in capsys.readouterr().err
    assert not Path("explanation.png").exists()
    assert main(["explain", "scene0.png", *VGG]) == 0  # nobody named it
    assert capsys.readouterr().out == "written: explanation.png\n"


def test_no_other_warning_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Notes are told by the warning's class, not by its words."""
    (tmp_path / "warns.py").write_text(
        "import warnings\n\n\ndef my_cam(trace):\n"
        "    warnings.warn('Half of the map is left out: it is dark')\n    return trace.gradients\n"
    )
    assert main(["explain", "scene0.png", *VGG, "--methods", "warns.my_cam"]) == 0
    assert capsys.readouterr().out == "written: explanation.png\n"


def test_torchvision_s_networks_have_imagenet_s_class_names():
    config = configuration(["model=resnet18", "model.weights=null", "model.weights_folder=null"])["model"]
    classes = Classes.of(load_model(config), config)
    assert classes.name(207) == "golden retriever"
    assert classes.chosen("golden retriever,5") == [207, 5]
    with pytest.raises(ab.BenchError, match="did you mean 'golden retriever'"):
        classes.index("golden retriver")


def test_names_are_text_not_markup():
    shutil.copy("scene0.png", "<img onerror=alert(1)>$x$.png")
    assert main(["explain", "<img onerror=alert(1)>$x$.png", *VGG, *TWO, "--output", "e.html"]) == 0
    text = Path("e.html").read_text()
    assert "<img onerror" not in text
    assert "&lt;img onerror" in text
    assert main(["explain", "<img onerror=alert(1)>$x$.png", *VGG, *TWO, "--output", "e.png"]) == 0


def test_colours(capsys: pytest.CaptureFixture[str]):
    pictures = []
    for colours in ("inferno", "jet"):
        assert main(["explain", "scene0.png", *VGG, *TWO, "--colours", colours]) == 0
        pictures.append(Path("explanation.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_images_and_settings_in_any_order():
    options = parse(["explain", "a.png", "--model", "vgg16", "b.png", "model.layer=features.4", "../2.png"])
    assert options.images == [Path("a.png"), Path("b.png"), Path("../2.png")]
    assert options.overrides == ["model.layer=features.4"]
    Path("model=1.png").touch()
    assert parse(["explain", "model=1.png", "--model", "vgg16"]).images == [Path("model=1.png")]
