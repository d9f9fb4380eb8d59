"""All measures of a metric: agreement, controls, and the recovery of known orders."""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.cli.main import main
from axiom_bench.errors import BenchError
from axiom_bench.judging.agreement import ImageValues
from axiom_bench.judging.card import judge
from axiom_bench.judging.judgement import ALL, Spoiling, chosen_metrics, kinds, recovery
from axiom_bench.judging.tests import BEATS, BELOW, UNCLEAR
from axiom_bench.records.entries import MethodEntry
from axiom_bench.report.card import trust_by_metric
from axiom_bench.report.page.html import typeset
from axiom_bench.report.page.tables import Terms
from axiom_bench.report.scorecard import judge_in_report, section, write_judgement
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import entries_of

pytestmark = pytest.mark.usefixtures("undrawn")

METHODS: dict[str, dict[str, Any]] = {
    "good": {"title": "Good"},
    "fair": {"title": "Fair"},
    "poor": {"title": "Poor"},
    "random": {"title": "Random", "control": True},
    "centered": {"title": "Centered", "control": True},
}
SPOILED: dict[str, dict[str, Any]] = {
    "truth": {"title": "Truth"},
    "noise_50": {"spoiling": "noise", "degree": 0.5, "unspoiled": "truth"},
    "noise_100": {"spoiling": "noise", "degree": 1.0, "unspoiled": "truth"},
    "blur_100": {"spoiling": "blur", "degree": 1.0, "unspoiled": "truth"},
    "drops": {"title": "Drops", "wins_by_construction": ["conservation_error"]},
    "drops_100": {"spoiling": "drops", "degree": 1.0, "unspoiled": "drops"},
}
# The mean value of each method and the spread of an image, by metric. confidence_drop tells all
# methods apart and box_iou none. A low sensitivity_error is better, so a control is the best.
MEANS = {
    "confidence_drop": ({"good": 5, "fair": 4, "poor": 3, "random": 1, "centered": 2}, 0.1),
    "box_iou": ({"good": 3, "fair": 3, "poor": 3, "random": 3, "centered": 3}, 1.0),
    "sensitivity_error": ({"good": 2, "fair": 3, "poor": 4, "random": 5, "centered": 1}, 0.1),
}
TRUE = {"truth": 10, "noise_50": 8, "noise_100": 6, "blur_100": 6, "drops": 10, "drops_100": 5}


@pytest.fixture
def make(make_judged):
    """A function (images, methods, means, folder) -> a run folder."""

    def make_folder(images=60, methods=METHODS, means=MEANS, folder="run"):
        return make_judged(images, methods, means, folder)

    return make_folder


def judgement_of(folder):
    """Return the rows of the run's judgement, indexed by metric, test and truth."""
    run = RunFolder.read(folder)
    rows = judge(run, run.settings[0], chosen_metrics(run, None))
    return rows.set_index(["metric", "test", "truth"]).sort_index()


@pytest.fixture
def truth(make):
    """A run of right explanations and spoiled ones.

    box_iou is right about all of them, and confidence_drop only about noise.
    """
    means = {
        "box_iou": (TRUE, 0.1),
        "confidence_drop": ({**TRUE, "blur_100": 11}, 0.1),
        "sensitivity_error": (TRUE, 0.1),
    }
    return make(120, SPOILED, means, "truth")


def test_what_is_sharp_what_is_blunt_and_where_controls_stand(make):
    rows = judgement_of(make())

    sharp = rows.xs(("confidence_drop", ""), level=["metric", "truth"])
    blunt = rows.xs(("box_iou", ""), level=["metric", "truth"])
    assert sharp.loc["reliability", "value"] == 1
    assert sharp.loc["images_needed", "value"] == 10  # fewer than 10 images have no test
    assert sharp.loc["images_needed", "n"] == 60
    assert blunt.loc["images_needed", "value"] > 60

    places = rows.xs("place", level="test")
    assert places["about"].to_dict() == {
        ("confidence_drop", "centered"): BELOW,
        ("confidence_drop", "random"): BELOW,
        ("box_iou", "centered"): UNCLEAR,
        ("box_iou", "random"): UNCLEAR,
        ("sensitivity_error", "centered"): BEATS,
        ("sensitivity_error", "random"): BELOW,
    }
    winner = places.loc[("sensitivity_error", "centered")]
    assert winner[["value", "low", "high", "n"]].tolist() == [1, 1, 1, 5]
    assert places.loc[("confidence_drop", "random"), "value"] == 5


def test_degrees_of_kinds_that_judge_the_metric(truth, edit_manifest):
    degrees = judgement_of(truth).xs("degrees", level="test").reset_index()
    # Contributions that win by construction judge no metric of maps.
    assert set(degrees["truth"]) == {"noise, blur"}
    degrees = degrees.set_index("metric")
    assert degrees["value"].to_dict() == {
        "box_iou": 1,
        "confidence_drop": 0.75,
        "sensitivity_error": 0,
    }
    assert degrees.loc["confidence_drop", "about"] == "blur 0.00"

    metrics = entries_of(truth)["metrics"]
    metrics["sensitivity_error"]["needs"] = ["score_scale", "nonzero_drops"]
    edit_manifest(truth, metrics=metrics)
    degrees = judgement_of(truth).xs("degrees", level="test")
    judged_by_drops = [metric for metric, truths in degrees.index if "drops" in truths]
    assert judged_by_drops == ["sensitivity_error"]


@pytest.mark.slow
def test_the_command_takes_truth_from_other_runs(make, truth, capsys):
    run = make()
    assert main(["judge", str(run), "--truth", str(truth)]) == 0
    line_by_metric = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  "):
            metric = line.split("  ")[1].split("\N{NO-BREAK SPACE}")[0]
            line_by_metric[metric] = line
    box_iou = line_by_metric["Box IoU"]
    assert "1.00 [1.00, 1.00]" in box_iou
    iou_verdict = "passes: 100% of spoiled explanations in the right order; unsure: two halves, "
    assert iou_verdict in box_iou
    assert "a control, is not significantly different from the best method" in box_iou
    drop_verdict = (
        "fails: 75% of spoiled explanations in the right order; two halves of the images agree on "
        "the order"
    )
    assert drop_verdict in line_by_metric["Confidence drop"]
    error = line_by_metric["Sensitivity error"]
    assert "a control, is better than the best method" in error

    assert {path.name for path in (run / "tables").iterdir()} == {"judging.csv", "judging_1.md"}
    table = pd.read_csv(run / "tables/judging.csv", keep_default_na=False, na_values={"value": ""})
    degrees = table[table["test"] == "degrees"].set_index("metric")
    assert set(degrees["network"]) == {"synthetic/default, net"}
    assert degrees.loc["confidence_drop", "value"] == pytest.approx(0.75)


def test_chosen_metrics_alone_and_without_spoiled_explainers_the_command_that_makes_them(
    make, capsys
):
    assert main(["judge", str(make()), "--metrics", "box_iou"]) == 0
    text = capsys.readouterr().out
    assert text.count("IoU") == 1
    assert "Confidence" not in text
    assert "axiom-bench experiment=truth" in text


def body_of(run):
    """Return the HTML of the page's section on the metrics."""
    judging = section(run, judge_in_report(run), Terms())
    assert judging.id == "judging"
    return str(judging.body)


@pytest.mark.slow
def test_the_files_stay_where_a_report_is_written(make):
    run = make()
    report.write(run)
    write_judgement(run)
    for _ in range(2):
        report.write(run)
    assert (run / "tables/judging.csv").exists()


def test_the_page_has_the_table_and_what_its_columns_mean(make, monkeypatch):
    """Check also that the page of a large run has the command instead of the table."""
    run = RunFolder.read(make())
    text = body_of(run)
    assert "Images needed" in text
    assert "experiment=truth" in text
    (rows,) = judge_in_report(run).values()
    words = trust_by_metric(run, rows)
    assert all(words.values())
    for verdict in words.values():  # the same words as below the page's title
        assert f"<td>{typeset(verdict)}</td>" in text
    monkeypatch.setattr("axiom_bench.judging.judgement.MOST_VALUES", 10)
    text = body_of(run)
    assert "This run has 900 values" in text
    assert "Images needed" not in text


def test_spoiled_explainers_order_no_methods(make):
    means = {}
    for metric, (mean_by_method, spread) in MEANS.items():
        means[metric] = (mean_by_method | TRUE, spread)
    rows = judgement_of(make(30, METHODS | SPOILED, means))
    assert set(rows.xs("place", level="test")["n"]) == {5}
    assert len(rows.xs("degrees", level="test"))

    methods = {"good": METHODS["good"], "poor": METHODS["poor"], **SPOILED}
    means = {"box_iou": ({"good": 1, "poor": 0, **TRUE}, 0.1)}
    rows = judgement_of(make(30, methods, means, "few"))
    images_needed = rows.xs("images_needed", level="test")
    assert images_needed["about"].tolist() == ["fewer than 3 methods that differ"]


@pytest.mark.parametrize(
    ("images", "methods", "metrics", "has_truth", "sentence"),
    [
        (
            1,
            METHODS,
            None,
            False,
            "The run has 1 image: metrics are judged by whether images agree",
        ),
        (
            20,
            {"good": {}},
            None,
            False,
            "The run has 1 method: metrics are judged by the order in which they put at",
        ),
        (
            60,
            METHODS,
            ["box_iuo"],
            False,
            "no metric 'box_iuo' in this run; did you mean 'box_iou'",
        ),
        (60, METHODS, None, True, "no spoiled explainers: run it with spoiled=all"),
    ],
)
def test_what_cant_be_judged_is_one_sentence(make, images, methods, metrics, has_truth, sentence):
    run = make(images, methods)
    truths = [run] if has_truth else []
    with pytest.raises(BenchError, match=sentence):
        write_judgement(run, truths, metrics)


def test_folders_without_records_are_one_sentence(make_run, make_records):
    with pytest.raises(BenchError, match="has no records to judge; run its command again"):
        write_judgement(make_run(make_records().iloc[:0], "empty"))


def test_a_run_of_values_of_the_layer_alone_has_no_judgement(make_run, make_records):
    records = make_records(12)
    folder = make_run(records[records["method"] == "-"], "layer", pictures=False)
    run = RunFolder.read(folder)
    assert section(run, judge_in_report(run), Terms()) is None
    assert judgement_of(folder).empty


NAN = float("nan")
NOISE = Spoiling("noise", ("truth", "half", "all"), (0.0, 0.5, 1.0))
BLUR = Spoiling("blur", ("truth", "blurred"), (0.0, 1.0))


def image_values(values, methods=NOISE.methods, better="higher", lead="mean"):
    return ImageValues("metric", methods, np.asarray(values, dtype=float), lead, better)


def right_share(values, size, kind="noise", spoilings=(NOISE,)):
    """Return the share of sets of `size` images that order the spoiled explanations right."""
    return recovery(values, spoilings, size).shares[kind][0]


def test_kinds_of_metadata_and_their_pairs():
    methods = {
        "truth": SPOILED["truth"],
        "noise_100": SPOILED["noise_100"],
        "noise_50": SPOILED["noise_50"],
        "blur_100": {"spoiling": "blur", "degree": 1, "unspoiled": "gone"},
        "random": {"control": True},
    }
    entries = {name: MethodEntry.model_validate(content) for name, content in methods.items()}
    expected = Spoiling("noise", ("truth", "noise_50", "noise_100"), (0.0, 0.5, 1.0))
    assert kinds(entries) == [expected]
    assert NOISE.pairs(["truth", "all", "blurred"]) == [("truth", "all")]
    twice = Spoiling("noise", ("a", "b", "c"), (0.5, 0.5, 1.0))
    assert twice.pairs(["a", "b", "c"]) == [("a", "c"), ("b", "c")]


@pytest.mark.parametrize("size", [1, 10, 100])
def test_always_right_always_wrong_and_ties(size):
    values = np.tile([3.0, 2.0, 1.0, 4.0], (120, 1))
    noise = values[:, :3]
    ties = np.tile([1.0, 1.0, 1.0 + 1e-9], (120, 1))
    assert right_share(image_values(noise), size) == 1
    assert right_share(image_values(noise, better="lower"), size) == 0
    assert right_share(image_values(ties), size) == 0.5
    assert not recovery(image_values(noise, better="none"), (NOISE,), size).shares

    both = image_values(values, (*NOISE.methods, "blurred"))
    # The share over all kinds counts pairs: three of noise and one of blur.
    assert right_share(both, size, ALL, (NOISE, BLUR)) == pytest.approx(3 / 4)
    assert right_share(both, size, "blur", (NOISE, BLUR)) == 0


def test_the_median_decides_where_tables_lead_with_it():
    values = np.tile([1.0, 2.0], (30, 1))
    values[:3, 0] = 1000
    medians = image_values(values, ("truth", "all"), "lower", "median")
    means = image_values(values, ("truth", "all"), "lower", "mean")
    assert right_share(medians, 10) == pytest.approx(1, abs=0.01)
    assert right_share(means, 10) < 0.6


def test_sets_of_images_are_all_subsets():
    """Check the share of 12 images against a loop over all sets of 10.

    The product draws 1,000 random sets, whose share has an error of at most 0.016.
    """
    values = np.random.default_rng(2).normal(size=(12, 2))
    values += [0.05, 0] - values.mean(axis=0)
    means = [values[list(images)].mean(axis=0) for images in combinations(range(12), 10)]
    expected = np.mean([first > second for first, second in means])
    assert 0.1 < expected < 0.9
    share = right_share(image_values(values, ("truth", "all")), 10)
    assert share == pytest.approx(expected, abs=0.06)


def test_the_share_is_that_of_the_population():
    """Check the mean share over 40 samples of 150 images, whose differences are from N(0.2, 1).

    Sets of n images are right with the probability Phi(0.2 sqrt(n)).
    """
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(40):
        differences = generator.normal(0.2, 1, 150)
        pairs = np.stack([differences, np.zeros(150)], axis=1)
        values = image_values(pairs, ("truth", "all"))
        shares.append([right_share(values, 10), right_share(values, 100)])
    expected = [NormalDist().cdf(0.2 * n**0.5) for n in (10, 100)]
    assert np.mean(shares, axis=0) == pytest.approx(expected, abs=0.06)


def test_the_interval_holds_the_share_and_is_narrow_where_it_is_sure():
    def interval(values, size):
        return recovery(image_values(values), (NOISE,), size).shares["noise"]

    sure = np.array([3.0, 2.0, 1.0]) + np.random.default_rng(0).normal(0, 0.3, (200, 3))
    _, low, high = interval(sure, 100)
    assert (low, high) == pytest.approx((1, 1), abs=1e-6)

    unsure = np.random.default_rng(0).normal(size=(200, 3))
    share, low, high = interval(unsure, 100)
    assert low <= share <= high
    assert high - low > 0.3

    few_images = np.random.default_rng(0).normal(size=(9, 3))
    _, low, _ = interval(few_images, 9)
    assert np.isnan(low)


def test_a_pair_counts_on_images_where_both_have_values():
    """Check images of which half lack the explanation `all`, which is wrong on the others."""
    values = np.tile([2.0, 1.0, 3.0], (20, 1))
    values[:10, 2] = NAN
    # Only the pair of truth and half is in the right order.
    assert right_share(image_values(values), 20) == pytest.approx(1 / 3)
    assert right_share(image_values(values[:, :2], ("truth", "half")), 20) == 1
