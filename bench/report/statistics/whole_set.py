"""Values of whole data sets: whether those that a run stored belong to the records beside them, and common images."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.run_folder import RunFolder, Setting, rows_at

KEYS = ["model", "layer", "data", "method", "metric"]
AGAIN = "run the same command again to compute them"


def problems(run: RunFolder) -> Iterator[str]:
    """One sentence for each metric whose values of the whole data set have no error, or not of these records.

    That is so where records of several runs were combined, of other images or other methods, and where a run is older
    than its bootstrap. The report computes none of them: the run does.
    """
    in_records = run.records.loc[run.records["image_id"] == WHOLE_SET, KEYS].astype(str)
    for metric in dict.fromkeys(in_records["metric"]):
        title = run.value(metric).title
        stored = run.whole_set[run.whole_set["metric"] == metric]
        wanted = pd.MultiIndex.from_frame(in_records[in_records["metric"] == metric]).drop_duplicates()
        if not wanted.isin(pd.MultiIndex.from_frame(stored[KEYS].astype(str))).all():
            yield f"{title}: the run stored no resamples of some values of the whole data set; {AGAIN}."
        elif _differs(run, metric, stored):
            yield (
                f"{title}: values of the whole data set were computed from other images or methods than the records "
                f"hold; {AGAIN}."
            )


def common_values(run: RunFolder, setting: Setting, metric: str) -> pd.DataFrame:
    """The values on the images that all methods of the run have: columns method, common_value, common_images.

    Empty where every method has the same images, so that these values are the methods' own.
    """
    stored = rows_at(run.whole_set, setting)
    stored = stored[(stored["metric"] == metric) & (stored["images"] > 0)]
    if (stored["common_images"] == stored["images"]).all():
        stored = stored[:0]
    return stored[["method", "common_value", "common_images"]]


def _differs(run: RunFolder, metric: str, stored: pd.DataFrame) -> bool:
    """Whether a value is stored twice, stands on another number of images, or has other common images than the rest."""
    if stored.duplicated(KEYS).any():
        return True
    with_images = stored[stored["images"] > 0]
    if (with_images.groupby(KEYS[:3])["common_images"].nunique() > 1).any():
        return True
    of_images = run.records["image_id"] != WHOLE_SET
    single = run.records[(run.records["metric"] == run.stands_on[metric]) & of_images]
    single = single.assign(metric=metric)
    images = single[single["status"] == OK].groupby(KEYS, observed=True)["image_id"].nunique()
    known = pd.MultiIndex.from_frame(stored[KEYS].astype(object))
    counted = pd.Series(stored["images"].to_numpy(), index=known)
    beside = counted.reindex(images.index.map(lambda key: tuple(map(str, key))))
    return bool((beside.to_numpy() != images.to_numpy())[beside.notna().to_numpy()].any())
