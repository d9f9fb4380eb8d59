"""What `ab.explain` returns: the tensors of a dict, which a notebook shows as pictures."""

from __future__ import annotations

import base64
import copy
import io
import pickle
import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.embedded.networks import scenes_vgg
from axiom_bench.explanation.overlay import MAX_IMAGES, MAX_METHODS, SIDE, Heatmaps

RAMP = torch.linspace(0, 1, 64).repeat(3, 32, 1)
IMAGES = torch.stack([RAMP, 1 - RAMP])


def heatmaps(images: torch.Tensor = IMAGES, count: int = 2) -> Heatmaps:
    size = (len(images), *images.shape[-2:])
    probabilities = torch.tensor([[0.0, 2.0, 1.0]]).softmax(1).repeat(len(images), 1)
    maps = {f"method_{number}": torch.full(size, number / count) for number in range(count)}
    return Heatmaps(maps, images, torch.tensor([1, 2]).repeat(len(images))[: len(images)], probabilities)


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_it_is_the_dict_that_it_was() -> None:
    model = scenes_vgg().eval()
    images = torch.rand(2, 3, 96, 96)
    maps = ab.explain(model, "features.13", images, ["grad_cam", "uniform"])
    assert isinstance(maps, dict)
    assert isinstance(maps, Mapping)
    assert list(maps) == ["grad_cam", "uniform"]
    assert all(heatmap.shape == (2, 96, 96) for heatmap in maps.values())
    assert {**maps}.keys() == maps.keys()
    assert torch.equal(pickle.loads(pickle.dumps(maps))["uniform"], maps["uniform"])
    assert torch.equal(copy.copy(maps)["uniform"], maps["uniform"])
    top = model(images).argmax(1)
    assert [f"image {row}: top class {top[row]} (" in maps._repr_html_() for row in range(2)] == [True, True]


def test_each_image_with_every_map_over_it() -> None:
    html = heatmaps()._repr_html_()
    shown = pictures(html)
    assert len(shown) == 2 * (1 + 2)
    assert {picture.shape for picture in shown} == {(32, 64, 3)}
    for row in range(2):
        image = (255 * IMAGES[row]).permute(1, 2, 0).numpy()
        assert np.abs(shown[3 * row] - image).max() < 8  # WebP loses some
    assert shown[2].astype(int).sum() > shown[1].astype(int).sum()  # more heat, more light
    assert "image 0: top class 1 (0.67)<" in html
    assert "image 1: top class 1 (0.67); explained: class 2 (0.24)" in html
    assert html.count("method_0</figcaption>") == 2


def test_it_stays_small() -> None:
    """A batch of large images: the first few, at the size of a thumbnail; what isn't shown is said."""
    html = heatmaps(torch.rand(MAX_IMAGES + 3, 3, 300, 600), MAX_METHODS + 1)._repr_html_()
    assert {picture.shape for picture in pictures(html)} == {(SIDE // 2, SIDE, 3)}
    assert len(pictures(html)) == MAX_IMAGES * (1 + MAX_METHODS)
    assert "3 more images and 1 more method, not shown." in html
    assert len(html) < 2_000_000


def test_pictures_are_made_when_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a picture was made")

    monkeypatch.setattr("axiom_bench.explanation.overlay.blend", refuse)
    maps = heatmaps()
    with pytest.raises(AssertionError, match="a picture was made"):
        maps._repr_html_()


def test_maps_of_another_size_and_grey_images() -> None:
    maps = heatmaps(torch.rand(1, 1, 20, 30), 1)
    maps["method_0"] = torch.rand(1, 5, 5)
    assert [picture.shape for picture in pictures(maps._repr_html_())] == [(20, 30, 3)] * 2


def test_names_are_text_not_markup() -> None:
    maps = heatmaps()
    maps["<script>alert(1)</script>"] = maps["method_0"]
    html = maps._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_without_probabilities_the_class_alone() -> None:
    maps = heatmaps()
    maps.probabilities = None
    assert "image 1: class 2 explained<" in maps._repr_html_()
