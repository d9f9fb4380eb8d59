"""Texts of figures: how many images and rows (an image and an explained class) one stands on, or why it is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from axiom_bench.statistics.numbers import counts_text
from axiom_bench.statistics.run_folder import RunFolder


def counts_of(rows: pd.DataFrame) -> str:
    """ "n = 64 images, 124 rows" of all these rows."""
    return counts_text([rows["image_id"].nunique()], [len(rows)])


def counts_by(rows: pd.DataFrame, by: Sequence[str]) -> str:
    """ "n = 60 to 64 images, 112 to 120 rows": the fewest and the most of the groups of rows."""
    groups = rows.groupby(list(by), observed=True)
    image = pd.factorize(rows["image_id"])[0].astype(np.int64)
    many = image.max(initial=0) + 1
    pairs = pd.unique(groups.ngroup().to_numpy() * many + image)  # groups with their images, in a quarter of the time
    return counts_text(np.bincount(pairs // many), groups.size())


def not_measured(run: RunFolder, metric: str, needs: str = "") -> str:
    """Why a metric has no value, and the settings that bring it. needs: those beside the metric itself, in words."""
    entries = run.manifest.get("metrics") or {}
    values = {name for name, entry in entries.items() if (entry or {}).get("metric") == metric} | {metric}
    statuses = Counter(run.records.counts(values)) + Counter(run.class_records.counts(values))
    also = f"; {needs}" if needs else ""
    if not statuses:
        return f"This run doesn't measure {metric}: add it with metric=[...,{metric}]{also}."
    counts = ", ".join(f"{status} {count}" for status, count in statuses.most_common())
    return f"No row of {metric} has status ok ({counts}){also}."
