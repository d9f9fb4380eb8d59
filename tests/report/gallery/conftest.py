"""A run of three images under two networks and three methods, whose order by any key is known."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from axiom_bench.records import store
from axiom_bench.records.store import GALLERY
from axiom_bench.report import gallery
from axiom_bench.report.page.html import Header, assemble
from axiom_bench.statistics.run_folder import RunFolder

MARKUP = "<script>alert(1)</script>"
NETWORKS = {"first": ("layer4",), "second": ("layer4",)}
METHODS = {
    "good": {"title": "Good-CAM", "note": "A note."},
    "bad": {"title": "Bad-CAM"},
    "odd": {"title": f"Odd {MARKUP}"},
}
# Per image: the explained class, the predicted class, the disagreement of the methods, the errors
# of good, bad and odd, and their drops in confidence.
IMAGES = {
    "one": (0, 0, 0.2, (0.1, 0.4, None), (0.9, 0.5, 0.5)),
    "a/two.jpg": (1, 0, 0.9, (0.2, 0.2, None), (0.1, 0.3, -0.2)),
    MARKUP: (1, 1, 0.5, (0.3, 0.9, None), (0.5, 0.5, 0.5)),
}
CLASSES = ("cat", f"dog {MARKUP}")
WIDTH, HEIGHT = 80, 60


def encoded(picture: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(picture, np.uint8)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def make_entry(network: str, image: str, **changes: Any) -> dict[str, Any]:
    """Return a stored row of the gallery with `changes`.

    The methods good and bad have one map, from 0 on the left to 255 on the right. The map of odd
    isn't finite.
    """
    target, predicted, disagreement = IMAGES[image][:3]
    ramp = encoded(np.tile(np.linspace(0, 255, WIDTH).round(), (HEIGHT, 1)))
    return {
        "model": network,
        "layer": "layer4",
        "data": "scenes",
        "image_id": image,
        "target_class": target,
        "target_name": CLASSES[target],
        "target_probability": 0.25,
        "predicted_class": predicted,
        "predicted_name": CLASSES[predicted],
        "predicted_probability": 0.999,
        "width": WIDTH,
        "height": HEIGHT,
        "boxes": [[10.0, 15.0, 50.0, 45.0]],
        "outline": None,
        "picture": encoded(np.full((HEIGHT, WIDTH, 3), 200)),
        "methods": list(METHODS),
        "maps": [ramp, ramp, None],
        "disagreement": disagreement,
        **changes,
    }


def records() -> pd.DataFrame:
    rows = []
    for network in NETWORKS:
        for image, (target, predicted, _, errors, drops) in IMAGES.items():
            for metric, values in (("sensitivity_error", errors), ("confidence_drop", drops)):
                for method, value in zip(METHODS, values, strict=True):
                    row = {
                        "experiment": "synthetic",
                        "model": network,
                        "layer": "layer4",
                        "data": "scenes",
                        "image_id": image,
                        "target_class": target,
                        "predicted_class": predicted,
                        "method": method,
                        "metric": metric,
                        "value": value,
                        "status": "not_on_score_scale" if value is None else "ok",
                    }
                    rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture
def gallery_run(
    make_run: Callable[..., Path], edit_manifest: Callable[..., None]
) -> Callable[..., RunFolder]:
    """A function (*rows of the gallery, **entries of the manifest) -> the run with these pictures.

    Without rows, the run has the pictures of all images under both networks.
    """

    def make(*entries: dict[str, Any], **manifest: Any) -> RunFolder:
        folder = make_run(records(), methods=METHODS, layers=NETWORKS, pictures=False)
        rows = list(entries)
        if not rows:
            rows = [make_entry(network, image) for network in NETWORKS for image in IMAGES]
        table = pa.Table.from_pylist(rows, GALLERY)
        store.write(folder / "gallery/one.parquet", table, schema=None)
        report = {
            "headline": ["sensitivity_error"],
            "columns": ["sensitivity_error", "confidence_drop"],
        }
        manifest.setdefault("gallery", ["gallery/one.parquet"])
        manifest.setdefault("config", {"report": report})
        edit_manifest(folder, **manifest)
        return RunFolder.read(folder)

    return make


@pytest.fixture
def gallery_page(gallery_run: Callable[..., RunFolder], tmp_path: Path) -> Callable[..., Path]:
    """A function (*rows of the gallery) -> the path of a page that has only the gallery."""

    def make(*entries: dict[str, Any]) -> Path:
        path = tmp_path / "page.html"
        section = gallery.section(gallery_run(*entries))
        path.write_text(assemble(Header("A run", "A title", {}), [section]), encoding="utf-8")
        return path

    return make
