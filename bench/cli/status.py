"""`axiom-bench status`: what of a run is done, goes on and has failed, from its folder alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from axiom_bench.records import reading, running


def status(folder: Path) -> Iterator[str]:
    """Lines. Raises BenchError for a folder that holds no run."""
    manifest = reading.read_manifest(folder)
    sentences = running.sentences(manifest)
    if manifest.get("state") == running.RUNNING:
        yield f"{folder}: {running.holder(folder)}."
    yield from sentences or [f"{folder} is done: its last command ended on {manifest['created']}."]
    if not sentences:
        yield from (f"{job['job']}: {job['images']:,} images." for job in manifest.get("jobs") or ())
    yield from (f"failed: {failure['job']}: {failure['message']}" for failure in manifest.get("failures") or ())
