"""The functions that a README of pytorch-grad-cam uses before and after its CAMs."""

import numpy as np
import pytest
import torch

from axiom_bench.compat.utils.image import preprocess_image, show_cam_on_image
from axiom_bench.errors import BenchError

IMAGE = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
MASK = np.linspace(0, 1, 20).reshape(4, 5)


def test_an_image_is_normalised():
    batch = preprocess_image(IMAGE, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.2])
    assert batch.shape == (1, 3, 4, 5)
    expected = (IMAGE - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.2]
    np.testing.assert_allclose(batch[0].permute(1, 2, 0).numpy(), expected, rtol=1e-5)
    black = preprocess_image(np.zeros((2, 2, 3), dtype=np.uint8))
    white = preprocess_image(np.full((2, 2, 3), 255, dtype=np.uint8))
    assert torch.equal(black, -torch.ones(1, 3, 2, 2))
    assert torch.equal(white, torch.ones(1, 3, 2, 2))


def test_a_map_alone_has_the_colours_of_the_colour_map():
    picture = show_cam_on_image(IMAGE, MASK, use_rgb=True, image_weight=0)
    assert picture.dtype == np.uint8
    assert picture.shape == (4, 5, 3)
    # jet goes from dark blue to dark red
    assert picture[0, 0].argmax() == 2
    assert picture[-1, -1].argmax() == 0
    other = show_cam_on_image(IMAGE, MASK, image_weight=0)
    np.testing.assert_array_equal(other, picture[..., ::-1])


def test_an_image_alone_is_scaled_to_its_largest_value():
    picture = show_cam_on_image(IMAGE, MASK, image_weight=1)
    np.testing.assert_array_equal(picture, np.uint8(255 * (IMAGE / IMAGE.max()).astype(float)))
    assert not show_cam_on_image(np.zeros((4, 5, 3)), MASK, image_weight=1).any()


@pytest.mark.parametrize("use_rgb", [False, True])
def test_the_picture_is_that_of_pytorch_grad_cam(use_rgb):
    library = pytest.importorskip("pytorch_grad_cam.utils.image", reason="make peers")
    expected = library.show_cam_on_image(IMAGE, MASK.astype(np.float32), use_rgb=use_rgb)
    picture = show_cam_on_image(IMAGE, MASK, use_rgb=use_rgb)
    # the library rounds the map to 256 levels
    assert np.abs(picture.astype(int) - expected).max() <= 3
    batch = library.preprocess_image(IMAGE, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.2])
    ours = preprocess_image(IMAGE, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.2])
    torch.testing.assert_close(ours, batch.float())


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (255 * IMAGE, {}, r"divide bytes by 255: img / 255\."),
        (IMAGE, {"colormap": 2}, "Invalid colormap=2; give the name of a colour map of matplotlib"),
        (IMAGE, {"colormap": "jett"}, "did you mean 'jet'"),
        (IMAGE, {"image_weight": 2}, r"Invalid image_weight=2; give a number from 0 to 1\."),
    ],
)
def test_mistakes(image, options, message):
    with pytest.raises(BenchError, match=message):
        show_cam_on_image(image, MASK, **options)
