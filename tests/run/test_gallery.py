"""The pictures of the report's gallery, as a run stores them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from axiom_bench.records import reading
from axiom_bench.records.store import read_gallery
from axiom_bench.run import manifest
from axiom_bench.run.computing import samples
from axiom_bench.run.manifest import Outcome

METRICS = ("method=[grad_cam,cam,centered,uniform]", "metric=[box_iou]")


def rows_of(outcome: Outcome, results: Path) -> list[dict[str, Any]]:
    return list(read_gallery(results / "quick/default", {"gallery": outcome.files["gallery"]}))


@pytest.mark.parametrize(
    ("count", "chosen"), [(None, (3, 1, 4, 1, 5)), (9, (3, 1, 4, 1, 5)), (2, (3, 4)), (1, (3,)), (0, ())]
)
def test_images_are_spread_over_the_runs(count: int | None, chosen: tuple[int, ...]) -> None:
    assert samples.spread((3, 1, 4, 1, 5), count) == chosen


def test_no_images() -> None:
    assert samples.spread((), None) == ()


def test_a_row_has_picture_classes_boxes_and_maps(run: Callable[..., list[Outcome]], results: Path) -> None:
    (outcome,) = run(*METRICS, "data.size=4", "pictures.gallery=2", "model.weights=default")
    rows = rows_of(outcome, results)
    ids = list(dict.fromkeys(row["image_id"] for row in rows))
    assert ids == ["evaluation-0-000000", "evaluation-0-000002"]
    records = reading.read_records(results / "quick/default", manifest.assemble([outcome], "quick", "default"))
    records = records[records["image_id"].isin(ids) & (records["method"] == "grad_cam")]
    assert [(row["image_id"], row["target_class"], row["predicted_class"]) for row in rows] == [
        *records[["image_id", "target_class", "predicted_class"]].itertuples(index=False, name=None)
    ]
    for row in rows:
        assert row["methods"] == ["grad_cam", "centered", "uniform"]  # cam needs another head
        assert (row["width"], row["height"]) == (96, 96)
        assert row["target_name"] == f"digit {row['target_class']}"
        assert 0 < row["target_probability"] <= row["predicted_probability"] <= 1
        ((x0, y0, x1, y1),) = row["boxes"]
        outline = np.asarray(Image.open(io.BytesIO(row["outline"])))[..., -1] > 0
        inside, columns = outline.any(1).nonzero()[0], outline.any(0).nonzero()[0]
        assert (columns[0], inside[0], columns[-1] + 1, inside[-1] + 1) == (x0, y0, x1, y1)
        assert np.asarray(Image.open(io.BytesIO(row["picture"]))).shape == (96, 96, 3)
        assert all(np.asarray(Image.open(io.BytesIO(heatmap))).max() > 240 for heatmap in row["maps"])


def test_files_are_kept_and_a_damaged_one_is_made_again(run: Callable[..., list[Outcome]], results: Path) -> None:
    settings = (*METRICS, "data.size=3", "pictures.gallery=null")
    (first,) = run(*settings)
    (path,) = first.files["gallery"]
    file = results / "quick/default" / path
    before, content = file.stat().st_mtime_ns, file.read_bytes()
    assert run(*settings)[0].files["gallery"] == (path,)
    assert file.stat().st_mtime_ns == before
    file.write_bytes(content[:-100])
    run(*settings)
    assert file.read_bytes() == content


def test_many_images_are_in_several_files(
    run: Callable[..., list[Outcome]], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "IMAGES", 2)
    (outcome,) = run(*METRICS, "data.size=3", "pictures.gallery=null")
    assert len(outcome.files["gallery"]) == 2
    assert len({row["image_id"] for row in rows_of(outcome, results)}) == 3


def test_disagreement_in_closed_form() -> None:
    """Correlations of 1, -1 and -1: the mean of 1 - r is (0 + 2 + 2) / 3. Constant and infinite maps don't count."""
    heatmap = np.array([[0.0, 0.5], [0.25, 1.0]])
    maps = [heatmap, heatmap / 2 + 0.1, 1 - heatmap]
    assert samples.disagreement(maps) == pytest.approx(4 / 3)
    assert samples.disagreement([*maps, np.ones((2, 2)), np.full((2, 2), np.nan)]) == pytest.approx(4 / 3)
    assert np.isnan(samples.disagreement([heatmap, np.ones((2, 2))]))


def test_the_outline_of_a_mask_is_its_pixels_beside_others() -> None:
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[1:5, 1:4] = True  # its last row is the image's: the outside of the image counts as outside
    expected = mask.clone()
    expected[2:4, 2] = False
    edge = np.asarray(Image.open(io.BytesIO(samples.outline(mask) or b"")))
    assert np.array_equal(edge[..., -1] == 255, expected.numpy())
    assert samples.outline(torch.zeros(5, 6, dtype=torch.bool)) is None


def test_a_stored_map_is_close_to_the_heatmap() -> None:
    y, x = np.mgrid[:224, :224] / 224
    heatmap = np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.02)
    shown = np.asarray(Image.open(io.BytesIO(samples.webp(255 * heatmap))).convert("L")) / 255
    assert np.abs(shown - heatmap).mean() < 0.005
    assert np.abs(shown - heatmap).max() < 0.05


def test_large_pictures_are_stored_smaller() -> None:
    assert Image.open(io.BytesIO(samples.webp(np.zeros((300, 600, 3))))).size == (256, 128)


def test_the_manifest_lists_the_files(run: Callable[..., list[Outcome]]) -> None:
    outcomes = run(*METRICS, "data.size=1", "pictures.gallery=1")
    written = json.loads(json.dumps(manifest.assemble(outcomes, "quick", "default")))
    assert written["gallery"] == list(outcomes[0].files["gallery"]) != []
    assert run(*METRICS, "data.size=1", "pictures.gallery=0")[0].files["gallery"] == ()
