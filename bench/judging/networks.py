"""The scorecard over networks: an interval for other networks, of which those of one recipe are a family."""

from __future__ import annotations

import numpy as np
import pandas as pd

from axiom_bench.statistics.bootstrap import RESAMPLES, SEED, TAIL, Floats

SEEDED = "_seed"  # scenes_vgg_seed1 is scenes_vgg trained once more
NORMAL = 1.96  # standard errors to the end of a 95 % interval


def family(network: str) -> str:
    """The network whose recipe it was trained by: "scenes_vgg_seed1" is of the family "scenes_vgg"."""
    name, _, about = network.partition(" ")
    return " ".join(filter(None, (name.partition(SEEDED)[0], about)))


def interval(rows: pd.DataFrame) -> tuple[float, float]:
    """Of the mean of the values of `Row` in one test, over other networks and images; NaN for fewer than two families.

    The bootstrap has three levels: families, networks, images. Networks trained by one recipe from other seeds are a
    family, since they are more alike than others; each other network is one. Of the images a row has its interval
    alone, so a resampled network's value moves by a normal error of that size: the interval is rather too wide.
    """
    errors = (rows["high"] - rows["low"]).fillna(0).to_numpy() / (2 * NORMAL)
    values, draws = rows["value"].to_numpy(dtype=float), np.random.default_rng(SEED)
    members = list(rows.reset_index(drop=True).groupby(rows["network"].map(family).to_numpy()).indices.values())
    if len(members) < 2:
        return float("nan"), float("nan")
    means: Floats = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        families = draws.integers(len(members), size=len(members))
        places = np.concatenate([draws.choice(members[place], len(members[place])) for place in families])
        means[number] = (values[places] + errors[places] * draws.standard_normal(len(places))).mean()
    low, high = np.quantile(means, [TAIL, 1 - TAIL]).clip(values.min(), values.max())
    return float(low), float(high)
