"""How sure a value of the whole data set is: its standard error by the bootstrap, from the curves beside the records.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993: as many images as there are, drawn with replacement, again
and again; the spread of the value over these resamples is its standard error (their algorithm 6.1).
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, whole_set_value_names
from axiom_bench.evaluation.whole_set import aggregate, named, stacked
from axiom_bench.records import reading
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Setting
from axiom_bench.report.summary import KEYS

Floats = NDArray[np.float64]
RESAMPLES = 200  # more are seldom needed for a standard error (ibid., 6.4)
SEED = 0  # the same for all methods, so that those with the same images are seen on the same resamples
NOTE = (
    f"The standard error of a value of the whole data set is its standard deviation over {RESAMPLES} resamples of the "
    "images (bootstrap), all rows of an image together."
)


def with_standard_errors(run: RunFolder, summary: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The summary with the standard errors of values of the whole data set, and a sentence for each metric without.

    A metric whose aggregate can't be run any more has none: a report needs no code of a user's own.
    Raises BenchError for a file of curves that can't be read.
    """
    entries = {name: dict(entry) for name, entry in (run.config.get("metric") or {}).items() if "aggregate" in entry}
    found: list[tuple[Any, ...]] = []
    problems: dict[str, str] = {}
    for setting, method, curves in _curves(run) if entries else ():
        for name, entry in entries.items():
            try:
                errors = standard_errors(plugins.from_config("metric", name, entry), curves)
            except BenchError as error:
                problems[name] = f"{name}: the whole data set's values have no standard error. {error}"
            else:
                found += [(*setting, method, value, True, error) for value, error in errors.items()]
    return _joined(summary, pd.DataFrame(found, columns=[*KEYS, "found"])), tuple(problems.values())


def standard_errors(metric: Plugin, curves: pd.DataFrame) -> dict[str, float]:
    """{value name: standard error} of one method's values of the whole data set; NaN for fewer than two images.

    curves: see `whole_set`, all images of one model, layer and method; only rows with status "ok" count.
    Raises BenchError where the aggregate can't be imported or doesn't return its values.
    """
    names = list(metric.spec.curves)
    own = curves[(curves["status"] == OK) & curves["curve"].isin(names)]
    arrays = dict(stacked(own, names))
    ids = [own.loc[own["curve"] == name, "image_id"].to_numpy() for name in arrays]
    if any(not np.array_equal(one, ids[0]) for one in ids):
        raise BenchError(f"The curves of {metric.name!r} aren't of the same rows.")
    images, place = np.unique(ids[0], return_inverse=True) if ids else (np.empty(0), np.empty(0))
    if len(images) < 2:
        return dict.fromkeys(whole_set_value_names(metric), np.nan)
    found = _values(metric, arrays, _draws(len(images))[:, place])
    return {name: float(np.std(values, ddof=1)) for name, values in found.items()}


def _joined(summary: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """The summary with the errors that were found for values that are known."""
    if errors.empty:
        return summary
    beside = summary[list(KEYS)].merge(errors, on=list(KEYS), how="left")["found"].set_axis(summary.index)
    return summary.assign(
        standard_error=summary["standard_error"].mask(beside.notna() & summary["mean"].notna(), beside)
    )


def _draws(images: int) -> Floats:
    """(RESAMPLES, images): how often each image is drawn."""
    drawn = np.random.default_rng(SEED).integers(images, size=(RESAMPLES, images))
    of_resample = images * np.arange(RESAMPLES)[:, None]
    counts = np.bincount((drawn + of_resample).ravel(), minlength=RESAMPLES * images)
    return counts.reshape(RESAMPLES, images).astype(np.float64)


def _values(metric: Plugin, arrays: Mapping[str, Floats], counts: Floats) -> dict[str, Floats]:
    """{value name: (R,)} of the rows drawn counts (R, n) times each: all at once where the aggregate takes `counts`."""
    call = aggregate(metric)
    if "counts" in inspect.signature(call.call).parameters:
        return dict(named(metric, replace(call, call=partial(call.call, counts=counts))(arrays)))
    answers = [
        named(metric, call({name: points.repeat(row, axis=0) for name, points in arrays.items()}))
        for row in counts.astype(int)
    ]
    return {name: np.array([answer[name] for answer in answers]) for name in whole_set_value_names(metric)}


def _curves(run: RunFolder) -> Iterator[tuple[Setting, str, pd.DataFrame]]:
    """The curves of each setting and method, one method at a time: those of all together may be gigabytes."""
    for method in (METHOD_FREE, *(run.manifest.get("methods") or {})):
        tables: dict[Setting, list[pd.DataFrame]] = defaultdict(list)
        for part in reading.read_curves(run.path, run.manifest, method=method):
            tables[Setting(part.model, part.layer, part.data)].append(part.table.to_pandas())
        for setting, own in tables.items():
            yield setting, method, pd.concat(own, ignore_index=True)
