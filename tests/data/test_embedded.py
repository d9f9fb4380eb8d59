"""The data sets of images for the planted networks and of the gate's hard images."""

import numpy as np
import pytest
import torch

from axiom_bench.data.base import BadImage
from axiom_bench.data.embedded import HardImages
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded.hard import LANDSCAPE, SEED
from axiom_bench.embedded.patches import COLOURS
from axiom_bench.embedded.planted import planted_additive, planted_cancelling
from axiom_bench.embedded.scenes import SIDE, draw
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import heatmap

HALVES = (0.5,) * 3
QUARTERS = (0.25,) * 3


def planted(**settings):
    return load_dataset({"kind": "planted", "size": 6, "seed": 3, **settings})


def test_an_image_depends_on_split_seed_and_number_alone():
    dataset = planted()
    shorter = planted(size=4)
    assert dataset.ids[:4] == tuple(f"evaluation-3-{number:06d}" for number in range(4))
    assert shorter.ids == dataset.ids[:4]
    for index in range(4):
        assert shorter.fingerprint(index) == dataset.fingerprint(index)
    different = [dataset, planted(seed=4), planted(split="fit")]
    assert len({data.fingerprint(0) for data in different}) == 3


def test_scenes_of_few_and_of_other_objects_have_ids_of_their_own():
    few = load_dataset({"kind": "scenes", "size": 2})
    many = load_dataset({"kind": "scenes", "size": 2, "objects": "many"})
    repeated = load_dataset({"kind": "scenes", "size": 2, "objects": "repeated"})
    assert few.ids == ("evaluation-0-000000", "evaluation-0-000001")  # the default seed
    assert many.ids == tuple(f"many-{image_id}" for image_id in few.ids)
    assert repeated.ids == tuple(f"repeated-{image_id}" for image_id in few.ids)
    seed_0 = load_dataset({"kind": "scenes", "size": 1, "seed": 0})
    assert few.fingerprint(0) == seed_0.fingerprint(0)


@pytest.mark.parametrize("index", range(6))
def test_boxes_masks_colours_and_halves_are_as_drawn(index):
    dataset = planted()
    drawn = dataset.draw(index)
    sample = dataset.read(index)
    pixels = np.asarray(sample.image)
    grey = (pixels == pixels[..., :1]).all(2)
    assert (grey == (sample.mask == -1)).all()

    covered = np.zeros_like(grey)
    for patch, (label, box) in zip(drawn.patches, sample.objects, strict=True):
        assert label == patch.label
        assert box == patch.box
        assert (pixels[patch.place] == COLOURS[patch.colour]).all()
        assert (sample.mask[patch.place] == label).all()
        assert all(side % 6 == 0 for side in box)
        assert not covered[patch.place].any()
        covered[patch.place] = True
    assert (covered == ~grey).all()
    assert sample.label == 0
    assert set(dataset.labels(index)) == {label for label, _ in sample.objects}

    boxes = {colour: [] for colour in COLOURS}
    for patch in drawn.patches:
        boxes[patch.colour].append(patch.box)
    assert [len(boxes_of_colour) for boxes_of_colour in boxes.values()] == [2, 1, 1, 1, 1]
    left, right = boxes["red"]
    (blue,) = boxes["blue"]
    (yellow,) = boxes["yellow"]
    assert max(left[2], blue[2]) <= 48 <= min(right[0], yellow[0])
    assert blue[2] - blue[0] == yellow[2] - yellow[0]
    assert blue[3] - blue[1] == yellow[3] - yellow[1]


@pytest.fixture(scope="module")
def scenes():
    """The gate's hard scenes."""
    return HardImages("scenes")


def index_of(data: HardImages, name: str) -> int:
    return next(index for index, image_id in enumerate(data.ids) if image_id.endswith(name))


def test_ids_labels_and_rows_are_what_the_images_are_called(scenes):
    assert list(scenes.ids) == sorted(scenes.ids)
    assert scenes.labels(index_of(scenes, "no_class")) == ()
    assert len(scenes.labels(index_of(scenes, "another_label"))) == 2
    assert len({scenes.fingerprint(index) for index in range(len(scenes))}) == len(scenes)
    with pytest.raises(BenchError, match="content of the hard images 'scene'"):
        HardImages("scene")

    preprocessing = Preprocessing(104, 96, HALVES, QUARTERS)
    items = list(batches(scenes, range(len(scenes)), preprocessing, "each_label", 1))
    bad = {item.image_id[3:]: item.status for item in items if isinstance(item, BadImage)}
    assert bad == {"no_class": "no_annotation", "truncated": "bad_image"}

    rows = [(item.image_ids[0][3:], item) for item in items if not isinstance(item, BadImage)]
    num_boxes = [(name, len(batch.boxes(batch.targets)[0])) for name, batch in rows]
    without = {name for name, count in num_boxes if count == 0}
    assert without == {"another_label", "no_annotation", "cut_away", "one_colour"}
    assert [count for name, count in num_boxes if name == "two_of_a_class"] == [2]
    assert any(batch.ignored() is not None for name, batch in rows if name == "no_verdict")


@pytest.mark.parametrize("index", range(11))
def test_boxes_hold_their_masks_pixels(scenes, index):
    sample = scenes.read(index)
    if sample.mask is None:
        return
    assert sample.mask.shape == (sample.image.height, sample.image.width)
    covered = np.zeros(sample.mask.shape, bool)
    for label, (x0, y0, x1, y1) in sample.objects:
        assert (sample.mask[y0:y1, x0:x1] == label).any()
        covered[y0:y1, x0:x1] = True
    assert not (sample.mask >= 0)[~covered].any()


def test_files_are_decoded_as_boxes_expect_them(scenes):
    def pixels(name):
        return np.asarray(scenes.read(index_of(scenes, name)).image)

    assert pixels("turned_by_exif").shape[:2] == LANDSCAPE
    assert 0 < pixels("sixteen_bits").mean() < 200
    assert pixels("transparent")[30, 40].tolist() == [255, 255, 255]
    with pytest.raises(BadImage, match="can't be decoded"):
        scenes.read(index_of(scenes, "truncated"))


def test_a_scene_that_is_cut_away_is_the_fifteenth_at_the_left_edge_of_grey(scenes):
    picture = np.asarray(scenes.read(index_of(scenes, "cut_away")).image)
    height, width = LANDSCAPE
    drawn = draw("evaluation", SEED, 14).image
    rows = np.arange(height) * SIDE // height
    columns = np.arange(width) * SIDE // width
    assert picture.shape == (height, 3 * width, 3)
    np.testing.assert_array_equal(picture[:, :width], drawn[rows[:, None], columns])
    assert (picture[:, width:] == 128).all()


def test_patches_cancel_exactly_nearly_and_not_at_all():
    patches = HardImages("patches")
    network = planted_cancelling().eval()
    preprocessing = Preprocessing((100, 120), 96, HALVES, QUARTERS)
    images = [preprocessing(patches.read(index))[0] for index in range(len(patches))]
    images = torch.stack(images)
    with torch.no_grad():
        maps = network.features(images)
        logits = network(images)

    channel = maps[:, 1]
    ratios = channel.sum((1, 2)).abs() / channel.abs().sum((1, 2))
    assert ratios[0] < 1e-6 < 1e-4 < ratios[1] < 1e-2
    assert logits.argmax(1).tolist() == [0, 0, 1, 0, 0]
    assert logits[index_of(patches, "score_zero"), 0] == 0


def test_crops_have_odd_margins_a_patch_just_below_the_threshold_and_padding():
    crops = HardImages("crops")
    network = planted_additive().eval()
    preprocessing = Preprocessing(91, 96, HALVES, QUARTERS)
    pairs = [preprocessing(crops.read(index)) for index in range(len(crops))]
    assert [crops.read(index).size for index in range(3)] == [(91, 99), (101, 91), (91, 91)]

    visible_pixels = (91 * 96, 96 * 91, 91 * 91)
    for (image, annotation), num_visible in zip(pairs, visible_pixels, strict=True):
        padded = (image == -2).all(0)
        assert padded.sum() == 96 * 96 - num_visible
        assert (annotation.mask[padded] == -1).all()
        boxes = annotation.boxes
        inner = boxes[(boxes.amin(1) > 2) & (boxes.amax(1) < 93)]
        assert len(inner)
        assert not (inner % 6).any(), "a patch is whole cells of the layer"

    image, _ = pairs[0]
    weights = torch.tensor([1.0, 2, 3, 0, 0])[:, None, None]  # red 1, green 2, blue 3
    with torch.no_grad():
        weighted = (network.features(image[None]) * weights).sum(1)
        heat = heatmap(weighted, (96, 96))[0]
    red = heat[(heat > 0.149) & (heat < 0.16)]
    assert red.numel() == 216
    assert (red < 0.15 - 1e-5).all()
    assert (red.half().float() > 0.15).all()
