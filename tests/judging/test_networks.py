"""The scorecard over networks: the means, what one network does to them, and how often the interval holds the truth."""

import math

import numpy as np
import pandas as pd
import pytest

from axiom_bench.judging.card import CONTROLS, SANITY, TRUTH_FIRST, Row
from axiom_bench.judging.networks import family, over_networks


def card_of(values, half=0.1, test=CONTROLS, **changed):
    rows = [
        Row("m", test, network, "", value, value - half, value + half, 100, False, value > 0.5)._replace(**changed)
        for network, value in values.items()
    ]
    return pd.DataFrame(rows, columns=Row._fields)


def test_means_counts_and_the_mean_without_each_network():
    row = over_networks(card_of({"a": 0.9, "b": 0.8, "c": 0.1})).iloc[0]
    assert (row["n"], row["value"]) == (3, pytest.approx(0.6))
    assert row["about"] == "passes on 2; 0.45 without a to 0.85 without c"
    assert row["low"] < 0.6 < row["high"]


def test_rows_that_count_for_nothing_are_left_out_and_truths_are_apart():
    good = card_of({"a": 0.9, "b": 0.8}, test=TRUTH_FIRST, truth="truth")
    other = card_of({"a": 0.2}, test=TRUTH_FIRST, truth="truth_drops")
    grey = card_of({"c": 0.0}, test=TRUTH_FIRST, truth="truth", circular=True, passes=None)
    table = over_networks(pd.concat([good, other, grey, card_of({"a": 1.0}, test=SANITY)]))
    assert table[["truth", "n", "value"]].to_numpy().tolist() == [
        ["truth", 2, pytest.approx(0.85)],
        ["truth_drops", 1, 0.2],
    ]
    assert math.isnan(table.iloc[1]["low"])  # of one network


def test_trainings_of_one_recipe_are_a_family():
    assert [family(name) for name in ("net_seed12", "net", "net_seed1 (mosaics)")] == ["net", "net", "net (mosaics)"]
    alike = {"net": 0.9, **{f"net_seed{seed}": 0.9 for seed in range(1, 5)}, "other": 0.1}
    apart = {f"net{seed}": 0.9 for seed in range(5)} | {"other": 0.1}
    as_one, as_five = (over_networks(card_of(values, half=0)).iloc[0] for values in (alike, apart))
    assert as_one["high"] - as_one["low"] > as_five["high"] - as_five["low"]


@pytest.mark.slow
def test_the_interval_holds_the_mean_of_many_networks():
    """12 networks' values around 0.6, each seen with the error of its images: about 95 % of the trials. The bounds are
    beyond three standard deviations of what a fair interval holds."""
    draws, held = np.random.default_rng(1), 0
    for _ in range(200):
        true = draws.normal(0.6, 0.1, 12)
        seen = {f"net{number}": value for number, value in enumerate(true + draws.normal(0, 0.05, 12))}
        row = over_networks(card_of(seen, half=0.05 * 1.96)).iloc[0]
        held += row["low"] <= 0.6 <= row["high"]
    assert 176 <= held <= 199
