"""The scorecard over networks: a metric's mean value in each test, with an interval for other networks."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd

from axiom_bench.judging.card import OF_A_TRUTH, SANITY, Row, frame
from axiom_bench.statistics.bootstrap import RESAMPLES, SEED, TAIL, Floats

ALL_NETWORKS = "*"  # stands for all networks together
SEEDED = "_seed"  # scenes_vgg_seed1 is scenes_vgg trained once more
NORMAL = 1.96  # standard errors to the end of a 95 % interval


def over_networks(card: pd.DataFrame) -> pd.DataFrame:
    """A row for each metric, test and truth whose rows count: the mean of the networks' values, with its 95 % interval
    over other networks and images, NaN for fewer than two families; n: networks. about: on how many of them it passes,
    and the lowest and the highest mean without one network. Kinds of spoiling differ between networks, so all rows of
    one test with no single truth go together.

    The bootstrap has three levels: families, networks, images. Networks trained by one recipe from other seeds are a
    family, since they are more alike than others; each other network is one. Of the images a row has its interval
    alone, so a resampled network's value moves by a normal error of that size: the interval is rather too wide.
    """
    rows = card[~card["circular"].astype(bool) & card["passes"].notna() & (card["test"] != SANITY)]
    truth = rows["truth"].where(rows["test"].isin(OF_A_TRUTH), "")
    groups = rows.groupby([rows["metric"], rows["test"], truth], sort=False)
    return frame(_of(names, group) for names, group in groups)


def family(network: str) -> str:
    """The network whose recipe it was trained by: "scenes_vgg_seed1" is of the family "scenes_vgg"."""
    name, _, about = network.partition(" ")
    return " ".join(filter(None, (name.partition(SEEDED)[0], about)))


def _of(names: tuple[Hashable, ...], rows: pd.DataFrame) -> Row:
    metric, test, truth = map(str, names)
    values = rows.groupby("network", sort=False)["value"].mean()
    passed = int(rows.groupby("network")["passes"].apply(lambda each: each.astype(bool).all()).sum())
    about = f"passes on {passed}"
    if len(values) > 1:
        without = ((values.sum() - values) / (len(values) - 1)).sort_values(kind="stable")
        ends = (f"{without.iloc[end]:.2f} without {without.index[end]}" for end in (0, -1))
        about += f"; {' to '.join(ends)}"
    ends_of_mean = interval(rows)
    return Row(metric, test, ALL_NETWORKS, truth, float(values.mean()), *ends_of_mean, len(values), False, None, about)


def interval(rows: pd.DataFrame) -> tuple[float, float]:
    """Of the mean of the networks' values: see `over_networks`."""
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
