"""Tests of pairs against scipy, one pair at a time, by hand, and against every way in which the signs could fall."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import PermutationMethod, binomtest, norm, wilcoxon

from axiom_bench.errors import BenchError
from axiom_bench.report.tables import write_tables
from axiom_bench.report.tables.comparisons import paired_tables
from axiom_bench.report.tables.table import to_markdown
from axiom_bench.report.tables.text import last_lines
from axiom_bench.statistics.paired_tests import (
    are_equal,
    by_image,
    centre,
    compare,
    detectable,
    holm,
    interval,
    normal_test,
    rank_biserial,
    sign_test,
    signed_rank_test,
    signed_ranks,
    smallest_shown,
    statistics,
    wilcoxon_with_ties,
)
from axiom_bench.statistics.run_folder import RunFolder

NAN = float("nan")


def test_many_pairs_are_tested_as_one_at_a_time() -> None:
    """With zeros, ties and missing images, of few and of many images."""
    generator = np.random.default_rng(0)
    for count in (5, 12, 30, 80):
        differences = generator.normal(0.2, 1, size=(count, 8))
        differences[:, 2:] = differences[:, 2:].round(1)
        differences[: count // 3, 4] = 0
        differences[: count // 4, 5] = NAN
        differences[:, 6] = 0
        p = signed_rank_test(differences)
        for place in range(8):
            own = differences[:, place]
            own = own[np.isfinite(own) & (own != 0)]
            assert p[place] == pytest.approx(wilcoxon(own).pvalue if len(own) else 1.0, rel=1e-12)


def test_the_sign_test_is_exact() -> None:
    ahead, behind = np.array([0, 1, 7, 3, 20]), np.array([0, 0, 1, 3, 5])
    expected = [binomtest(int(a), int(a + b)).pvalue if a + b else 1.0 for a, b in zip(ahead, behind, strict=True)]
    assert sign_test(ahead, behind).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_effect_is_the_share_of_ranks() -> None:
    gain = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [-3.0, 0.0, -3.0], [0.0, 0.0, NAN]])
    assert rank_biserial(signed_ranks(gain)).tolist() == [0.0, 0.0, -1.0]  # ranks 1 and 2 against 3
    assert rank_biserial(signed_ranks(np.array([[1.0], [-1.0], [5.0]])))[0] == pytest.approx((1.5 + 3 - 1.5) / 6)


def test_an_image_s_rows_are_averaged_and_rounding_is_equal() -> None:
    first = np.array([[4.0], [1.0], [3.0], [1.0], [NAN]])
    second = np.array([[1.0], [2.0], [1.0], [1.000001], [1.0]])
    difference = by_image(first, second, np.array([0, 0, 1, 2, 3]))
    assert difference[:3, 0].tolist() == [1.0, 2.0, 0.0]
    assert math.isnan(difference[3, 0])
    assert are_equal(np.array([1e-7, 1.0, 1.0]), np.array([5e-7, 1.00001, 1.001])).tolist() == [True, True, False]


def test_a_binary_value_has_the_sign_test_and_a_finite_interval() -> None:
    """One image of 40 differs: the t interval would be as good as a point, and the signed ranks have none."""
    differences = np.zeros((40, 1))
    differences[0] = 1
    row = {name: column[0] for name, column in statistics(differences, "higher", are_binary=True).items()}
    assert row == {"n": 40, "better": 1, "same": 39, "worse": 0, "effect": 1, "p": 1}
    low, high = interval(differences, np.arange(40), "mean", are_binary=True)[:, 0]
    assert low < 0 < centre(differences, "mean")[0] < high < 0.2


def test_fewer_rows_than_images_of_both_are_not_counted() -> None:
    row = statistics(np.array([[NAN], [NAN]]), "lower", are_binary=False)
    assert row["n"][0] == 0
    assert math.isnan(row["p"][0])


def test_what_is_shown_follows_the_formula() -> None:
    """Normal differences have the spread sqrt(pi / 3); of many images Student's quantiles are normal's."""
    differences = np.random.default_rng(1).normal(0.3, 2.0, size=(4000, 1))
    expected = (norm.ppf(1 - 0.05 / 20) + norm.ppf(0.8)) * 2 * math.sqrt(math.pi / 3) / math.sqrt(4000)
    assert detectable(differences, False, 10)[0] == pytest.approx(expected, rel=0.05)
    binary = (np.arange(4000) % 4 == 0).astype(float)[:, None]
    expected = (norm.ppf(1 - 0.05 / 20) + norm.ppf(0.8)) * math.sqrt(3 / 16) / math.sqrt(4000)
    assert detectable(binary, True, 10)[0] == pytest.approx(expected, rel=1e-3)
    assert np.isnan(detectable(np.zeros((30, 1)), False, 10)).all()
    assert np.isnan(smallest_shown(np.ones(2), 1, images=1)).all()


def test_one_image_far_off_changes_little_of_what_is_shown() -> None:
    differences = np.random.default_rng(2).normal(size=(100, 1))
    before = detectable(differences, False, 1)[0]
    differences[0] = 1e6
    assert detectable(differences, False, 1)[0] == pytest.approx(before, rel=0.1)


def test_a_normal_difference() -> None:
    p = normal_test(np.array([1.96, 0.0, 1.0]), np.array([1.0, 0.0, NAN]))
    assert p[0] == pytest.approx(0.05, abs=1e-4)
    assert p[1] == 1
    assert math.isnan(p[2])


@pytest.mark.parametrize("count", [2, 5, 9])
def test_exact_signed_ranks_with_ties_are_those_of_scipy(count: int) -> None:
    differences = np.random.default_rng(count).integers(1, 4, (5, count)) * np.random.default_rng(9).choice(
        [-1.0, 1.0], (5, count)
    )
    expected = [wilcoxon(row, method=PermutationMethod(n_resamples=np.inf)).pvalue for row in differences]
    assert wilcoxon_with_ties(differences) == pytest.approx(expected, abs=1e-12)


def test_p_of_many_images_is_scipy_s_to_the_last_bit() -> None:
    generator = np.random.default_rng(3)
    for count in (51, 400):
        differences = generator.normal(0.1, 1, size=(count, 6))
        differences[:, 3:] = differences[:, 3:].round(1)  # ties and zeros
        expected = [wilcoxon(column[column != 0]).pvalue for column in differences.T]
        assert signed_rank_test(differences).tolist() == expected


def test_ranks_and_ties_by_hand() -> None:
    ranks = signed_ranks(np.array([[2.0], [-2.0], [2.0], [-5.0], [0.0], [NAN]]))
    assert (ranks.counts[0], ranks.positive[0], ranks.negative[0]) == (4, 2 + 2, 2 + 4)
    assert ranks.ties[0] == 3**3 - 3


def records(**values: list[float]) -> pd.DataFrame:
    """Method -> its values of the metric e, image by image; NaN has another status."""
    rows = [
        {"method": method, "metric": "e", "image_id": str(i), "target_class": 1, "value": value,
         "status": "zero_map" if math.isnan(value) else "ok"}
        for method, column in values.items()
        for i, value in enumerate(column)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def only_row(table: pd.DataFrame) -> pd.Series:
    assert len(table) == 1
    return table.iloc[0]


def by_all_signs(differences: list[float]) -> float:
    """The share of the 2^n signs whose rank sum lies at least as far from its mean; no two |differences| are equal."""
    ranks = [1 + sum(abs(other) < abs(difference) for other in differences) for difference in differences]
    middle = sum(ranks) / 2
    observed = abs(sum(rank for rank, difference in zip(ranks, differences, strict=True) if difference > 0) - middle)
    sums = (sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks)))
    return sum(abs(rank_sum - middle) >= observed for rank_sum in sums) / 2 ** len(ranks)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_p_counts_all_signs(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    control, other = generator.normal(size=n) + 0.5, generator.normal(size=n)
    result = only_row(compare(records(control=control.tolist(), other=other.tolist()), "control", {"e": "higher"}))
    assert result["p"] == pytest.approx(by_all_signs((control - other).tolist()), rel=1e-12)
    assert (result["n"], result["better"], result["same"], result["worse"]) == (
        n,
        (control > other).sum(),
        0,
        (control < other).sum(),
    )
    assert result["difference"] == pytest.approx(np.median(control - other), rel=1e-12)
    ranked = sorted((control - other).tolist(), key=abs)
    assert result["ahead"] == pytest.approx(
        sum(i for i, d in enumerate(ranked, 1) if d > 0) / (n * (n + 1) / 2), rel=1e-12
    )


def test_the_direction_is_the_metric_s() -> None:
    values = records(control=[1.0, 2.0, 5.0], other=[2.0, 4.0, 4.0])
    lower, higher = (only_row(compare(values, "control", {"e": direction})) for direction in ("lower", "higher"))
    assert (lower["better"], lower["worse"]) == (2, 1) == (higher["worse"], higher["better"])
    assert (lower["ahead"], higher["ahead"]) == (3 / 4, 1 / 4)  # -1 and 1 share rank 1.5, -2 has rank 3
    assert lower["difference"] == higher["difference"] == -1
    assert compare(values, "control", {}).empty


def test_rounding_is_no_difference() -> None:
    """Two formulas of one quantity, in float32; and an error that is 0 in theory."""
    result = only_row(
        compare(records(control=[1.0, 3e-8, 2.0], other=[1.000001, 4e-7, 2.0]), "control", {"e": "lower"})
    )
    assert (result["n"], result["better"], result["same"], result["worse"]) == (3, 0, 3, 0)
    assert (result["difference"], result["ahead"], result["p"], result["adjusted"]) == (0, 0.5, 1, 1)


def test_only_images_with_both_values_count() -> None:
    nan = float("nan")
    result = only_row(compare(records(control=[1.0, nan, 1.0], other=[2.0, 2.0, nan]), "control", {"e": "lower"}))
    assert (result["n"], result["better"]) == (1, 1)
    none = only_row(compare(records(control=[1.0, nan], other=[nan, 2.0]), "control", {"e": "lower"}))
    assert none["n"] == 0
    assert math.isnan(none["p"])
    assert math.isnan(none["adjusted"])


def test_an_image_of_several_classes_counts_once() -> None:
    """Differences 3 and -1 on one image, mean 1; and 2 on the other."""
    rows = records(control=[4.0, 1.0, 3.0], other=[1.0, 2.0, 1.0]).assign(image_id=["a", "a", "b"] * 2)
    result = only_row(compare(rows.assign(target_class=[0, 1, 0] * 2), "control", {"e": "higher"}))
    assert (result["n"], result["better"], result["difference"]) == (2, 2, 1.5)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1, and never below the one before; a missing test isn't counted."""
    nan = float("nan")
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([nan, 0.02, nan]) == pytest.approx([nan, 0.02, nan], nan_ok=True)
    assert holm([]) == []


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    """It used to answer an empty table, as if no difference had been found."""
    table = records(my_cam=[1.0], other=[2.0])
    with pytest.raises(BenchError, match="There is no method 'mycam'; did you mean 'my_cam'"):
        compare(table, "mycam", {"e": "lower"})
    with pytest.raises(BenchError, match="There is no metric 'f'"):
        compare(table, "my_cam", {"f": "lower"})


def test_a_method_without_values_has_no_rows() -> None:
    assert compare(records(control=[float("nan")], other=[2.0]), "control", {"e": "lower"}).empty


def test_a_report_that_compares_an_unknown_method_is_refused(compared: RunFolder, edit_manifest: Any) -> None:
    edit_manifest(compared.path, config={"target": "label", "report": {"compare": "gradcam"}})
    with pytest.raises(BenchError, match="did you mean 'grad_cam'"):
        list(paired_tables(RunFolder.read(compared.path)))


@pytest.fixture
def compared(make_run: Any, make_records: Any, edit_manifest: Any) -> RunFolder:
    folder = make_run(make_records(30), pictures=False)
    edit_manifest(folder, config={"target": "label", "report": {"compare": "grad_cam"}})
    return RunFolder.read(folder)


def test_a_table_for_each_setting(compared: RunFolder, tmp_path: Path) -> None:
    tables = list(paired_tables(compared))
    assert [table.title for table in tables] == [
        f"grad_cam against the others, {m}" for m in ("scenes_fc", "scenes_residual")
    ]
    titles = [group.title for group in tables[0].groups]
    assert titles == [
        f"{t}, {d} is better"
        for t, d in (
            ("Sensitivity error [ratio]", "lower"),
            ("Conservation error [ratio]", "lower"),
            ("Confidence drop [probability]", "higher"),
            ("Box IoU", "higher"),
        )
    ]
    worst = {row[0].text: row for row in tables[0].groups[0].rows}["ablation_cam_axiomatic"]
    assert worst[2].text == worst[1].text  # grad_cam's errors are lower on every image, by construction
    assert (worst[-1].text, worst[-1].bold) == ("<1e-6", True)
    assert "grad_cam" not in {row[0].text for group in tables[0].groups for row in group.rows}
    assert "-" not in {row[0].text for group in tables[0].groups for row in group.rows}
    write_tables(compared, tmp_path)
    assert (tmp_path / "paired_1.md").read_text() == to_markdown(tables[0])


def test_the_closing_lines_say_who_is_better(compared: RunFolder, edit_manifest: Any) -> None:
    report = {"compare": "xgrad_cam", "headline": ["sensitivity_error", "box_iou", "zeta"]}
    edit_manifest(compared.path, config={"target": "label", "report": report})
    *_, first, last = last_lines(RunFolder.read(compared.path))
    assert first.startswith("xgrad_cam, Sensitivity error (paired, p < 0.05 after Holm): scenes_fc: ")
    assert first.endswith("scenes_residual: better than ablation_cam_axiomatic, worse than grad_cam")  # hires_cam ties
    assert last.startswith("xgrad_cam, Box IoU (paired, p < 0.05 after Holm): scenes_fc: ")


def test_nothing_sure_is_said_so(make_run: Any, make_records: Any, edit_manifest: Any) -> None:
    folder = make_run(make_records(2), pictures=False)
    for control, verdict in (("grad_cam", "no significant difference"), ("random", "no value to compare")):
        report = {"compare": control, "headline": ["sensitivity_error"]}
        edit_manifest(folder, config={"target": "label", "report": report})
        assert last_lines(RunFolder.read(folder))[-1].endswith(f"scenes_residual: {verdict}")


def test_nothing_is_compared_unasked(usual_run: Path) -> None:
    run = RunFolder.read(usual_run)
    assert list(paired_tables(run)) == []
    assert not any("paired" in line for line in last_lines(run))
