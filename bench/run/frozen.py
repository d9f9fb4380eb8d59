"""Compare a job with the network, images and metrics that its suite froze.

A value of `suite=NAME` is comparable with the published ones only if all three are the same, so a
worker refuses a job that differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from axiom_bench.errors import BenchError, plural
from axiom_bench.run.composing.suites import HASH_DIGITS, Suite
from axiom_bench.run.job import Job


def check(name: str, job: Job, metrics: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Compare a job with its suite. Return sentences for the manifest: the suite's note, and what
    it didn't freeze.

    Args:
        name: SUITE/PART@HASH.
        job: The job, on its images to explain.
        metrics: The entries of the metrics in the configuration.

    Raises:
        BenchError: If the job differs from what its suite froze.
    """
    suite, _, part = name.partition("@")[0].partition("/")
    suite_part = Suite.of(suite).part(part)
    frozen = suite_part.frozen
    notes = [suite_part.note.rstrip(".")] if suite_part.note else []
    if not frozen:
        return notes
    differing = []
    # A network that the suite doesn't know has no layer here, so it differs.
    layer, weights = frozen["models"].get(job.model.name) or (None, "")
    if job.model.layer != layer or not job.model.weights_sha256.startswith(weights):
        differing.append(f"the network {job.model.name} (its layer or weights)")
    if "data" in frozen and job.data_fingerprint != frozen["data"].get(job.data.name):
        differing.append(f"the images of {job.data.name} (their ids, content or labels)")
    if "data" not in frozen:
        frozen_names = frozen["names"][job.data.name]
        if image_names_digest(job) != frozen_names:
            count = frozen_names[0]
            differing.append(
                f"the names of {job.data.name}'s {plural(len(job.indices), 'image')} (the suite "
                f"has {count:,})"
            )
    calls = metric_calls(metrics)
    frozen_calls = frozen["metrics"]
    metric_names = sorted({*calls, *frozen_calls})
    differing_metrics = [name for name in metric_names if calls.get(name) != frozen_calls.get(name)]
    if differing_metrics:
        differing.append(
            f"the metrics {', '.join(differing_metrics)} (their function or parameters)"
        )
    if differing:
        raise BenchError(
            f"{job.name} differs from what the suite {suite} froze: {'; '.join(differing)}. Its "
            "values can't be compared with the published ones; get the files that conf/suite/ "
            "describes, or run it without suite=."
        )
    if "data" in frozen:
        return notes
    return [
        *notes,
        f"the suite {suite} has the names of {job.data.name}'s images, not their content and "
        "labels, which weren't compared: two runs had the same ones if their fingerprints are the "
        f"same, here {job.data_fingerprint[:HASH_DIGITS]}",
    ]


def image_names_digest(job: Job) -> list[object]:
    """Return [number, SHA-256 of the names] of the job's images, as a suite's file has it.

    Names have no folder and no suffix, since these differ between layouts of the same data set.
    """
    names = sorted(PurePosixPath(job.data.ids[index]).stem for index in job.indices)
    return [len(names), hashlib.sha256("\n".join(names).encode()).hexdigest()]


def metric_calls(metrics: Mapping[str, Mapping[str, object]]) -> dict[str, list[object]]:
    """Return {metric: [target, params]}, the part of the metrics' entries that decides what they
    compute.
    """
    calls: dict[str, list[object]] = {}
    for name, entry in metrics.items():
        params = entry.get("params") or {}
        assert isinstance(params, Mapping)
        calls[name] = [entry["_target_"], dict(params)]
    return calls
