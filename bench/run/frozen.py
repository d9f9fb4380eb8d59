"""The comparison of a job with what its suite froze: network, images and metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.run.composing.suites import DIGITS, Suite
from axiom_bench.run.job import Job


def check(name: str, job: Job, metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return sentences for the manifest: the suite's note on the images, and what it didn't freeze.

    Args:
        name: SUITE/PART@HASH.
        job: The job, with its images.
        metrics: Their entries in the configuration.

    Raises:
        BenchError: If the job isn't what its suite froze.
    """
    suite, _, part = name.partition("@")[0].partition("/")
    frozen = Suite.of(suite).part(part).frozen
    note = Suite.of(suite).part(part).note
    notes = [note.rstrip(".")] if note else []
    if not frozen:
        return notes
    differing = []
    layer, weights = frozen["models"].get(job.model.name) or (None, "")
    if job.model.layer != layer or not job.model.weights_sha256.startswith(weights):
        differing.append(f"the network {job.model.name} (its layer or weights)")
    if "data" in frozen and job.data_fingerprint != frozen["data"].get(job.data.name):
        differing.append(f"the images of {job.data.name} (their ids, content or labels)")
    if "data" not in frozen and names_of(job) != (listed := frozen["names"][job.data.name]):
        differing.append(f"the names of {job.data.name}'s {len(job.indices):,} images (the suite has {listed[0]:,})")
    calls = calls_of(metrics)
    if names := sorted(name for name in {*calls, *frozen["metrics"]} if calls.get(name) != frozen["metrics"].get(name)):
        differing.append(f"the metrics {', '.join(names)} (their function or parameters)")
    if differing:
        raise BenchError(
            f"What {job.name} has isn't what the suite {suite} froze: {'; '.join(differing)}. Its values can't stand "
            "beside the published ones; get the files that conf/suite/ describes, or run it without suite=."
        )
    if "data" in frozen:
        return notes
    return [
        *notes,
        f"the suite {suite} has the names of {job.data.name}'s images, not their content and labels, which weren't "
        "compared: two runs had the same ones if their fingerprints are the same, here "
        f"{job.data_fingerprint[:DIGITS]}",
    ]


def names_of(job: Job) -> list[Any]:
    """[number, SHA-256 of the names] of the job's images, without folders and suffixes, by which layouts differ."""
    names = sorted(PurePosixPath(job.data.ids[index]).stem for index in job.indices)
    return [len(names), hashlib.sha256("\n".join(names).encode()).hexdigest()]


def calls_of(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{metric: [target, params]}, what of the metrics' entries decides what they compute."""
    return {name: [entry["_target_"], dict(entry.get("params") or {})] for name, entry in metrics.items()}
