"""Values on the images that all compared methods have: they decide which method is best.

The methods of a metric may have values for different images, since a map may be zero everywhere, or an annotation may
be missing. Statistics over different images rank no method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from axiom_bench.columns import LAYER
from axiom_bench.records.by_metric import Records
from axiom_bench.records.common import compared_columns
from axiom_bench.statistics.matrix import NAMES, RowLayout, matrix
from axiom_bench.statistics.summary import KEYS, aggregated

COLUMNS = ("compared", "partial", "common_images", "common_n", "common_mean", "common_median")


def with_common_values(
    summary: pd.DataFrame, records: Records, layouts: Mapping[tuple[str, ...], RowLayout], by: Sequence[str] = KEYS
) -> pd.DataFrame:
    """The summary of these records by `by`, with COLUMNS for values of images; a whole data set's value keeps its own.

    compared: whether the method is compared with the others, see `records.common.compared`. partial: whether it lacks
    rows (an image and a class) that another method has. common_mean, common_median: over the common_n rows of
    common_images images that all compared methods of the metric have; NaN for a method that isn't compared.
    """
    table = summary.assign(compared=summary["n"] > 0, partial=False)
    table = table.assign(**{f"common_{name}": summary[name] for name in ("images", "n", "mean", "median")})
    places = [name for name in by if name not in ("method", "whole_set")]
    of_images = table[(table["n"] > 0) & (table["method"] != LAYER) & ~table["whole_set"].astype(bool)]
    differing = {
        place: rows.reset_index().set_index("method")["index"]
        for place, rows in of_images.groupby(places)
        if rows["n"].nunique() > 1 or (rows["n"] < rows["rows"]).any()
    }
    for place, of_method in differing.items():
        named = dict(zip(places, place, strict=True))
        metric = str(named.pop("metric"))
        common = _common(records, layouts[tuple(map(str, named.values()))], metric)
        table.loc[of_method.reindex(common.index), list(COLUMNS)] = common[list(COLUMNS)].to_numpy(object)
    return table.astype({"compared": bool, "partial": bool, "common_images": int, "common_n": int, "common_mean": float,
                         "common_median": float})  # fmt: skip


def with_stored_common_values(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    """The summary with COLUMNS for values of whole data sets as the run has stored them, and the images and rows that
    each was computed from as `images` and `n`.

    whole_set: `reading.WHOLE_SET_COLUMNS`.
    """
    stored = whole_set[whole_set["images"] > 0].drop_duplicates(NAMES)
    if stored.empty or summary.empty:
        return summary
    stored = stored.astype(dict.fromkeys(NAMES, object)).assign(
        n=stored["rows"],
        common_n=stored["common_rows"],
        compared=stored["common_images"] > 0,
        common_mean=stored["common_value"],
        common_median=stored["common_value"],
    )
    places = [stored[name] for name in NAMES if name != "method"]
    lacking = (stored["n"] - stored["common_n"]).where(stored["compared"]).groupby(places).transform("min")
    # Where each of the compared methods has rows that aren't common, each lacks rows that another one has.
    stored["partial"] = (stored["n"] < stored["n"].groupby(places).transform("max")) | (lacking > 0)
    columns = ["images", "n", *COLUMNS]
    aligned = summary[NAMES].merge(stored[[*NAMES, *columns]], on=NAMES, how="left").set_index(summary.index)
    use = summary["whole_set"].astype(bool) & aligned["images"].notna()
    return summary.assign(
        **{name: summary[name].mask(use, aligned[name]).astype(summary[name].dtype) for name in columns}
    )


def _common(records: Records, layout: RowLayout, metric: str) -> pd.DataFrame:
    """COLUMNS by method, of one metric in one setting."""
    values = matrix(records, layout, metric)
    assert values is not None  # it has a value in the summary
    of_methods = [place for place, name in enumerate(values.methods) if name != LAYER]
    has, methods = np.isfinite(values.values[:, of_methods]), [values.methods[place] for place in of_methods]
    columns, common = compared_columns(has)
    block = records.blocks[metric]
    row = layout.row_of_key[block.keys]
    is_compared = np.isin(np.arange(len(methods)), columns)
    names = [methods[place] for place in columns]
    chosen = (block.statuses == records.ok) & (row >= 0) & common[row] & np.isin(records.methods, names)[block.methods]
    values, codes = block.values[chosen], block.methods[chosen].astype(np.int64)
    table = aggregated(values, codes, common_mean="mean", common_median="median")
    table = table.set_axis([records.methods[code] for code in table.index]).reindex(methods)
    return table.assign(
        compared=is_compared,
        partial=has.sum(axis=0) < has.any(axis=1).sum(),
        common_images=is_compared * len(np.unique(layout.images[common])),
        common_n=is_compared * common.sum(),
    )
