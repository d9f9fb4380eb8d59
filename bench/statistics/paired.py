"""Is one method better than another, image by image? The paired statistics behind the table of comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from axiom_bench.columns import LAYER, OK, WHOLE_SET
from axiom_bench.errors import unknown
from axiom_bench.statistics.differences import LEVEL, by_image, centre, statistics
from axiom_bench.statistics.holm import holm

COLUMNS = ("method", "metric", "n", "better", "same", "worse", "difference", "ahead", "p", "adjusted")
SIGNIFICANCE = LEVEL  # of `adjusted`: below it a difference is called significant
ROW = ["image_id", "target_class"]


def compare(records: pd.DataFrame, control: str, better: Mapping[str, str]) -> pd.DataFrame:
    """`control` against every other method of one setting's records, metric by metric: one row for each pair.

    better: metric -> "lower" or "higher"; others are left out. n: images where both methods have a value; an image
    with rows of several classes counts once, by its mean difference. better, same, worse: on how many of them `control`
    is; values closer than float32's rounding are the same. difference: the median of control - other. ahead: the share
    of Wilcoxon's signed ranks in favour of `control`, over 1/2 where it is better. p: of that test, two-sided, 1 where
    all are the same. adjusted: p times Holm's factor, over a metric's methods.
    Raises BenchError, with the nearest names, where the records have no such method or metric.
    """
    _check_names("method", [control], records["method"])
    _check_names("metric", better, records["metric"])
    single = records[(records["status"] == OK) & (records["image_id"] != WHOLE_SET)]
    rows = []
    for metric, direction in better.items():
        of_metric = single[single["metric"] == metric].astype({"method": object})
        values = of_metric.pivot_table("value", ROW, "method", observed=True, sort=False)
        others = [str(name) for name in values if name != control] if control in values else []
        if others:
            images = pd.factorize(values.index.get_level_values("image_id"))[0]
            differences = by_image(values[[control]].to_numpy(), values[others].to_numpy(), images)
            are_binary = bool(values.isin([0, 1]).to_numpy()[values.notna()].all())
            tests = pd.DataFrame(statistics(differences, direction, are_binary))
            tests = tests.assign(
                method=others, metric=metric, difference=centre(differences, "median"),
                adjusted=holm(tests["p"]), ahead=(1 + tests["effect"]) / 2,
            )  # fmt: skip
            rows.append(tests[list(COLUMNS)])
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(COLUMNS))


def _check_names(kind: str, names: Iterable[str], column: pd.Series) -> None:
    present = set(map(str, column.unique())) - {LAYER}
    for name in names:
        if name not in present:
            raise unknown(kind, name, present)
