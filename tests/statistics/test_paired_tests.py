"""Tests of pairs against scipy, one pair at a time, by hand, and against every way in which the signs could fall."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import PermutationMethod, binomtest, norm, wilcoxon

from axiom_bench.errors import BenchError
from axiom_bench.report.tables import paired_tables, write_tables
from axiom_bench.report.tables.table import to_markdown
from axiom_bench.report.tables.text import last_lines
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of

NAN = float("nan")


def compared_with(control, other, better="lower"):
    """The row of the control against the other, of values image by image."""
    table = paired_tests.compare(rows_of("e", {"control": control, "other": other}), "control", {"e": better})
    assert len(table) == 1
    return table.iloc[0]


def test_many_pairs_are_tested_as_one_at_a_time():
    """With zeros, ties and missing images, of few and of many images: then to the last bit."""
    generator = np.random.default_rng(0)
    for count in (5, 10, 30, 51, 400):
        differences = generator.normal(0.2, 1, size=(count, 8))
        differences[:, 2:] = differences[:, 2:].round(1)
        differences[: count // 3, 4] = 0
        differences[: count // 4, 5] = NAN
        differences[:, 6] = 0
        columns = [column[np.isfinite(column) & (column != 0)] for column in differences.T]
        expected = [wilcoxon(column).pvalue if len(column) else 1.0 for column in columns]
        np.testing.assert_allclose(
            paired_tests.signed_rank_test(differences), expected, rtol=0 if count > 50 else 1e-12
        )


def test_the_sign_test_is_exact():
    ahead, behind = np.array([0, 1, 7, 3, 20]), np.array([0, 0, 1, 3, 5])
    expected = [binomtest(int(a), int(a + b)).pvalue if a + b else 1.0 for a, b in zip(ahead, behind, strict=True)]
    assert paired_tests.sign_test(ahead, behind).tolist() == pytest.approx(expected, rel=1e-12)


def test_ranks_ties_and_the_effect_by_hand():
    gain = np.array([[1.0, 0.0, -1.0, 1.0], [2.0, 0.0, -2.0, -1.0], [-3.0, 0.0, -3.0, 5.0], [0.0, 0.0, NAN, NAN]])
    effects = paired_tests.rank_biserial(paired_tests.signed_ranks(gain))
    # Ranks 1 and 2 against 3; none; all behind; 1.5 and 3 against 1.5.
    assert effects.tolist() == pytest.approx([0, 0, -1, (1.5 + 3 - 1.5) / 6])
    ranks = paired_tests.signed_ranks(np.array([[2.0], [-2.0], [2.0], [-5.0], [0.0], [NAN]]))
    assert (ranks.counts[0], ranks.positive[0], ranks.negative[0], ranks.ties[0]) == (4, 2 + 2, 2 + 4, 3**3 - 3)


def test_an_image_s_rows_are_averaged_and_rounding_is_equal():
    first = np.array([[4.0], [1.0], [3.0], [1.0], [NAN]])
    second = np.array([[1.0], [2.0], [1.0], [1.000001], [1.0]])
    difference = paired_tests.by_image(first, second, np.array([0, 0, 1, 2, 3]))
    assert difference[:3, 0].tolist() == [1.0, 2.0, 0.0]
    assert math.isnan(difference[3, 0])
    assert paired_tests.are_equal(np.array([1e-7, 1.0, 1.0]), np.array([5e-7, 1.00001, 1.001])).tolist() == [
        True,
        True,
        False,
    ]


def test_a_binary_value_has_the_sign_test_and_a_finite_interval():
    """One image of 40 differs: the t interval would be as good as a point, and the signed ranks have none."""
    differences = np.zeros((40, 1))
    differences[0] = 1
    row = {name: column[0] for name, column in paired_tests.statistics(differences, "higher", are_binary=True).items()}
    assert row == {"n": 40, "better": 1, "same": 39, "worse": 0, "effect": 1, "p": 1}
    low, high = paired_tests.interval(differences, np.arange(40), "mean", are_binary=True)[:, 0]
    assert low < 0 < paired_tests.centre(differences, "mean")[0] < high < 0.2
    none = paired_tests.statistics(np.array([[NAN], [NAN]]), "lower", are_binary=False)
    assert [none["n"][0], none["p"][0]] == pytest.approx([0, NAN], nan_ok=True)


def test_what_is_shown_follows_the_formula():
    """Normal differences have the spread sqrt(pi / 3); of many images Student's quantiles are normal's."""
    differences = np.random.default_rng(1).normal(0.3, 2.0, size=(4000, 1))
    quantiles = (norm.ppf(1 - 0.05 / 20) + norm.ppf(0.8)) / math.sqrt(4000)
    shown = paired_tests.detectable(differences, False, 10)[0]
    assert shown == pytest.approx(quantiles * 2 * math.sqrt(math.pi / 3), rel=0.05)
    differences[:40] = 1e6  # a few images far off change little
    assert paired_tests.detectable(differences, False, 10)[0] == pytest.approx(shown, rel=0.1)
    binary = (np.arange(4000) % 4 == 0).astype(float)[:, None]
    assert paired_tests.detectable(binary, True, 10)[0] == pytest.approx(quantiles * math.sqrt(3 / 16), rel=1e-3)
    assert np.isnan(paired_tests.detectable(np.zeros((30, 1)), False, 10)).all()
    assert np.isnan(paired_tests.smallest_shown(np.ones(2), 1, images=1)).all()


def test_a_normal_difference():
    p = paired_tests.normal_test(np.array([1.96, 0.0, 1.0]), np.array([1.0, 0.0, NAN]))
    assert p == pytest.approx([0.05, 1, NAN], abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_exact_signed_ranks_with_ties_are_those_of_scipy(count):
    generator = np.random.default_rng(count)
    differences = generator.integers(1, 4, (5, count)) * generator.choice([-1.0, 1.0], (5, count))
    expected = [wilcoxon(row, method=PermutationMethod(n_resamples=np.inf)).pvalue for row in differences]
    assert paired_tests.wilcoxon_with_ties(differences) == pytest.approx(expected, abs=1e-12)


def by_all_signs(differences):
    """The share of the 2^n signs whose rank sum lies at least as far from its mean; no two |differences| are equal."""
    ranks = [1 + sum(abs(other) < abs(difference) for other in differences) for difference in differences]
    middle = sum(ranks) / 2
    observed = abs(sum(rank for rank, difference in zip(ranks, differences, strict=True) if difference > 0) - middle)
    sums = (sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks)))
    return sum(abs(rank_sum - middle) >= observed for rank_sum in sums) / 2 ** len(ranks)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_p_counts_all_signs(n, seed):
    generator = np.random.default_rng(seed)
    control, other = generator.normal(size=n) + 0.5, generator.normal(size=n)
    result, gain = compared_with(control, other, "higher"), control - other
    assert result["p"] == pytest.approx(by_all_signs(gain.tolist()), rel=1e-12)
    assert result[["n", "better", "same", "worse"]].tolist() == [n, (gain > 0).sum(), 0, (gain < 0).sum()]
    assert result["difference"] == pytest.approx(np.median(gain), rel=1e-12)
    ahead = sum(rank for rank, difference in enumerate(sorted(gain, key=abs), 1) if difference > 0)
    assert result["ahead"] == pytest.approx(ahead / (n * (n + 1) / 2), rel=1e-12)


def test_the_direction_is_the_metric_s():
    lower, higher = (compared_with([1.0, 2.0, 5.0], [2.0, 4.0, 4.0], better) for better in ("lower", "higher"))
    assert (lower["better"], lower["worse"]) == (2, 1) == (higher["worse"], higher["better"])
    assert (lower["ahead"], higher["ahead"]) == (3 / 4, 1 / 4)  # -1 and 1 share rank 1.5, -2 has rank 3
    assert lower["difference"] == higher["difference"] == -1


def test_rounding_is_no_difference():
    """Two formulas of one quantity, in float32; and an error that is 0 in theory."""
    result = compared_with([1.0, 3e-8, 2.0], [1.000001, 4e-7, 2.0])
    names = ["n", "better", "same", "worse", "difference", "ahead", "p", "adjusted"]
    assert result[names].tolist() == [3, 0, 3, 0, 0, 0.5, 1, 1]


def test_only_images_with_both_values_count_and_each_once():
    assert compared_with([1.0, NAN, 1.0], [2.0, 2.0, NAN])[["n", "better"]].tolist() == [1, 1]
    none = compared_with([1.0, NAN], [NAN, 2.0])
    assert none[["n", "p", "adjusted"]].tolist() == pytest.approx([0, NAN, NAN], nan_ok=True)
    # Differences 3 and -1 on one image, mean 1; and 2 on the other.
    rows = rows_of("e", {"control": [4.0, 1.0, 3.0], "other": [1.0, 2.0, 1.0]}).assign(image_id=["a", "a", "b"] * 2)
    result = paired_tests.compare(rows.assign(target_class=[0, 1, 0] * 2), "control", {"e": "higher"})
    assert result[["n", "better", "difference"]].to_numpy().tolist() == [[2, 2, 1.5]]
    assert paired_tests.compare(rows_of("e", {"control": [NAN], "other": [2.0]}), "control", {"e": "lower"}).empty
    assert paired_tests.compare(rows, "control", {}).empty


def test_holm_by_hand():
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1, and never below the one before; a missing test isn't counted."""
    assert paired_tests.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired_tests.holm([0.5, 0.9]) == [1, 1]
    assert paired_tests.holm([NAN, 0.02, NAN]) == pytest.approx([NAN, 0.02, NAN], nan_ok=True)
    assert paired_tests.holm([]) == []


def test_a_wrong_name_is_refused_with_the_nearest():
    """It used to answer an empty table, as if no difference had been found."""
    table = rows_of("e", {"my_cam": [1.0], "other": [2.0]})
    with pytest.raises(BenchError, match="There is no method 'mycam'; did you mean 'my_cam'"):
        paired_tests.compare(table, "mycam", {"e": "lower"})
    with pytest.raises(BenchError, match="There is no metric 'f'"):
        paired_tests.compare(table, "my_cam", {"f": "lower"})


def told(folder, edit_manifest, **settings):
    """The run folder with these settings of its report."""
    edit_manifest(folder, config={"target": "label", "report": settings})
    return RunFolder.read(folder)


@pytest.fixture
def compared(make_run, make_records, edit_manifest):
    methods = {name: {} for name in ("grad_cam", "xgrad_cam", "hires_cam", "ablation_cam_axiomatic")}
    folder = make_run(make_records(30, methods=methods), methods=methods, pictures=False)
    return told(folder, edit_manifest, compare="grad_cam")


def test_a_table_for_each_setting(compared, tmp_path):
    tables = list(paired_tables(compared))
    models = ("scenes_fc", "scenes_residual")
    assert [table.title for table in tables] == [f"grad_cam against the others, {model}" for model in models]
    assert [group.title for group in tables[0].groups] == [
        "Sensitivity error [ratio], lower is better",
        "Conservation error [ratio], lower is better",
        "Confidence drop [probability], higher is better",
        "Box IoU, higher is better",
    ]
    worst = {row[0].text: row for row in tables[0].groups[0].rows}["ablation_cam_axiomatic"]
    assert worst[2].text == worst[1].text  # grad_cam's errors are lower on every image, by construction
    assert (worst[-1].text, worst[-1].bold) == ("<1e-6", True)
    assert not {"grad_cam", "-"} & {row[0].text for group in tables[0].groups for row in group.rows}
    write_tables(compared, tmp_path)
    assert (tmp_path / "paired_1.md").read_text() == to_markdown(tables[0])


def test_the_closing_lines_say_who_is_better(compared, edit_manifest):
    headline = ["sensitivity_error", "box_iou", "zeta"]
    *_, first, last = last_lines(told(compared.path, edit_manifest, compare="xgrad_cam", headline=headline))
    assert first.startswith("xgrad_cam, Sensitivity error (paired, p < 0.05 after Holm): scenes_fc: ")
    assert first.endswith("scenes_residual: better than ablation_cam_axiomatic, worse than grad_cam")  # hires_cam ties
    assert last.startswith("xgrad_cam, Box IoU (paired, p < 0.05 after Holm): scenes_fc: ")
    with pytest.raises(BenchError, match="did you mean 'grad_cam'"):
        list(paired_tables(told(compared.path, edit_manifest, compare="gradcam")))


def test_nothing_sure_is_said_so(make_run, make_records, edit_manifest):
    folder = make_run(make_records(2), pictures=False)
    for control, verdict in (("grad_cam", "no significant difference"), ("random", "no value to compare")):
        run = told(folder, edit_manifest, compare=control, headline=["sensitivity_error"])
        assert last_lines(run)[-1].endswith(f"scenes_residual: {verdict}")


def test_nothing_is_compared_unasked(usual):
    assert list(paired_tables(usual)) == []
    assert not any("paired" in line for line in last_lines(usual))
