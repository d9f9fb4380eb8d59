"""Sampled sets: what is a change by image, what is chance, and what can't be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, wilcoxon

from axiom_bench.gate import GateOptions, gate, write_baseline
from axiom_bench.gate.by_image import path_of
from axiom_bench.gate.sampled import fewest_images

Change = Callable[[pd.DataFrame], pd.DataFrame]


def noisy(records: pd.DataFrame, seed: int, deviation: float = 0.02) -> pd.DataFrame:
    """Every value with chance in it."""
    noise = np.random.default_rng(seed).normal(0, deviation, len(records))
    return records.assign(value=records["value"] + noise)


def shifted(records: pd.DataFrame, by: float, method: str = "xgrad_cam", metric: str = "iou") -> pd.DataFrame:
    is_there = (records["method"] == method) & (records["metric"] == metric)
    return records.assign(value=records["value"] + by * is_there)


def other_images(records: pd.DataFrame, first: int) -> pd.DataFrame:
    """The same values under ids of which those below `first` are the baseline's."""
    number = records["image_id"].astype(int)
    return records.assign(image_id=[f"{i:03d}" if i < first else f"new {i:03d}" for i in number])


@pytest.fixture
def compare(make_run: Any, tmp_path: Path) -> Callable[..., Any]:
    """(before, after, **how, manifest) -> the result of a sampled gate."""

    def compare(before: pd.DataFrame, after: pd.DataFrame, manifest: Any = None, **how: Any) -> Any:
        baseline = write_baseline(make_run(before), tmp_path / "b.csv", sampled=True)
        return gate(make_run(after, **(manifest or {})), baseline, GateOptions(sampled=True, **how))

    return compare


def test_chance_alone_holds(compare: Any, records: pd.DataFrame) -> None:
    result = compare(noisy(records, 1), noisy(records, 2))
    assert result.exit_code == 0, result.lines
    assert "show no change" in result.conclusion


def test_a_shift_is_found_with_its_direction_and_p(compare: Any, records: pd.DataFrame) -> None:
    metrics = {
        name: {"title": name, "tolerance": "mean:0.002", "better": "higher"} for name in ("error", "iou", "drop")
    }
    before, after = noisy(records, 1), shifted(noisy(records, 2), 0.03)
    result = compare(before, after, manifest={"metrics": metrics})
    assert result.exit_code == 1
    of_values = [finding for finding in result.findings if finding.what == "mean"]
    assert {(finding.row[0], *finding.row[3:]) for finding in of_values} == {
        ("one", "xgrad_cam", "iou"),
        ("two", "xgrad_cam", "iou"),
    }
    assert {finding.verdict for finding in of_values} == {"better"}
    finding = of_values[0]
    rows = [frame[(frame.method == "xgrad_cam") & (frame.metric == "iou") & (frame.model == "one")] for frame in
            (before, after)]  # fmt: skip
    a, b = (own.loc[own.status == "ok", "value"].astype("float32").astype(float).to_numpy() for own in rows)
    assert finding.before == pytest.approx(a.mean())
    assert finding.after == pytest.approx(b.mean())
    assert finding.p == pytest.approx(18 * wilcoxon(b - a).pvalue, rel=1e-3)  # first or second of 18 that Holm orders
    assert "40 images in pairs" in finding.line


def test_a_significant_change_below_the_minimum_effect_holds(compare: Any, records: pd.DataFrame) -> None:
    before, after = records, shifted(records, 0.001)  # every image differs, by half of the tolerance
    assert compare(before, after).exit_code == 0
    assert compare(before, after, min_effect={"iou": "mean:0.0005"}).exit_code == 1
    assert compare(before, shifted(records, 0.01), min_effect={"iou": "mean:0.05"}).exit_code == 0


def test_a_large_change_of_few_images_is_chance(compare: Any, records: pd.DataFrame) -> None:
    """The mean moves by ten tolerances; that three of forty images differ can't be told from chance."""
    after = records.copy()
    chosen = after.index[(after["method"] == "xgrad_cam") & (after["metric"] == "iou")][:3]
    after.loc[chosen, "value"] += 0.3
    assert compare(records, after).exit_code == 0


def test_values_that_go_are_found(compare: Any, records: pd.DataFrame) -> None:
    after = records.copy()
    chosen = after.index[(after["method"] == "grad_cam") & (after["metric"] == "drop") & (after["model"] == "one")][:20]
    after.loc[chosen, ["value", "status"]] = [np.nan, "zero_map"]
    result = compare(records, after)
    (finding,) = result.findings
    assert (finding.what, finding.verdict) == ("values", "worse")
    assert finding.before == pytest.approx(39 / 40)
    assert finding.after == pytest.approx(19 / 40)


def test_a_lost_row_of_the_same_images_is_found_and_names_that_go(compare: Any, records: pd.DataFrame) -> None:
    result = compare(records, records.drop(index=3))
    assert [finding.text for finding in result.findings] == ["rows were 40, are 39"]
    result = compare(records, records[records["method"] != "uniform"])
    assert [finding.place for finding in result.findings] == [("method", "uniform")]


OTHER = {"data": {"scenes": {"ids": ["new"], "fingerprint": "cd"}}}


def test_images_that_both_have_are_compared_in_pairs(compare: Any, records: pd.DataFrame) -> None:
    after = shifted(other_images(records, 30), 0.02)
    result = compare(records, after, manifest=OTHER)
    assert result.exit_code == 1
    assert "30 images in pairs" in result.lines[0]
    assert compare(records, other_images(records, 30), manifest=OTHER).exit_code == 0


def test_other_images_are_compared_without_pairs(compare: Any, records: pd.DataFrame) -> None:
    assert compare(records, other_images(records, 5), manifest=OTHER).exit_code == 0
    result = compare(records, shifted(other_images(records, 5), 0.3), manifest=OTHER)
    finding = result.findings[0]
    assert "40 and 40 images, not paired" in finding.line
    own = records[(records.method == "xgrad_cam") & (records.metric == "iou") & (records.status == "ok")]
    values = [own.loc[own.model == model, "value"].to_numpy() for model in ("one", "two")]
    p = min(mannwhitneyu(own, own + 0.3, method="asymptotic").pvalue for own in values)
    assert min(finding.p for finding in result.findings) == pytest.approx(36 * p)  # values, and which rows have one


def test_too_few_images_and_an_unknown_metric_or_effect_are_refused(compare: Any, records: pd.DataFrame) -> None:
    few = records[records["image_id"] < "008"]
    result = compare(few, few)
    assert result.exit_code == 2
    assert "8 images to compare" in result.conclusion
    assert "'iuo'" in compare(records, records, min_effect={"iuo": "mean:1%"}).conclusion
    assert "write median:0.5%" in compare(records, records, min_effect={"iou": "5"}).conclusion


def test_fewest_images_is_where_the_exact_test_begins_to_show_something() -> None:
    for tests in (1, 9, 250, 4000):
        enough, fewer = (wilcoxon(np.arange(1, count + 1)).pvalue * tests for count in
                         (fewest_images(tests), fewest_images(tests) - 1))  # fmt: skip
        assert enough < 0.05 <= fewer


def test_the_default_refuses_other_images_and_names_sampled(
    make_run: Any, records: pd.DataFrame, usual_baseline: Path
) -> None:
    result = gate(make_run(records, **OTHER), usual_baseline)
    assert result.exit_code == 2
    assert "--sampled" in result.conclusion


def test_without_values_by_image_it_says_how_to_write_them(usual: Path, usual_baseline: Path) -> None:
    result = gate(usual, usual_baseline, GateOptions(sampled=True))
    assert result.exit_code == 2
    assert "--write --sampled" in result.conclusion
    assert gate(usual, usual_baseline, GateOptions(sampled=True, against=usual)).exit_code == 0


def test_values_of_another_baseline_are_refused(make_run: Any, records: pd.DataFrame, tmp_path: Path) -> None:
    """A refresh of one of the two files alone would pair a run with other values than the reviewed ones."""
    baseline = write_baseline(make_run(records), tmp_path / "b.csv", sampled=True)
    other = write_baseline(make_run(shifted(records, 0.1)), tmp_path / "c.csv", sampled=True)
    path_of(baseline).write_bytes(path_of(other).read_bytes())
    result = gate(make_run(records), baseline, GateOptions(sampled=True))
    assert result.exit_code == 2
    assert "aren't those of" in result.conclusion
    path_of(baseline).unlink()
    assert "is missing" in gate(make_run(records), baseline, GateOptions(sampled=True)).conclusion


def test_a_run_that_is_not_the_baselines_is_no_before(
    make_run: Any, records: pd.DataFrame, usual_baseline: Path, tmp_path: Path
) -> None:
    """It decides a sampled comparison, which refuses it; in the other it only shows images, and a note says why not."""
    other, moved = make_run(shifted(records, 0.1)), make_run(shifted(records, 0.2))
    for against, reason in ((other, "is not the baseline's run"), (tmp_path / "none", "is no run folder")):
        refused = gate(moved, usual_baseline, GateOptions(sampled=True, against=against))
        assert refused.exit_code == 2
        assert reason in refused.conclusion
        result = gate(moved, usual_baseline, GateOptions(against=against))
        assert result.exit_code == 1
        assert not result.images
        assert reason in result.lines[-2]
