"""Run times by method: the trace and each method apart."""

from __future__ import annotations

import pandas as pd

from axiom_bench.columns import LAYER
from axiom_bench.statistics.metadata import Setting, rows_at
from axiom_bench.statistics.run_folder import RunFolder

TRACE = LAYER


def milliseconds(run: RunFolder, setting: Setting) -> pd.Series:
    """ms an image by method, beyond the trace; the trace itself as TRACE. Empty where nothing was timed."""
    rows = rows_at(run.runtime, setting)
    rows = rows[rows["step"].isin(["trace", "method"])]
    names = rows["method"].astype(str).where(rows["step"] == "method", TRACE)
    return rows.groupby(names)["milliseconds_per_image"].median()
