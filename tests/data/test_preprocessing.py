"""Images equal torchvision's transforms bit by bit; boxes and masks follow them.

Boxes and masks are checked on rectangles worked out by hand.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import BadImage, Sample
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from tests.data.builders import MEAN, STANDARD, STD

transforms = torchvision.transforms
MODES = {name: transforms.InterpolationMode(name) for name in ("bilinear", "bicubic", "nearest")}


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def plain(resize=None, crop=None):
    return Preprocessing(resize, crop, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def annotated(preprocessing, image, objects=(), **fields):
    """Return the preprocessed image, and its annotation."""
    return preprocessing(Sample(image, "image", objects=objects, **fields))


def by_torchvision(image, resize, crop, mean, std, interpolation):
    steps = [
        transforms.Resize(resize, MODES[interpolation], antialias=True),
        transforms.CenterCrop(crop),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    if len(mean) == 1:
        steps.insert(0, transforms.Grayscale())
    return transforms.Compose(steps)(image)


@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (256, 256), (257, 300), (301, 223), (31, 640), (40, 30)]
)
@pytest.mark.parametrize("resize", [256, 200, (144, 150)])
@pytest.mark.parametrize("interpolation", MODES)
def test_image_equals_torchvision_bit_by_bit(size, resize, interpolation):
    actual, _ = annotated(Preprocessing(resize, 224, MEAN, STD, interpolation), noise(*size))
    expected = by_torchvision(noise(*size), resize, 224, MEAN, STD, interpolation)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize(("mean", "std"), [((0.4,), (0.2,)), (MEAN, STD)])
def test_an_image_of_each_number_of_channels_equals_torchvision_and_is_denormalised(
    interpolation, mean, std
):
    image = noise(100, 80)
    preprocessing = Preprocessing(60, 48, mean, std, interpolation)
    actual, _ = annotated(preprocessing, image)
    assert actual.shape == (len(mean), 48, 48)
    assert torch.equal(actual, by_torchvision(image, 60, 48, mean, std, interpolation))

    picture = preprocessing.denormalise(actual[None])[0]
    assert picture.shape == (48, 48, 3)
    assert picture.dtype == np.uint8
    expected = preprocessing.picture(Sample(image, "image")).convert("RGB")
    assert np.array_equal(picture, np.asarray(expected))


@pytest.mark.parametrize(
    ("mean", "std"), [(MEAN, STD), ((0.5,) * 3, (0.25, 1 / 3, 7.0)), ((0.4,), (0.2,))]
)
def test_every_value_is_normalised_as_torchvision_does_bit_by_bit(mean, std):
    """Check single images and batches.

    Values are divided by 255 in float32, then the mean is subtracted, then the deviation divides.
    """
    all_values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    values = all_values.expand(len(mean), -1, -1).contiguous()
    functional = transforms.functional
    image = functional.to_pil_image(values)
    expected = functional.normalize(functional.to_tensor(image), mean, std)

    preprocessing = Preprocessing(None, None, mean, std)
    actual = preprocessing.normalised(preprocessing.pixels(Sample(image, "image")))

    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)
    batch = preprocessing.normalised(torch.stack([values, values]))
    assert torch.equal(batch, torch.stack([expected, expected]))
    assert torch.equal(annotated(preprocessing, image)[0], expected)


def test_boxes_through_resize_and_crop_by_hand():
    """Check an image of 400 x 200 whose shorter side becomes 100.

    The image is halved to 200 x 100. The crop of 100 starts at x = 50, y = 0.
    """
    objects = (
        (3, (120.0, 20.0, 260.0, 180.0)),  # halves to 60..130, 10..90, moves left by 50
        (4, (0.0, 0.0, 160.0, 40.0)),  # halves to 0..80: the crop cuts the left 50 away
        (5, (0.0, 0.0, 100.0, 200.0)),  # ends exactly where the crop starts: gone
        (6, (380.0, 0.0, 400.0, 200.0)),  # right of the crop: gone
        (3, (0.0, 0.0, 400.0, 200.0)),  # everything: the crop itself
    )
    _, annotation = annotated(plain(100, 100), noise(400, 200), objects)
    assert annotation.labels.tolist() == [3, 4, 3]
    assert annotation.boxes.tolist() == [[10, 10, 80, 90], [0, 0, 30, 20], [0, 0, 100, 100]]


def test_boxes_and_masks_by_hand_also_in_the_padding_of_a_large_crop():
    _, annotation = annotated(plain((50, 300)), noise(100, 200), [(1, (10.0, 20.0, 30.0, 60.0))])
    assert annotation.boxes.tolist() == [[30, 5, 90, 15]]  # scaled per axis

    mask = np.array([[0, 0, 9, 9], [0, 0, 9, 9]])
    _, annotation = annotated(plain((1, 2)), noise(4, 2), mask=mask)
    assert annotation.mask.tolist() == [[0, 9]]  # the nearest pixel's

    mask = np.zeros((20, 10), dtype=int)
    whole_image = (1, (0.0, 0.0, 10.0, 20.0))
    image, annotation = annotated(plain(crop=15), noise(10, 20), [whole_image], mask=mask)
    assert image.shape == (3, 15, 15)
    assert annotation.boxes.tolist() == [[2, 0, 12, 15]]  # 5 columns of padding: 2 left, 3 right
    assert (annotation.mask[:, 2:12] == 0).all()
    assert (annotation.mask[:, [0, 1, 12, 13, 14]] == -1).all()


@pytest.mark.parametrize("size", [(403, 201), (203, 407), (150, 150)])
@pytest.mark.parametrize(
    ("resize", "crop"), [(128, 97), (64, 63), ((90, 120), 80), (None, 101), (150, None)]
)
def test_image_box_and_mask_stay_aligned(size, resize, crop):
    """Check that after any resize and crop, box and mask lie on the white pixels, to one pixel.

    The image is a white rectangle on black.
    """
    width, height = size
    x0 = width // 2 - 40
    y0 = height // 2 - 30
    x1 = width // 2 + 25
    y1 = height // 2 + 45
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[y0:y1, x0:x1] = 255
    mask = np.where(pixels[..., 0] > 0, 7, -1)

    image, annotation = annotated(
        plain(resize, crop), Image.fromarray(pixels), [(7, (x0, y0, x1, y1))], mask=mask
    )

    is_white = image[0] > 0.5
    rows, columns = torch.nonzero(is_white, as_tuple=True)
    box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert (annotation.boxes[0] - box).abs().max() <= 1
    assert annotation.mask.shape == image.shape[1:]
    assert set(annotation.mask.unique().tolist()) == {-1, 7}
    num_different = ((annotation.mask == 7) != is_white).sum()
    half_of_the_outline = len(rows.unique()) + len(columns.unique())
    assert num_different <= half_of_the_outline


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1), (10_000, 40), (30, 10_000)])
def test_extreme_aspect_ratios(size):
    image, annotation = annotated(STANDARD, noise(*size), [(0, (0.0, 0.0, *size))])
    assert image.shape == (3, 224, 224)
    assert torch.isfinite(image).all()
    assert annotation.boxes.tolist() == [[0, 0, 224, 224]]


def test_too_large_resize_is_a_bad_image():
    with pytest.raises(BadImage, match="10000 x 1 pixels") as caught:
        STANDARD(Sample(noise(10_000, 1), "thin"))
    assert caught.value.image_id == "thin"
    assert caught.value.status == "bad_image"


CHANNELS = r"three of each for an RGB network, one of each for a grey one.*ab\.explain"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (((0.5,), (0.5,) * 3), CHANNELS),
        (((0.5,) * 4, (0.5,) * 4), CHANNELS),
        (((), ()), CHANNELS),
        ((MEAN, STD, "bilinaer"), "bilinear"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(BenchError, match=message):
        Preprocessing(256, 224, *settings)


@pytest.mark.parametrize(
    ("resize", "most", "sentence"),
    [
        (96, 192, "more than half; set model.crop to at most 192, or model.resize=193"),
        ((30, 40), 80, "more than half; set model.crop to at most 80, or model.resize=81"),
        (
            None,
            2048,
            "needs images that are resized; set model.resize=2049 too, or model.crop to at most "
            "2048",
        ),
    ],
)
def test_a_crop_is_at_most_twice_the_resized_side_or_bounded(resize, most, sentence):
    assert Preprocessing(resize, most, MEAN, STD).size == (most, most)
    with pytest.raises(BenchError, match=sentence):
        Preprocessing(resize, most + 1, MEAN, STD)


@pytest.mark.parametrize("space", [(9,), (4, 6), (2, 3, 4)])
@pytest.mark.parametrize("channels", [1, 5])
def test_an_array_is_taken_as_it_is_with_its_boxes_and_mask(space, channels):
    """Check that numbers keep their type until a mean and a deviation are applied."""
    shape = (channels, *space)
    image = np.arange(channels * np.prod(space), dtype=np.int16).reshape(shape) - 7
    mask = np.full(space, 1)
    box = (0.0,) * len(space) + tuple(map(float, reversed(space)))
    sample = Sample(image, "a", 1, ((1, box),), mask)
    unscaled = ((), ())
    for_all_channels = ((3.0,), (2.0,))
    per_channel = ((3.0,) * channels, (2.0,) * channels)
    for mean, std in (unscaled, for_all_channels, per_channel):
        preprocessing = Preprocessing(None, None, mean, std, shape=shape)
        values, annotation = preprocessing(sample)
        assert preprocessing.pixels(sample).dtype == torch.int16
        expected = (image - 3) / 2 if mean else image
        assert torch.equal(values, torch.from_numpy(expected).float())
        assert sample.size == space
        assert annotation.boxes.tolist() == [list(box)]
        assert torch.equal(annotation.mask, torch.ones(space, dtype=torch.long))

    for wrong, advice in (
        ({"resize": 8}, r"Set model\.resize=null"),
        ({"crop": 8}, r"Set model\.crop=null"),
        ({"mean": (1.0, 2.0), "std": (1.0, 1.0)}, r"set model\.mean and model\.std to one number"),
    ):
        settings = {"resize": None, "crop": None, "mean": (), "std": (), **wrong}
        with pytest.raises(BenchError, match=advice):
            Preprocessing(**settings, shape=shape)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_photograph_is_preprocessed_by_a_call_as_by_a_transform(mode, tmp_path):
    image = noise(100, 80).convert(mode)
    preprocessing = Preprocessing(60, 48, MEAN, STD)
    expected = by_torchvision(image.convert("RGB"), 60, 48, MEAN, STD, "bilinear")
    image.save(tmp_path / "photo.png")
    for form in (image, str(tmp_path / "photo.png"), tmp_path / "photo.png"):
        assert torch.equal(preprocessing(form), expected)
    assert torch.equal(preprocessing.from_photograph(image), expected)


def test_a_call_with_what_is_no_photograph_is_one_sentence(tmp_path):
    array = np.asarray(noise(100, 80))
    with pytest.raises(BenchError, match=r"not a numpy.ndarray; give PIL.Image.fromarray\(array\)"):
        plain(60, 48)(array)
    with pytest.raises(BenchError, match="there is no file"):
        plain(60, 48)(tmp_path / "none.png")
    for_arrays = Preprocessing(None, None, (0.5,), (0.25,), shape=(1, 8))
    with pytest.raises(BenchError, match=r"give preprocessing.normalised\(tensor\)"):
        for_arrays(noise(100, 80))
    assert torch.equal(for_arrays.normalised(torch.ones(1, 8)), torch.full((1, 8), 2.0))
