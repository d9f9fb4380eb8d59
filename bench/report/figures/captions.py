"""Counts for captions: how many images, and how many rows (an image and an explained class), a figure stands on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from axiom_bench.report.numbers import counts_text


def counts_of(rows: pd.DataFrame) -> str:
    """ "n = 64 images, 124 rows" of all these rows."""
    return counts_text([rows["image_id"].nunique()], [len(rows)])


def counts_by(rows: pd.DataFrame, by: Sequence[str]) -> str:
    """ "n = 60 to 64 images, 112 to 120 rows": the fewest and the most of the groups of rows."""
    groups = rows.groupby(list(by), observed=True)["image_id"].agg(["nunique", "size"])
    return counts_text(groups["nunique"], groups["size"])
