"""What can't be combined: one name with two meanings, and two different values of one measurement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.columns import LAYER, WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.records import reading
from axiom_bench.records.holdings import Values

# A float32 value may differ by this, absolute for values up to 1 and relative above, between devices and batch sizes.
SAME = 1e-5
KEY = ("image_id", "target_class", "method", "metric")
OF_A_MODEL = ("weights_sha256", "output")
OF_ITS_CONFIG = ("architecture", "kwargs", "resize", "crop", "mean", "std", "interpolation", "reshape")
OF_EXPLAINING = ("target", "normalise")
Run = tuple[Path, Mapping[str, Any]]  # a run folder and its manifest
Fact = tuple[str, str, object]  # what it is of, the name of the fact, its value


def check_names(runs: Sequence[Run]) -> None:
    """Raises BenchError where two runs have another model, data set, method or metric under one name."""
    known: dict[tuple[str, str], tuple[Path, object]] = {}
    for folder, manifest in runs:
        for thing, name, value in _facts(manifest):
            other, before = known.setdefault((thing, name), (folder, value))
            if before != value:
                raise BenchError(
                    f"{thing} has another {name} in {folder} ({_short(value)}) than in {other} ({_short(before)}); "
                    "run one of them again under a name of its own, or leave it out."
                )


def check_values(first: tuple[Run, Mapping[str, Any]], second: tuple[Run, Mapping[str, Any]], same: Values) -> None:
    """Raises BenchError where two runs' jobs of one model, layer and data set disagree in a value.

    same: the values that both jobs have. Values that differ by less than SAME are equal; NaN equals NaN of one status.
    """
    rows = [_values(run, job, same) for run, job in (first, second)]
    if not any(map(len, rows)):
        return
    columns = [*KEY, "value", "status"]
    both = rows[0][columns].merge(rows[1][columns], on=list(KEY), how="outer", suffixes=("_1", "_2"), indicator=True)
    close = np.isclose(both["value_1"], both["value_2"], rtol=SAME, atol=SAME, equal_nan=True)
    differing = both[~close | (both["status_1"] != both["status_2"])]
    if differing.empty:
        return
    row, folders = differing.iloc[0], (first[0][0], second[0][0])
    of_image = f"image {row['image_id']}, class {row['target_class']}"
    what = "the whole data set" if row["image_id"] == WHOLE_SET else of_image
    of_method = "" if row["method"] == LAYER else f" of {row['method']}"
    found = [
        f"{row[f'value_{i}']:.6g} ({row[f'status_{i}']})" if isinstance(row[f"status_{i}"], str) else "no value"
        for i in (1, 2)
    ]
    more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
    raise BenchError(
        f"Two values of {row['metric']}{of_method}, {first[1]['job']}, "
        f"{what}: {found[0]} in {folders[0]} and {found[1]} in {folders[1]}{more}; leave one of the runs out, or the "
        "method or metric out of one."
    )


def _facts(manifest: Mapping[str, Any]) -> Iterator[Fact]:
    for name, model in (manifest.get("models") or {}).items():
        yield from ((f"The model {name}", key, model.get(key)) for key in OF_A_MODEL)
    for name, data in (manifest.get("data") or {}).items():
        yield f"The data set {name}", "fingerprint", data.get("fingerprint")
    for name, method in (manifest.get("methods") or {}).items():
        yield from ((f"The method {name}", key, method.get(key)) for key in ("target", "params"))
    for job in manifest.get("jobs") or ():
        config = job.get("config") or {}
        model, data = config.get("model") or {}, (config.get("data") or {}).get("name")
        yield from ((f"The model {model.get('name')}", key, model.get(key)) for key in OF_ITS_CONFIG)
        yield from ((f"The data set {data}", key, config.get(key)) for key in OF_EXPLAINING)
        for name, metric in (config.get("metric") or {}).items():
            yield from ((f"The metric {name}", key, metric.get(key)) for key in ("_target_", "params"))


def _values(run: Run, job: Mapping[str, Any], same: Values) -> pd.DataFrame:
    """The rows of these values, of images and of the whole data set."""
    folder, manifest = run
    own = {method: {metric: job["values"][method][metric] for metric in metrics} for method, metrics in same.items()}
    images = reading.read_records(
        folder, {"experiment": "", "jobs": [{"records": job.get("records"), "values": own}]}
    ).astype(dict.fromkeys(("method", "metric", "status"), str))
    place = images[list(reading.PLACE)].drop_duplicates().astype(str)
    stored = reading.read_whole_set(folder, manifest).merge(place, on=list(reading.PLACE))
    stored = stored[stored["method"].isin(list(same)) & stored["metric"].isin(_names(manifest, same))]
    both = pd.concat([images, stored.assign(image_id=WHOLE_SET, target_class=-1)], ignore_index=True)
    return both.astype({"value": float})


def _names(manifest: Mapping[str, Any], same: Values) -> list[str]:
    """The names of all values of the metrics."""
    metrics: Iterable[str] = {metric for own in same.values() for metric in own}
    entries = manifest.get("metrics") or {}
    return [name for name, about in entries.items() if about.get("metric", name) in metrics]


def _short(value: object, most: int = 40) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."
