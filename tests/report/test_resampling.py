"""Standard errors of values of the whole data set: closed forms, images that stay together, and what tables say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench import metrics
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MetricSpec
from axiom_bench.evaluation.whole_set import whole_set
from axiom_bench.records import store as schemas
from axiom_bench.report.numbers import number
from axiom_bench.report.resampling import RESAMPLES, standard_errors, with_standard_errors
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.summary import summarise
from axiom_bench.report.tables import write_tables
from axiom_bench.report.tables.overview import overview_table

IMAGES, THRESHOLDS = 200, 100


def curves_of(share: float, rows_each: int = 1, method: str = "grad_cam") -> pd.DataFrame:
    """Rows of IMAGES images, whose IoU is above 0.5 at every threshold for that share of them and 0 for the others."""
    ids = np.repeat([f"image_{i:04d}" for i in range(IMAGES)], rows_each)
    hits = np.repeat(np.arange(IMAGES) < round(share * IMAGES), rows_each)
    points = list(np.where(hits, 0.8, 0.0)[:, None].repeat(THRESHOLDS, 1))
    return pd.DataFrame(
        {"image_id": ids, "target_class": 0, "method": method, "curve": "max_box_acc_iou", "points": points}
    ).assign(status="ok")


def mean_alone(curves: Any) -> dict[str, float]:
    """A user's aggregate, which knows nothing of resamples."""
    return {"mine": float((curves["max_box_acc_iou"] >= 0.5).mean())}


def none_at_all(curves: Any) -> dict[str, float]:
    return {"other": 0.0}


def metric_of(aggregate: str) -> Plugin:
    return Plugin("mine", "", print, MetricSpec(curves=("max_box_acc_iou",), aggregate=f"{__name__}.{aggregate}"))


def test_of_a_share_of_the_images_it_is_the_binomials() -> None:
    found = standard_errors(metrics.get("max_box_acc"), curves_of(0.3))
    exact = np.sqrt(0.3 * 0.7 / IMAGES)
    assert found["max_box_acc"] == pytest.approx(exact, rel=4 / np.sqrt(2 * RESAMPLES))  # 4 of its own errors
    assert found["max_box_acc_threshold"] == 0  # the first of equals in every resample


def test_all_rows_of_an_image_are_drawn_together() -> None:
    once, thrice = (standard_errors(metrics.get("max_box_acc"), curves_of(0.3, rows)) for rows in (1, 3))
    assert thrice == pytest.approx(once)


def test_it_is_the_same_each_time_in_any_order() -> None:
    curves = curves_of(0.3)
    shuffled = curves.sample(frac=1, random_state=0)
    assert standard_errors(metrics.get("max_box_acc"), curves) == standard_errors(metrics.get("max_box_acc"), shuffled)


def test_an_aggregate_that_knows_no_counts_has_the_same() -> None:
    mine, ours = standard_errors(metric_of("mean_alone"), curves_of(0.3)), metrics.get("max_box_acc")
    assert mine["mine"] == pytest.approx(standard_errors(ours, curves_of(0.3))["max_box_acc"], rel=1e-12)


def test_one_image_or_none_has_none() -> None:
    metric = metrics.get("max_box_acc")
    for curves in (curves_of(0.3)[:1], curves_of(0.3)[:0], curves_of(0.3).assign(status="zero_map")):
        assert all(np.isnan(value) for value in standard_errors(metric, curves).values())


@pytest.fixture
def folder(make_run: Callable[..., Path], edit_manifest: Callable[..., None]) -> Callable[..., Path]:
    """(metrics, shares of the methods) -> a run folder with a value of the whole data set, and its curves."""

    def make(chosen: Iterable[Plugin], shares: dict[str, float]) -> Path:
        chosen = list(chosen)
        place = {"experiment": "synthetic", "model": "scenes_fc", "layer": "features.9", "data": "scenes"}
        curves = {method: curves_of(share, method=method) for method, share in shares.items()}
        parts = [pd.DataFrame(whole_set(chosen, method, mine)).assign(**place) for method, mine in curves.items()]
        images = [part[:1].assign(image_id=image_id) for part in parts for image_id in ("image_0000", "image_0001")]
        path = make_run(pd.concat([*images, *parts]), pictures=False, layers={"scenes_fc": ("features.9",)})
        (path / "curves").mkdir()
        listed = []
        for part, mine in zip(parts, curves.values(), strict=True):
            for half in (mine[:90], mine[90:]):  # as two shards would leave them
                name = f"{len(listed)}_shard.parquet"
                schemas.write(path / "records" / name, part)
                schemas.write(path / "curves" / name, half, schemas.CURVES)
                listed.append(f"curves/{name}")
        entries = {
            one.name: {
                "_target_": one.target or f"{__name__}.mean_alone",
                "params": dict(one.params),
                **one.spec.as_dict(),
            }
            for one in chosen
        }
        edit_manifest(path, curves=listed, config={"metric": entries, "report": {"columns": ["max_box_acc", "mine"]}})
        return path

    return make


def test_tables_show_it_where_they_show_the_value(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder([metrics.get("max_box_acc")], {"grad_cam": 0.3, "xgrad_cam": 0.6})
    run = RunFolder.read(path)
    tables = {table.name: table for table in write_tables(run, tmp_path)}
    low, exact = (standard_errors(metrics.get("max_box_acc"), curves_of(of))["max_box_acc"] for of in (0.3, 0.6))
    shown = tables["overview"]
    assert shown.header[2].startswith("max_box_acc\nwhole data set ± s.e.")
    assert [row[2].text for row in shown.groups[0].rows] == [f"0.300 ± {low:.3f}", f"0.600 ± {exact:.3f}"]
    for name, text in (("overview", f"{exact:.3f}"), ("metrics_1", number(exact))):
        assert any(f"{RESAMPLES} resamples of the images" in note for note in tables[name].notes)
        assert text in (tmp_path / f"{name}.md").read_text()
        assert text in (tmp_path / f"{name}.tex").read_text()
    long = pd.read_csv(tmp_path / "summary.csv").query(
        "whole_set and metric == 'max_box_acc' and method == 'xgrad_cam'"
    )
    assert long["standard_error"].tolist() == [pytest.approx(exact)]


def test_a_run_without_such_values_says_nothing_of_it(usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    summary, problems = with_standard_errors(run, summarise(run.records))
    pd.testing.assert_frame_equal(summary, summarise(run.records))
    assert problems == ()
    assert not any("resamples" in note for note in overview_table(run, summary).notes)


def test_an_aggregate_that_is_gone_costs_the_error_not_the_report(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder([metric_of("mean_alone")], {"grad_cam": 0.3})
    manifest = json.loads((path / "manifest.json").read_text())
    for name, says in (("gone", "can't be imported"), ("none_at_all", "must return a dict of mine")):
        manifest["config"]["metric"]["mine"]["aggregate"] = f"{__name__}.{name}"
        (path / "manifest.json").write_text(json.dumps(manifest))
        table = write_tables(RunFolder.read(path), tmp_path)[0]
        assert table.groups[0].rows[0][2].text == "0.300"
        assert any("no standard error" in note and says in note for note in table.notes)
