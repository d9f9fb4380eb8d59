"""The scorecard over networks: which are a family, and how often the interval of the mean holds the truth."""

import math

import numpy as np
import pandas as pd
import pytest

from axiom_bench.judging.networks import family, interval


def over_networks(values, half=0.1):
    """The interval of these networks' values, each with an interval of `half` to either side."""
    rows = [{"network": name, "value": each, "low": each - half, "high": each + half} for name, each in values.items()]
    return interval(pd.DataFrame(rows))


def test_trainings_of_one_recipe_are_a_family():
    assert [family(name) for name in ("net_seed12", "net", "net_seed1 (mosaics)")] == ["net", "net", "net (mosaics)"]
    alike = {"net": 0.9, **{f"net_seed{seed}": 0.9 for seed in range(1, 5)}, "other": 0.1}
    apart = {f"net{seed}": 0.9 for seed in range(5)} | {"other": 0.1}
    assert np.ptp(over_networks(alike, 0)) > np.ptp(over_networks(apart, 0))
    assert math.isnan(over_networks({"net": 0.9, "net_seed1": 0.1})[0])


@pytest.mark.slow
def test_the_interval_holds_the_mean_of_many_networks():
    """12 networks' values around 0.6, each seen with the error of its images: about 95 % of the trials. The bounds are
    beyond three standard deviations of what a fair interval holds."""
    draws, held = np.random.default_rng(1), 0
    for _ in range(200):
        true = draws.normal(0.6, 0.1, 12)
        seen = {f"net{number}": value for number, value in enumerate(true + draws.normal(0, 0.05, 12))}
        low, high = over_networks(seen, 0.05 * 1.96)
        held += low <= 0.6 <= high
    assert 176 <= held <= 199
