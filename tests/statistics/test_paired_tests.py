"""Tests of p and intervals of pairs: against Student's test, by hand, and with few images that
differ.
"""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t, ttest_1samp

from axiom_bench.errors import BenchError
from axiom_bench.report.tables.comparisons import paired_tables
from axiom_bench.report.tables.headline import metric_lines
from axiom_bench.report.tables.table import to_markdown
from axiom_bench.report.writing import write_tables
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import LEVEL
from axiom_bench.statistics.labels import Value
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of

NAN = float("nan")


def metric(better="lower", kind="unbounded"):
    return Value("e", "E", better=better, kind=kind)


def compared_with(control, other, better="lower"):
    """Return the row that compares the control with the other method, given values per image."""
    records = rows_of("e", {"control": control, "other": other})
    table = paired_tests.compare(records, "control", {"e": better})
    assert len(table) == 1
    return table.iloc[0]


def test_the_sign_test_is_exact():
    ahead = np.array([0, 1, 7, 3, 20])
    behind = np.array([0, 0, 1, 3, 5])
    expected = []
    for better, worse in zip(ahead.tolist(), behind.tolist(), strict=True):
        p = binomtest(better, better + worse).pvalue if better + worse else 1.0
        expected.append(p)
    assert paired_tests.sign_test(ahead, behind).tolist() == pytest.approx(expected, rel=1e-12)


def test_an_image_s_rows_are_averaged_and_rounding_is_equal():
    first = np.array([[4.0], [1.0], [3.0], [1.0], [NAN]])
    second = np.array([[1.0], [2.0], [1.0], [1.000001], [1.0]])
    difference = paired_tests.by_image(first, second, np.array([0, 0, 1, 2, 3]))
    assert difference[:3, 0].tolist() == [1.0, 2.0, 0.0]
    assert math.isnan(difference[3, 0])
    first = np.array([1e-7, 1.0, 1.0])
    second = np.array([5e-7, 1.00001, 1.001])
    assert paired_tests.are_equal(first, second).tolist() == [True, True, False]


def row_of(difference, images=None, kind="unbounded"):
    """Return the test of a pair whose values are around 5 and have these differences per row."""
    images = np.arange(len(difference)) if images is None else images
    values = np.stack([5 + difference, np.full(len(difference), 5.0)], axis=1)
    first = np.array([0])
    second = np.array([1])
    value = metric("higher", kind)
    return paired_tests.tests(values, images, first, second, value, LEVEL).iloc[0]


def test_of_normal_differences_p_is_nearly_student_s():
    """p is never below Student's. The interval leaves 0 out exactly if p is below 0.05."""
    generator = np.random.default_rng(0)
    for shift in (0.0, 0.3, 0.6):
        difference = generator.normal(shift, 1, 40)
        row = row_of(difference)
        student = ttest_1samp(difference, 0)
        assert student.pvalue <= row["p"] * (1 + 1e-9)
        assert row["p"] <= min(1, 3 * student.pvalue)
        assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0)


def test_a_skewed_difference_is_judged_by_the_side_of_0():
    """The few large differences lie on the other side of 0 and may recur, so p is larger than
    Student's.
    """
    difference = 0.9 - np.random.default_rng(1).exponential(1, 60) ** 2 / 2
    difference += 0.35 - difference.mean()
    row = row_of(difference)
    student = ttest_1samp(difference, 0)
    assert row["difference"] - row["low"] > row["high"] - row["difference"]
    assert row["p"] > 1.2 * student.pvalue


def test_p_of_an_interval_by_hand():
    quantile = t.ppf(0.975, 19)
    low = np.array([0.0, 1 - 2 * quantile, -quantile])
    high = np.array([2.0, 1 + 2 * quantile, quantile])
    p = paired_tests.p_of_interval(np.array([1.0, 1.0, 0.0]), low, high, 20, np.full(3, 20))
    assert p.tolist() == pytest.approx([0.05, 2 * t.sf(0.5, 19), 1])

    # The side of 0 decides, however narrow the other side is.
    assert p_of(3.0, below=3.0, above=1.0, images=20, differing=20) == pytest.approx(0.05)

    # p of a difference near 0 is large, however skewed the interval is.
    low = np.array([-1.0, -3, -30])
    high = np.full(3, 0.4)
    p = paired_tests.p_of_interval(np.full(3, 0.1), low, high, 20, np.full(3, 20))
    assert ((p > 0.5) & (p <= 1)).all()

    # An interval without width leaves the sign test of the 3 or 12 images that differ.
    ones = np.ones(2)
    p = paired_tests.p_of_interval(ones, ones, ones, 20, np.array([3, 12]))
    assert p.tolist() == [2**-2, 2**-11]


def p_of(difference, below, above, images, differing=1000):
    """Return p of one difference whose interval reaches `below` and `above` it."""
    p = paired_tests.p_of_interval(
        np.array([difference]),
        np.array([difference - below]),
        np.array([difference + above]),
        images,
        np.array([differing]),
    )
    return float(p[0])


eighths = st.integers(0, 400).map(lambda count: count / 8)  # sums and differences of them are exact
sides = st.floats(0, 1e300) | st.just(math.inf) | eighths
image_counts = st.integers(10, 2000)


@pytest.mark.slow
@given(st.floats(0.01, 6), st.floats(0.01, 100), st.integers(-4, 4), image_counts)
@settings(max_examples=300)
def test_sides_apart_by_rounding_have_student_s_p(ratio, width, ulps, images):
    """p was once up to 1, since its formula lost all digits.

    The tolerance is 1e-9 because the error of a side is a few ulp of the difference, and p changes
    at most 200 times as much.
    """
    difference = ratio * width
    p = p_of(difference, width, width + ulps * np.spacing(width), images)
    degrees = min(images, 1000) - 1
    student = ratio * t.ppf(0.975, degrees)
    assert p == pytest.approx(2 * t.sf(student, degrees), rel=1e-9)


@pytest.mark.slow
@given(st.floats(-1e300, 1e300), sides, sides, image_counts)
@settings(max_examples=300)
def test_p_lies_between_0_and_1_however_skewed_the_interval(difference, below, above, images):
    assert 0 <= p_of(difference, below, above, images) <= 1
    assert math.isnan(p_of(difference, NAN, NAN, images))


@given(eighths, eighths, eighths, eighths, image_counts)
@settings(max_examples=100)
def test_a_larger_difference_has_a_smaller_p(first, second, below, above, images):
    small, large = sorted([first, second])
    for sign in (1, -1):
        p_of_small = p_of(sign * small, below, above, images)
        p_of_large = p_of(sign * large, below, above, images)
        assert p_of_large <= p_of_small * (1 + 1e-9)


@pytest.mark.slow
@given(eighths, eighths, eighths, image_counts)
@settings(max_examples=300)
def test_p_is_below_0_05_where_the_interval_leaves_0_out(difference, below, above, images):
    """An interval that ends at 0 contains it."""
    assert (p_of(difference, below, above, images) < 0.05) == (difference > below)
    assert (p_of(-difference, below, above, images) < 0.05) == (difference > above)
    # Few images that differ are the exception, whatever the interval is.
    assert p_of(difference, below, above, images, differing=5) > 0.05


@given(st.floats(0.1, 4), st.floats(0.1, 4), image_counts)
def test_p_has_no_jump_where_the_other_side_vanishes(difference, side, images):
    expected = p_of(difference, side, 1e-14, images)
    assert p_of(difference, side, 0.0, images) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["unbounded", "proportion", "ratio"])
def test_few_images_that_differ_show_nothing_however_far_they_are(kind):
    for count in (1, 4, 5):
        difference = np.zeros(40)
        difference[:count] = 1.0 if kind == "proportion" else 100.0 + np.arange(count)
        row = row_of(difference, kind=kind)
        assert row["p"] >= 2.0 ** (1 - count)
        assert (row["better"], row["same"], row["worse"]) == (count, 40 - count, 0)
    none = row_of(np.zeros(40), kind=kind)
    assert (none["p"], none["by_images"]) == (1, 1)
    of_too_few_images = row_of(np.ones(9), kind=kind)
    assert np.isnan(of_too_few_images[["low", "high", "p"]].astype(float)).all()


def test_what_an_image_with_many_rows_decides_isn_t_shown():
    """19 images with one row each have a difference of 1, and one image with 300 rows has -1.

    That image alone decides the sign of the mean over rows.
    """
    images = np.append(np.arange(19), np.full(300, 19))
    difference = np.where(images == 19, -1.0, 1.0)
    difference += np.random.default_rng(0).normal(0, 0.1, 319)
    row = row_of(difference, images)
    assert row["difference"] < 0
    assert row["p"] > 0.05
    assert (row["better"], row["worse"]) == (19, 1)


def test_without_an_error_nothing_is_told_of_what_would_be_shown():
    shown = paired_tests.detectable_difference(np.array([0.0, 1.0]), 3, 20)
    assert np.isnan(shown).tolist() == [True, False]


def test_what_is_shown_follows_from_the_interval():
    difference = np.random.default_rng(1).normal(0.3, 2.0, size=900)
    row = row_of(difference)
    shown = paired_tests.detectable(row["low"], row["high"], 900, 10)
    quantiles = norm.ppf(1 - 0.05 / 20) + norm.ppf(0.8)
    assert shown == pytest.approx(quantiles * 2 / math.sqrt(900), rel=0.05)
    assert np.isnan(paired_tests.detectable_difference(np.ones(2), 1, images=1)).all()


def test_so_many_images_show_a_difference_as_its_error_falls_with_their_root():
    """A difference of half of what 50 images show takes 200 images.

    A difference without an error, or a large one, takes 10, since fewer have no test. Two equal
    methods are never separated.
    """
    difference = np.array([1.0, -2.0, 0.5, 1.0, 0.0, 100.0])
    shown = np.array([2.0, 2.0, 2.0, np.nan, 2.0, 2.0])
    needed = paired_tests.images_to_separate(difference, shown, 50)
    assert needed.tolist() == [200, 50, 800, 10, np.inf, 10]


@pytest.mark.slow
def test_of_normal_differences_so_many_images_are_significant_in_80_percent():
    """Run 400 trials with the number of images that 200 images say is needed.

    400 trials give a share of 80 % to within 4 percentage points.
    """
    generator = np.random.default_rng(0)
    value = Value("metric", "Metric", better="higher", kind="unbounded")

    def p_of_trial(images):
        values = np.column_stack([generator.normal(0.25, 1, images), np.zeros(images)])
        rows = paired_tests.tests(
            values, np.arange(images), np.array([0]), np.array([1]), value, LEVEL
        )
        return rows.iloc[0]["p"]

    shown = paired_tests.detectable_difference(np.array([1 / 200**0.5]), 1, 200)
    (needed,) = paired_tests.images_to_separate(np.array([0.25]), shown, 200)

    share = np.mean([p_of_trial(round(needed)) < 0.05 for _ in range(400)])

    assert share == pytest.approx(0.8, abs=0.06)


def test_a_normal_difference():
    p = paired_tests.normal_test(np.array([1.96, 0.0, 1.0]), np.array([1.0, 0.0, NAN]))
    assert p == pytest.approx([0.05, 1, NAN], abs=1e-4, nan_ok=True)


def test_the_direction_is_the_metric_s_and_rounding_is_no_difference():
    other = np.random.default_rng(0).normal(5, 1, 12)
    lower = compared_with(other + 1, other, "lower")
    higher = compared_with(other + 1, other, "higher")
    assert (lower["worse"], lower["is_better"]) == (12, False)
    assert (higher["better"], higher["is_better"]) == (12, True)
    assert lower["p"] == higher["p"] == pytest.approx(2.0**-11, rel=1)
    same = compared_with(other * (1 + 1e-7), other)
    assert same[["n", "better", "same", "worse", "p", "adjusted"]].tolist() == [12, 0, 12, 0, 1, 1]


def test_only_rows_with_both_values_count():
    both = compared_with([NAN, *np.arange(11.0)], [*np.arange(1.0, 12), NAN])
    assert both[["n", "better"]].tolist() == [10, 10]
    none = compared_with([1.0, NAN], [NAN, 2.0])
    assert none[["n", "p", "adjusted"]].tolist() == pytest.approx([0, NAN, NAN], nan_ok=True)

    rows = rows_of("e", {"control": [4.0, 1.0, 3.0], "other": [1.0, 2.0, 1.0]})
    rows = rows.assign(image_id=["a", "a", "b"] * 2)
    rows_of_classes = rows.assign(target_class=[0, 1, 0] * 2)
    result = paired_tests.compare(rows_of_classes, "control", {"e": "higher"})
    assert result[["n", "better"]].to_numpy().tolist() == [[2, 2]]
    assert result["difference"][0] == pytest.approx(8 / 3 - 4 / 3)

    without_control = rows_of("e", {"control": [NAN], "other": [2.0]})
    assert paired_tests.compare(without_control, "control", {"e": "lower"}).empty
    assert paired_tests.compare(rows, "control", {}).empty


def test_holm_by_hand():
    """The sorted values 0.01, 0.03, 0.04 are multiplied by 3, 2, 1, and none is below the previous
    one. Missing tests don't count.
    """
    assert paired_tests.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired_tests.holm([0.5, 0.9]) == [1, 1]
    assert paired_tests.holm([NAN, 0.02, NAN]) == pytest.approx([NAN, 0.02, NAN], nan_ok=True)
    assert paired_tests.holm([]) == []


def test_a_wrong_name_is_refused_with_the_nearest():
    """A wrong name once gave an empty table, as if no difference had been found."""
    table = rows_of("e", {"my_cam": [1.0], "other": [2.0]})
    with pytest.raises(BenchError, match="There is no method 'mycam'; did you mean 'my_cam'"):
        paired_tests.compare(table, "mycam", {"e": "lower"})
    with pytest.raises(BenchError, match="There is no metric 'f'"):
        paired_tests.compare(table, "my_cam", {"f": "lower"})


def read_with(folder, edit_manifest, **settings):
    """Read the run folder after writing these report settings into its manifest."""
    edit_manifest(folder, config={"target": "label", "report": settings})
    return RunFolder.read(folder)


@pytest.fixture
def compared(make_run, make_records, edit_manifest):
    names = ("grad_cam", "xgrad_cam", "hires_cam", "ablation_cam_axiomatic")
    methods = {name: {} for name in names}
    folder = make_run(make_records(30, methods=methods), methods=methods, pictures=False)
    return read_with(folder, edit_manifest, compare="grad_cam")


@pytest.mark.slow
def test_a_table_for_each_setting(compared, tmp_path):
    tables = list(paired_tables(compared))
    models = ("scenes_fc", "scenes_residual")
    assert [table.title for table in tables] == [
        f"grad_cam against the others, {model}" for model in models
    ]
    assert [group.title for group in tables[0].groups] == [
        "Sensitivity error [ratio], lower is better",
        "Conservation error [ratio], lower is better",
        "Confidence drop [probability], higher is better",
        "Box IoU, higher is better",
    ]
    worst = {row[0].text: row for row in tables[0].groups[0].rows}["ablation_cam_axiomatic"]
    # grad_cam's errors are lower on every image, by construction.
    assert worst[2].text == worst[1].text
    assert (worst[-1].text, worst[-1].bold) == ("<1e-6", True)
    for group in tables[0].groups:
        assert not {"grad_cam", "-"} & {row[0].text for row in group.rows}

    write_tables(compared, tmp_path)
    assert (tmp_path / "paired_1.md").read_text() == to_markdown(tables[0])


@pytest.mark.slow
def test_the_closing_lines_say_who_is_better(compared, edit_manifest):
    headline = ["sensitivity_error", "box_iou", "zeta"]
    run = read_with(compared.path, edit_manifest, compare="xgrad_cam", headline=headline)

    *_, first, last = metric_lines(run)

    start = "xgrad_cam, Sensitivity error (paired, p < 0.05 after Holm): scenes_fc: "
    assert first.startswith(start)
    # hires_cam ties, so it isn't listed.
    end = "scenes_residual: better than ablation_cam_axiomatic, worse than grad_cam"
    assert first.endswith(end)
    assert last.startswith("xgrad_cam, Box IoU (paired, p < 0.05 after Holm): scenes_fc: ")

    misspelt = read_with(compared.path, edit_manifest, compare="gradcam")
    with pytest.raises(BenchError, match="did you mean 'grad_cam'"):
        list(paired_tables(misspelt))


@pytest.mark.slow
def test_nothing_sure_is_said_so(make_run, make_records, edit_manifest):
    folder = make_run(make_records(2), pictures=False)
    verdicts = {"grad_cam": "no significant difference", "random": "no value to compare"}
    for control, verdict in verdicts.items():
        run = read_with(folder, edit_manifest, compare=control, headline=["sensitivity_error"])
        assert [*metric_lines(run)][-1].endswith(f"scenes_residual: {verdict}")


def test_nothing_is_compared_unasked(usual):
    assert list(paired_tables(usual)) == []
    assert not any("paired" in line for line in metric_lines(usual))


def test_the_centre_of_each_column_counts_only_its_values():
    table = np.array([[1.0, np.nan, np.nan], [3.0, 2.0, np.nan], [8.0, 4.0, np.nan]])
    with warnings.catch_warnings(action="error"):  # a column without a value doesn't warn
        np.testing.assert_array_equal(paired_tests.centre(table, "median"), [3.0, 3.0, np.nan])
    np.testing.assert_array_equal(paired_tests.centre(table, "mean"), [4.0, 3.0, np.nan])


def test_records_of_several_networks_are_refused_with_a_filter_that_works():
    """Otherwise the mean over two networks of an image would be compared without a word."""
    rows = [("vgg", "a", 1.0), ("vgg", "b", 2.0), ("resnet", "a", 3.0), ("resnet", "b", 1.0)]
    records = pd.DataFrame(rows, columns=["model", "method", "value"])
    records = records.assign(image_id="i", target_class=0, metric="e", status="ok")
    with pytest.raises(BenchError, match="several values of 'model'") as refusal:
        paired_tests.compare(records, "a", {"e": "lower"})
    expression = str(refusal.value).partition("at a time: ")[2].rstrip(".")
    chosen = eval(expression, {"records": records})
    (difference,) = paired_tests.compare(chosen, "a", {"e": "lower"})["difference"]
    assert difference == -1.0


def test_a_direction_is_lower_or_higher():
    """Check that a typing error doesn't turn the verdict around."""
    with pytest.raises(BenchError, match=r"better\['e'\] is 'lower' or 'higher', not 'up'"):
        paired_tests.compare(pd.DataFrame(), "control", {"e": "up"})
