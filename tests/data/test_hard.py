"""The gate's hard images are as hard as their names say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.data.embedded import HardImages
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.embedded.hard import LANDSCAPE
from axiom_bench.embedded.planted import planted_cancelling
from axiom_bench.errors import BenchError

THIRDS = ((0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def scenes() -> HardImages:
    return HardImages("scenes")


def index_of(data: HardImages, name: str) -> int:
    return next(index for index, image_id in enumerate(data.ids) if image_id.endswith(name))


def test_ids_ascend_and_labels_need_no_decoding(scenes: HardImages) -> None:
    assert list(scenes.ids) == sorted(scenes.ids)
    assert scenes.labels(index_of(scenes, "no_class")) == ()
    assert len(scenes.labels(index_of(scenes, "another_label"))) == 2
    assert len({scenes.fingerprint(index) for index in range(len(scenes))}) == len(scenes)


def test_each_row_is_what_its_image_is_called(scenes: HardImages) -> None:
    loaded = list(batches(scenes, range(len(scenes)), Preprocessing(104, 96, *THIRDS), "each_label", 1))
    bad = {entry.image_id[3:]: entry.status for entry in loaded if isinstance(entry, BadImage)}
    assert bad == {"no_class": "no_annotation", "truncated": "bad_image"}
    rows = {(batch.image_ids[0][3:], int(batch.targets[0])): batch for batch in loaded if isinstance(batch, Batch)}
    boxes = {name: len(batch.boxes(batch.targets)[0]) for name, batch in rows.items()}
    assert {name for (name, _), count in boxes.items() if count == 0} == {
        *("another_label", "no_annotation", "cut_away", "one_colour"),
    }
    assert [count for (name, _), count in boxes.items() if name == "two_of_a_class"] == [2]
    assert any(batch.ignored() is not None for (name, _), batch in rows.items() if name == "no_verdict")


@pytest.mark.parametrize("index", range(11))
def test_boxes_hold_their_masks_pixels(scenes: HardImages, index: int) -> None:
    sample = scenes.read(index)
    size = (sample.image.height, sample.image.width)
    if sample.mask is None:
        return
    assert sample.mask.shape == size
    for label, (x0, y0, x1, y1) in sample.objects:
        assert (sample.mask[y0:y1, x0:x1] == label).any()
    covered = np.zeros(size, bool)
    for _, (x0, y0, x1, y1) in sample.objects:
        covered[y0:y1, x0:x1] = True
    assert not (sample.mask >= 0)[~covered].any()


def test_files_are_decoded_as_boxes_expect_them(scenes: HardImages) -> None:
    turned = scenes.read(index_of(scenes, "turned_by_exif")).image
    assert (turned.height, turned.width) == LANDSCAPE
    deep = np.asarray(scenes.read(index_of(scenes, "sixteen_bits")).image)
    assert 0 < deep.mean() < 200
    hole = np.asarray(scenes.read(index_of(scenes, "transparent")).image)[30, 40]
    assert hole.tolist() == [255, 255, 255]
    with pytest.raises(BadImage, match="can't be decoded"):
        scenes.read(index_of(scenes, "truncated"))


def test_patches_cancel_exactly_nearly_and_not_at_all() -> None:
    patches = HardImages("patches")
    network = planted_cancelling().eval()
    prepare = Preprocessing((100, 120), 96, *THIRDS)
    images = torch.stack([prepare(patches.read(index))[0] for index in range(len(patches))])
    with torch.no_grad():
        maps, logits = network.features(images), network(images)
    ratios = maps[:, 1].sum((1, 2)).abs() / maps[:, 1].abs().sum((1, 2))
    assert ratios[0] < 1e-6 < 1e-4 < ratios[1] < 1e-2
    assert logits.argmax(1).tolist() == [0, 0, 1, 0, 0]
    assert logits[index_of(patches, "score_zero"), 0] == 0


def test_another_content_is_refused() -> None:
    with pytest.raises(BenchError, match="content of the hard images 'scene'"):
        HardImages("scene")
