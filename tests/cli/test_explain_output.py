"""Tests of the files that `axiom-bench explain` writes, and of its messages.

It replaces no file unless it is asked to.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from axiom_bench.cli.explain import Output, default_path
from axiom_bench.cli.main import main
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError
from axiom_bench.run import progress

VGG = ["--model", "scenes_vgg", "device=cpu"]
ONE_METHOD = [*VGG, "--methods", "xgrad_cam"]
IMAGES = [Path("a.png"), Path("b.png")]


@pytest.fixture(autouse=True)
def _outside_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save_scene(name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Image.fromarray(scenes.draw("evaluation", 0, 0).image).save(name)


REFUSED = {
    "e.png": "e.png can show one image, and there are 2; give a page",
    "my.results": "Can't write my.results",
    "folder.png": "folder.png is a folder, which isn't replaced",
    "pipe": "pipe is no regular file and isn't replaced",
    "link.png": "link.png is a link and isn't replaced",
    "/dev/null": "/dev/null is no regular file and isn't replaced",
    "file": "Can't write file: give a name that ends in",
}


@pytest.mark.parametrize("path", REFUSED)
def test_outputs_that_are_refused(path):
    Path("folder.png").mkdir()
    Path("file").touch()
    os.mkfifo("pipe")
    Path("link.png").symlink_to("elsewhere.png")
    images = IMAGES if path in ("e.png", "my.results") else IMAGES[:1]
    with pytest.raises(BenchError, match=REFUSED[path]):
        Output.of(Path(path), images, images, overwrite=True)


def test_outputs_by_name():
    Path("my.results").mkdir()
    for name, pictures, page in (
        ("e.JPG", ["e.JPG"], None),
        ("e.htm", [], Path("e.htm")),
        ("maps", ["maps/a.png"], Path("maps/index.html")),
        ("my.results", ["my.results/a.png"], Path("my.results/index.html")),
    ):
        output = Output.of(Path(name), IMAGES[:1], IMAGES[:1])
        assert [str(path) for path in output.pictures.values()] == pictures
        assert output.page == page


def test_the_default_is_named_after_the_image_or_the_folder_and_is_free():
    Path("photos/inner").mkdir(parents=True)
    for names, stem, suffix in (
        (["photos/a.b.jpg"], "a.b-maps", ".png"),
        (["photos/"], "photos-maps", ".html"),
        (["photos/inner/.."], "photos-maps", ".html"),
        (["/"], "maps", ".html"),
        (["a.jpg", "b.jpg"], "maps", ".html"),
    ):
        for ending in ("", "-2", "-3"):
            path = default_path([Path(name) for name in names])
            assert path == Path(f"{stem}{ending}{suffix}")
            path.touch()
        for path in Path().glob("*maps*"):
            path.unlink()


@pytest.mark.slow
def test_nothing_is_replaced_unasked(capsys):
    """Check files that exist already.

    The default output gets another name. A file that --output names stays until --overwrite, and an
    image that is to be explained stays even then.
    """
    save_scene("scene.png")
    save_scene("scene-maps.png")  # an image of the user with the default name of the output
    before = Path("scene-maps.png").read_bytes()
    explain = ["explain", "scene.png", *ONE_METHOD]

    assert main(explain) == 0
    assert capsys.readouterr().out == "written: scene-maps-2.png\n"
    assert Path("scene-maps.png").read_bytes() == before

    for output, name in (("e.html", "e.html"), ("e.png", "e.png"), ("maps", "maps/index.html")):
        existing = Path(name)
        existing.parent.mkdir(exist_ok=True)
        existing.write_text("mine")
        assert main([*explain, "--output", output]) == 2
        sentence = (
            f"axiom-bench: {name} exists already; give another --output, or --overwrite to "
            "replace it.\n"
        )
        assert capsys.readouterr().err == sentence
        assert existing.read_text() == "mine"
        assert main([*explain, "--output", output, "--overwrite"]) == 0
        assert existing.read_bytes() != b"mine"
        capsys.readouterr()  # a slow machine has printed its progress

    assert main([*explain, "--output", "scene.png", "--overwrite"]) == 2
    assert "would replace an image that is to be explained" in capsys.readouterr().err


@pytest.mark.slow
def test_images_are_counted_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    save_scene("photos/scene.png")
    shutil.copy("photos/scene.png", "photos/other.png")
    assert main(["explain", "photos", *ONE_METHOD, "--output", "maps"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "written: maps/other.png",
        "written: maps/scene.png",
        "written: maps/index.html",
    ]
    lines = captured.err.splitlines()
    assert any(line.startswith("Computing maps: 1 of 2 images") for line in lines)
    assert any(line.startswith("Drawing pictures: 1 of 2 images") for line in lines)


@pytest.mark.slow
def test_a_notebook_s_backend_of_matplotlib_is_not_needed():
    """Check the environment of a notebook.

    A kernel sets MPLBACKEND for the processes that it starts, even if their Python lacks this
    backend.
    """
    save_scene("scene.png")
    code = "import sys\nfrom axiom_bench.cli.main import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "explain", "scene.png", *ONE_METHOD]
    environment = os.environ | {"MPLBACKEND": "of_the_notebook"}
    subprocess.run([*command, "--output", "maps.png"], env=environment, check=True)
    assert Path("maps.png").is_file()


@pytest.mark.slow
def test_a_map_that_is_zero_is_told(capsys):
    Path("mine.py").write_text("def nothing(trace):\n    return 0 * trace.gradients\n")
    save_scene("scene.png")
    options = ["--methods", "xgrad_cam,mine.nothing", "--targets", "3", "--output", "e.html"]

    assert main(["explain", "scene.png", *VGG, *options]) == 0

    sentence = "The map of mine.nothing is zero everywhere on scene.png (digit 3)."
    assert sentence in capsys.readouterr().out.splitlines()
    text = Path("e.html").read_text()
    assert sentence in text
    assert '"zero":[1]' in text
    (gallery,) = re.findall(r'id="gallery-data">(.*?)</script>', text)
    (image,) = json.loads(gallery)["images"]
    (_, map_of_xgrad_cam), (_, map_of_nothing) = image["maps"]
    assert map_of_xgrad_cam
    assert not map_of_nothing


ZEROS = """
def nothing(trace):
    return 0 * trace.gradients


def on_bright_images(trace):
    return trace.gradients * (trace.images.mean((1, 2, 3)) > 0)[:, None, None, None]
"""


@pytest.mark.slow
def test_maps_that_are_all_zero_have_no_picture_and_no_drops(capsys, monkeypatch):
    drops = Mock(side_effect=AssertionError("no error is shown"))
    monkeypatch.setattr("axiom_bench.cutting.split_model.TracedNetwork.ablation_drops", drops)
    Path("mine.py").write_text(ZEROS)
    save_scene("scene.png")
    explain = ["explain", "scene.png", *VGG, "--methods", "mine.nothing"]
    for output in ("e.png", "e.html", "folder"):
        assert main([*explain, "--output", output]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "All maps at the layer 'features.13' are zero; choose another layer (model.layer=NAME "
            "on the command line) or class.",
            "No picture is made of scene.png: all maps are zero everywhere.",
        ]
        assert not Path(output).exists()


@pytest.mark.slow
def test_only_images_with_heat_have_a_picture(capsys):
    Path("mine.py").write_text(ZEROS)
    Path("photos").mkdir()
    for name, value in (("dark", 20), ("bright", 230)):
        Image.new("RGB", (96, 96), (value, value, value - 10)).save(f"photos/{name}.png")
    options = ["--methods", "mine.on_bright_images", "--output", "maps"]

    assert main(["explain", "photos", *VGG, *options]) == 0

    sentence = "No picture is made of photos/dark.png: all maps are zero everywhere."
    assert sentence in capsys.readouterr().out
    assert {path.name for path in Path("maps").iterdir()} == {"bright.png", "index.html"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["--methods", "random,sobel"], ["--methods", "grad_cam", "report.figures.plane=[]"]]
)
def test_drops_that_no_shown_error_needs_are_not_computed(options, monkeypatch):
    drops = Mock(side_effect=AssertionError("no error is shown"))
    monkeypatch.setattr("axiom_bench.cutting.split_model.TracedNetwork.ablation_drops", drops)
    save_scene("scene.png")
    assert main(["explain", "scene.png", *VGG, *options, "--output", "e.png"]) == 0
    with pytest.raises(AssertionError, match="no error is shown"):
        main(["explain", "scene.png", *ONE_METHOD, "--output", "f.png"])
