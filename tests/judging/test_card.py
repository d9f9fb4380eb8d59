"""The scorecard: a truth that isn't first, a truth that can't judge, degrees, controls, halves; and
its command.
"""

from __future__ import annotations

import math

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
MEANS = {
    "confidence_drop": (ALL_GOOD, 0.5),  # prefers what is right
    "box_iou": (
        ALL_GOOD | {"xgrad_cam": 7, "random": 5},
        0.5,
    ),  # prefers XGrad-CAM to the truth, and a control
}


@pytest.fixture
def made(make_judged, edit_manifest):
    """(of_metrics, model) -> the card of a run; of_metrics: {metric: what it is computed from}."""

    def make(of_metrics, model=None, images=120):
        folder = make_judged(images, METHODS, MEANS)
        manifest = entries_of(folder)
        metrics = manifest["metrics"]
        for name, reads in of_metrics.items():
            metrics[name]["computed_from"] = reads
        models = {name: about | (model or {}) for name, about in manifest["models"].items()}
        edit_manifest(folder, metrics=metrics, models=models)
        run = RunFolder.read(folder)
        return run, card([run], run.metrics)

    return make


def rows(table, metric, test):
    return table[(table["metric"] == metric) & (table["test"] == test)].set_index("truth")


def test_a_metric_that_prefers_xgrad_cam_to_the_truth_fails_truth_first(made):
    _, table = made({})
    first = rows(table, "box_iou", "truth_first")
    assert not first.loc["truth", "passes"]
    assert not first.loc["truth", "circular"]
    assert first.loc["truth", "about"].startswith("XGrad-CAM ahead by ")
    assert first.loc["truth", "value"] < 0.2
    good = rows(table, "confidence_drop", "truth_first")
    assert good["passes"].all()
    assert good.loc["truth", "about"].startswith("XGrad-CAM behind by ")
    # normal differences of 2 with a spread of 0.7: 99.8 % of images
    assert good.loc["truth", "value"] > 0.9
    assert good.loc["truth", "low"] <= good.loc["truth", "value"] <= good.loc["truth", "high"]


@pytest.mark.parametrize(
    ("reads", "model", "circular"),
    [
        (["regions"], {}, {"truth"}),  # the truth was spread over the very masks
        (["effects"], {}, {"truth"}),
        (
            ["regions"],
            {"tells_contributions": True},
            set(),
        ),  # the network's contributions know no mask
        (["contributions"], {"tells_contributions": True}, {"truth"}),
        (["contributions"], {}, set()),
        (["drops"], {}, {"drops"}),
        (["perturbed_scores"], {}, set()),
    ],
)
def test_a_metric_that_rewards_its_own_construction_is_circular_and_counts_for_nothing(
    made, reads, model, circular
):
    run, table = made({"box_iou": reads}, model)
    first = rows(table, "box_iou", "truth_first")
    assert set(first.index[first["circular"]]) == circular
    assert set(first.index[first["passes"].isna()]) == circular
    degrees = rows(table, "box_iou", "degrees")
    kinds = {"truth": "noise", "drops": "permuted"}
    left = [kind for truth, kind in kinds.items() if truth not in circular]
    assert degrees.index.tolist() == [", ".join(left)]
    assert not degrees["circular"].any()
    line = line_table([run], table).groups[0].rows[1]
    assert (line[1].text == "circular") == ("truth" in circular)


def test_where_every_kind_is_circular_so_are_the_degrees(made):
    _, table = made({"box_iou": ["regions", "drops"]})
    (row,) = rows(table, "box_iou", "degrees").to_dict("records")
    assert (row["circular"], row["passes"]) == (True, None)


def test_degrees_controls_and_reliability(made):
    run, table = made({})
    assert table["n"].unique().tolist() == [120]
    degrees = rows(table, "confidence_drop", "degrees").iloc[0]
    assert (degrees["value"], degrees["passes"]) == (1, True)
    controls = {
        name: rows(table, name, "controls").iloc[0] for name in ("confidence_drop", "box_iou")
    }
    assert (controls["confidence_drop"]["value"], controls["confidence_drop"]["passes"]) == (
        1,
        True,
    )
    # Of three methods two are below the control.
    assert controls["box_iou"]["value"] == pytest.approx(1 / 3, abs=0.01)
    assert not controls["box_iou"]["passes"]
    halves = rows(table, "confidence_drop", "reliability").iloc[0]
    assert (halves["value"], halves["passes"], halves["about"]) == (1, True, "of 60 images")
    made = line_table([run], table)
    assert made.header == (
        "Metric", "Truth ahead: Truth", "Truth ahead: Drops", "Truth not significantly behind: Truth",
        "Truth not significantly behind: Drops", "Degrees", "Controls", "Reliability",
    )  # fmt: skip
    assert {len(row) for row in made.groups[0].rows} == {8}
    assert made.groups[0].rows[1][-2].text == "0 of 1; net 0.33"
    shown = line_table([run], table, label="net")
    assert shown.groups[0].rows[1][6].text.startswith("0.33")
    assert shown.header[-1] == "Verdict"
    assert shown.alignment[-2:] == (True, False)  # words behind the numbers stand on the left


def test_pairs_are_ordered_by_all_images_where_there_are_few(make_judged):
    means = {"box_iou": (dict.fromkeys(("xgrad_cam", "grad_cam", "fair"), 0.5) | {"random": 0}, 2)}
    run = RunFolder.read(make_judged(24, METHODS, means))
    (row,) = rows(card([run], run.metrics), "box_iou", "controls").to_dict("records")
    assert (3 * row["value"]).is_integer()  # of three pairs; sets of 10 images would differ
    assert row["low"] <= row["value"] <= row["high"]


def test_a_method_that_coincides_with_the_truth_is_a_tie(make_judged):
    means = {"box_iou": ({"truth": 1, "xgrad_cam": 1}, 0)}
    run = RunFolder.read(make_judged(30, {"truth": METHODS["truth"], "xgrad_cam": {}}, means))
    for test in ("truth_ahead", "truth_first"):
        (row,) = rows(card([run], run.metrics), "box_iou", test).to_dict("records")
        assert (row["value"], row["passes"]) == (0.5, True)


def test_a_rival_that_is_ahead_by_chance_leaves_the_truth_not_ahead_and_not_behind(make_judged):
    means = {"box_iou": ({"truth": 0, "xgrad_cam": -0.2, "fair": -1}, 1)}
    run = RunFolder.read(
        make_judged(30, {"truth": METHODS["truth"], "xgrad_cam": {}, "fair": {}}, means)
    )
    ahead, first = (
        rows(card([run], run.metrics), "box_iou", test).iloc[0]
        for test in ("truth_ahead", "truth_first")
    )
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
        "sensitivity_error": (
            {"xgrad_cam": 3, "fair": 2, "grad_cam": 1},
            0.1,
        ),  # of no blind map: no row
    }
    run = RunFolder.read(make_judged(60, methods, means))
    table = card([run], run.metrics).set_index("metric")
    assert table["test"].tolist() == ["gaming", "gaming"]
    assert table["n"].tolist() == [30, 30]
    assert table["about"].tolist() == ["Left against XGrad-CAM"] * 2
    assert table["passes"].to_dict() == {"confidence_drop": True, "box_iou": False}
    assert table["value"].to_dict() == {"confidence_drop": 0, "box_iou": 1}


def test_the_line_over_networks_leaves_out_rows_without_a_verdict(make_judged):
    run = RunFolder.read(
        make_judged(12, {"xgrad_cam": {}, "fair": {}}, {"box_iou": ({"xgrad_cam": 1}, 0.1)})
    )
    gaming = Row(
        "box_iou", "gaming", "net", "per image", 1.0, 1.0, 1.0, 12, False, None, "1 against 0"
    )
    controls = gaming._replace(test="controls", passes=True)
    rows = [gaming, *(controls._replace(network=name, value=value, low=value, high=value, passes=value > 0.5)
                      for name, value in {"a": 0.9, "b": 0.8, "c": 0.1}.items())]  # fmt: skip
    circular = controls._replace(test="degrees", network="c", value=0.0, circular=True, passes=None)
    table = line_table(
        [run], frame([*rows, gaming._replace(truth="optimised", value=0.2, passes=True), circular])
    )
    assert table.header == ("Metric", "Degrees", "Controls", "Gaming")
    degrees, of_controls, of_gaming = (cell.text for cell in table.groups[0].rows[0][1:])
    assert (degrees, of_gaming) == ("circular", "1 of 1")
    assert of_controls.startswith("2 of 3; c 0.10; mean 0.600 [")
    assert line_table([run], frame([gaming])).header == ("Metric",)


def test_too_few_images_for_an_interval(made):
    _, table = made({}, images=6)
    first = rows(table, "confidence_drop", "truth_first")
    assert pd.isna(first.loc["truth", "low"])
    assert not set(table["test"]) & {"degrees", "controls"}  # which pass by their intervals


def over_networks(values, half=0.1):
    """The interval of these networks' values, each with an interval of `half` to either side."""
    rows = [
        {"network": name, "value": each, "low": each - half, "high": each + half}
        for name, each in values.items()
    ]
    return interval_over_networks(pd.DataFrame(rows))


def test_trainings_of_one_recipe_are_a_family():
    assert [family(name) for name in ("net_seed12", "net", "net_seed1 (mosaics)")] == [
        "net",
        "net",
        "net (mosaics)",
    ]
    alike = {"net": 0.9, **{f"net_seed{seed}": 0.9 for seed in range(1, 5)}, "other": 0.1}
    apart = {f"net{seed}": 0.9 for seed in range(5)} | {"other": 0.1}
    assert np.ptp(over_networks(alike, 0)) > np.ptp(over_networks(apart, 0))
    assert math.isnan(over_networks({"net": 0.9, "net_seed1": 0.1})[0])


@pytest.mark.slow
def test_the_interval_holds_the_mean_of_many_networks(monkeypatch):
    """12 networks' values around 0.6, each seen with the error of its images: about 95 % of the
    trials. The bounds are beyond three standard deviations of what a fair interval holds.
    """
    # whose ends are nearly those of more
    monkeypatch.setattr("axiom_bench.judging.card.RESAMPLES", 200)
    draws, held = np.random.default_rng(1), 0
    for _ in range(200):
        true = draws.normal(0.6, 0.1, 12)
        seen = {
            f"net{number}": value for number, value in enumerate(true + draws.normal(0, 0.05, 12))
        }
        low, high = over_networks(seen, 0.05 * 1.96)
        held += low <= 0.6 <= high
    assert 176 <= held <= 199


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
        judge, "SHOWN", ("run=card", "data.size=12", "pictures.rows=0", "model=scenes_vgg")
    )
    code, lines = judge.judge_metrics(["mass_accuracy", "corner.bright_corner"])
    assert code == 0
    table = pd.read_csv(tmp_path / "results/truth/card/tables/scorecard.csv")
    assert set(table["metric"]) == {"mass_accuracy", "rank_accuracy", "bright_corner"}
    corner = table[(table["metric"] == "bright_corner") & (table["test"] == "sanity")].set_index(
        "truth"
    )
    assert corner["passes"].to_dict() == {
        relation.name: relation.name != "mirrored" for relation in RELATIONS
    }
    table = table[table["metric"] == "mass_accuracy"]
    first = table[table["test"] == "truth_first"].set_index("truth")
    assert first.loc["truth", "circular"]
    assert not first.loc["truth_drops", "circular"]
    assert set(table.loc[table["test"] == "sanity", "truth"]) == {name.name for name in RELATIONS}
    gamed = table[table["test"] == "gaming"].fillna({"truth": ""})
    assert gamed.set_index("truth")["n"].to_dict() == {
        "": 6,
        "optimised": 32,
        "one sample": 32,
        "per image": 32,
    }
    assert any(
        line.strip().startswith("Relevance mass accuracy") and "circular" in line for line in lines
    )
