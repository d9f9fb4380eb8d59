"""The matrix of explained class against class seen: counts by hand, and what stays out of tables and box-plots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import sealed
from axiom_bench.records.by_metric import Records
from axiom_bench.report.charts import by_method, matrices
from axiom_bench.report.charts.drawing import Drawing, LeftOut
from axiom_bench.statistics.run_folder import RunFolder

CLASSES = ["cat", "dog", "horse"]


@pytest.fixture
def run(make_records: Any, make_run: Any) -> RunFolder:
    """Six methods on one model; of grad_cam class_seen is as below, the others see what they explain."""
    layers = {"scenes_fc": ("features.9",)}
    rows = make_records(n=6, layers=layers)
    seen = rows[(rows["metric"] == "confidence_drop")].assign(metric="class_seen", status="ok")
    target = np.array([0, 0, 0, 1, 1, 2])
    seen["target_class"] = np.tile(target, len(seen) // 6)
    seen["value"] = seen["target_class"].astype(float)
    seen.loc[seen["method"] == "grad_cam", "value"] = [0.0, 0.0, 1.0, 1.0, 7.0, np.nan]
    seen.loc[seen["value"].isna(), "status"] = "off_objects"
    folder = make_run(pd.concat([rows, seen]), layers=layers)
    manifest = sealed.read_json(folder / "manifest.json")
    manifest["metrics"]["class_seen"] = {"title": "Class seen", "unit": "class"}
    manifest["data"]["scenes"]["classes"] = CLASSES
    manifest_file.write(folder, manifest)
    return RunFolder.read(folder)


def drawn(run: RunFolder) -> Drawing:
    (drawing,) = matrices.draw(run)
    assert isinstance(drawing, Drawing)
    return drawing


def test_rows_are_shares_of_the_explained_class(run: RunFolder) -> None:
    known = run.class_records.frame().query("method == 'grad_cam' and status == 'ok'")
    found = matrices.confusion(known, [0, 1, 2])
    expected = np.array([[2 / 3, 1 / 3, 0], [0, 1 / 2, 0], [np.nan] * 3])  # 7 has no column, class 2 no map
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_panel_for_each_method_with_the_classes_names(run: RunFolder) -> None:
    drawing = drawn(run)
    titles = [axes.get_title(loc="left") for axes in drawing.draw().axes if axes.get_title(loc="left")]
    assert titles[0] == "grad_cam: 60 %"
    assert titles[1:] == [f"{method}: 100 %" for method in run.class_records.methods[1:]]
    assert [text.get_text() for text in drawing.draw().axes[0].get_yticklabels()] == CLASSES
    assert "n = 6 images, 6 rows" in drawing.caption
    assert drawing.name == "confusion_class_seen"


def test_a_class_is_no_number_to_average(run: RunFolder, tmp_path: Path) -> None:
    assert "class_seen" not in run.metrics
    assert "class_seen" not in run.records.metrics
    assert not any("class_seen" in figure.name for figure in by_method.draw(run) if isinstance(figure, Drawing))
    drawing = drawn(run)
    drawing.save(tmp_path)
    assert drawing.png_path(tmp_path).read_bytes()[:4] == b"\x89PNG"


def test_many_classes_are_cut_to_the_most_explained(run: RunFolder) -> None:
    rows = run.class_records.frame()
    many = pd.concat([rows.assign(target_class=label, value=float(label)) for label in (*range(30), 29)])
    drawing = drawn(replace(run, class_records=Records.of(many)))
    labels = [text.get_text() for text in drawing.draw().axes[0].get_yticklabels()]
    assert len(labels) == matrices.MAX_CLASSES
    assert "29" in labels
    assert "The 20 of 30 classes that are explained most often." in drawing.caption


def test_a_run_without_it_says_so(usual_run: Path) -> None:
    (left_out,) = matrices.draw(RunFolder.read(usual_run))
    assert isinstance(left_out, LeftOut)
    assert "class_discriminability" in left_out.reason
