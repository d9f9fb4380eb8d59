"""The data that the gallery's script gets, and the place of its pictures."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import matplotlib
import numpy as np
import pytest

from axiom_bench import report
from axiom_bench.records import files
from axiom_bench.report import gallery, summary
from axiom_bench.report.gallery import (
    STEPS,
    Measured,
    colour_maps,
    image_ranks,
    measured_values,
    shown_metrics,
)
from tests.report.gallery.conftest import make_entry

BIRD = {"target_class": 5, "target_name": "bird"}


def data_of(run: Any) -> dict[str, Any]:
    """Return the gallery's data as the browser gets it, after JSON has turned keys into texts."""
    data = gallery.gallery_data(run, gallery.stored_pictures(run), gallery.data_address)
    loaded: dict[str, Any] = json.loads(json.dumps(data, allow_nan=False))
    return loaded


def test_an_image_has_its_classes_maps_and_values(gallery_run):
    data = data_of(gallery_run(make_entry("second", "a/two.jpg")))
    (image,) = data["images"]
    assert [method["title"] for method in data["methods"][:2]] == ["Good-CAM", "Bad-CAM"]
    assert [setting["label"] for setting in data["settings"]] == ["second"]
    assert image["setting"] == 0
    assert image["id"] == "a/two.jpg"
    assert image["key"] == ["second", "a/two.jpg"]
    assert image["target"][0] == 1
    assert image["predicted"] == [0, "cat", 0.999]
    assert image["boxes"] == [[10, 15, 50, 45]]
    errors, drops = image["values"]
    assert errors == {
        "0": [0.2, "0.200", 1],
        "1": [0.2, "0.200", 1],
        "2": [None, "not on score scale", None],
    }
    assert drops["2"] == [-0.2, "-0.200", 3]


def test_a_map_that_two_methods_share_is_there_once_unless_it_is_not_finite(gallery_run):
    entry = make_entry("first", "one")
    entry_without_maps = make_entry("second", "one", maps=[None, None, None])
    shared, missing = data_of(gallery_run(entry, entry_without_maps))["images"]
    address = f"data:image/webp;base64,{base64.b64encode(entry['maps'][0]).decode()}"
    assert shared["maps"] == [[0, address], [1, 0], [2, None]]
    assert missing["maps"] == [[0, None], [1, None], [2, None]]


def test_a_map_that_is_zero_everywhere_has_no_picture(gallery_run):
    entry = make_entry("first", "one")
    (image,) = data_of(gallery_run(entry | {"maps": [entry["maps"][0], b"", b""]}))["images"]
    assert [address is None for _, address in image["maps"]] == [False, True, True]
    assert image["zero"] == [1, 2]


def test_an_image_of_several_explained_classes_and_an_output_without_probabilities(gallery_run):
    """Check an image whose classes cat and bird are both explained.

    The links of this image say which class they mean. The prediction cat isn't marked as wrong for
    the explanation of bird.
    """
    run = gallery_run(
        make_entry("first", "one"),
        make_entry("first", "one", **BIRD),
        make_entry(
            "second",
            "one",
            target_probability=None,
            predicted_probability=None,
            disagreement=float("nan"),
        ),
        make_entry("first", "a/two.jpg"),
    )

    cat, bird, without_probabilities, other = data_of(run)["images"]

    assert cat["key"] == ["first", "one", "cat"]
    assert bird["key"] == ["first", "one", "bird"]
    assert without_probabilities["key"] == ["second", "one"]
    assert other["key"] == ["first", "a/two.jpg"]
    assert not cat["wrong"]
    assert not bird["wrong"]
    assert not without_probabilities["wrong"]
    assert other["wrong"]
    assert bird["values"] == [{}, {}]  # no records of this class
    assert without_probabilities["target"][2] is None
    assert without_probabilities["predicted"][2] is None
    assert without_probabilities["disagreement"] is None


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ((3, 3), "All 3 images, with"),
        ((64, 64), "3 of 64 images, spread evenly over them and not chosen by their values, with"),
        ((3, 8), "first: All 3 images; second: 3 of 8 images, spread"),
    ],
)
def test_how_many_of_the_images_are_shown(gallery_run, kept, text):
    models = {}
    for name, count in zip(("first", "second"), kept, strict=True):
        images = {"scenes": {"chosen": count, "kept": count, "others": None}}
        models[name] = {"layer": "layer4", "images": images}
    assert text in gallery.section(gallery_run(models=models)).body


@pytest.mark.parametrize(
    ("noun", "subject"), [("image", "class"), ("object", "class"), ("word", "word")]
)
def test_objects_and_words_are_counted_as_such(gallery_run, noun, subject):
    entry = {"chosen": 3, "kept": 3, "others": None, "noun": noun}
    models = {
        name: {"layer": "layer4", "images": {"scenes": entry}} for name in ("first", "second")
    }
    run = gallery_run(models=models)
    assert f"All 3 {noun}s, with" in gallery.section(run).body
    assert f", {subject} " in gallery.maps_row(run)


def test_a_row_of_all_maps_is_of_the_image_with_the_most_maps(gallery_run):
    ramp = make_entry("first", "one")["maps"][0]
    entries = [
        make_entry("first", "one", maps=[None] * 3),
        make_entry("first", "a/two.jpg", maps=[ramp, None, None]),
    ]
    row = gallery.maps_row(gallery_run(*entries), most=None)
    assert "a/two.jpg, class" in row
    assert row.count("Map of") == 1


def test_methods_with_the_same_map_share_one_in_the_row(gallery_run):
    assert "Map of Good-CAM = Bad-CAM" in gallery.maps_row(gallery_run(), most=None)


def test_other_pictures_are_shown_instead_of_those_that_the_run_stored(gallery_run):
    run = gallery_run()
    pictures = [make_entry("first", "a/two.jpg")]
    row = gallery.maps_row(run, most=None, own_pictures=pictures)
    assert "a/two.jpg, class" in row
    data: Any = gallery.section(run, pictures).data["gallery-data"]
    assert [image["id"] for image in data["images"]] == ["a/two.jpg"]


def test_methods_of_a_network_without_training_have_no_best(gallery_run):
    models = {"first": {"layer": "layer4", "random_weights": True}, "second": {"layer": "layer4"}}
    first, second = data_of(gallery_run(models=models))["settings"]
    assert first["ranks"] is False
    assert second["ranks"] is True


def test_a_run_without_pictures_says_how_to_get_a_gallery(gallery_run):
    section = gallery.section(gallery_run(gallery=[]))
    assert "Run the same command again" in section.body
    assert (section.data, section.scripts) == ({}, ())
    config = {"pictures": {"gallery": 0}}
    assert "pictures.gallery=12" in gallery.section(gallery_run(gallery=[], config=config)).body


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_pictures_of_many_images_lie_beside_a_page(gallery_run, monkeypatch):
    """Check also that the next report removes the files that it no longer needs."""
    monkeypatch.setattr(gallery, "MAX_INLINE", 2)
    folder = gallery_run().path
    report.write(folder)
    assert "report/index.html#gallery" in (folder / "report.html").read_text()
    pictures = {path.name for path in (folder / "report/pictures").iterdir()}
    assert len(pictures) == 2  # one picture and one map: they are the same for all images
    page = (folder / "report/index.html").read_text()
    assert all(name in page for name in pictures)
    assert re.findall(r'<section id="([^"]+)"', page) == ["gallery"]
    assert set(re.findall(r'href="([^#"]+)"', page)) == {"../report.html"}
    written = set(files.read_json(folder / summary.FILE)["files"])
    assert {"report/index.html", *(f"report/pictures/{name}" for name in pictures)} <= written
    monkeypatch.setattr(gallery, "MAX_INLINE", 100)
    report.write(folder)
    assert not (folder / "report/index.html").exists()
    assert list((folder / "report/pictures").iterdir()) == []


@pytest.mark.parametrize(
    "colour_map", list(colour_maps()), ids=lambda colour_map: colour_map["name"]
)
def test_colour_maps_are_those_of_matplotlib(colour_map):
    heat = np.linspace(0, 1, 256)
    nodes = np.linspace(0, 1, STEPS)
    channels = []
    for channel in ("red", "green", "blue"):
        table = np.array(colour_map[channel].split(), float)
        channels.append(np.interp(heat, nodes, table))
    expected = matplotlib.colormaps[colour_map["name"]](heat)[:, :3]
    tolerance = 6 if colour_map["name"] == "jet" else 1  # jet has corners between the nodes
    assert np.abs(np.stack(channels, 1) - expected).max() < tolerance / 255


@pytest.mark.parametrize(
    ("values", "better", "ranks"),
    [
        ((0.3, 0.1, 0.2), "lower", "312"),
        ((0.3, 0.1, 0.2), "higher", "132"),
        ((-0.3, 0.1), "lower", "12"),
        ((1e-7, 9e-8, 0.1), "lower", "113"),  # float32's rounding is no difference
        ((0.50001, 0.5, 0.4), "lower", "221"),  # the same three digits
        ((float("nan"), 2.0), "higher", "-1"),
    ],
)
def test_ranks(values, better, ranks):
    expected = {name: int(rank) for name, rank in zip("abc", ranks, strict=False) if rank != "-"}
    assert image_ranks(dict(zip("abc", values, strict=False)), better) == expected


def test_metrics_that_say_what_is_better_are_shown(gallery_run):
    report = {
        "headline": ["confidence_drop"],
        "columns": ["conservation_error_raw", "sensitivity_error", "box_iou"],
    }
    run = gallery_run(config={"report": report})
    names = [value.name for value in shown_metrics(run)]
    assert names == ["confidence_drop", "sensitivity_error"]  # box_iou has no rows


def test_a_value_that_a_formula_makes_0_has_no_rank(gallery_run):
    """Check the second image, where Bad-CAM's error equals Good-CAM's: only Bad-CAM has a rank."""
    methods = {"good": {"wins_by_construction": ["sensitivity_error"]}, "bad": {}, "odd": {}}
    run = gallery_run(methods=methods)
    values_by_image = measured_values(run, run.settings[0], shown_metrics(run), {"a/two.jpg"})
    values = values_by_image["a/two.jpg", 1]
    assert values["sensitivity_error"]["good"] == Measured(0.2, "0.200\N{DOUBLE DAGGER}", None)
    assert values["sensitivity_error"]["bad"].rank == 1
    assert values["confidence_drop"]["good"].rank == 2
