"""The parts of a report that must agree, on usual and odd values of every kind.

The parts are the value, its interval, p, place, bold type and the sentence about the best method.
"""

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.tables.comparisons import pair_frame, place_frame
from axiom_bench.statistics.ranking import findings
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of

KINDS = ("proportion", "bounded", "ratio", "squared", "count", "unbounded")
CASES = (
    "usual",
    "many rows",
    "two rows",
    "one image",
    "nine images",
    "equal",
    "zero",
    "constants",
    "tiny",
    "outliers",
    "missing",
)
METRICS = {kind: {"title": kind, "kind": kind, "better": "lower", "metric": kind} for kind in KINDS}


def of_kind(kind, normal):
    """Turn normally distributed numbers into values of `kind`."""
    if kind == "proportion":
        return (normal > 0).astype(float)
    if kind == "bounded":
        return 1 / (1 + np.exp(-normal))
    if kind == "ratio":
        return np.exp(normal)
    if kind == "squared":
        return np.square(normal)
    if kind == "count":
        return np.maximum(np.round(3 + 2 * normal), 0)
    return normal


def values_of(case, kind, generator):
    """Return the values of three methods, of shape (rows, 3), and the image of each row."""
    num_images = {"one image": 1, "nine images": 9}.get(case, 40)
    images = np.arange(num_images)
    if case == "many rows":
        images = np.repeat(images, generator.integers(1, 20, num_images))
    elif case == "two rows":
        images = np.repeat(images, 2)
    noise = generator.normal(size=(len(images), 3)) * [0.3, 0.3, 1] + [0, 0.3, 0.6]
    values = of_kind(kind, generator.normal(size=(len(images), 1)) + noise)
    if case == "equal":
        values[:] = 1.0
    elif case == "zero":
        values[:] = 0.0
    elif case == "constants":
        values[:] = [0.0, 1.0, 1.0]
    elif case == "tiny" and kind != "proportion":
        values *= 1e-12
    elif case == "outliers" and kind != "proportion":
        values[:, 1] = values[:, 0] + 0.01
        values[:4, 0] += 100
    elif case == "missing":
        values[:8, 0] = values[5:20, 1] = np.nan
        values[:3, 2] = np.nan
    return values, images


@pytest.fixture
def odd_run(make_run, edit_manifest):
    """A run with one network for each case and one metric for each kind."""
    generator = np.random.default_rng(0)
    frames = []
    for case in CASES:
        for kind in KINDS:
            values, images = values_of(case, kind, generator)
            values_by_method = dict(zip("abc", values.T, strict=True))
            rows = rows_of(kind, values_by_method, model=case.replace(" ", "_"))
            # The rows of an image are numbered, and the number is the row's class.
            classes = np.arange(len(images)) - np.searchsorted(images, images)
            rows["image_id"] = [f"{image:02d}" for image in images] * 3
            rows["target_class"] = np.tile(classes, 3)
            rows["predicted_class"] = np.tile(classes, 3)
            frames.append(rows)
    layers = {case.replace(" ", "_"): ("last",) for case in CASES}
    folder = make_run(
        pd.concat(frames),
        methods={name: {} for name in "abc"},
        layers=layers,
        runtime=False,
        pictures=False,
    )
    edit_manifest(folder, metrics=METRICS)
    return RunFolder.read(folder)


@pytest.mark.slow
def test_nothing_that_is_said_of_odd_values_contradicts_itself(odd_run):
    summary = odd_run.summary.set_index(["model", "metric", "method"])
    places = place_frame(odd_run)
    pairs = pair_frame(odd_run)
    # In the case of missing values only one of the three methods has a place.
    num_missing = 2 * len(METRICS)
    assert len(places) == len(CASES) * len(METRICS) * 3 - num_missing
    for row in places.to_dict("records"):
        assert not row["value_low"] > row["value"] + 1e-12
        assert not row["value_high"] < row["value"] - 1e-12
        expected = summary.loc[(row["model"], row["metric"], row["method"])]
        lead = "median" if row["metric"] in ("ratio", "squared") else "mean"
        assert row["value"] == pytest.approx(expected[f"common_{lead}"], rel=1e-12)

    place_of_method = places.set_index(["model", "metric", "method"])
    decided = set()  # models and metrics for which one method is significantly better than another
    for pair in pairs.to_dict("records"):
        setting = (pair["model"], pair["metric"])
        first = place_of_method.loc[(*setting, pair["first"])]
        second = place_of_method.loc[(*setting, pair["second"])]
        assert pair["difference"] == first["value"] - second["value"]
        assert np.isnan(pair["p"]) == np.isnan(pair["low"])
        if pair["p"] < 0.05:
            assert pair["low"] <= pair["difference"] <= pair["high"]
            assert pair["low"] > 0 or pair["high"] < 0
        if pair["adjusted"] < 0.05:
            loser, winner = (first, second) if pair["difference"] > 0 else (second, first)
            assert loser["value"] > winner["value"]
            assert not loser["is_best"]
            decided.add(setting)
    best = places[places["is_best"]]
    assert set(zip(best["model"], best["metric"], strict=True)) == decided
    for _, group in places.sort_values("value").groupby(["model", "metric"]):
        assert (np.maximum.accumulate(group["place_low"]) <= group["place_high"]).all()

    named_best = set()
    coinciding_at_zero = set()
    for statement in findings(odd_run, odd_run.metrics):
        model = statement.settings[0].model
        if statement.kind == "best":
            named_best.add((model, statement.metric))
        if statement.kind == "coinciding" and model == "zero":
            coinciding_at_zero.add(statement.metric)
    assert named_best <= decided
    assert coinciding_at_zero == set(METRICS)


@pytest.mark.slow
def test_the_zeros_of_a_count_and_small_outputs_by_their_kind(odd_run):
    """Check that a kind decides how zeros and tiny values are read.

    A count that is 0 everywhere isn't a proportion. Tiny shares are rounding, and tiny squared
    scores aren't.
    """
    places = place_frame(odd_run).set_index(["model", "metric", "method"]).sort_index()
    ends = ["value_low", "value_high"]
    assert places.loc[("zero", "count", "a"), ends].tolist() == [0, 0]
    assert places.loc[("zero", "proportion", "a"), "value_high"] > 0.05
    groups = {kind: places.loc[("tiny", kind)]["group"].nunique() for kind in METRICS}
    assert groups == {
        "proportion": 3,
        "bounded": 1,
        "ratio": 1,
        "squared": 3,
        "count": 3,
        "unbounded": 3,
    }
