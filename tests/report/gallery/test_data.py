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
from axiom_bench.report.gallery import (
    STEPS,
    Measured,
    colour_maps,
    entries,
    gallery_data,
    inline,
    measured,
    ranked,
    shown_metrics,
)  # fmt: skip


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
    errors = {"0": [0.2, "0.200", 1], "1": [0.2, "0.200", 1], "2": [None, "not on score scale", None]}
    assert image["values"][0] == errors
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
    keys = [["first", "one", "cat"], ["first", "one", "bird"], ["second", "one"]]
    assert [image["key"] for image in data["images"]] == keys
    assert data["images"][1]["values"] == [{}, {}]  # no records of this class


def test_the_class_of_another_explained_object_is_no_wrong_class(gallery_run: Any, entry_of: Any) -> None:
    """Explained are cat and bird. Predicted is cat once, and once a class of no object."""
    bird = {"target_class": 5, "target_name": "bird"}
    entries = (entry_of("first", "one"), entry_of("first", "one", **bird), entry_of("first", "a/two.jpg"))
    data = data_of(gallery_run(*entries))
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


def test_a_run_without_pictures_says_how_to_get_a_gallery(gallery_run: Any) -> None:
    section = gallery.section(gallery_run(gallery=[]))
    assert "Run the same command again" in section.body
    assert (section.data, section.scripts) == ({}, ())
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


@pytest.mark.parametrize("colour_map", list(colour_maps()), ids=lambda colour_map: colour_map["name"])
def test_colour_maps_are_those_of_matplotlib(colour_map: Any) -> None:
    tables = [np.array(table.split(), float) for table in map(colour_map.get, ("red", "green", "blue"))]
    heat, nodes = np.linspace(0, 1, 256), np.linspace(0, 1, STEPS)
    colours = np.stack([np.interp(heat, nodes, table) for table in tables], 1)
    expected = matplotlib.colormaps[colour_map["name"]](heat)[:, :3]
    assert np.abs(colours - expected).max() < (6 if colour_map["name"] == "jet" else 1) / 255


@pytest.mark.parametrize(
    ("values", "better", "ranks"),
    [
        ({"a": 0.3, "b": 0.1, "c": 0.2}, "lower", {"a": 3, "b": 1, "c": 2}),
        ({"a": 0.3, "b": 0.1, "c": 0.2}, "higher", {"a": 1, "b": 3, "c": 2}),
        ({"a": -0.3, "b": 0.1}, "lower", {"a": 1, "b": 2}),
        ({"a": 1e-7, "b": 9e-8, "c": 0.1}, "lower", {"a": 1, "b": 1, "c": 3}),  # float32's rounding is no difference
        ({"a": 0.50001, "b": 0.5, "c": 0.4}, "lower", {"a": 2, "b": 2, "c": 1}),  # the same three digits
        ({"a": float("nan"), "b": 2.0}, "higher", {"b": 1}),
    ],
)
def test_ranks(values: dict[str, float], better: str, ranks: dict[str, int]) -> None:
    assert ranked(values, better) == ranks


def test_metrics_that_say_what_is_better_are_shown(gallery_run: Any) -> None:
    report = {"headline": ["confidence_drop"], "columns": ["conservation_error_raw", "sensitivity_error", "box_iou"]}
    run = gallery_run(config={"report": report})
    assert [value.name for value in shown_metrics(run)] == ["confidence_drop", "sensitivity_error"]  # box_iou: no rows


def test_values_of_an_image_under_each_method(gallery_run: Any) -> None:
    run = gallery_run()
    values = measured(run, run.settings[0], shown_metrics(run), {"one"})
    good, bad = Measured(0.9, "0.900", 1), Measured(0.5, "0.500", 2)
    errors = {"good": Measured(0.1, "0.100", 1), "bad": Measured(0.4, "0.400", 2),
              "odd": Measured(None, "not on score scale", None)}  # fmt: skip
    drops = {"good": good, "bad": bad, "odd": bad}
    assert values == {("one", 0): {"sensitivity_error": errors, "confidence_drop": drops}}


def test_a_value_that_a_formula_makes_0_has_no_rank(gallery_run: Any) -> None:
    """Bad-CAM's error of the second image is as good as Good-CAM's, and first without it."""
    methods = {"good": {"wins_by_construction": ["sensitivity_error"]}, "bad": {}, "odd": {}}
    run = gallery_run(methods=methods)
    values = measured(run, run.settings[0], shown_metrics(run), {"a/two.jpg"})["a/two.jpg", 1]
    assert values["sensitivity_error"]["good"] == Measured(0.2, "0.200\N{DOUBLE DAGGER}", None)
    assert values["sensitivity_error"]["bad"].rank == 1
    assert values["confidence_drop"]["good"].rank == 2
