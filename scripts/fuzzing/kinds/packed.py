"""What tar shards and Parquet files have in common: two whole files of images, of which one is damaged.

The images of the whole file are all there with their pixels and labels. Of the other one each image is either as it
was, or bad, or (where nothing in the file could tell) of other content.
"""

from __future__ import annotations

import functools
import resource

import numpy as np

from axiom_bench.data.base import BadImage, DataSet
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError

from .pictures import encoded

PREPROCESSING = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
CLASSES = ("a", "b", "c", "d")
LABELS = (2, 0, 3)
MAX_GROWTH = 400 * 2**10  # kB of the process: a bomb would take gigabytes


@functools.cache
def pictures() -> tuple[bytes, ...]:
    """Three JPEGs, each of one grey."""
    return tuple(encoded(np.full((12, 16, 3), 80 * number, np.uint8), "JPEG") for number in range(3))


def check(data: DataSet, whole: str) -> None:
    """Asserts that every image has a row or a status, and that those of the file of this name are as they were.

    Raises BenchError where there are bad images.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows: dict[str, int] = {}
    bad: dict[str, BadImage] = {}
    for item in batches(data, range(len(data)), PREPROCESSING, "predicted", 4):
        if isinstance(item, BadImage):
            bad[item.image_id] = item
        else:
            assert item.images.isfinite().all(), "values that aren't finite"
            rows |= {image_id: len(rows) for image_id in item.image_ids}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH, "it took memory"
    assert sorted([*rows, *bad]) == list(data.ids), "an image has no row and no status, or two"
    intact = [index for index, image_id in enumerate(data.ids) if image_id.startswith(f"{whole}/")]
    assert [data.labels(index) for index in intact] == [(label,) for label in LABELS], "labels of the whole file"
    for index, number in zip(intact, range(3), strict=True):
        assert data.ids[index] in rows, f"refused: {bad[data.ids[index]]}"
        assert abs(np.asarray(data.read(index).image).astype(int) - 80 * number).max() <= 1, "other pixels"
    for index in range(len(data)):
        assert data.fingerprint(index) == data.fingerprint(index)
        assert all(0 <= label < len(CLASSES) for label in data.labels(index)), data.labels(index)
    if bad:
        raise BenchError(f"bad images: {', '.join(map(str, bad.values()))[:500]}.")
