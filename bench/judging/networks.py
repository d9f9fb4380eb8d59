"""The scorecard over networks: a metric's mean value in each test, with an interval for other networks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import pandas as pd

from axiom_bench.judging.card import OF_A_TRUTH, SANITY
from axiom_bench.statistics.bootstrap import RESAMPLES, SEED, TAIL, Floats

SEEDED = "_seed"  # scenes_vgg_seed1 is scenes_vgg trained once more
NORMAL = 1.96  # standard errors to the end of a 95 % interval


class OverNetworks(NamedTuple):
    """A metric in one test with one truth. networks: those with a row that counts; passed: of them.

    mean: of the networks' values. low, high: its 95 % interval over other networks and images, NaN for fewer than two
    families. lowest, highest: the means without one network; without_lowest, without_highest: which.
    """

    metric: str
    test: str
    truth: str
    networks: int
    passed: int
    mean: float
    low: float
    high: float
    lowest: float
    without_lowest: str
    highest: float
    without_highest: str


def over_networks(card: pd.DataFrame) -> pd.DataFrame:
    """The columns of `OverNetworks`, for each metric, test and truth whose rows count. Kinds of spoiling differ between
    networks, so all rows of one test with no single truth go together.

    The bootstrap has three levels: families, networks, images. Networks trained by one recipe from other seeds are a
    family, since they are more alike than others; each other network is one. Of the images a row has its interval
    alone, so a resampled network's value moves by a normal error of that size: the interval is rather too wide.
    """
    rows = card[~card["circular"].astype(bool) & card["passes"].notna() & (card["test"] != SANITY)]
    truth = rows["truth"].where(rows["test"].isin(OF_A_TRUTH), "")
    groups = rows.groupby([rows["metric"], rows["test"], truth], sort=False)
    return pd.DataFrame([_of(names, group) for names, group in groups], columns=OverNetworks._fields)


def family(network: str) -> str:
    """The network whose recipe it was trained by: "scenes_vgg_seed1" is of the family "scenes_vgg"."""
    name, _, about = network.partition(" ")
    return " ".join(filter(None, (name.partition(SEEDED)[0], about)))


def _of(names: tuple[Hashable, ...], rows: pd.DataFrame) -> OverNetworks:
    metric, test, truth = map(str, names)
    of_network = rows.groupby("network", sort=False)["value"].mean()
    low, high = interval(rows)
    lowest = highest = (float("nan"), "")
    if len(of_network) > 1:
        without = ((of_network.sum() - of_network) / (len(of_network) - 1)).sort_values(kind="stable")
        lowest, highest = ((float(without.iloc[end]), str(without.index[end])) for end in (0, -1))
    passed = int(rows.groupby("network")["passes"].apply(lambda each: each.astype(bool).all()).sum())
    mean = float(of_network.mean())
    return OverNetworks(metric, test, truth, len(of_network), passed, mean, low, high, *lowest, *highest)


def interval(rows: pd.DataFrame) -> tuple[float, float]:
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
