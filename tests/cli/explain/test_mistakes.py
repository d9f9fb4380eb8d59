"""Images and outputs that a user gets wrong: one sentence each, and every other image is explained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from axiom_bench.cli.explain_command import Output, open_upright
from axiom_bench.cli.main import main
from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError

COMMAND = ["--model", "scenes_vgg", "device=cpu", "--methods", "xgrad_cam"]
ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(scenes.draw("evaluation", 0, 0).image)
    image.save("scene.png")
    return image


def test_images_of_every_mode_are_explained(scene: Image.Image):
    Path("modes").mkdir()
    scene.convert("L").save("modes/grey.png")
    scene.convert("CMYK").save("modes/cmyk.jpg")
    scene.convert("P").save("modes/palette.gif")
    scene.convert("RGBA").save("modes/alpha.png")
    grey16 = np.asarray(scene.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey16).save("modes/grey16.png")
    assert main(["explain", "modes", *COMMAND, "--output", "e.html"]) == 0
    assert Path("e.html").read_text().count('class="page-section"') == 5
    np.testing.assert_array_equal(*(np.asarray(open_upright(Path("modes", n))[0]) for n in ("grey.png", "grey16.png")))


def test_what_cannot_be_read_has_a_sentence_and_the_rest_is_explained(
    scene: Image.Image, capsys: pytest.CaptureFixture[str]
):
    scene.resize((400, 400)).save("whole.jpg")
    Path("truncated.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-2000])
    Path("words.png").write_text("no image")
    Path("empty").mkdir()
    names = ["truncated.jpg", "scene.png", "nowhere.png", "words.png", "empty", "scene.png"]
    assert main(["explain", *names, *COMMAND, "--output", "e.html"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "written: e.html\n"
    lines = captured.err.splitlines()
    assert [line.startswith("axiom-bench: ") for line in lines] == [True] * 4
    for sentence in (
        "There are no images in the folder empty",
        "The image truncated.jpg: can't be decoded: ",
        "The image nowhere.png: there is no file nowhere.png.",
        "The image words.png: can't be decoded: ",
    ):
        assert sum(sentence in line for line in lines) == 1
    text = Path("e.html").read_text()
    assert text.count("as the model sees it</figcaption>") == 1  # named twice, explained once
    assert "The image nowhere.png: there is no file" in text


def test_where_nothing_can_be_explained_nothing_is_written(capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "nowhere.png", *COMMAND]) == 2
    assert capsys.readouterr().err == "axiom-bench: The image nowhere.png: there is no file nowhere.png.\n"
    assert not Path("explanation.png").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image(orientation: int):
    """Eight ways to store one picture, and a viewer shows all of them alike."""
    corner = np.zeros((40, 60, 3), np.uint8)
    corner[:10, :20] = 255
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transpositions that store it, undone by the orientation
    image = Image.fromarray(corner)
    stored = image if orientation == 1 else image.transpose(Image.Transpose(turn[orientation]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save("stored.png", exif=exif)
    shown, turned = open_upright(Path("stored.png"))
    assert turned == (orientation != 1)
    np.testing.assert_array_equal(np.asarray(shown), corner)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_tiff_is_turned_once(orientation: int):
    """Its orientation belongs to the format, and Pillow applies it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("a.tif", exif=exif)
    Image.fromarray(pixels).save("a.png", exif=exif)
    shown = [np.asarray(open_upright(Path(name))[0]) for name in ("a.tif", "a.png")]
    np.testing.assert_array_equal(*shown)


def test_damaged_exif_turns_nothing(scene: Image.Image):
    scene.save("a.png", exif=b"Exif\0\0II*\0" + bytes([255]) * 40)
    shown, turned = open_upright(Path("a.png"))
    assert not turned
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(scene))


def test_what_is_no_file_and_names_that_are_not_utf8(scene: Image.Image, capsys: pytest.CaptureFixture[str]):
    Path("odd").mkdir()
    os.mkfifo("odd/pipe.jpg")
    Path("odd/loop.jpg").symlink_to("loop.jpg")
    Path("scene.png").rename(os.fsdecode(b"odd/caf\xe9.png"))
    assert main(["explain", "odd", *COMMAND, "--output", "e.html"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "axiom-bench: The image odd/loop.jpg: can't be decoded: Too many levels of symbolic links.",
        "axiom-bench: The image odd/pipe.jpg: it is no regular file.",
    ]
    assert r"caf\xe9.png" in Path("e.html").read_text()
    picture = os.fsdecode(b"odd/caf\xe9.png")
    Path("out").mkdir()
    assert main(["explain", picture, *COMMAND, "--output", "out"]) == 0
    assert r"caf\xe9.png" in {path.name for path in Path("out").iterdir()}


def test_a_turned_image_is_a_note(scene: Image.Image, capsys: pytest.CaptureFixture[str]):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    scene.save("phone.jpg", exif=exif)
    assert main(["explain", "phone.jpg", *COMMAND, "--output", "e.html"]) == 0
    note, _ = capsys.readouterr().out.splitlines()
    assert note == "phone.jpg is turned upright, as its EXIF orientation says."
    assert note in Path("e.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scene.png"], "Name the model: --model resnet18"),
        (["scene.png", "--model", "scenes_vg"], "did you mean 'scenes_vgg'"),
        (["scene.png", *COMMAND[:3], "--methods", "gradcam"], "did you mean 'grad_cam'"),
        (["scene.png", *COMMAND, "--layer", "features.99"], "features.99"),
        (["scene.png", *COMMAND, "--targets", "12"], "There is no class '12' of scenes_vgg"),
        (["scene.png", *COMMAND, "--colours", "jett"], "There is no colour map 'jett'; did you mean 'jet'"),
        (["scene.png", *COMMAND, "--output", "e.gif"], "Can't write e.gif: give a name that ends in .png, .jpg"),
        (["scene.png", *COMMAND, "--output", "scene.png"], "would replace an image that is to be explained"),
        (["scene.png", *COMMAND, "--output", "."], "scene.png is an image that is to be explained"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    before = Path("scene.png").read_bytes()
    assert main(["explain", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("axiom-bench: ")
    assert sentence in message
    assert "\n" not in message
    assert [path.name for path in Path().iterdir()] == ["scene.png"]
    assert Path("scene.png").read_bytes() == before


IMAGES = [Path("a.png"), Path("b.png")]


@pytest.mark.parametrize(
    ("path", "images", "sentence"),
    [
        (Path("e.png"), IMAGES, "e.png can show one image, and there are 2; give a page"),
        (Path("folder.png"), IMAGES[:1], "folder.png is a folder, which isn't replaced"),
        (Path("pipe"), IMAGES[:1], "pipe is no regular file and isn't replaced"),
        (Path("link.png"), IMAGES[:1], "link.png is a link and isn't replaced"),
        (Path("/dev/null"), IMAGES[:1], "/dev/null is no regular file and isn't replaced"),
        (Path("file"), IMAGES[:1], "Can't write file: give a name that ends in"),
        (Path("my.results"), IMAGES, "Can't write my.results"),
    ],
)
def test_outputs_that_are_refused(path: Path, images: list[Path], sentence: str):
    Path("folder.png").mkdir()
    Path("file").touch()
    os.mkfifo("pipe")
    Path("link.png").symlink_to("elsewhere.png")
    with pytest.raises(BenchError, match=sentence):
        Output.of(path, images)


def test_outputs_by_name():
    Path("my.results").mkdir()
    for path, kind in {"e.JPG": "jpeg", "e.htm": "html", "maps": None, "my.results": None}.items():
        assert Output.of(Path(path), IMAGES[:1]).format == kind
    assert Output.of(None, IMAGES[:1]).path == Path("explanation.png")
    assert Output.of(None, IMAGES).path == Path("explanation.html")
