"""A heatmap over its image, and heatmaps in notebooks.

The colours are computed by hand, an image may have any form, and each mistake is one sentence.
"""

import base64
import copy
import io
import pickle
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

import axiom_bench as ab
from axiom_bench.embedded.networks import scenes_vgg
from axiom_bench.explanation.heatmaps import (
    ERROR_COLUMNS,
    MAX_IMAGES,
    MAX_METHODS,
    SIDE,
    ClassScore,
    Heatmaps,
)
from axiom_bench.explanation.overlay import COLOURS, OPACITY, View, blend


def colour(name: str, heat: float) -> np.ndarray:
    return np.array(colormaps[name](np.float32(heat), bytes=True)[:3], dtype=float)


def test_the_grey_image_and_the_colour_are_weighted_by_the_opacity() -> None:
    image = np.array([[[30, 60, 90], [0, 0, 255]]], np.uint8)  # grey: 60, 85
    shown = blend(image, np.array([[0.0, 1.0]]), "viridis", 0.25)
    expected = [0.75 * 60 + 0.25 * colour("viridis", 0), 0.75 * 85 + 0.25 * colour("viridis", 1)]
    np.testing.assert_array_equal(shown[0], np.round(expected))
    image = np.full((2, 2, 3), 77, np.uint8)
    heat = np.full((2, 2), 0.5)
    assert (blend(image, heat, opacity=0) == 77).all()
    assert (blend(image, heat, opacity=1) == colour(COLOURS, 0.5)).all()
    shown = blend(image, np.array([[np.nan, 0.0]] * 2))  # NaN counts as no heat
    np.testing.assert_array_equal(shown[:, 0], shown[:, 1])


def test_the_default_colours_are_perceptually_uniform() -> None:
    """Check that lightness rises in even steps.

    The lightness of jet goes up and down, and draws edges that the map doesn't have.
    """

    def lightness(name: str) -> np.ndarray:
        rgb = colormaps[name](np.linspace(0, 1, 64))[:, :3]
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return np.asarray(116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16)

    assert (np.diff(lightness(COLOURS)) > 0).all()
    assert (np.diff(lightness("jet")) < 0).any()


def test_every_form_of_an_image_gives_the_same_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pixels[0, 0, :2] = (0, 255)  # the whole range, so floats scaled to their own range are the same
    heat = torch.rand(4, 5)
    expected = np.asarray(ab.overlay(pixels, heat))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    normalised = (tensor / 255 - 0.45) / 0.22
    for image in (Image.fromarray(pixels), tensor, tensor / 255, normalised, pixels / 255):
        np.testing.assert_array_equal(np.asarray(ab.overlay(image, heat)), expected)
    for same in (heat[None], heat.numpy(), heat.double().requires_grad_()):
        np.testing.assert_array_equal(np.asarray(ab.overlay(pixels, same)), expected)


def test_the_picture_has_the_size_of_the_image_and_hot_pixels_where_the_map_has() -> None:
    heat = torch.zeros(6, 9)
    heat[4, 7] = 1
    image = torch.full((3, 6, 9), 0.5)

    picture = ab.overlay(image, heat, COLOURS)
    jet = ab.overlay(image, heat, "jet")

    assert picture.mode == "RGB"
    assert picture.size == (9, 6)
    brightness = np.asarray(picture).sum(-1)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (4, 7)
    assert (np.asarray(jet) != np.asarray(picture)).any()
    assert OPACITY > 0
    grey = Image.fromarray(np.full((3, 4), 9, np.uint8))
    assert ab.overlay(grey, np.zeros((3, 4))).size == (4, 3)


IMAGE = torch.zeros(3, 4, 6)
HEAT = torch.zeros(4, 6)


@pytest.mark.parametrize(
    ("image", "heatmap", "options", "sentence"),
    [
        (
            IMAGE[None],
            HEAT,
            {},
            r"This image has the shape \(1, 3, 4, 6\); pass a tensor \(3, H, W\)",
        ),
        (IMAGE.permute(1, 2, 0), HEAT, {}, r"This image has the shape \(4, 6, 3\)"),
        (
            IMAGE.numpy(),
            HEAT,
            {},
            r"This image has the shape \(3, 4, 6\); .* an array \(H, W, 3\)",
        ),
        ("photo.jpg", HEAT, {}, r"The image photo.jpg: there is no file photo.jpg\.$"),
        (3, HEAT, {}, "An image can't be an int; pass a tensor"),
        (IMAGE.long(), HEAT, {}, "This image holds int64; give uint8"),
        (IMAGE * torch.nan, HEAT, {}, "This image holds NaN or infinity"),
        (
            IMAGE,
            HEAT.repeat(2, 1, 1),
            {},
            r"This heatmap has the shape \(2, 4, 6\); give that of one image",
        ),
        (
            IMAGE,
            HEAT.T,
            {},
            r"The heatmap is 6 x 4 pixels and the image 4 x 6; ab.heatmap\(raw_map, \(4, 6\)\)",
        ),
        (IMAGE, HEAT[:2, :3], {}, "The heatmap is 2 x 3 pixels and the image 4 x 6"),
        (IMAGE, HEAT - 2, {}, r"values from -2 to -2; ab.heatmap scales"),
        (IMAGE, [[0.0]], {}, "A heatmap can't be a list"),
        (
            IMAGE,
            {"grad_cam": HEAT},
            {},
            r"A heatmap can't be a dict; .*ab.explain\(...\)\[name\]\[0\]",
        ),
        (
            IMAGE,
            HEAT,
            {"colours": "infern"},
            "There is no colour map 'infern'; did you mean 'inferno'",
        ),
        (IMAGE, HEAT, {"opacity": 2}, "opacity is 2; give a number from 0"),
    ],
)
def test_a_mistake_is_one_sentence(
    image: Any, heatmap: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ab.BenchError, match=sentence) as error:
        ab.overlay(image, heatmap, **options)
    assert "\n" not in str(error.value)


RAMP = torch.linspace(0, 1, 64).repeat(3, 32, 1)
RAMPS = torch.stack([RAMP, 1 - RAMP])


def heatmaps(images: torch.Tensor = RAMPS, count: int = 2) -> Heatmaps:
    size = (len(images), *images.shape[-2:])
    probabilities = torch.tensor([[0.0, 2.0, 1.0]]).softmax(1).repeat(len(images), 1)
    maps = {f"method_{number}": torch.full(size, number / count) for number in range(count)}
    explained = torch.tensor([1, 2]).repeat(len(images))[: len(images)]
    scores_by_class = {
        1: ClassScore(1, "class 1", 0.67),
        2: ClassScore(2, "class 2", 0.24),
        0: ClassScore(0, "class 0", 0.09),
    }
    scores = [scores_by_class[index] for index in explained.tolist()]
    top = [list(scores_by_class.values())] * len(images)
    return Heatmaps(maps, images, explained, probabilities, scores=scores, top=top)


def pictures(html: str) -> list[np.ndarray]:
    """Return the pictures of a page as arrays."""
    encoded = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    files = [io.BytesIO(base64.b64decode(text)) for text in encoded]
    return [np.asarray(Image.open(file)) for file in files]


def test_it_is_the_dict_that_it_was() -> None:
    model = scenes_vgg().eval()
    images = torch.rand(2, 3, 96, 96)
    maps = ab.explain(model, "features.13", images, ["grad_cam", "uniform"])
    assert isinstance(maps, dict)
    assert list(maps) == ["grad_cam", "uniform"]
    assert {heatmap.shape for heatmap in maps.values()} == {(2, 96, 96)}
    assert torch.equal(pickle.loads(pickle.dumps(maps))["uniform"], maps["uniform"])
    assert torch.equal(copy.copy(maps)["uniform"], maps["uniform"])
    top = model(images).argmax(1)
    html = maps._repr_html_()
    for row in range(2):
        assert f"image {row}: top class {top[row]} (" in html


def test_each_image_with_every_map_over_it() -> None:
    html = heatmaps()._repr_html_()
    shown = pictures(html)
    assert len(shown) == 2 * (1 + 2)
    assert {picture.shape for picture in shown} == {(32, 64, 3)}
    for row in range(2):
        image = (255 * RAMPS[row]).permute(1, 2, 0).numpy()
        assert np.abs(shown[3 * row] - image).max() < 8  # WebP's compression
    assert shown[2].astype(int).sum() > shown[1].astype(int).sum()  # more heat is lighter
    assert "image 0: top class 1 (67 %)<" in html
    assert "image 1: top class 1 (67 %); explained: class 2 (24 %)" in html
    assert html.count("method_0</figcaption>") == 2
    maps = heatmaps()
    maps.scores = [replace(score, is_probability=False) for score in maps.scores]
    assert "image 1: class 2 explained<" in maps._repr_html_()


def test_a_long_name_of_a_class_is_cut_with_a_mark() -> None:
    """Check this for a name without a space."""
    maps = heatmaps(count=1)
    maps.top = [[ClassScore(1, "x" * 60, 0.67)]] * len(RAMPS)
    figure = maps.figure()
    texts = []
    for part in figure.subfigs:
        for axes in part.axes:
            texts.extend(text.get_text() for text in axes.texts)
    assert texts == [f" {'x' * 39}\N{HORIZONTAL ELLIPSIS}  67 %"] * len(RAMPS)


def test_a_signal_has_wide_maps_and_its_top_classes_do_not_overlap() -> None:
    """Check a picture that is 128 wide and 48 high."""
    maps = heatmaps(torch.rand(1, 3, 48, 128), 4)
    maps.top = [[ClassScore(index, f"class {index}", 0.2) for index in range(5)]]
    figure = maps.figure()
    figure.draw_without_rendering()
    heading, explained = figure.subfigs
    boxes = [text.get_window_extent() for text in heading.axes[1].texts]
    assert len(boxes) == 5
    assert all(not upper.overlaps(lower) for upper, lower in pairwise(boxes))
    assert len(explained.axes) == 4
    for axes in explained.axes:
        assert axes.bbox.width / figure.dpi > 3


def test_errors_of_a_map_as_text() -> None:
    """Check the lines of a map's own row and method.

    An error of float32's rounding has no number. A reason that all errors share appears once.
    """
    maps = heatmaps()
    maps.titles = {"s": "Sensitivity error"}
    lines = [
        (0, "method_1", "s", 0.07634, "ok"),
        (0, "method_1", "c", 3e-8, "ok"),
        (1, "method_1", "s", float("nan"), "zero_score"),
        (1, "method_1", "c", 2.0, "ok"),
        (1, "method_0", "s", float("nan"), "not_on_score_scale"),
    ]
    maps.errors = pd.DataFrame(lines, columns=list(ERROR_COLUMNS))
    assert maps.lines(0, "method_1") == ["Sensitivity error: 0.0763", "c: <1e-6"]
    assert maps.lines(1, "method_1") == ["Sensitivity error: \N{EN DASH} (zero score)", "c: 2.00"]
    assert maps.lines(1, "method_0") == ["Zero everywhere", "No axiom errors: not on score scale"]


@pytest.mark.slow
def test_it_stays_small_for_a_batch_of_large_images() -> None:
    html = heatmaps(torch.rand(MAX_IMAGES + 3, 3, 100, 200), MAX_METHODS + 1)._repr_html_()
    assert {picture.shape for picture in pictures(html)} == {(SIDE // 2, SIDE, 3)}
    assert len(pictures(html)) == MAX_IMAGES * (1 + MAX_METHODS)
    assert "3 more images and 1 more method, not shown." in html
    assert len(html) < 2_000_000


def test_maps_of_another_size_grey_images_and_names_that_are_no_markup() -> None:
    with mock.patch("axiom_bench.explanation.heatmaps.blend", wraps=blend) as patched_blend:
        maps = heatmaps(torch.rand(1, 1, 20, 30), 1)
        assert not patched_blend.called  # pictures are drawn when they are shown
        maps._repr_html_()
        assert patched_blend.called

    maps["method_0"] = torch.rand(1, 5, 5)
    assert [picture.shape for picture in pictures(maps._repr_html_())] == [(20, 30, 3)] * 2
    maps["<script>alert(1)</script>"] = maps["method_0"]
    assert "<script" not in maps._repr_html_()
    assert "&lt;script&gt;" in maps._repr_html_()


def test_a_volume_is_a_sheet_of_nine_slices_with_the_hottest() -> None:
    volume = np.zeros((1, 40, 10, 20), np.float32)
    heat = np.zeros((40, 10, 20), np.float32)
    # The slice 17 is none of nine even slices.
    volume[0, 17, 4, 5] = 1
    heat[17, 4, 5] = 1

    view = View.of(volume, heat)

    assert view.slices == (0, 5, 10, 17, 20, 24, 29, 34, 39)
    scale = 256 // (3 * 10 + 2 * 2)
    assert view.picture(volume).shape == (34 * scale, (3 * 20 + 2 * 2) * scale, 3)
    # The first slice of the second row.
    top = scale * (12 + 4)
    left = scale * 5
    for seen, white in ((view.picture(volume)[..., 0], 255), (view.map(heat), 1.0)):
        assert (seen[top : top + scale, left : left + scale] == white).all()
        assert seen[top - 1, left] == 0
    (box,) = view.boxes([(5.0, 4.0, 16.5, 6.0, 5.0, 18.0)])
    assert box == [left, top, left + scale, top + scale]
    assert View.of(volume[:, :4], heat[:4]).slices == (0, 1, 2, 3)


def test_a_signal_is_a_curve_for_each_channel_over_its_heat() -> None:
    rising = np.linspace(0, 1, 64)
    step = np.concatenate([np.zeros(32), np.full(32, 1000.0)])
    signal = np.stack([rising, step]).astype(np.float32)
    heat = (np.arange(64) >= 48).astype(np.float32)

    view = View.of(signal, heat)
    picture = view.picture(signal)
    seen = view.map(heat)

    assert picture.shape == (96, 256, 3)
    assert seen.shape == (96, 256)
    assert (seen[:, :188] == 0).all()
    assert (seen[:, 196:] == 1).all()
    # The first channel has the upper half. Its curve is low on the left and high on the right.
    assert picture[40:48, 4].min() < 100 < picture[:40, 4].min()
    assert picture[2:10, 252].min() < 100 < picture[10:48, 252].min()
    # The second channel, whose values are larger, has its own range.
    assert picture[50:54, 200].min() < 100 < picture[54:, 200].min()
    assert view.boxes([(16.0, 32.0)]) == [[64, 0, 128, 96]]


def test_an_array_that_is_an_image_stays_one_and_perturbed_values_have_its_range() -> None:
    image = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    view = View.of(image, np.zeros((6, 7), np.float32))
    expected = np.round(255 * (image / 209).mean(0))
    np.testing.assert_array_equal(view.picture(image), np.repeat(expected[..., None], 3, 2))
    assert (view.picture(image + 1000) == 255).all()
    assert view.boxes([(1.0, 2.0, 3.0, 4.0)]) == [[1, 2, 3, 4]]
