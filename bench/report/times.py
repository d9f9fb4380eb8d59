"""Run time from runtime.parquet: the trace and each method apart."""

from __future__ import annotations

import pandas as pd

from axiom_bench.report.run_folder import RunFolder, Setting

TRACE = "-"


def milliseconds(run: RunFolder, setting: Setting) -> pd.Series:
    """ms an image by method, beyond the trace; the trace itself as TRACE. Empty where nothing was timed."""
    rows = run.runtime
    here = rows[(rows.model == setting.model) & (rows.layer == setting.layer) & (rows.data == setting.data)]
    here = here[here["step"].isin(["trace", "method"])]
    names = here["method"].astype(str).where(here["step"] == "method", TRACE)
    return here.groupby(names)["milliseconds_per_image"].median()
