"""Where `axiom-bench explain` writes, and that it replaces nothing unasked; what it says while it
works.
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

ONE = ["--model", "scenes_vgg", "device=cpu", "--methods", "xgrad_cam"]
IMAGES = [Path("a.png"), Path("b.png")]


@pytest.fixture(autouse=True)
def _outside(tmp_path, monkeypatch):
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
        *(("e.JPG", ["e.JPG"], None), ("e.htm", [], Path("e.htm"))),
        *(
            (folder, [f"{folder}/a.png"], Path(folder, "index.html"))
            for folder in ("maps", "my.results")
        ),
    ):
        output = Output.of(Path(name), IMAGES[:1], IMAGES[:1])
        assert (list(map(str, output.pictures.values())), output.page) == (pictures, page)


def test_the_default_is_named_after_the_image_or_the_folder_and_is_free():
    Path("photos/inner").mkdir(parents=True)
    for names, stem, suffix in (
        (["photos/a.b.jpg"], "a.b-maps", ".png"),
        (["photos/"], "photos-maps", ".html"),
        (["photos/inner/.."], "photos-maps", ".html"),
        (["/"], "maps", ".html"),
        (["a.jpg", "b.jpg"], "maps", ".html"),
    ):
        for end in ("", "-2", "-3"):
            path = default_path([Path(name) for name in names])
            assert path == Path(f"{stem}{end}{suffix}")
            path.touch()
        for path in Path().glob("*maps*"):
            path.unlink()


@pytest.mark.slow
def test_nothing_is_replaced_unasked(capsys):
    """A second time the default has another name; what --output names is there, and stays until
    --overwrite.
    """
    save_scene("scene.png")
    save_scene("scene-maps.png")  # also an image, the user's own
    before = Path("scene-maps.png").read_bytes()
    assert main(["explain", "scene.png", *ONE]) == 0
    assert capsys.readouterr().out == "written: scene-maps-2.png\n"
    assert Path("scene-maps.png").read_bytes() == before
    for output, there in {"e.html": "e.html", "e.png": "e.png", "maps": "maps/index.html"}.items():
        Path(there).parent.mkdir(exist_ok=True)
        Path(there).write_text("mine")
        assert main(["explain", "scene.png", *ONE, "--output", output]) == 2
        expected = (
            f"axiom-bench: {there} exists already; give another --output, or --overwrite to "
            "replace it.\n"
        )
        assert capsys.readouterr().err == expected
        assert Path(there).read_text() == "mine"
        assert main(["explain", "scene.png", *ONE, "--output", output, "--overwrite"]) == 0
        assert Path(there).read_bytes() != b"mine"
    capsys.readouterr()
    assert main(["explain", "scene.png", *ONE, "--output", "scene.png", "--overwrite"]) == 2
    assert "would replace an image that is to be explained" in capsys.readouterr().err


def test_images_are_counted_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    save_scene("photos/scene.png")
    shutil.copy("photos/scene.png", "photos/other.png")
    assert main(["explain", "photos", *ONE, "--output", "maps"]) == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out.splitlines() == [
        f"written: maps/{name}" for name in ("other.png", "scene.png", "index.html")
    ]
    assert any(line.startswith("maps: 1 of 2 images") for line in lines)
    assert any(line.startswith("pictures: 1 of 2 images") for line in lines)


@pytest.mark.slow
def test_a_notebook_s_backend_of_matplotlib_is_not_needed():
    """A kernel sets MPLBACKEND for what it starts, also where that has an environment of its
    own.
    """
    save_scene("scene.png")
    code = "import sys\nfrom axiom_bench.cli.main import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "explain", "scene.png", *ONE, "--output", "maps.png"]
    subprocess.run(command, env=os.environ | {"MPLBACKEND": "of_the_notebook"}, check=True)
    assert Path("maps.png").is_file()


def test_a_map_that_is_zero_is_told(capsys):
    Path("mine.py").write_text("def nothing(trace):\n    return 0 * trace.gradients\n")
    save_scene("scene.png")
    methods = ["--methods", "xgrad_cam,mine.nothing"]
    assert (
        main(["explain", "scene.png", *ONE[:-2], *methods, "--targets", "3", "--output", "e.html"])
        == 0
    )
    sentence = "The map of mine.nothing is zero everywhere on scene.png (digit 3)."
    assert sentence in capsys.readouterr().out.splitlines()
    text = Path("e.html").read_text()
    assert sentence in text
    assert '"zero":[1]' in text
    (maps,) = (
        image["maps"]
        for image in json.loads(re.findall(r'id="gallery-data">(.*?)</script>', text)[0])["images"]
    )
    # a picture of the one that isn't zero
    assert [bool(picture) for _, picture in maps] == [
        True,
        False,
    ]


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
    for output in ("e.png", "e.html", "folder"):
        assert (
            main(
                ["explain", "scene.png", *ONE[:-2], "--methods", "mine.nothing", "--output", output]
            )
            == 0
        )
        assert capsys.readouterr().out.splitlines() == [
            "All maps at the layer 'features.13' are zero; choose another layer or class.",
            "No picture is made of scene.png: all maps are zero everywhere.",
        ]
        assert not Path(output).exists()


@pytest.mark.slow
def test_only_images_with_heat_have_a_picture(capsys):
    Path("mine.py").write_text(ZEROS)
    Path("photos").mkdir()
    for name, value in {"dark": 20, "bright": 230}.items():
        Image.new("RGB", (96, 96), (value, value, value - 10)).save(f"photos/{name}.png")
    assert (
        main(
            [
                "explain",
                "photos",
                *ONE[:-2],
                "--methods",
                "mine.on_bright_images",
                "--output",
                "maps",
            ]
        )
        == 0
    )
    assert (
        "No picture is made of photos/dark.png: all maps are zero everywhere."
        in capsys.readouterr().out
    )
    assert {path.name for path in Path("maps").iterdir()} == {"bright.png", "index.html"}


@pytest.mark.parametrize(
    "chosen", [["--methods", "random,sobel"], ["--methods", "grad_cam", "report.figures.plane=[]"]]
)
def test_drops_that_no_shown_error_needs_are_not_computed(chosen, monkeypatch):
    drops = Mock(side_effect=AssertionError("no error is shown"))
    monkeypatch.setattr("axiom_bench.cutting.split_model.TracedNetwork.ablation_drops", drops)
    save_scene("scene.png")
    assert main(["explain", "scene.png", *ONE[:-2], *chosen, "--output", "e.png"]) == 0
    with pytest.raises(AssertionError, match="no error is shown"):
        main(["explain", "scene.png", *ONE, "--output", "f.png"])
