"""`axiom-bench verify`: a seeded sample of a run, recomputed from scratch in fresh processes and
compared.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from axiom_bench.cli.trust import trusted
from axiom_bench.columns import WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.gate.compare import BY_IMAGE, NOW, Limit, Rules, SameBits, both, compare, tolerance
from axiom_bench.records import artefacts, reading, running
from axiom_bench.records.entries import Manifest
from axiom_bench.records.sources import version_of
from axiom_bench.run.manifest import hardware
from axiom_bench.run.progress import progress
from axiom_bench.run.verification import recomputed
from axiom_bench.statistics.labels import Metadata

MAX_LINES = 20
CLOSE = 1e-3  # of a metric's largest value: float32 drops are rounded to about 1e-4
# of a sample's values: rounding may turn a hit or a rank, on which a value depends by leaps
FEW_OFF = 0.1
IMAGE = ["model", "layer", "data", "image_id"]


def _rounding(rows: pd.DataFrame) -> list[Limit]:
    largest = np.nan_to_num(np.abs(both(rows, "value"))).max()
    return [Limit("value", CLOSE * largest, relative=False)]


BIT_BY_BIT = Rules(BY_IMAGE, lambda _: [SameBits("value")], equal=("status",), join="outer")
NEARLY_SAME = replace(BIT_BY_BIT, limits=_rounding)


def new_seed() -> int:
    """Of the system, so that it isn't known before it is printed."""
    return secrets.randbits(64)


def first_lines(lines: Sequence[str]) -> list[str]:
    """MAX_LINES of them, and how many more there are."""
    more = [f"... and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    return [*lines[:MAX_LINES], *more]


def verify(folder: Path, seed: int | None = None, trust: bool = False) -> tuple[int, list[str]]:
    """Compares 10 % of a run's images, at least three a job, bit by bit with values that are
    computed now; on other hardware, or with other libraries, means and medians within the gate's
    tolerances.

    seed: of the sample; None: a new one. trust: code that the run names is run, and files that it
    names are read. The verdict is kept in the manifest. Returns the exit code, 1 where something
    differs, and lines that name it. Raises BenchError for a run that hasn't ended, several runs
    combined, a job that can't be run here, and as `trusted`.
    """
    run, seed = reading.read_manifest(folder), new_seed() if seed is None else seed
    running.check_ended(folder, run)
    if run.is_combined:
        raise BenchError(f"{folder} combines several runs; verify each of them.")
    settings_of_jobs = [trusted(job.config.model_dump(), trust) for job in run.jobs]
    if not run.jobs:
        raise BenchError(f"{folder} has no finished job to verify; run the same command again.")
    parts = []
    for settings in settings_of_jobs:
        with progress(f"{settings.model['name']} of {folder}: a sample, computed anew"):
            parts.append(recomputed(settings, seed))
    now = pd.concat(parts, ignore_index=True)
    way, lines = compared(reading.read_records(folder, run), now, run, Metadata(run))
    images = len(now.drop_duplicates(IMAGE))
    verdict = {
        "values": len(now),
        "images": images,
        "seed": seed,
        "compared": way,
        "differing": len(lines),
    }
    when = datetime.now(UTC).isoformat(timespec="seconds")
    artefacts.write(
        folder, artefacts.read(folder).model_copy(update={"verified": {**verdict, "at": when}})
    )
    what = (
        f"{len(now):,} values of {images} images (seed {seed}) were computed anew and compared "
        f"{way}"
    )
    if not lines:
        return 0, [f"{what}: all are the same."]
    advice = (
        "What was stored isn't what the same command computes: delete the run folder, and run it "
        "again."
    )
    return 1, [f"{what}: {len(lines)} metrics of methods differ.", *first_lines(lines), advice]


def compared(
    stored: pd.DataFrame, now: pd.DataFrame, run: Manifest, metadata: Metadata
) -> tuple[str, list[str]]:
    """How the stored values of the images in `now` are compared with those, and a line for each
    metric of a method that differs. run: the manifest of the stored values, which says where they
    were computed. metadata: with tolerances.
    """
    is_here = run.device == "cpu" or (run.device == "cuda" and torch.cuda.is_available())
    is_same_machine = is_here and run.hardware == hardware(torch.device(run.device))
    has_threads = run.threads in (None, torch.get_num_threads())
    if (
        is_same_machine
        and has_threads
        and all(version_of(name) == value for name, value in run.versions.items())
    ):
        return "bit by bit", list(differing(stored, now))
    way = (
        "within the gate's tolerances, since hardware, libraries or the number of threads are "
        "others"
    )
    return way, list(moved(stored, now, metadata))


def differing(
    stored: pd.DataFrame, now: pd.DataFrame, up_to_rounding: bool = False
) -> Iterator[str]:
    """A line for each metric of a method with a value that isn't the same, bit by bit, of the
    images in `now`. up_to_rounding: with more than one, and more than FEW_OFF, that are further
    apart than rounding makes them.
    """
    for difference in compare(
        *_sampled(stored, now), NEARLY_SAME if up_to_rounding else BIT_BY_BIT
    ):
        rows = difference.rows
        off = rows[difference.differs.any(axis=1)]
        few = max(len(rows) > 2, int(FEW_OFF * len(rows))) if up_to_rounding else 0
        if len(off) > few:
            first = off.iloc[0]
            was, is_now = (_text(first[f"value{end}"], first[f"status{end}"]) for end in ("", NOW))
            yield (
                f"{difference.where} differs in {len(off)} of {len(rows)} values; of image "
                f"{first['image_id']}, class {first['target_class']}, it was {was} and is {is_now}"
            )


def _sampled(stored: pd.DataFrame, now: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the stored values of the images in `now`, and `now`."""
    text = dict.fromkeys(IMAGE, str)
    images = pd.MultiIndex.from_frame(now[IMAGE].astype(text).drop_duplicates())
    is_sampled = pd.MultiIndex.from_frame(stored[IMAGE].astype(text)).isin(images)
    return stored[is_sampled & (stored["image_id"] != WHOLE_SET)], now


def _text(value: float, status: Any) -> str:
    if not isinstance(status, str):
        return "absent"
    return f"{value:.9g}" if status == "ok" else status


def moved(stored: pd.DataFrame, now: pd.DataFrame, metadata: Metadata) -> Iterator[str]:
    """A line for each statistic of the sample that isn't within the tolerance of a metric that has
    one.
    """
    for difference in compare(*_sampled(stored, now), BIT_BY_BIT):
        rows = difference.rows
        then, again = (rows.loc[rows[f"status{end}"] == "ok", f"value{end}"] for end in ("", NOW))
        metric = difference.place[-1]
        text = metadata.value(metric).tolerance
        if len(then) != len(again):
            yield f"{difference.where} had {len(then)} values and has {len(again)}"
        for limit in tolerance(text, metric) if text and len(then) and len(again) else ():
            before, after = (float(values.agg(limit.statistic)) for values in (then, again))
            if not limit.holds(before, after):
                yield (
                    f"{difference.where}: the sample's {limit.statistic} was {before:.6g} and is "
                    f"{after:.6g} (allowed {limit})"
                )
