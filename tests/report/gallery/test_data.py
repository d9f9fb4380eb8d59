"""What the gallery's script gets, and where its pictures lie."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from axiom_bench import report
from axiom_bench.errors import BenchError
from axiom_bench.records import sealed
from axiom_bench.report import gallery, stamp
from axiom_bench.report.gallery import STEPS, colour_maps, entries, gallery_data, inline


def data_of(run: Any) -> dict[str, Any]:
    """As the browser gets it: JSON has no numbers as keys."""
    data: dict[str, Any] = json.loads(json.dumps(gallery_data(run, entries(run), inline), allow_nan=False))
    return data


def test_an_image_has_its_classes_maps_and_values(gallery_run: Any, entry_of: Any) -> None:
    data = data_of(gallery_run(entry_of("second", "a/two.jpg")))
    (image,) = data["images"]
    assert [method["title"] for method in data["methods"][:2]] == ["Good-CAM", "Bad-CAM"]
    assert [setting["label"] for setting in data["settings"]] == ["second"]
    assert (image["setting"], image["id"], image["key"]) == (0, "a/two.jpg", ["second", "a/two.jpg"])
    assert (image["target"][0], image["predicted"]) == (1, [0, "cat", 0.999])
    assert image["boxes"] == [[10, 15, 50, 45]]
    assert image["values"][0] == {
        "0": [0.2, "0.200", 1],
        "1": [0.2, "0.200", 1],
        "2": [None, "not on score scale", None],
    }
    assert [values["2"] for values in image["values"]][1] == [-0.2, "-0.200", 3]


def test_a_map_that_two_methods_share_is_there_once(gallery_run: Any, entry_of: Any) -> None:
    entry = entry_of("first", "one")
    (image,) = data_of(gallery_run(entry))["images"]
    (good, address), (bad, same), (odd, nothing) = image["maps"]
    assert (good, bad, same, odd, nothing) == (0, 1, 0, 2, None)
    assert base64.b64decode(address.removeprefix("data:image/webp;base64,")) == entry["maps"][0]


def test_two_maps_that_are_not_finite_are_not_the_same_map(gallery_run: Any, entry_of: Any) -> None:
    (image,) = data_of(gallery_run(entry_of("first", "one", maps=[None, None, None])))["images"]
    assert image["maps"] == [[0, None], [1, None], [2, None]]


def test_the_class_is_in_the_link_where_an_image_has_several(gallery_run: Any, entry_of: Any) -> None:
    other = {"target_class": 5, "target_name": "bird"}
    data = data_of(gallery_run(entry_of("first", "one"), entry_of("first", "one", **other), entry_of("second", "one")))
    assert [image["key"] for image in data["images"]] == [
        ["first", "one", "cat"],
        ["first", "one", "bird"],
        ["second", "one"],
    ]
    assert data["images"][1]["values"] == [{}, {}]  # no records of this class


def test_the_class_of_another_explained_object_is_no_wrong_class(gallery_run: Any, entry_of: Any) -> None:
    """Explained are cat and bird. Predicted is cat once, and once a class of no object."""
    bird = {"target_class": 5, "target_name": "bird"}
    data = data_of(
        gallery_run(entry_of("first", "one"), entry_of("first", "one", **bird), entry_of("first", "a/two.jpg"))
    )
    assert [image["wrong"] for image in data["images"]] == [False, False, True]


def test_an_output_without_probabilities(gallery_run: Any, entry_of: Any) -> None:
    nothing = {"target_probability": None, "predicted_probability": None, "disagreement": float("nan")}
    (image,) = data_of(gallery_run(entry_of("first", "one", **nothing)))["images"]
    assert (image["target"][2], image["predicted"][2], image["disagreement"]) == (None, None, None)


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ({"first": 3, "second": 3}, "All 3 images, each"),
        ({"first": 64, "second": 64}, "3 of 64 images, spread evenly over them and not chosen by their values, each"),
        ({"first": 3, "second": 8}, "first: All 3 images; second: 3 of 8 images, spread"),
    ],
)
def test_how_many_of_the_images_are_shown(gallery_run: Any, kept: dict[str, int], text: str) -> None:
    models = {
        name: {"layer": "layer4", "images": {"scenes": {"chosen": count, "kept": count, "others": None}}}
        for name, count in kept.items()
    }
    assert text in gallery.section(gallery_run(models=models)).body


def test_methods_of_a_network_without_training_have_no_best(gallery_run: Any) -> None:
    models = {"first": {"layer": "layer4", "random_weights": True}, "second": {"layer": "layer4"}}
    assert [setting["ranks"] for setting in data_of(gallery_run(models=models))["settings"]] == [False, True]


def test_a_run_that_stored_no_pictures_says_how_to_get_a_gallery(gallery_run: Any) -> None:
    section = gallery.section(gallery_run(gallery=[]))
    assert "Run the same command again" in section.body
    assert (section.data, section.scripts) == ({}, ())


def test_a_run_without_pictures_says_which_setting_brings_them(gallery_run: Any) -> None:
    config = {"pictures": {"gallery": 0}}
    assert "pictures.gallery=12" in gallery.section(gallery_run(gallery=[], config=config)).body


def test_a_damaged_file_is_named(gallery_run: Any) -> None:
    run = gallery_run()
    (run.path / "gallery/one.parquet").write_bytes(b"damaged")
    with pytest.raises(BenchError, match=r"one\.parquet"):
        gallery.section(run)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_pictures_of_many_images_lie_beside_a_page(gallery_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has both pages, finds them up to date, and removes them when they are no longer needed."""
    monkeypatch.setattr(gallery, "MAX_INLINE", 2)
    folder: Path = gallery_run().path
    report.write(folder)
    assert "report/index.html#gallery" in (folder / "report.html").read_text()
    pictures = {path.name for path in (folder / "report/pictures").iterdir()}
    assert len(pictures) == 2  # one picture and one map: they are the same for all images
    assert all(name in (folder / "report/index.html").read_text() for name in pictures)
    page = (folder / "report/index.html").read_text()
    assert re.findall(r'<section id="([^"]+)"', page) == ["gallery"]
    assert set(re.findall(r'href="([^#"]+)"', page)) == {"../report.html"}
    written = set(json.loads((folder / stamp.FILE).read_text())["outputs"])
    assert {"report/index.html", *(f"report/pictures/{name}" for name in pictures)} <= written
    monkeypatch.setattr(gallery, "MAX_INLINE", 100)
    sealed.write_json(folder / stamp.FILE, {**sealed.read_json(folder / stamp.FILE), "inputs": ""})
    report.write(folder)
    assert not (folder / "report/index.html").exists()
    assert list((folder / "report/pictures").iterdir()) == []


@pytest.mark.parametrize("colour_map", list(colour_maps()), ids=lambda colour_map: colour_map.name)
def test_colour_maps_are_those_of_matplotlib(colour_map: Any) -> None:
    tables = [np.array(table.split(), float) for table in (colour_map.red, colour_map.green, colour_map.blue)]
    heat, nodes = np.linspace(0, 1, 256), np.linspace(0, 1, STEPS)
    colours = np.stack([np.interp(heat, nodes, table) for table in tables], 1)
    expected = matplotlib.colormaps[colour_map.name](heat)[:, :3]
    assert np.abs(colours - expected).max() < (6 if colour_map.name == "jet" else 1) / 255
