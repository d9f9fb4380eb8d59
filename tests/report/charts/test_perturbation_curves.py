"""Mean curves with their bands, from files on disk, and the figure that draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.report.charts.curves import draw, mean_curves
from axiom_bench.report.charts.drawing import LeftOut
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.summary import summarise
from tests.made_runs import write_curves

AT = [0.0, 0.5, 1.0]
SETTINGS = (Setting("vgg", "features", "scenes"), Setting("resnet", "layer4", "scenes"))
Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of curves and the file of records that tells its setting: their job in the manifest."""
    numbers: dict[str, int] = {}

    def build(
        name: str, setting: Setting, rows: Sequence[tuple[str, str, list[float], str]], ids: Any = None
    ) -> dict[str, Any]:
        curves = [
            {"image_id": ids[i] if ids else f"{name} {i}", "target_class": 0, "method": method, "curve": curve,
             "points": points, "status": status}
            for i, (method, curve, points, status) in enumerate(rows)
        ]  # fmt: skip
        return write_curves(tmp_path, setting._asdict(), pd.DataFrame(curves), numbers.setdefault(name, len(numbers)))

    return build


def run_of(folder: Path, jobs: Sequence[dict[str, Any]], **axes: Any) -> Any:
    lists = {kind: [name for job in jobs for name in job[kind]] for kind in ("records", "curves")}
    manifest = {**lists, "jobs": list(jobs), "methods": {"b": {}, "a": {}}, "axes": axes}
    texts = {"label": lambda setting: setting.model, "metadata": SimpleNamespace(method_title=str.upper)}
    return SimpleNamespace(path=folder, manifest=manifest, methods=("b", "a"), settings=SETTINGS, **texts)


DELETION = {"title": "Deletion", "x": "fraction of pixels removed", "y": "probability", "at": AT, "better": "lower"}


def test_means_and_bands_add_up_over_files_and_leave_out_what_is_not_ok(tmp_path, write):
    draws = np.random.default_rng(0).random((7, 3))
    rows = [("a", "deletion", points.tolist(), "ok") for points in draws]
    nothing = ("a", "deletion", [np.nan] * 3, "zero_map")
    other = ("a", "insertion", [0.1, 0.2], "ok")
    files = [
        write("one", SETTINGS[0], [*rows[:4], nothing, other]),
        write("two", SETTINGS[0], rows[4:]),
        write("three", SETTINGS[1], [("b", "deletion", [1.0, 1.0, 0.0], "ok"), *rows[:1]]),
    ]
    first, second, third = mean_curves(run_of(tmp_path, files), ["deletion"])
    assert [(one.setting.model, one.method, one.images) for one in (first, second, third)] == [
        ("vgg", "a", 7), ("resnet", "b", 1), ("resnet", "a", 1)
    ]  # fmt: skip
    np.testing.assert_allclose(first.mean, draws.mean(0), rtol=1e-12)
    np.testing.assert_allclose(first.half_width, 1.959964 * draws.std(0, ddof=1) / np.sqrt(7), rtol=1e-9)
    assert np.isnan(second.half_width).all()


def test_bands_are_by_image_over_files(tmp_path, write):
    """Three rows of each of four images, the images in two files: as the summary has it at each point."""
    generator = np.random.default_rng(1)
    points = generator.normal(size=(4, 1, 3)) + 0.1 * generator.normal(size=(4, 3, 3))
    halves = (points[:2], points[2:])
    rows = [[("a", "deletion", row.tolist(), "ok") for image in half for row in image] for half in halves]
    ids = [np.repeat(names, 3).tolist() for names in (["a", "b"], ["c", "d"])]
    files = [write(name, SETTINGS[0], *part) for name, *part in zip(("one", "two"), rows, ids, strict=True)]
    (curve,) = mean_curves(run_of(tmp_path, files), ["deletion"])
    assert (curve.images, curve.rows) == (4, 12)
    for place in range(3):
        values = {"value": points[:, :, place].ravel(), "image_id": [*ids[0], *ids[1]], "target_class": [0, 1, 2] * 4}
        names = {"model": "m", "layer": "l", "data": "d", "method": "a", "metric": "e", "status": "ok"}
        expected = summarise(pd.DataFrame({**names, **values})).iloc[0]
        assert curve.mean[place] == pytest.approx(expected["mean"], rel=1e-12)
        assert curve.half_width[place] == pytest.approx(1.959964 * expected["standard_error"], rel=1e-9)


def test_the_figure_has_a_panel_a_setting_and_a_line_with_a_band_a_method(tmp_path, write):
    rows = [(method, "deletion", [1.0, 0.1 * i, 0.0], "ok") for method in "ab" for i in range(3)]
    files = [write("one", SETTINGS[0], rows), write("two", SETTINGS[1], rows)]
    (drawing,) = draw(run_of(tmp_path, files, deletion=DELETION))
    assert drawing.name == "perturbation_deletion"
    assert "n = 3 images, 3 rows a curve" in drawing.caption
    assert "lower is better" in drawing.caption
    assert [len(axes.lines) for axes in drawing.draw().axes[:2]] == [2, 2]
    assert [len(axes.collections) for axes in drawing.draw().axes[:2]] == [2, 2]
    (legend,) = drawing.draw().legends
    assert [text.get_text() for text in legend.get_texts()] == ["B", "A"]
    drawing.save(tmp_path / "figures")
    assert drawing.png_path(tmp_path / "figures").is_file()


def test_a_run_without_curves_draws_nothing_and_a_missing_one_is_named(tmp_path):
    assert list(draw(run_of(tmp_path, []))) == []
    (left,) = draw(run_of(tmp_path, [], deletion=DELETION))
    assert isinstance(left, LeftOut)
    assert "the curve deletion" in left.reason


def test_a_broken_file_is_named(tmp_path, write):
    job = write("one", SETTINGS[0], [("a", "deletion", [1.0, 0.5, 0.0], "ok")])
    (tmp_path / job["curves"][0]).write_bytes(b"not parquet")
    with pytest.raises(BenchError, match=r"\.parquet can't be read"):
        mean_curves(run_of(tmp_path, [job]), ["deletion"])
