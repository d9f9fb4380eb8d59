"""The scorecard of metrics: one row for each metric, test and network, of the tests of
`judging.tests`.

Which metrics lead a report is a rule over the scorecard, older than what it judges (`leaders`). A
metric leads that is asked both truth tests and degrees, and that passes every test it is asked:

- Truth ahead, by the primary truth: on at least SHARE of the networks no method or control has a
  better value. That none is significantly better isn't enough: of few images, or noisy values,
  nothing is.
- Truth first, by the primary truth: on no network is a method or control significantly better than
  the truth and, at the same time, better on more than half of the images by MARGIN.
- Degrees and controls: passed on at least SHARE of the networks. Sanity and gaming: by every
  relation and network.

Reliability isn't asked: it tells how many images a ranking takes, not whether the ranking is right.
Circular rows count for nothing. Where no metric passes, the axiom errors of the paper lead alone,
as axioms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.environment import conf_folder, entry_names, read_yaml
from axiom_bench.judging.tests import OF_A_TRUTH, TESTS, TRUTH_FIRST, Row, rows_of
from axiom_bench.records.entries import ConfigEntry
from axiom_bench.statistics.bootstrap import RESAMPLES, SEED, TAIL
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder

SEEDED = "_seed"  # scenes_vgg_seed1 is scenes_vgg trained once more
NORMAL = 1.96  # standard errors to the end of a 95 % interval


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a table with the columns of `Row`."""
    return pd.DataFrame(list(rows), columns=Row._fields)


def card(runs: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of all tests, for all settings that rank methods. metrics: names of values; of those
    without a direction there are no rows.
    """
    return frame(
        row
        for run in runs
        for setting in ranking_settings(run)
        for metric in metrics
        if metric in run.metrics and run.metadata.value(metric).has_direction
        for row in rows_of(run, setting, metric)
        if not TESTS[row.test].is_measure
    )


def judge(run: RunFolder, setting: Setting, metrics: Sequence[str]) -> pd.DataFrame:
    """The rows of all tests and measures of these metrics."""
    return frame(row for metric in metrics for row in rows_of(run, setting, metric))


def ranking_settings(run: RunFolder) -> list[Setting]:
    """The settings whose values rank methods."""
    return [setting for setting in run.settings if run.ranks(setting)]


def family(network: str) -> str:
    """The network whose recipe it was trained by: "scenes_vgg_seed1" is of the family
    "scenes_vgg".
    """
    name, _, about = network.partition(" ")
    return " ".join(filter(None, (name.partition(SEEDED)[0], about)))


def interval_over_networks(rows: pd.DataFrame) -> tuple[float, float]:
    """Of the mean of the values of `Row` in one test, over other networks and images; NaN for fewer
    than two families.

    The bootstrap has three levels: families, networks, images. Networks trained by one recipe from
    other seeds are a family, since they are more alike than others; each other network is one. Of
    the images a row has its interval alone, so a resampled network's value moves by a normal error
    of that size: the interval is rather too wide.
    """
    errors = (rows["high"] - rows["low"]).fillna(0).to_numpy() / (2 * NORMAL)
    values, draws = rows["value"].to_numpy(dtype=float), np.random.default_rng(SEED)
    members = list(
        rows.reset_index(drop=True).groupby(rows["network"].map(family).to_numpy()).indices.values()
    )
    if len(members) < 2:
        return float("nan"), float("nan")
    means = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        families = draws.integers(len(members), size=len(members))
        places = np.concatenate(
            [draws.choice(members[place], len(members[place])) for place in families]
        )
        means[number] = (
            values[places] + errors[places] * draws.standard_normal(len(places))
        ).mean()
    low, high = np.quantile(means, [TAIL, 1 - TAIL]).clip(values.min(), values.max())
    return float(low), float(high)


PRIMARY = (
    "truth"  # Shapley values: of channels where the network tells them, else of the image's parts
)
MARGIN = 0.05


def verdicts(card: pd.DataFrame) -> dict[str, dict[str, bool | None]]:
    """{metric: {test that leading asks: whether the rule holds}}, None where it isn't asked of the
    metric.
    """
    counted: dict[str, dict[str, list[Any]]] = {
        str(metric): {} for metric in card["metric"].unique()
    }
    row: Any
    for row in card[["metric", "test", "truth", "circular", "passes", "value"]].itertuples(
        index=False
    ):
        if (
            not row.circular
            and not pd.isna(row.passes)
            and (row.test not in OF_A_TRUTH or row.truth == PRIMARY)
        ):
            counted[row.metric].setdefault(row.test, []).append(row)
    return {
        metric: {
            test: _holds(test, rows[test]) if test in rows else None
            for test, about in TESTS.items()
            if about.share is not None
        }
        for metric, rows in counted.items()
    }


def leaders(card: pd.DataFrame) -> list[str]:
    """The metrics that the rule lets lead, in the card's order."""
    return [
        metric
        for metric, tests in verdicts(card).items()
        if False not in tests.values()
        and all(tests[test] for test, about in TESTS.items() if about.is_required)
    ]


def _holds(test: str, rows: Sequence[Any]) -> bool:
    passed = [
        bool(row.passes) or (test == TRUTH_FIRST and row.value >= 0.5 - MARGIN) for row in rows
    ]
    return sum(passed) / len(passed) >= (TESTS[test].share or 0)


@cache
def committed_card() -> pd.DataFrame:
    """docs/data/scorecard.csv, which is installed with the package: the columns of `card.Row`, and
    commit.
    """
    card = pd.read_csv(
        conf_folder().parent / "scorecard.csv", dtype={"passes": str}, keep_default_na=False
    )
    for name in ("value", "low", "high"):
        card[name] = pd.to_numeric(card[name])
    card["passes"] = card["passes"].map({"True": True, "False": False})
    return card


def committed_rows(config: ConfigEntry, metric: str, value: str) -> pd.DataFrame:
    """The committed card's rows of a value of a metric; none where a run's config has the metric
    with other code or parameters than those that were judged.
    """
    is_ours = metric in entry_names("metric")
    shipped = (
        read_yaml(conf_folder() / "metric" / f"{metric}.yaml").get(metric) if is_ours else None
    )
    card = committed_card()
    is_same = bool(shipped) and _settings(config.metric.get(metric)) == _settings(shipped)
    return card[card["metric"] == value] if is_same else card[:0]


def _settings(entry: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """The code and the parameters of a metric's entry."""
    return (entry or {}).get("_target_"), (entry or {}).get("params") or {}
