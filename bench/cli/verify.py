"""`axiom-bench verify`: recompute a seeded sample of a run in fresh processes and compare it with
the run, so that nobody has to trust values that somebody else has stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from axiom_bench.cli.trust import trusted_settings
from axiom_bench.columns import WHOLE_SET
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.gate.compare import (
    AFTER_SUFFIX,
    IMAGE_KEY,
    Limit,
    Rules,
    SameBits,
    before_and_after,
    compare,
    tolerance,
)
from axiom_bench.records import artefacts, reading, running
from axiom_bench.records.entries import Manifest
from axiom_bench.records.sources import version_of
from axiom_bench.run.manifest import hardware
from axiom_bench.run.progress import progress
from axiom_bench.run.verification import recomputed
from axiom_bench.statistics.labels import Metadata

MAX_LINES = 20
CLOSE = 1e-3  # share of a metric's largest value: float32 drops are rounded to about 1e-4
# Share of a sample's values that may differ: rounding may change a hit or a rank, after which a
# value jumps.
FEW_OFF = 0.1
IMAGE = ["model", "layer", "data", "image_id"]


def _rounding(rows: pd.DataFrame) -> list[Limit]:
    largest = np.nan_to_num(np.abs(before_and_after(rows, "value"))).max()
    return [Limit("value", CLOSE * largest, relative=False)]


BIT_BY_BIT = Rules(IMAGE_KEY, lambda _: [SameBits("value")], equal=("status",), join="outer")
NEARLY_SAME = replace(BIT_BY_BIT, limits=_rounding)


def new_seed() -> int:
    """Return a seed from the operating system, so that nobody knows it before it is printed."""
    return secrets.randbits(64)


def first_lines(lines: Sequence[str]) -> list[str]:
    """Return the first MAX_LINES lines, and a line that counts the others."""
    more = [f"... and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    return [*lines[:MAX_LINES], *more]


def verify(folder: Path, seed: int | None = None, trust: bool = False) -> tuple[int, list[str]]:
    """Recompute 10 % of a run's images, at least three per job, and compare their values with the
    run's.

    Values must agree bit by bit. On other hardware, or with other libraries, means and medians must
    agree within the gate's tolerances. The verdict is kept in the manifest.

    Args:
        folder: The run folder.
        seed: The seed of the sample; `None` draws a new one.
        trust: Run code and read files that the run's configuration names.

    Returns:
        The exit code, 1 if something differs, and lines that list the differences.

    Raises:
        BenchError: For a run that hasn't ended, several runs combined, a job that can't be run
            here, and as `trusted_settings` does.
    """
    run = reading.read_manifest(folder)
    seed = new_seed() if seed is None else seed
    running.check_ended(folder, run)
    if run.is_combined:
        raise BenchError(f"{folder} combines several runs; verify each of them.")
    # a job that failed before its settings were composed has none
    configs = [job.config.model_dump() for job in run.jobs]
    settings_of_jobs = [trusted_settings(config, trust) for config in configs if config]
    if not settings_of_jobs:
        raise BenchError(f"{folder} has no finished job to verify; run the same command again.")
    parts = []
    for settings in settings_of_jobs:
        with progress(f"{settings.model['name']} of {folder}: recomputing a sample"):
            parts.append(recomputed(settings, seed))
    now = pd.concat(parts, ignore_index=True)
    way, lines = compare_with_stored(reading.read_records(folder, run), now, run, Metadata(run))
    images = len(now.drop_duplicates(IMAGE))
    verdict = {
        "values": len(now),
        "images": images,
        "seed": seed,
        "compared": way,
        "differing": len(lines),
    }
    verdict["at"] = datetime.now(UTC).isoformat(timespec="seconds")
    # The manifest is read again: other commands may have written to it in the meantime.
    manifest = artefacts.read(folder).model_copy(update={"verified": verdict})
    artefacts.write(folder, manifest)
    summary = (
        f"{plural(len(now), 'value')} of {plural(images, 'image')} (seed {seed}) "
        f"{verb(len(now), 'was', 'were')} computed again and compared {way}"
    )
    if not lines:
        return 0, [f"{summary}: all are the same."]
    advice = (
        "What was stored isn't what the same command computes: delete the run folder, and run it "
        "again."
    )
    return 1, [
        f"{summary}: {plural(len(lines), 'metric')} of methods "
        f"{verb(len(lines), 'differs', 'differ')}.",
        *first_lines(lines),
        advice,
    ]


def compare_with_stored(
    stored: pd.DataFrame, now: pd.DataFrame, run: Manifest, metadata: Metadata
) -> tuple[str, list[str]]:
    """Compare stored values with the values in `now` of the same images.

    Args:
        stored: The stored values.
        now: The values that were computed now.
        run: The manifest of the stored values, which says where they were computed.
        metadata: The metadata of the metrics, with their tolerances.

    Returns:
        How the values were compared, and a line for each metric of a method that differs.
    """
    is_here = run.device == "cpu" or (run.device == "cuda" and torch.cuda.is_available())
    is_same_machine = is_here and run.hardware == hardware(torch.device(str(run.device)))
    has_threads = run.threads in (None, torch.get_num_threads())
    has_versions = all(version_of(name) == value for name, value in run.versions.items())
    if is_same_machine and has_threads and has_versions:
        return "bit by bit", list(different_values(stored, now))
    way = (
        "within the gate's tolerances, since hardware, libraries or the number of threads are "
        "others"
    )
    return way, list(moved_statistics(stored, now, metadata))


def different_values(
    stored: pd.DataFrame, now: pd.DataFrame, up_to_rounding: bool = False
) -> Iterator[str]:
    """Yield a line for each metric of a method with a value that isn't the same bit by bit.

    Args:
        stored: The stored values.
        now: The values that were computed now; only their images are compared.
        up_to_rounding: Yield a line only if several values, and more than the share FEW_OFF, are
            further apart than rounding explains.
    """
    rules = NEARLY_SAME if up_to_rounding else BIT_BY_BIT
    for difference in compare(*_sampled(stored, now), rules):
        rows = difference.rows
        different = rows[difference.differs.any(axis=1)]
        allowed = 0
        if up_to_rounding:
            # one value of three or more may be off, and a share of many
            least = 1 if len(rows) > 2 else 0
            allowed = max(least, int(FEW_OFF * len(rows)))
        if len(different) > allowed:
            first = different.iloc[0]
            was = _text(first["value"], first["status"])
            is_now = _text(first[f"value{AFTER_SUFFIX}"], first[f"status{AFTER_SUFFIX}"])
            yield (
                f"{difference.place_text} differs in {len(different)} of {len(rows)} values; of "
                f"image {first['image_id']}, class {first['target_class']}, it was {was} and is "
                f"{is_now}"
            )


def _sampled(stored: pd.DataFrame, now: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the stored values of the images in `now`, and `now`."""
    text = dict.fromkeys(IMAGE, str)
    images = pd.MultiIndex.from_frame(now[IMAGE].astype(text).drop_duplicates())
    is_sampled = pd.MultiIndex.from_frame(stored[IMAGE].astype(text)).isin(images)
    return stored[is_sampled & (stored["image_id"] != WHOLE_SET)], now


def _text(value: float, status: object) -> str:
    if not isinstance(status, str):
        return "absent"
    return f"{value:.9g}" if status == "ok" else status


def moved_statistics(stored: pd.DataFrame, now: pd.DataFrame, metadata: Metadata) -> Iterator[str]:
    """Yield a line for each statistic of the sample that isn't within the tolerance of its
    metric.
    """
    for difference in compare(*_sampled(stored, now), BIT_BY_BIT):
        rows = difference.rows
        stored_values = rows.loc[rows["status"] == "ok", "value"]
        new_values = rows.loc[rows[f"status{AFTER_SUFFIX}"] == "ok", f"value{AFTER_SUFFIX}"]
        metric = difference.place[-1]
        text = metadata.value(metric).tolerance
        if len(stored_values) != len(new_values):
            counts = f"had {plural(len(stored_values), 'value')} and has {len(new_values)}"
            yield f"{difference.place_text} {counts}"
        if not text or stored_values.empty or new_values.empty:
            continue
        for limit in tolerance(text, metric):
            before = float(stored_values.agg(limit.statistic))
            after = float(new_values.agg(limit.statistic))
            if not limit.holds(before, after):
                yield (
                    f"{difference.place_text}: the sample's {limit.statistic} was {before:.6g} "
                    f"and is {after:.6g} (allowed {limit})"
                )
