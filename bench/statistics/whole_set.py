"""Values of whole data sets: whether those that a run stored belong to its records."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.statistics.run_folder import RunFolder

KEYS = ["model", "layer", "data", "method", "metric"]
AGAIN = "run the same command again to compute them"


def problems(run: RunFolder) -> Iterator[str]:
    """One sentence for each metric whose values of the whole data set have no error, or not of these records.

    That is so where records of several runs were combined, of other images or other methods, and where a run is older
    than its bootstrap. The report computes none of them: the run does.
    """
    in_records = run.records.where(run.records.of_whole_set).frame()[KEYS].astype(str)
    for metric in dict.fromkeys(in_records["metric"]):
        title = run.metadata.value(metric).title
        stored = run.whole_set[run.whole_set["metric"] == metric]
        wanted = pd.MultiIndex.from_frame(in_records[in_records["metric"] == metric]).drop_duplicates()
        if not wanted.isin(pd.MultiIndex.from_frame(stored[KEYS].astype(str))).all():
            yield f"{title}: the run stored no resamples of some values of the whole data set; {AGAIN}."
        elif _differs(run, metric, stored):
            yield (
                f"{title}: values of the whole data set were computed from other images or methods than the records "
                f"hold; {AGAIN}."
            )


def _differs(run: RunFolder, metric: str, stored: pd.DataFrame) -> bool:
    """Whether a value is stored twice, stands on another number of images, or has other common images than the rest."""
    if stored.duplicated(KEYS).any():
        return True
    compared = stored[stored["common_images"] > 0]
    if (compared.groupby(KEYS[:3])["common_images"].nunique() > 1).any():
        return True
    single = run.records.frame([run.image_value_of[metric]])
    single = single[single["image_id"] != WHOLE_SET].assign(metric=metric)
    images = single[single["status"] == OK].groupby(KEYS, observed=True)["image_id"].nunique()
    counted = pd.Series(stored["images"].to_numpy(), index=pd.MultiIndex.from_frame(stored[KEYS].astype(object)))
    expected = counted.reindex(images.index.map(lambda key: tuple(map(str, key))))
    return bool((expected.to_numpy() != images.to_numpy())[expected.notna().to_numpy()].any())
