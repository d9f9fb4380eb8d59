"""The network's accuracy in a baseline: of how many images it predicts a class that is explained.

The records have the predicted class of each row, by which a report tells correct rows from wrong ones; where it
changes, no metric's value does.
"""

from __future__ import annotations

import pandas as pd

from axiom_bench.columns import LAYER, UNKNOWN_CLASS
from axiom_bench.statistics.run_folder import RunFolder

NAME = "network accuracy"  # no metric's name has a space
PLACE = ["model", "layer", "data"]


def rows(run: RunFolder) -> pd.DataFrame:
    """A row for each model, layer and data set with the columns of a baseline, over the images whose classes are known.

    With target=predicted it is 1: the predicted class is the explained one.
    """
    columns = [*PLACE, "image_id", "target_class", "predicted_class"]
    explained = run.records.of_images[columns].drop_duplicates()
    target, predicted = explained["target_class"], explained["predicted_class"]
    known = explained.assign(correct=target == predicted)[(target > UNKNOWN_CLASS) & (predicted > UNKNOWN_CLASS)]
    images = known.groupby([*PLACE, "image_id"], observed=True)["correct"].any().astype(float).reset_index()
    table = images.groupby(PLACE, observed=True)["correct"].agg(n="count", mean="mean", median="median").reset_index()
    return table.astype(dict.fromkeys(PLACE, str)).assign(
        method=LAYER, metric=NAME, statuses="", tolerance="mean:0.005"
    )
