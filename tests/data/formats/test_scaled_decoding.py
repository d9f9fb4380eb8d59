"""data.scaled_decoding: large JPEGs come smaller from the decoder; sizes, boxes and masks stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import Selected
from axiom_bench.data.formats.decoding import open_scaled
from axiom_bench.data.loading import decoded
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job

PLAIN = Preprocessing(40, 32, (0.5,) * 3, (0.25,) * 3)
SCALED = replace(PLAIN, scaled_decoding=True)


def smooth(path, width, height):
    """A photograph-like image: JPEG's scaled decoding of noise would be another image."""
    small = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.mark.parametrize(
    ("size", "least", "expected"),
    [((401, 203), (100, 120), (201, 102)), ((400, 203), (100, 201), (400, 203)), ((900, 900), (10, 10), (113, 113))],
)
def test_the_decoder_gives_no_less_than_is_needed(tmp_path, size, least, expected):
    for suffix in ("jpg", "png"):
        smooth(tmp_path / f"a.{suffix}", *size)
        image, stored = open_scaled(tmp_path / f"a.{suffix}", "a", lambda height, width: least)
        assert (image.mode, stored, image.size) == ("RGB", size, expected if suffix == "jpg" else size)


def test_all_but_the_pixels_stays_and_these_are_close(voc_root, build):
    root = voc_root / "VOCdevkit/VOC2012"
    smooth(root / "JPEGImages/2007_1.jpg", 403, 301)
    build[1](root / "Annotations/2007_1.xml", [("dog", 1, 1, 100, 200), ("person", 110, 20, 400, 300)], 403, 301)
    Image.fromarray(np.tile(np.arange(403, dtype=np.uint8) // 30, (301, 1))).save(root / "SegmentationClass/2007_1.png")
    dataset = load_dataset({"kind": "voc", "root": str(voc_root)})
    plain, scaled = (decoded(Selected(dataset, range(3)), 0, preprocessing) for preprocessing in (PLAIN, SCALED))
    assert scaled.size == plain.size == (301, 403)
    assert (scaled.label, scaled.problems) == (plain.label, plain.problems)
    for field in ("labels", "boxes", "mask"):
        assert torch.equal(getattr(scaled.annotation, field), getattr(plain.annotation, field))
    assert scaled.annotation.stored_pixel == plain.annotation.stored_pixel
    assert scaled.pixels.shape == plain.pixels.shape
    difference = (scaled.pixels.float() - plain.pixels.float()).abs()
    assert 0 < difference.mean() < 3
    small, smaller = (decoded(dataset, 1, preprocessing) for preprocessing in (PLAIN, SCALED))
    assert torch.equal(small.pixels, smaller.pixels)  # 40 x 30 is enlarged
    as_stored = (decoded(dataset, 0, replace(each, resize=None)) for each in (PLAIN, SCALED))
    assert torch.equal(*(each.pixels for each in as_stored))


def test_it_is_off_and_part_of_the_key():
    with composed(["experiment=quick", "data.size=1"]) as composition:
        config = composition.plain_job()
    off = Job.of(config)
    on = Job.of({**config, "data": {**config["data"], "scaled_decoding": True}})
    assert (off.model.preprocessing.scaled_decoding, on.model.preprocessing.scaled_decoding) == (False, True)
    assert Facts(off).common != Facts(on).common
