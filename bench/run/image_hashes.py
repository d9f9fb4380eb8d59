"""Hashes of image files, kept in the run folder, so that a second run over the same images needn't read them."""

from __future__ import annotations

from pathlib import Path

from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.records import sealed
from axiom_bench.run.job import Job

NAME = "image_hashes.json"


def read(folder: Path) -> FileHashes:
    """The hashes that the folder keeps; none where there are none, or the file is damaged."""
    hashes = (sealed.read_or_none(folder / NAME) or {}).get("files")
    return FileHashes(hashes if isinstance(hashes, dict) else {})


def keep(job: Job, folder: Path) -> None:
    """Hashes the job's images and keeps what is new for the next run.

    Of two processes that write at once the last one's file stays, and the images that only the other hashed are read
    again by the next run. Raises BenchError where the folder can't be written.
    """
    hashes = job.hashes
    if job.contents and hashes.current.items() - hashes.cached.items():
        entries = {**hashes.cached, **hashes.current}
        sealed.write(folder / NAME, {"files": entries})
