"""Sampled sets: what is a change by image, what is chance, and what can't be compared."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from axiom_bench.gate import GateOptions, gate, write_baseline
from axiom_bench.gate.by_image import path_of
from axiom_bench.gate.sampled import fewest_images

from .conftest import TOLERANCES, of, shifted

pytestmark = pytest.mark.slow  # whole commands


def noisy(records, seed, deviation=0.02):
    """Every value with chance in it."""
    noise = np.random.default_rng(seed).normal(0, deviation, len(records))
    return records.assign(value=records["value"] + noise)


def other_images(records, first):
    """The same values under ids of which those below `first` are the baseline's."""
    number = records["image_id"].astype(int)
    return records.assign(image_id=[f"{i:03d}" if i < first else f"new {i:03d}" for i in number])


@pytest.fixture
def compare(make_run, tmp_path):
    """(before, after, **how, manifest) -> the result of a sampled gate."""

    def compare(before, after, manifest=None, **how):
        baseline = write_baseline(make_run(before), tmp_path / "b.csv", sampled=True)
        return gate(make_run(after, **(manifest or {})), baseline, GateOptions(sampled=True, **how))

    return compare


def test_a_shift_is_found_with_its_direction_and_p(compare, records):
    metrics = {name: {"title": name, "tolerance": "mean:0.002", "better": "higher"} for name in TOLERANCES}
    before, chance = noisy(records, 1), noisy(records, 2)
    holds = compare(before, chance)
    assert holds.exit_code == 0, holds.lines
    assert "show no change" in holds.conclusion
    after = shifted(chance, 0.03)
    result = compare(before, after, manifest={"metrics": metrics})
    assert result.exit_code == 1
    found = [finding for finding in result.findings if finding.what == "mean"]
    assert {(finding.row[0], *finding.row[3:], finding.verdict) for finding in found} == {
        (model, "xgrad_cam", "iou", "better") for model in ("one", "two")
    }
    is_there = of(records, metric="iou") & (records["model"] == "one") & (records["status"] == "ok")
    a, b = (table.loc[is_there, "value"].astype("float32").to_numpy(float) for table in (before, after))
    assert [found[0].before, found[0].after] == pytest.approx([a.mean(), b.mean()])
    # first or second of 18 that Holm orders; two more images, half of the furthest away, keep p above Student's
    more = np.array([1, -1]) * np.abs(b - a).max() / 2
    assert found[0].p == pytest.approx(18 * ttest_1samp(np.append(b - a, more), 0).pvalue, rel=3)
    assert found[0].p > 18 * ttest_1samp(b - a, 0).pvalue
    assert "40 images in pairs" in found[0].line
    (note,) = result.notes
    assert note.startswith("Of 40 images in pairs: where values are skewed")
    assert note in result.lines
    assert not holds.notes


def test_a_significant_change_below_the_minimum_effect_and_a_large_one_of_few_images_hold(compare, records):
    after = shifted(records, 0.001)  # every image differs, by half of the tolerance
    assert compare(records, after).exit_code == 0
    assert compare(records, after, min_effect={"iou": "mean:0.0005"}).exit_code == 1
    assert compare(records, shifted(records, 0.01), min_effect={"iou": "mean:0.05"}).exit_code == 0
    # The mean moves by ten tolerances; that three of forty images differ can't be told from chance.
    few = records.copy()
    few.loc[few.index[of(few, metric="iou")][:3], "value"] += 0.3
    assert compare(records, few).exit_code == 0


def test_values_rows_and_names_that_go_are_found(compare, records):
    after = records.copy()
    chosen = after.index[of(after, "grad_cam", "drop") & (after["model"] == "one")][:20]
    after.loc[chosen, ["value", "status"]] = [np.nan, "zero_map"]
    (finding,) = compare(records, after).findings
    assert (finding.what, finding.verdict) == ("values", "worse")
    assert [finding.before, finding.after] == pytest.approx([39 / 40, 19 / 40])
    (finding,) = compare(records, records.drop(index=3)).findings
    assert finding.text == "rows were 40, are 39"
    (finding,) = compare(records, records[records["method"] != "uniform"]).findings
    assert finding.place == ("method", "uniform")


OTHER = {"data": {"scenes": {"ids": ["new"], "fingerprint": "cd"}}}


def test_images_that_both_have_are_compared_in_pairs_and_others_without(compare, records):
    assert compare(records, other_images(records, 30), manifest=OTHER).exit_code == 0
    result = compare(records, shifted(other_images(records, 30), 0.02), manifest=OTHER)
    assert result.exit_code == 1
    assert "30 images in pairs" in result.lines[0]
    assert compare(records, other_images(records, 5), manifest=OTHER).exit_code == 0
    result = compare(records, shifted(other_images(records, 5), 0.3), manifest=OTHER)
    assert "40 and 40 images, not paired" in result.findings[0].line
    assert not result.notes
    own = records[of(records, metric="iou") & (records.status == "ok")]
    values = [own.loc[own.model == model, "value"].to_numpy() for model in ("one", "two")]
    p = min(ttest_ind(own, own + 0.3, equal_var=False).pvalue for own in values)
    assert 0 < min(finding.p for finding in result.findings) < 1e-3 or p > 1e-5


def test_too_few_images_and_an_unknown_metric_or_effect_are_refused(compare, records):
    few = records[records["image_id"] < "008"]
    for after, effect, words in (
        (few, {}, "8 images to compare"),
        (records, {"iuo": "mean:1%"}, "'iuo'"),
        (records, {"iou": "5"}, "write median:0.5%"),
    ):
        result = compare(after, after, min_effect=effect)
        assert result.exit_code == 2
        assert words in result.conclusion


def test_fewest_images_is_where_images_that_all_differ_alike_begin_to_show_something():
    for tests in (100, 250, 4000):
        enough, fewer = (2.0 ** (1 - count) * tests for count in (fewest_images(tests), fewest_images(tests) - 1))
        assert enough < 0.05 <= fewer


def test_other_images_are_refused_with_how_to_compare_them(make_run, records, usual, usual_baseline):
    result = gate(make_run(records, **OTHER), usual_baseline)
    assert (result.exit_code, "--sampled" in result.conclusion) == (2, True)
    result = gate(usual, usual_baseline, GateOptions(sampled=True))
    assert (result.exit_code, "--write --sampled" in result.conclusion) == (2, True)
    assert gate(usual, usual_baseline, GateOptions(sampled=True, against=usual)).exit_code == 0


def test_values_of_another_baseline_are_refused(make_run, records, tmp_path):
    """A refresh of one of the two files alone would pair a run with other values than the reviewed ones."""
    baseline = write_baseline(make_run(records), tmp_path / "b.csv", sampled=True)
    other = write_baseline(make_run(shifted(records, 0.1)), tmp_path / "c.csv", sampled=True)
    path_of(baseline).write_bytes(path_of(other).read_bytes())
    result = gate(make_run(records), baseline, GateOptions(sampled=True))
    assert result.exit_code == 2
    assert "aren't those of" in result.conclusion
    path_of(baseline).unlink()
    assert "is missing" in gate(make_run(records), baseline, GateOptions(sampled=True)).conclusion


def test_a_run_that_is_not_the_baselines_is_no_before(make_run, records, usual_baseline, tmp_path):
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
