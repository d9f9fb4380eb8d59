"""Interventions and other images, in the pixels of the preprocessed image.

They are read only if something asks for them.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import BadImage, DataSet, Sample, StoredPart
from axiom_bench.data.loading import batches, other_image_indices
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from tests.data.builders import AS_STORED, scenes

EXTRAS = ("interventions", "other_images")


class Halves(DataSet):
    """Images 12 pixels wide and 8 high: an object on the left, the ground on the right.

    The last image has no parts.
    """

    name = "halves"
    classes = ("left",)

    def __init__(self, count=4, bad=(), offers=True):
        self.ids = tuple(f"image {number}" for number in range(count))
        self.bad = bad  # the indices of images that can't be read
        self.offers = offers  # false: the data set has no interventions
        self.num_asked = 0

    def picture(self, index, change=0):
        pixels = np.random.default_rng(index).integers(0, 200, (8, 12, 3), dtype=np.uint8)
        return Image.fromarray(pixels + np.uint8(change))

    def read(self, index):
        if index in self.bad:
            raise BadImage(self.ids[index], "is broken")
        return Sample(self.picture(index), self.ids[index], 0)

    def labels(self, index):
        return (0,)

    def fingerprint(self, index, hashes=None):
        return str(index)

    def masks(self):
        left = np.tile(np.arange(12) < 5, (8, 1))
        return left, ~left

    def interventions(self, index):
        self.num_asked += 1
        if not self.offers:
            return None
        if index == len(self) - 1:
            return ()
        left, right = self.masks()
        versions = tuple(self.picture(index, change) for change in (1, 2, 3))
        return (
            StoredPart("left", 0, left, versions[:1]),
            StoredPart("ground", None, right, versions[1:]),
        )


def loaded(dataset, preprocessing=AS_STORED, extras=EXTRAS, size=8, **settings):
    indices = range(len(dataset))
    return list(batches(dataset, indices, preprocessing, "label", size, extras=extras, **settings))


def test_nothing_more_is_read_than_is_asked_for_and_offered():
    dataset = Halves()
    (batch,) = loaded(dataset, extras=())
    assert batch.interventions is None
    assert batch.other_images is None
    assert dataset.num_asked == 0
    (batch,) = loaded(dataset, extras=["other_images"])
    assert batch.interventions is None
    assert dataset.num_asked == 0
    (batch,) = loaded(Halves(offers=False))
    assert batch.interventions is None


def test_the_versions_are_preprocessed_as_the_image_is():
    dataset = Halves()
    preprocessing = Preprocessing(10, 6, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    (batch,) = loaded(dataset, preprocessing)
    for index, parts in enumerate(batch.interventions[:-1]):
        assert [(part.name, part.label) for part in parts] == [("left", 0), ("ground", None)]
        assert [len(part.images) for part in parts] == [1, 2]
        pictures = [dataset.picture(index, change) for change in (1, 2, 3)]
        expected = [preprocessing(Sample(picture, "x"))[0] for picture in pictures]
        assert torch.equal(torch.cat([part.images for part in parts]), torch.stack(expected))
    assert batch.interventions[-1] == ()


@pytest.mark.parametrize(
    ("resize", "crop"),
    [(None, None), (None, 4), (16, None), (5, 3), ((24, 36), None), (8, 14), (3, None)],
)
def test_regions_follow_the_image_and_cover_it(resize, crop):
    """Compare a region with the white pixels of a picture that is white on the object.

    With (8, 14) the crop pads.
    """
    dataset = Halves()
    preprocessing = Preprocessing(resize, crop, (0.0,) * 3, (1.0,) * 3, "nearest")
    (batch,) = loaded(dataset, preprocessing)
    left, _ = dataset.masks()
    picture = Image.fromarray(np.where(left, 255, 0).astype(np.uint8)).convert("RGB")
    white, _ = preprocessing(Sample(picture, "x"))
    for parts in batch.interventions[:-1]:
        assert torch.stack([part.region for part in parts]).sum(0).eq(1).all()
        assert parts[-1].name == "ground"
        # With (24, 36) PIL's and torchvision's nearest pixels differ.
        if (resize, crop) != ((24, 36), None):
            assert torch.equal(parts[0].region, white[0] == 1)
        assert parts[0].region.shape == batch.images.shape[2:]


def test_a_part_that_the_crop_cuts_away_is_left_out_and_the_ground_never():
    (batch,) = loaded(Halves(), Preprocessing(None, 2, (0.0,) * 3, (1.0,) * 3))  # columns 5 and 6
    names = [[part.name for part in parts] for parts in batch.interventions]
    assert names == [["ground"], ["ground"], ["ground"], []]

    dataset = Halves()
    everything = np.ones((8, 12), dtype=bool)
    dataset.masks = lambda: (everything, ~everything)
    (batch,) = loaded(dataset)
    assert [int(part.region.sum()) for part in batch.interventions[0]] == [96, 0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    """Compare images on both sides of a chunk boundary of the loader."""
    small = Preprocessing(24, 24, (0.5,) * 3, (0.3,) * 3)
    without_workers = loaded(scenes(20), small, workers=0)
    with_workers = loaded(scenes(20), small, workers=workers)
    for first, second in zip(without_workers, with_workers, strict=True):
        assert torch.equal(first.other_images, second.other_images)
        for parts, same in zip(first.interventions, second.interventions, strict=True):
            for part, other in zip(parts, same, strict=True):
                assert part.name == other.name
                assert part.label == other.label
                assert torch.equal(part.region, other.region)
                assert torch.equal(part.images, other.images)


def test_rows_of_one_image_share_its_parts():
    (batch,) = batches(scenes(6), range(6), AS_STORED, "each_label", 64, extras=EXTRAS)
    assert len(batch) > 6
    assert len({id(parts) for parts in batch.interventions}) == 6


@pytest.mark.parametrize("objects", ["few", "many"])
def test_scenes_have_their_objects_and_the_ground(objects):
    dataset = scenes(12, objects=objects)
    second_id = {"few": "evaluation-1-000001", "many": "many-evaluation-1-000001"}
    assert dataset.ids[1] == second_id[objects]

    (batch,) = loaded(dataset, size=12)
    rows = zip(batch.images, batch.interventions, batch.annotations, strict=True)
    for image, parts, annotation in rows:
        labels = annotation.labels.tolist()
        assert [part.label for part in parts] == [*labels, None]
        assert [part.name for part in parts[:-1]] == [dataset.classes[label] for label in labels]
        assert parts[-1].name == "ground"
        for part in parts[:-1]:
            assert torch.equal(part.region, annotation.mask == part.label)
            changed = (part.images[0] != image).any(0)
            assert changed.shape == (96, 96)
            assert not (changed & ~part.region).any()
        assert torch.equal(parts[-1].region, annotation.mask < 0)


def test_other_images_are_tried_in_order_each_once_and_never_the_image_itself():
    dataset = Halves(6)
    for index in range(6):
        tried = list(other_image_indices(dataset, index))
        all_others = [other for other in range(6) if other != index]
        first = all_others.index(tried[0])
        assert tried == all_others[first:] + all_others[:first]


def test_another_image_depends_on_the_id_alone_can_be_read_and_is_of_the_image_s_size():
    dataset = Halves(9)
    (batch,) = loaded(dataset, size=9)
    images = list(batch.images)
    chosen = []
    for other in batch.other_images:
        is_equal = [torch.equal(image, other) for image in images]
        chosen.append(is_equal.index(True))
    assert all(other != index for index, other in enumerate(chosen))
    assert len(set(chosen)) > 3

    backwards = list(batches(dataset, [7, 2, 5], AS_STORED, "label", 2, extras=EXTRAS))
    other_images = torch.cat([batch.other_images for batch in backwards])
    assert torch.equal(other_images, torch.stack([images[chosen[index]] for index in (7, 2, 5)]))

    (pair,) = loaded(Halves(2))
    assert torch.equal(pair.other_images, pair.images.flip(0))
    _, *rest = loaded(Halves(3, bad=(0,)))
    assert torch.equal(rest[0].other_images, rest[0].images.flip(0))
    (single,) = loaded(Halves(1))
    assert single.other_images is None

    sizes = Halves(2)
    sizes.picture = lambda index, change=0: Image.new("RGB", (12 + 6 * index, 8), (index, 0, 0))
    sizes.offers = False
    assert [batch.other_images.shape for batch in loaded(sizes)] == [(1, 3, 8, 12), (1, 3, 8, 18)]


LEFT, RIGHT = Halves().masks()


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        ((LEFT | True, RIGHT), "overlap, or leave out pixels; give each pixel to one part"),
        ((LEFT, RIGHT & False), "overlap, or leave out pixels"),
        (
            (LEFT[:4], RIGHT),
            r"'left' of the image 'image 0' needs a mask of type bool .* 8 x 12",
        ),
        ((LEFT.astype(int), RIGHT), "needs a mask of type bool"),
    ],
)
def test_parts_that_are_wrong_are_a_sentence(masks, sentence):
    dataset = Halves()
    dataset.masks = lambda: masks
    with pytest.raises(BenchError, match=sentence):
        loaded(dataset)
