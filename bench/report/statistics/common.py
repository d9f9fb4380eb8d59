"""Values on the images that all compared methods have: they decide which method is best.

The methods of a metric may have values for different images, since a map may be zero everywhere, or an annotation may
be missing. Statistics over different images rank no method.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from axiom_bench.columns import LAYER, OK, WHOLE_SET
from axiom_bench.records.common import compared
from axiom_bench.report.statistics.summary import KEYS

COLUMNS = ("compared", "partial", "common_images", "common_n", "common_mean", "common_median")
ROW = ["image_id", "target_class"]


def with_common_values(summary: pd.DataFrame, records: pd.DataFrame, by: Sequence[str] = KEYS) -> pd.DataFrame:
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
    metrics = {place[places.index("metric")] for place in differing}
    values = records[records["metric"].isin(metrics) & (records["status"] == OK)]
    values = values[(values["image_id"] != WHOLE_SET) & (values["method"] != LAYER)]
    for place, rows in values.groupby(places, observed=True):
        if place in differing:
            common = _common(rows)
            table.loc[differing[place].reindex(common.index), list(COLUMNS)] = common[list(COLUMNS)].to_numpy(object)
    return table.astype({"compared": bool, "partial": bool, "common_images": int, "common_n": int, "common_mean": float,
                         "common_median": float})  # fmt: skip


def with_stored_common_values(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    """The summary with COLUMNS for values of whole data sets as the run has stored them, and the images and rows that
    each was computed from as `images` and `n`.

    whole_set: `reading.WHOLE_SET_COLUMNS`.
    """
    keys = ["model", "layer", "data", "method", "metric"]
    stored = whole_set[whole_set["images"] > 0].drop_duplicates(keys)
    if stored.empty or summary.empty:
        return summary
    stored = stored.astype(dict.fromkeys(keys, object)).assign(
        n=stored["rows"].fillna(stored["images"]),  # earlier versions stored no rows
        common_n=stored["common_rows"].fillna(stored["common_images"]),
        compared=stored["common_images"] > 0,
        common_mean=stored["common_value"],
        common_median=stored["common_value"],
    )
    places = [stored[name] for name in keys if name != "method"]
    lacking = (stored["n"] - stored["common_n"]).where(stored["compared"]).groupby(places).transform("min")
    # Where each of the compared methods has rows that aren't common, each lacks rows that another one has.
    stored["partial"] = (stored["n"] < stored["n"].groupby(places).transform("max")) | (lacking > 0)
    columns = ["images", "n", *COLUMNS]
    aligned = summary[keys].merge(stored[[*keys, *columns]], on=keys, how="left").set_index(summary.index)
    use = summary["whole_set"].astype(bool) & aligned["images"].notna()
    return summary.assign(
        **{name: summary[name].mask(use, aligned[name]).astype(summary[name].dtype) for name in columns}
    )


def _common(rows: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS by method, of one metric's rows with status ok in one setting."""
    keys = pd.Series(list(zip(*(rows[name] for name in ROW), strict=True)), index=rows.index)
    rows_of = {str(method): frozenset(own) for method, own in keys.groupby(rows["method"], observed=True)}
    methods, common = compared(rows_of)
    chosen = rows[keys.isin(common) & rows["method"].isin(methods)]
    table = chosen.astype({"method": object}).groupby("method")["value"].agg(common_mean="mean", common_median="median")
    table = table.reindex(list(rows_of))
    union = len(frozenset[tuple[str, int]]().union(*rows_of.values()))
    is_compared = table.index.isin(methods)
    return table.assign(
        compared=is_compared,
        partial=[len(own) < union for own in rows_of.values()],
        common_images=is_compared * len({image for image, _ in common}),
        common_n=is_compared * len(common),
    )
