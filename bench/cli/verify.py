"""`axiom-bench verify`: a seeded sample of a run, recomputed from scratch in fresh processes and compared."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from axiom_bench.cli.trust import trusted
from axiom_bench.columns import WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.gate.findings import tolerance
from axiom_bench.records import artefacts, reading, running
from axiom_bench.records.sources import version_of
from axiom_bench.run.manifest import hardware
from axiom_bench.run.progress import progress
from axiom_bench.run.verification import recomputed
from axiom_bench.statistics.labels import Metadata

MAX_LINES = 20
CLOSE = 1e-3  # of a metric's largest value: float32 drops are rounded to about 1e-4
LEAST = 1e-5  # below it is rounding
FEW_OFF = 0.1  # of a sample's values: rounding may turn a hit or a rank, on which a value depends by leaps
PLACE = ("model", "layer", "data")
KEY = [*PLACE, "method", "metric", "image_id", "target_class"]


def new_seed() -> int:
    """Of the system, so that it isn't known before it is printed."""
    return secrets.randbits(64)


def first_lines(lines: Sequence[str]) -> list[str]:
    """MAX_LINES of them, and how many more there are."""
    more = [f"... and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    return [*lines[:MAX_LINES], *more]


def verify(folder: Path, seed: int | None = None, trust: bool = False) -> tuple[int, list[str]]:
    """Compares 10 % of a run's images, at least three a job, bit by bit with values that are computed now; on other
    hardware, or with other libraries, means and medians within the gate's tolerances.

    seed: of the sample; None: a new one. trust: code that the run names is run, and files that it names are read. The
    verdict is kept in the manifest. Returns the exit code, 1 where something differs, and lines that name it. Raises
    BenchError for a run that hasn't ended, several runs combined, a job that can't be run here, and as `trusted`.
    """
    run, seed = reading.read_manifest(folder), new_seed() if seed is None else seed
    running.check_ended(folder, run)
    if reading.is_combined(run):
        raise BenchError(f"{folder} combines several runs; verify each of them.")
    jobs = run.get("jobs") or ()
    settings_of_jobs = [trusted(job.get("config") or {}, trust) for job in jobs]
    if not jobs:
        raise BenchError(f"{folder} has no finished job to verify; run the same command again.")
    parts = []
    for settings in settings_of_jobs:
        with progress(f"{settings.model['name']} of {folder}: a sample, computed anew"):
            parts.append(recomputed(settings, seed))
    now = pd.concat(parts, ignore_index=True)
    way, lines = compared(reading.read_records(folder, run), now, run, Metadata(run))
    images = len(now.drop_duplicates([*PLACE, "image_id"]))
    verdict = {"values": len(now), "images": images, "seed": seed, "compared": way, "differing": len(lines)}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    artefacts.write(folder, {**artefacts.read(folder), "verified": {**verdict, "at": when}})
    what = f"{len(now):,} values of {images} images (seed {seed}) were computed anew and compared {way}"
    if not lines:
        return 0, [f"{what}: all are the same."]
    advice = "What was stored isn't what the same command computes: delete the run folder, and run it again."
    return 1, [f"{what}: {len(lines)} metrics of methods differ.", *first_lines(lines), advice]


def compared(
    stored: pd.DataFrame, now: pd.DataFrame, run: Mapping[str, Any], metadata: Metadata
) -> tuple[str, list[str]]:
    """How the stored values of the images in `now` are compared with those, and a line for each metric of a method that
    differs. run: the manifest of the stored values, which says where they were computed. metadata: with tolerances."""
    is_here = run["device"] == "cpu" or (run["device"] == "cuda" and torch.cuda.is_available())
    is_same_machine = is_here and run.get("hardware") == hardware(torch.device(run["device"]))
    if is_same_machine and all(version_of(name) == value for name, value in run["versions"].items()):
        return "bit by bit", list(differing(stored, now))
    way = "within the gate's tolerances, since hardware or libraries are others"
    return way, list(moved(stored, now, metadata))


def differing(stored: pd.DataFrame, now: pd.DataFrame, up_to_rounding: bool = False) -> Iterator[str]:
    """A line for each metric of a method with a value that isn't the same, bit by bit, of the images in `now`.
    up_to_rounding: with more than one, and more than FEW_OFF, that are further apart than rounding makes them."""
    for what, _, rows in _pairs(stored, now):
        then, again = (rows[name].to_numpy(np.float64) for name in ("value", "value_now"))
        same = (then.view(np.int64) == again.view(np.int64)) | (np.isnan(then) & np.isnan(again))
        few = 0
        if up_to_rounding:
            largest = np.nan_to_num(np.abs([then, again])).max()
            same |= np.abs(then - again) <= max(CLOSE * largest, LEAST)
            few = max(len(rows) > 2, int(FEW_OFF * len(rows)))
        off = rows[~(same & (rows["status"] == rows["status_now"]).to_numpy())]
        for _, first in off.head(1 if len(off) > few else 0).iterrows():
            was, is_now = (_text(first[f"value{end}"], first[f"status{end}"]) for end in ("", "_now"))
            yield (
                f"{what} differs in {len(off)} of {len(rows)} values; of image {first['image_id']}, class "
                f"{first['target_class']}, it was {was} and is {is_now}"
            )


def _pairs(stored: pd.DataFrame, now: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(where and what it is, the metric, its rows) of each metric of each method. A row is a value of a sampled image
    that is stored or computed now, with value and status, then and now."""
    text = dict.fromkeys((*PLACE, "method", "metric", "image_id"), str)
    now = now.astype(text)
    stored = stored.astype(text)
    sampled = pd.MultiIndex.from_frame(now[[*PLACE, "image_id"]].drop_duplicates())
    stored = stored[pd.MultiIndex.from_frame(stored[[*PLACE, "image_id"]]).isin(sampled)]
    stored = stored[stored["image_id"] != WHOLE_SET]
    columns = [*KEY, "value", "status"]
    pairs = stored[columns].merge(now[columns], "outer", KEY, suffixes=("", "_now"), sort=True)
    for place, rows in pairs.groupby([*PLACE, "method", "metric"]):
        model, layer, data, method, metric = map(str, place)
        yield f"{model} at {layer} on {data}: {metric} of {method}", metric, rows


def _text(value: float, status: Any) -> str:
    if not isinstance(status, str):
        return "absent"
    return f"{value:.9g}" if status == "ok" else status


def moved(stored: pd.DataFrame, now: pd.DataFrame, metadata: Metadata) -> Iterator[str]:
    """A line for each statistic of the sample that isn't within the tolerance of a metric that has one."""
    for what, metric, rows in _pairs(stored, now):
        then, again = (rows.loc[rows[f"status{end}"] == "ok", f"value{end}"] for end in ("", "_now"))
        text = metadata.value(metric).tolerance
        if len(then) != len(again):
            yield f"{what} had {len(then)} values and has {len(again)}"
        for limit in tolerance(text, metric) if text and len(then) and len(again) else ():
            before, after = (float(values.agg(limit.statistic)) for values in (then, again))
            if not limit.holds(before, after):
                yield f"{what}: the sample's {limit.statistic} was {before:.6g} and is {after:.6g} (allowed {limit})"
