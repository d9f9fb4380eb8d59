"""The scorecard of metrics: one row for each metric, network and test of `judging.tests`.

A rule over the scorecard decides which metrics lead a report (`leaders`). The rule is older than
the results that it judges. A metric leads if both truth tests and degrees apply to it, and if it
passes every test that applies to it:

- Truth ahead, by the primary truth: on at least SHARE of the networks, no method or control has a
  better value. It isn't enough that none is significantly better: with few images, or noisy values,
  no difference is significant.
- Truth first, by the primary truth: on no network is a method or control significantly better than
  the truth and, at the same time, better on more than half of the images by MARGIN.
- Degrees and controls: they pass on at least SHARE of the networks.
- Sanity and gaming: every relation and network passes.

Reliability doesn't count. It shows how many images a ranking takes, not whether the ranking is
right. Circular rows don't count either. If no metric passes, only the axiom errors of the paper
lead, as axioms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from axiom_bench.environment import conf_folder, entry_names, read_yaml
from axiom_bench.judging.tests import TESTS, TRUTH_FIRST, TRUTH_TESTS, Row, rows_of
from axiom_bench.records.entries import ConfigEntry
from axiom_bench.statistics.bootstrap import RESAMPLES, SEED, TAIL
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder

SEEDED = "_seed"  # scenes_vgg_seed1 is scenes_vgg trained once more, from another seed
NORMAL = 1.96  # standard errors between the middle and an end of a 95 % interval
# The primary truth is Shapley values: of channels if the network tells their contributions,
# otherwise of the image's parts.
PRIMARY = "truth"
MARGIN = 0.05


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return the rows as a table with the columns of `Row`."""
    return pd.DataFrame(list(rows), columns=Row._fields)


def card(runs: Sequence[RunFolder], metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows of all tests, for all settings that rank methods.

    Args:
        runs: The runs.
        metrics: The names of values. Those without a direction have no rows.

    Returns:
        A table with the columns of `Row`.
    """
    rows = []
    for run in runs:
        for setting in ranking_settings(run):
            for metric in metrics:
                if metric not in run.metrics or not run.metadata.value(metric).has_direction:
                    continue
                for row in rows_of(run, setting, metric):
                    if not TESTS[row.test].is_measure:
                        rows.append(row)
    return frame(rows)


def judge(run: RunFolder, setting: Setting, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows of all tests and measures of these metrics."""
    return frame(row for metric in metrics for row in rows_of(run, setting, metric))


def ranking_settings(run: RunFolder) -> list[Setting]:
    """Return the settings, such as networks, whose values rank methods.

    Metrics are judged only there, since without a ranking no order can be right.
    """
    return [setting for setting in run.settings if run.ranks_methods(setting)]


def family(network: str) -> str:
    """Return the network with whose recipe a network was trained.

    The network "scenes_vgg_seed1" belongs to the family "scenes_vgg". Members of a family aren't
    independent evidence, so an interval resamples families.
    """
    name, _, about = network.partition(" ")
    return " ".join(filter(None, (name.partition(SEEDED)[0], about)))


def interval_over_networks(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the 95 % interval of the mean value over networks and images.

    The bootstrap has three levels: families, networks and images. Networks that were trained with
    one recipe from different seeds are a family, because they are more alike than others. Every
    other network is a family of its own. Of the images only a row's interval is known, so the value
    of a resampled network moves by a normal error of that size. This makes the interval rather too
    wide.

    Args:
        rows: Rows of one test with the columns of `Row`.

    Returns:
        The ends of the interval; NaN for fewer than two families.
    """
    errors = (rows["high"] - rows["low"]).fillna(0).to_numpy() / (2 * NORMAL)
    values = rows["value"].to_numpy(dtype=float)
    draws = np.random.default_rng(SEED)
    families = rows["network"].map(family).to_numpy()
    members = list(rows.reset_index(drop=True).groupby(families).indices.values())
    if len(members) < 2:
        return float("nan"), float("nan")
    means = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        drawn_families = draws.integers(len(members), size=len(members))
        drawn_rows = np.concatenate(
            [draws.choice(members[index], len(members[index])) for index in drawn_families]
        )
        noise = errors[drawn_rows] * draws.standard_normal(len(drawn_rows))
        means[resample] = (values[drawn_rows] + noise).mean()
    # Only the noise can take a mean beyond the values, so the interval ends at them.
    low, high = np.quantile(means, [TAIL, 1 - TAIL]).clip(values.min(), values.max())
    return float(low), float(high)


def verdicts(card: pd.DataFrame) -> dict[str, dict[str, bool | None]]:
    """Return whether each metric passes each test that counts for leading.

    Args:
        card: A table with the columns of `Row`.

    Returns:
        The verdicts by metric and test; None if the test doesn't apply to the metric.
    """
    rows_by_metric: dict[str, dict[str, list[tuple[bool, float]]]] = {
        str(metric): {} for metric in card["metric"].unique()
    }
    columns = ["metric", "test", "truth", "circular", "passes", "value"]
    rows_of_card = card[columns].itertuples(index=False, name=None)
    for name, test_name, truth, is_circular, passes, value in rows_of_card:
        # A circular row proves nothing, and a row without a verdict doesn't count.
        if is_circular or pd.isna(passes):
            continue
        if test_name in TRUTH_TESTS and truth != PRIMARY:
            continue
        rows_by_metric[name].setdefault(test_name, []).append((bool(passes), float(value)))
    verdicts_by_metric: dict[str, dict[str, bool | None]] = {}
    for metric, rows in rows_by_metric.items():
        verdicts_by_metric[metric] = {
            name: _holds(name, rows[name]) if name in rows else None
            for name, test in TESTS.items()
            if test.share is not None
        }
    return verdicts_by_metric


def leaders(card: pd.DataFrame) -> list[str]:
    """Return the metrics that may lead a report (docs/which-metric.md), in the card's order."""
    required = [name for name, test in TESTS.items() if test.is_required]
    return [
        metric
        for metric, verdict in verdicts(card).items()
        if False not in verdict.values() and all(verdict[name] for name in required)
    ]


def _holds(test: str, rows: Sequence[tuple[bool, float]]) -> bool:
    """Return whether enough rows of a metric, each (passes, value), pass a test."""
    passed = 0
    for passes, value in rows:
        # A rival that is better on few more than half of the images is accepted.
        is_close = test == TRUTH_FIRST and value >= 0.5 - MARGIN
        passed += passes or is_close
    return passed / len(rows) >= (TESTS[test].share or 0)


@cache
def committed_card() -> pd.DataFrame:
    """Return docs/data/scorecard.csv, which is installed with the package.

    Reports show its verdicts next to a metric without judging the metric again. It has the columns
    of `Row`, and `commit`.
    """
    card = pd.read_csv(
        conf_folder().parent / "scorecard.csv", dtype={"passes": str}, keep_default_na=False
    )
    for name in ("value", "low", "high"):
        card[name] = pd.to_numeric(card[name])
    card["passes"] = card["passes"].map({"True": True, "False": False})
    return card


def committed_rows(config: ConfigEntry, metric: str, value: str) -> pd.DataFrame:
    """Return the committed card's rows of a value of a metric.

    There are none if the run has the metric with other code or parameters than those judged.

    Args:
        config: The configuration of a run.
        metric: The name of the metric.
        value: The name of one of the metric's values.

    Returns:
        Rows of `committed_card`.
    """
    shipped_entry = None
    if metric in entry_names("metric"):
        shipped_entry = read_yaml(conf_folder() / "metric" / f"{metric}.yaml").get(metric)
    card = committed_card()
    if not shipped_entry or _settings(config.metric.get(metric)) != _settings(shipped_entry):
        return card[:0]
    return card[card["metric"] == value]


def _settings(entry: Mapping[str, object] | None) -> tuple[object, object]:
    """Return the code and the parameters of a metric's entry."""
    entry = entry or {}
    return entry.get("_target_"), entry.get("params") or {}
