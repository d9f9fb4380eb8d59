"""What a report says of values of every kind, odd ones too: value, interval, p, place, bold and
sentence agree.
"""

import numpy as np
import pandas as pd
import pytest

from axiom_bench.report.tables.comparisons import pair_frame, place_frame
from axiom_bench.statistics.ranking import findings
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import rows_of

VALUES_OF = {
    "proportion": lambda z: (z > 0) * 1.0,
    "bounded": lambda z: 1 / (1 + np.exp(-z)),
    "ratio": np.exp,
    "squared": np.square,
    "count": lambda z: np.maximum(np.round(3 + 2 * z), 0),
    "unbounded": lambda z: z,
}
CASES = ("usual", "many rows", "two rows", "one image", "nine images", "equal", "zero", "constants", "tiny", "outliers",
         "missing")  # fmt: skip
METRICS = {
    kind: {"title": kind, "kind": kind, "better": "lower", "metric": kind} for kind in VALUES_OF
}


def values_of(case, kind, generator):
    """(rows, 3), and the image of each row."""
    images = np.arange({"one image": 1, "nine images": 9}.get(case, 40))
    if case in ("many rows", "two rows"):
        images = np.repeat(
            images, 2 if case == "two rows" else generator.integers(1, 20, len(images))
        )
    noise = generator.normal(size=(len(images), 3)) * [0.3, 0.3, 1] + [0, 0.3, 0.6]
    values = VALUES_OF[kind](generator.normal(size=(len(images), 1)) + noise)
    if case in ("equal", "zero", "constants"):
        values[:] = {"equal": 1.0, "zero": 0.0, "constants": [0.0, 1.0, 1.0]}[case]
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
def odd(make_run, edit_manifest):
    """One network for each case, one metric for each kind."""
    generator = np.random.default_rng(0)
    frames = []
    for case in CASES:
        for kind in VALUES_OF:
            values, images = values_of(case, kind, generator)
            rows = rows_of(
                kind, dict(zip("abc", values.T, strict=True)), model=case.replace(" ", "_")
            )
            place = np.arange(len(images)) - np.searchsorted(images, images)
            classes = dict.fromkeys(("target_class", "predicted_class"), np.tile(place, 3))
            frames.append(rows.assign(image_id=[f"{i:02d}" for i in images] * 3, **classes))
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
def test_nothing_that_is_said_of_odd_values_contradicts_itself(odd):
    summary = odd.summary.set_index(["model", "metric", "method"])
    places = place_frame(odd)
    pairs = pair_frame(odd)
    # of the missing one is left alone
    assert len(places) == len(CASES) * len(METRICS) * 3 - 2 * len(METRICS)
    for row in places.to_dict("records"):
        assert not row["value_low"] > row["value"] + 1e-12
        assert not row["value_high"] < row["value"] - 1e-12
        own = summary.loc[(row["model"], row["metric"], row["method"])]
        lead = "median" if row["metric"] in ("ratio", "squared") else "mean"
        assert row["value"] == pytest.approx(own[f"common_{lead}"], rel=1e-12)
    place_of = places.set_index(["model", "metric", "method"])
    beaten = set()
    for pair in pairs.to_dict("records"):
        first, second = (
            place_of.loc[(pair["model"], pair["metric"], pair[side])]
            for side in ("first", "second")
        )
        assert pair["difference"] == first["value"] - second["value"]
        assert np.isnan(pair["p"]) == np.isnan(pair["low"])
        if pair["p"] < 0.05:
            assert pair["low"] <= pair["difference"] <= pair["high"]
            assert pair["low"] > 0 or pair["high"] < 0
        if pair["adjusted"] < 0.05:
            lost, won = (first, second) if pair["difference"] > 0 else (second, first)
            assert lost["value"] > won["value"]
            assert not lost["is_best"]
            beaten.add((pair["model"], pair["metric"]))
    assert {
        (row["model"], row["metric"]) for row in places.to_dict("records") if row["is_best"]
    } == beaten
    for _, group in places.sort_values("value").groupby(["model", "metric"]):
        assert (np.maximum.accumulate(group["place_low"]) <= group["place_high"]).all()
    said = {
        (statement.settings[0].model, statement.metric, statement.kind)
        for statement in findings(odd, odd.metrics)
    }
    assert {(model, metric) for model, metric, kind in said if kind == "best"} <= beaten
    assert {
        metric for model, metric, kind in said if (model, kind) == ("zero", "coinciding")
    } == set(METRICS)


@pytest.mark.slow
def test_the_zeros_of_a_count_and_small_outputs_by_their_kind(odd):
    """A count that is 0 everywhere isn't a proportion; of small outputs a share is rounding, a
    squared score isn't.
    """
    places = place_frame(odd).set_index(["model", "metric", "method"]).sort_index()
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
