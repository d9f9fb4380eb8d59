"""The scorecard of metrics and its command.

Its tests compare the truth with other methods, degrees of spoiling, controls, and halves of images.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

from axiom_bench.cli import judge
from axiom_bench.cli.main import main
from axiom_bench.judging.card import card, family, frame, interval_over_networks
from axiom_bench.judging.tests import Row
from axiom_bench.report.card import line_table
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.testing.relations import RELATIONS
from tests.made_runs import entries_of

METHODS = {
    "xgrad_cam": {"title": "XGrad-CAM"},
    "grad_cam": {"title": "Grad-CAM"},
    "fair": {"title": "Fair"},
    "random": {"title": "Random", "control": True},
    "truth": {"title": "Truth", "computed_from": ["contributions", "effects", "regions"]},
    "noise_50": {"spoiling": "noise", "degree": 0.5, "unspoiled": "truth"},
    "noise_100": {"spoiling": "noise", "degree": 1.0, "unspoiled": "truth"},
    "drops": {"title": "Drops", "computed_from": ["drops"]},
    "permuted": {"spoiling": "permuted", "degree": 1.0, "unspoiled": "drops"},
}
GOOD = {
    "xgrad_cam": 4,
    "grad_cam": 3,
    "fair": 2,
    "random": 0,
    "truth": 6,
    "noise_50": 4,
    "noise_100": 2,
}
ALL_GOOD = GOOD | {"drops": 5, "permuted": 1}
# confidence_drop prefers right explanations. box_iou prefers XGrad-CAM to the truth, and a control
# to other methods.
MEANS = {
    "confidence_drop": (ALL_GOOD, 0.5),
    "box_iou": (ALL_GOOD | {"xgrad_cam": 7, "random": 5}, 0.5),
}


@pytest.fixture
def make_card(make_judged, edit_manifest):
    """A function (sources by metric, entries of the network, images) -> a run and its card.

    The sources are the `computed_from` of a metric.
    """

    def make(sources_by_metric, network=None, images=120):
        folder = make_judged(images, METHODS, MEANS)
        manifest = entries_of(folder)
        metrics = manifest["metrics"]
        for name, sources in sources_by_metric.items():
            metrics[name]["computed_from"] = sources
        models = {name: entry | (network or {}) for name, entry in manifest["models"].items()}
        edit_manifest(folder, metrics=metrics, models=models)
        run = RunFolder.read(folder)
        return run, card([run], run.metrics)

    return make


def rows_of_test(table, metric, test):
    return table[(table["metric"] == metric) & (table["test"] == test)].set_index("truth")


def test_a_metric_that_prefers_xgrad_cam_to_the_truth_fails_truth_first(make_card):
    _, table = make_card({})
    first = rows_of_test(table, "box_iou", "truth_first")
    assert not first.loc["truth", "passes"]
    assert not first.loc["truth", "circular"]
    assert first.loc["truth", "about"].startswith("XGrad-CAM ahead by ")
    assert first.loc["truth", "value"] < 0.2
    good = rows_of_test(table, "confidence_drop", "truth_first")
    assert good["passes"].all()
    assert good.loc["truth", "about"].startswith("XGrad-CAM behind by ")
    # The differences are normal with the mean 2 and the spread 0.7: 99.8 % of images are right.
    assert good.loc["truth", "value"] > 0.9
    assert good.loc["truth", "low"] <= good.loc["truth", "value"] <= good.loc["truth", "high"]


@pytest.mark.parametrize(
    ("reads", "model", "circular"),
    [
        (["regions"], {}, {"truth"}),  # the truth was spread over the same masks
        (["effects"], {}, {"truth"}),
        # The network's contributions don't depend on masks.
        (["regions"], {"tells_contributions": True}, set()),
        (["contributions"], {"tells_contributions": True}, {"truth"}),
        (["contributions"], {}, set()),
        (["drops"], {}, {"drops"}),
        (["perturbed_scores"], {}, set()),
    ],
)
def test_a_metric_that_rewards_its_own_construction_is_circular_and_counts_for_nothing(
    make_card, reads, model, circular
):
    run, table = make_card({"box_iou": reads}, model)
    first = rows_of_test(table, "box_iou", "truth_first")
    assert set(first.index[first["circular"]]) == circular
    assert set(first.index[first["passes"].isna()]) == circular
    degrees = rows_of_test(table, "box_iou", "degrees")
    kind_by_truth = {"truth": "noise", "drops": "permuted"}
    kinds = [kind for truth, kind in kind_by_truth.items() if truth not in circular]
    assert degrees.index.tolist() == [", ".join(kinds)]
    assert not degrees["circular"].any()
    line = line_table([run], table).groups[0].rows[1]
    assert (line[1].text == "circular") == ("truth" in circular)


def test_where_every_kind_is_circular_so_are_the_degrees(make_card):
    _, table = make_card({"box_iou": ["regions", "drops"]})
    (row,) = rows_of_test(table, "box_iou", "degrees").to_dict("records")
    assert (row["circular"], row["passes"]) == (True, None)


def test_degrees_controls_and_reliability(make_card):
    run, table = make_card({})
    assert table["n"].unique().tolist() == [120]
    degrees = rows_of_test(table, "confidence_drop", "degrees").iloc[0]
    assert (degrees["value"], degrees["passes"]) == (1, True)
    drop_controls = rows_of_test(table, "confidence_drop", "controls").iloc[0]
    assert (drop_controls["value"], drop_controls["passes"]) == (1, True)
    iou_controls = rows_of_test(table, "box_iou", "controls").iloc[0]
    # The control is better than two of the three methods.
    assert iou_controls["value"] == pytest.approx(1 / 3, abs=0.01)
    assert not iou_controls["passes"]
    halves = rows_of_test(table, "confidence_drop", "reliability").iloc[0]
    assert (halves["value"], halves["passes"]) == (1, True)
    assert halves["about"] == "of 60 images"

    lines = line_table([run], table)
    assert lines.header == (
        "Metric",
        "Truth ahead: Truth",
        "Truth ahead: Drops",
        "Truth not significantly behind: Truth",
        "Truth not significantly behind: Drops",
        "Degrees",
        "Controls",
        "Reliability",
    )
    assert {len(row) for row in lines.groups[0].rows} == {8}
    assert lines.groups[0].rows[1][-2].text == "0 of 1; net 0.33"

    lines = line_table([run], table, label="net")
    assert lines.groups[0].rows[1][6].text.startswith("0.33")
    assert lines.header[-1] == "Verdict"
    assert lines.alignment[-2:] == (True, False)  # the verdict's words are aligned to the left


def test_pairs_are_ordered_by_all_images_where_there_are_few(make_judged):
    mean_by_method = {"xgrad_cam": 0.5, "grad_cam": 0.5, "fair": 0.5, "random": 0}
    means = {"box_iou": (mean_by_method, 2)}
    run = RunFolder.read(make_judged(24, METHODS, means))
    (row,) = rows_of_test(card([run], run.metrics), "box_iou", "controls").to_dict("records")
    # The value is a share of three pairs. Sets of 10 images would give other shares.
    assert (3 * row["value"]).is_integer()
    assert row["low"] <= row["value"] <= row["high"]


def test_a_method_that_coincides_with_the_truth_is_a_tie(make_judged):
    means = {"box_iou": ({"truth": 1, "xgrad_cam": 1}, 0)}
    run = RunFolder.read(make_judged(30, {"truth": METHODS["truth"], "xgrad_cam": {}}, means))
    for test in ("truth_ahead", "truth_first"):
        (row,) = rows_of_test(card([run], run.metrics), "box_iou", test).to_dict("records")
        assert (row["value"], row["passes"]) == (0.5, True)


def test_a_rival_that_is_ahead_by_chance_leaves_the_truth_not_ahead_and_not_behind(make_judged):
    means = {"box_iou": ({"truth": 0, "xgrad_cam": -0.2, "fair": -1}, 1)}
    methods = {"truth": METHODS["truth"], "xgrad_cam": {}, "fair": {}}
    run = RunFolder.read(make_judged(30, methods, means))
    table = card([run], run.metrics)
    ahead = rows_of_test(table, "box_iou", "truth_ahead").iloc[0]
    first = rows_of_test(table, "box_iou", "truth_first").iloc[0]
    assert (ahead["passes"], first["passes"]) == (False, True)
    assert first["about"].startswith("xgrad_cam ahead by ")


def test_a_blind_map_that_wins_is_chosen_by_half_of_the_images_and_judged_by_the_others(
    make_judged,
):
    blind = {"control": True, "blind": True}
    methods = {
        "xgrad_cam": {"title": "XGrad-CAM"},
        "fair": {},
        "left": {"title": "Left", **blind},
        "right": blind,
    }
    methods["grad_cam"] = {}
    means = {
        "confidence_drop": ({"xgrad_cam": 3, "fair": 2, "left": 1, "right": 0}, 0.1),
        "box_iou": ({"xgrad_cam": 3, "fair": 2, "left": 5, "right": 0}, 0.1),
        # Without a blind map's values, the metric has no row.
        "sensitivity_error": ({"xgrad_cam": 3, "fair": 2, "grad_cam": 1}, 0.1),
    }
    run = RunFolder.read(make_judged(60, methods, means))
    table = card([run], run.metrics).set_index("metric")
    assert table["test"].tolist() == ["gaming", "gaming"]
    assert table["n"].tolist() == [30, 30]
    assert table["about"].tolist() == ["Left against XGrad-CAM"] * 2
    assert table["passes"].to_dict() == {"confidence_drop": True, "box_iou": False}
    assert table["value"].to_dict() == {"confidence_drop": 0, "box_iou": 1}


def test_the_line_over_networks_leaves_out_rows_without_a_verdict(make_judged):
    methods = {"xgrad_cam": {}, "fair": {}}
    run = RunFolder.read(make_judged(12, methods, {"box_iou": ({"xgrad_cam": 1}, 0.1)}))
    without_verdict = Row(
        metric="box_iou",
        test="gaming",
        network="net",
        truth="per image",
        value=1.0,
        low=1.0,
        high=1.0,
        n=12,
        circular=False,
        passes=None,
        about="1 against 0",
    )
    gaming = without_verdict._replace(truth="optimised", value=0.2, passes=True)
    controls = without_verdict._replace(test="controls", passes=True)
    circular = controls._replace(test="degrees", network="c", value=0.0, circular=True, passes=None)
    rows = [
        without_verdict,
        controls._replace(network="a", value=0.9, low=0.9, high=0.9, passes=True),
        controls._replace(network="b", value=0.8, low=0.8, high=0.8, passes=True),
        controls._replace(network="c", value=0.1, low=0.1, high=0.1, passes=False),
        gaming,
        circular,
    ]

    table = line_table([run], frame(rows))

    assert table.header == ("Metric", "Degrees", "Controls", "Gaming")
    _, degrees_cell, controls_cell, gaming_cell = table.groups[0].rows[0]
    assert degrees_cell.text == "circular"
    assert controls_cell.text.startswith("2 of 3; c 0.10; mean 0.600 [")
    assert gaming_cell.text == "1 of 1"
    assert line_table([run], frame([without_verdict])).header == ("Metric",)


def test_too_few_images_for_an_interval(make_card):
    _, table = make_card({}, images=6)
    first = rows_of_test(table, "confidence_drop", "truth_first")
    assert pd.isna(first.loc["truth", "low"])
    # Degrees and controls pass or fail by their intervals, so they have no rows.
    assert not set(table["test"]) & {"degrees", "controls"}


def over_networks(value_by_network, half=0.1):
    """Return the interval over networks whose own intervals have `half` to either side."""
    rows = [
        {"network": network, "value": value, "low": value - half, "high": value + half}
        for network, value in value_by_network.items()
    ]
    return interval_over_networks(pd.DataFrame(rows))


def test_trainings_of_one_recipe_are_a_family():
    assert family("net_seed12") == "net"
    assert family("net") == "net"
    assert family("net_seed1 (mosaics)") == "net (mosaics)"

    one_family = {"net": 0.9, "other": 0.1}
    one_family |= {f"net_seed{seed}": 0.9 for seed in range(1, 5)}
    five_families = {f"net{number}": 0.9 for number in range(5)}
    five_families["other"] = 0.1
    width_of_one = np.ptp(over_networks(one_family, 0))
    width_of_five = np.ptp(over_networks(five_families, 0))
    assert width_of_one > width_of_five
    low, _ = over_networks({"net": 0.9, "net_seed1": 0.1})
    assert math.isnan(low)


@pytest.mark.slow
def test_the_interval_holds_the_mean_of_many_networks(monkeypatch):
    """Check that about 95 % of 200 intervals hold the mean 0.6 of all networks.

    An interval is over 12 networks, whose values have the error of their images. The bounds are
    more than three standard deviations from the expected count.
    """
    # More resamples would hardly change the ends.
    monkeypatch.setattr("axiom_bench.judging.card.RESAMPLES", 200)
    generator = np.random.default_rng(1)
    intervals_with_mean = 0
    for _ in range(200):
        true_values = generator.normal(0.6, 0.1, 12)
        values = true_values + generator.normal(0, 0.05, 12)
        value_by_network = {f"net{number}": value for number, value in enumerate(values)}
        low, high = over_networks(value_by_network, 0.05 * 1.96)
        intervals_with_mean += low <= 0.6 <= high
    assert 176 <= intervals_with_mean <= 199


@pytest.mark.parametrize("words", [["judge"], ["judge", ".", "--metric", "box_iou"]])
def test_judge_takes_a_run_or_a_metric(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert "Give a run folder to judge its metrics, or --metric NAME" in capsys.readouterr().err


OWN = '''
def bright_corner(explanation):
    """How bright the heatmap's upper left corner is: the truth rarely wins it."""
    return explanation.heatmap[:, :8, :8].sum((1, 2))
'''


@pytest.mark.slow
def test_the_card_of_one_s_own_metric(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "corner.py").write_text(OWN)
    monkeypatch.setattr(judge, "EXPERIMENTS", ("truth", "blind"))
    monkeypatch.setattr(
        judge, "SETTINGS", ("run=card", "data.size=12", "pictures.rows=0", "model=scenes_vgg")
    )
    code, lines = judge.judge_metrics(["mass_accuracy", "corner.bright_corner"])
    assert code == 0
    table = pd.read_csv(tmp_path / "results/truth/card/tables/scorecard.csv")
    assert set(table["metric"]) == {"mass_accuracy", "rank_accuracy", "bright_corner"}
    relations = [relation.name for relation in RELATIONS]

    corner = rows_of_test(table, "bright_corner", "sanity")
    assert corner["passes"].to_dict() == {name: name != "mirrored" for name in relations}

    first = rows_of_test(table, "mass_accuracy", "truth_first")
    assert first.loc["truth", "circular"]
    assert not first.loc["truth_drops", "circular"]
    assert set(rows_of_test(table, "mass_accuracy", "sanity").index) == set(relations)
    gaming = rows_of_test(table.fillna({"truth": ""}), "mass_accuracy", "gaming")
    assert gaming["n"].to_dict() == {
        "": 6,
        "optimised": 32,
        "one sample": 32,
        "per image": 32,
    }
    assert all(len(line) <= 120 for line in lines[:-1])
    text = " ".join(lines)
    assert "circular" in text.partition("Relevance mass accuracy")[2]
    assert "The metric mass_accuracy passes " in text
    assert re.search(r"The metric bright_corner passes \d of \d tests", text)
    assert "a mirrored image or doubled logits change the value (1 of " in text
