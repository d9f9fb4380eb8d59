"""scripts/write_scorecard.py: its plan has every metric that can be judged, and what is computed is
kept.
"""

import contextlib
import os
import shutil

import pandas as pd
import pytest
import write_scorecard
import yaml

from axiom_bench.evaluation import plugins
from axiom_bench.judging.tests import SANITY

PLAN = """
metrics: {axioms: [conservation_error, average_drop], regions: [box_iou]}
runs:
  first:
    experiment: truth_planted
    metrics: [axioms]
    overrides:
      - data.size=2
      - model=planted_or
      - method=[grad_cam,random]
      - spoiled=[noise,truth]
      - spoiled.noise.degrees=[0.5]
  second:
    experiment: truth_planted
    metrics: [regions]
    overrides: [data.size=2, model=planted_or, "method=[grad_cam,random]", "spoiled=[truth]"]
    about: few
"""


def test_every_metric_is_planned_or_left_out_with_a_reason():
    planned = set(write_scorecard.judged_metrics(write_scorecard.plan()))
    left_out = yaml.safe_load(write_scorecard.PLAN.read_text())["left_out"]
    metrics = {name: plugins.load("metric", name) for name in plugins.names("metric")}
    judged = {name for name, metric in metrics.items() if write_scorecard.judged_values(metric)}
    assert planned == judged
    assert set(left_out) == set(metrics) - judged


@pytest.fixture(scope="module")
def first_call(tmp_path_factory):
    """A folder with the plan's file and the scorecard that a call has written."""
    folder = tmp_path_factory.mktemp("scorecard")
    (folder / "plan.yaml").write_text(PLAN)
    with contextlib.chdir(folder):
        assert write_scorecard.main([], folder / "plan.yaml", folder / "scorecard.csv") == 0
    return folder


@pytest.fixture
def made(first_call, tmp_path, monkeypatch):
    """A copy of its files, in the current folder."""
    shutil.copytree(first_call, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy" / "plan.yaml", tmp_path / "copy" / "scorecard.csv"


@pytest.mark.slow
def test_a_second_call_computes_nothing(made):
    plan, output = made
    before = {
        path: os.stat(path).st_mtime_ns
        for path in (plan.parent / "results").rglob("records/**/*.parquet")
    }
    text = output.read_text()
    assert before
    assert write_scorecard.main(["first", "second"], plan, output) == 0
    assert {path: os.stat(path).st_mtime_ns for path in before} == before
    assert output.read_text() == text


@pytest.mark.slow
def test_a_run_s_rows_replace_its_own_alone(made, capsys):
    plan, output = made
    table = pd.read_csv(output)
    assert table["run"].drop_duplicates().tolist() == [
        "first",
        "second",
        *write_scorecard.METRIC_TESTS,
    ]
    assert set(table.loc[table["run"] == "second", "network"]) == {"planted_or (few)"}
    assert {"average_drop", "conservation_error"} == set(
        table.loc[table["run"] == "first", "metric"]
    )
    output.write_text(table.assign(value=7).to_csv(index=False))
    plan.write_text(PLAN.replace("experiment: truth_planted", "experiment: truth_plantd", 1))
    # the first fails, and keeps its rows
    assert write_scorecard.main(["first", "second"], plan, output) == 1
    assert "first: left out: " in capsys.readouterr().out
    changed = pd.read_csv(output).groupby("run")["value"].max()
    assert (changed["first"], changed[SANITY]) == (7, 7)
    assert changed["second"] <= 1


@pytest.mark.slow
def test_a_metric_s_rows_replace_its_own_alone(made):
    plan, output = made
    output.write_text(pd.read_csv(output).assign(value=7).to_csv(index=False))
    assert write_scorecard.main(["first", "second", "--metrics", "average_drop"], plan, output) == 0
    old = pd.read_csv(output).query("value == 7")
    assert set(old.loc[old["run"] == "first", "metric"]) == {"conservation_error"}
    assert set(old.loc[old["run"] == "second", "metric"]) == {"box_iou"}
