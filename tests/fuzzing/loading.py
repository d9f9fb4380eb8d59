"""What holds of any data set of a stranger: each image has a row or a status, and reading it takes little memory."""

from __future__ import annotations

import io
import resource
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import BadImage, DataSet
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError

PREPROCESSING = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
MAX_GROWTH = 400 * 2**10  # kB of the process: a bomb would take gigabytes
LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True, "exact": True}}


def load(data: DataSet, rule: str = "label") -> dict[str, BadImage]:
    """The bad images by id, after every image was found to have a row or a status, and the same fingerprint twice."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows: list[str] = []
    bad: dict[str, BadImage] = {}
    for item in batches(data, range(len(data)), PREPROCESSING, rule, 4):
        if isinstance(item, BadImage):
            bad[item.image_id] = item
        else:
            assert item.images.isfinite().all(), "values that aren't finite"
            rows += item.image_ids
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH, "it took memory"
    with_rows = sorted(set(rows)) if rule == "each_label" else sorted(rows)
    assert sorted([*with_rows, *bad]) == sorted(data.ids), "an image has no row and no status, or two"
    for index in range(len(data)):
        assert data.fingerprint(index) == data.fingerprint(index)
        assert all(0 <= label < len(data.classes) for label in data.labels(index)), data.labels(index)
    return bad


def refuse(bad: dict[str, BadImage]) -> None:
    """Raises BenchError where there are bad images: their sentences are looked at as a refusal's."""
    if bad:
        raise BenchError(" ".join(map(str, bad.values()))[:500])


def encoded(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a file of this format."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **{**LOSSLESS.get(kind, {}), **options})
    return buffer.getvalue()
