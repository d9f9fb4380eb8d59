"""Is one method better than another, image by image? The paired statistics behind the table of comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from axiom_bench.columns import LAYER, OK, WHOLE_SET
from axiom_bench.errors import unknown
from axiom_bench.report.numbers import FLOAT32_ROUNDING

COLUMNS = ("method", "metric", "n", "better", "same", "worse", "difference", "ahead", "p", "adjusted")
SIGNIFICANCE = 0.05  # of `adjusted`: below it a difference is called significant
ROW = ["image_id", "target_class"]
RELATIVE_TIE = 1e-5  # of the larger value: what another batch size may change in float32


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
        others = [name for name in values if name != control] if control in values else []
        tests = [_pair(values[control], values[other], direction) for other in others]
        adjusted = holm([test["p"] for test in tests])
        names = ({"method": other, "metric": metric} for other in others)
        rows += [{**name, **test, "adjusted": p} for name, test, p in zip(names, tests, adjusted, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's step-down adjustment, Scand. J. Statist. 1979: p for all of a family at once.

    Sorted, p_i becomes the largest of (m - j) p_j over j <= i (j from 0), at most 1; NaN stays NaN and isn't counted.
    """
    p = np.array(list(p_values), dtype=float)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    stepped = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)) if len(order) else p[order]
    p[order] = np.minimum(stepped, 1)
    return p.tolist()


def _check_names(kind: str, names: Iterable[str], column: pd.Series) -> None:
    present = set(map(str, column.unique())) - {LAYER}
    for name in names:
        if name not in present:
            raise unknown(kind, name, present)


def _pair(control: pd.Series, other: pd.Series, direction: str) -> dict[str, float]:
    """One test. control, other: values by (image, class), NaN where there is none."""
    from scipy.stats import rankdata, wilcoxon  # here, because it takes half a second to import

    pairs = pd.DataFrame({"control": control, "other": other}).dropna()
    difference = pairs["control"] - pairs["other"]
    is_tie = difference.abs() <= np.maximum(FLOAT32_ROUNDING, RELATIVE_TIE * pairs.abs().max(axis=1))
    images = difference.mask(is_tie, 0.0).groupby(level="image_id", observed=True).mean()
    images = images.mask(images.abs() <= FLOAT32_ROUNDING, 0.0)  # classes of an image may cancel
    gain = images if direction == "higher" else -images
    different = gain[gain != 0].to_numpy()  # without zeros scipy can be exact for few images
    ranks = rankdata(np.abs(different))
    return {
        "n": len(images),
        "better": int((gain > 0).sum()),
        "same": int((gain == 0).sum()),
        "worse": int((gain < 0).sum()),
        "difference": float(images.median()),
        "ahead": float(ranks[different > 0].sum() / ranks.sum()) if len(different) else 0.5,
        "p": float(wilcoxon(different).pvalue) if len(different) else (1.0 if len(images) else float("nan")),
    }
