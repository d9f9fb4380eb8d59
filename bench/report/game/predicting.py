"""Which automatic metric predicts what people see: the answers of a game beside the values of the run that it is of."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.report.game.accuracy import degrees_of_freedom, joined, reach
from axiom_bench.statistics.metadata import Setting, Value, rows_at
from axiom_bench.statistics.run_folder import RunFolder

COLUMNS = ("metric", "better", "methods", "rank_correlation", "p", "answers", "auc", "low", "high")
RESAMPLES = 1000
FEWEST_METHODS = 3  # of fewer, a rank correlation is 1 or -1 whatever they are
ROW = ["image_id", "target_class", "method"]

Weights = NDArray[np.float64]


def predictions(run: RunFolder, answers: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row of COLUMNS for each metric with a direction, the best predictor of single answers first.

    rank_correlation: Spearman's, over so many methods, between accuracy and the metric's leading statistic on the
    images of the game, over 0 where the metric agrees with people. p: of as strong a correlation, either sign, over all
    orders of the methods. auc: the probability that of two answers, one right and one not, the right one's picture has
    the better value (ties count half), so 0.5 predicts nothing; its 95 % interval has players and images as clusters.
    Raises BenchError where the answers aren't of this run.
    """
    setting = _setting(run, answers)
    keys = answers.rename(columns={"image": "image_id", "class_index": "target_class"})
    keys = keys[["player", *ROW, "correct"]]
    rows = []
    for name in run.metrics:
        value = run.metadata.value(name)
        records = rows_at(run.records.frame([name]), setting)
        records = records[(records["status"] == OK) & (records["image_id"] != WHOLE_SET)]
        of_metric = records.astype({"method": object, "image_id": object})[[*ROW, "value"]]
        joined_rows = keys.merge(of_metric, on=ROW)
        if value.has_direction and len(joined_rows) and joined_rows["correct"].nunique() == 2:
            rows.append((name, value.better, *_row(value, joined_rows, seed)))
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("auc", ascending=False, ignore_index=True)


def _setting(run: RunFolder, answers: pd.DataFrame) -> Setting:
    first = answers.iloc[0]
    setting = Setting(first["model"], first["layer"], first["data"])
    weights = str(((run.manifest.get("models") or {}).get(setting.model) or {}).get("weights_sha256") or "")
    if setting not in run.settings or weights[: len(first["weights"])] != first["weights"]:
        raise BenchError(
            f"The answers are of {setting.model} at {setting.layer} on {setting.data} with weights {first['weights']}, "
            f"which the run in {run.path} doesn't have; give --run the run that the game was made of."
        )
    return setting


def _row(value: Value, rows: pd.DataFrame, seed: int) -> tuple[object, ...]:
    """The columns of a metric from `methods` on. rows: player, image_id, method, correct and value of each answer."""
    sign = 1 if value.better == "higher" else -1
    grouped = rows.groupby("method")
    goodness = sign * (grouped["value"].median() if value.lead == "median" else grouped["value"].mean())
    correlation, p = rank_correlation(goodness.to_numpy(), grouped["correct"].mean().to_numpy())
    order = sign * rows["value"].to_numpy(float)
    correct = rows["correct"].to_numpy(bool)
    area, low, high = _area(order, correct, rows, seed)
    return len(goodness), correlation, p, len(rows), area, low, high


def rank_correlation(first: Weights, second: Weights) -> tuple[float, float]:
    """(Spearman's correlation, p): exact over all orders up to 7, of 9,999 random orders beyond. NaN for few values."""
    from scipy.stats import permutation_test, rankdata  # here, because it takes half a second to import

    if len(first) < FEWEST_METHODS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan, np.nan
    a, b = rankdata(first), rankdata(second)

    def statistic(order: Weights) -> float:
        return float(np.corrcoef(order, b)[0, 1])

    test = permutation_test((a,), statistic, permutation_type="pairings", n_resamples=9999, rng=0)
    return float(test.statistic), float(test.pvalue)


def area_under_curve(order: Weights, correct: NDArray[np.bool_], weights: Weights) -> Weights:
    """For each row of weights (R, n) the probability that a right answer's value is above that of another: (R,)."""
    values, place = np.unique(order, return_inverse=True)
    right, wrong = (np.zeros((len(weights), len(values))) for _ in range(2))
    for total, chosen in ((right, correct), (wrong, ~correct)):
        np.add.at(total.T, place[chosen], weights[:, chosen].T)
    below = np.cumsum(wrong, axis=1) - wrong / 2
    pairs = right.sum(1) * wrong.sum(1)
    with np.errstate(invalid="ignore"):
        area: Weights = (right * below).sum(1) / pairs
    return area


def _area(order: Weights, correct: NDArray[np.bool_], rows: pd.DataFrame, seed: int) -> tuple[float, float, float]:
    """(area under the curve, its interval)."""
    area = float(area_under_curve(order, correct, np.ones((1, len(order))))[0])
    generator = np.random.default_rng(seed)
    variances = []
    for clusters in (np.arange(len(order)), rows["player"].to_numpy(), rows["image_id"].to_numpy()):
        names, place = np.unique(clusters, return_inverse=True)
        draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
        replicates = area_under_curve(order, correct, draws[:, place].astype(float))
        variances.append(float(np.nanvar(replicates)) if len(names) > 1 else np.nan)
    degrees = degrees_of_freedom(rows["player"].nunique(), rows["image_id"].nunique())
    half = reach(degrees) * np.sqrt(joined(*variances))
    return area, max(0.0, area - half), min(1.0, area + half)
