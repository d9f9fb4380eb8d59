"""Hashes of image files, kept in the run folder, so that a second run over the same images needn't read them."""

from __future__ import annotations

import json
from pathlib import Path

from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.records import files
from axiom_bench.records.keys import key
from axiom_bench.run.job import Job

NAME = "image_hashes.json"


def read(folder: Path) -> FileHashes:
    """The hashes that the folder keeps; none where there are none, or the file is damaged."""
    try:
        content = json.loads((folder / NAME).read_bytes())
        hashes = content["files"] if content["sha256"] == key(files=content["files"]) else {}
    except (OSError, ValueError, KeyError, TypeError):
        hashes = {}
    return FileHashes(hashes)


def keep(job: Job, folder: Path) -> None:
    """Hashes the job's images and keeps what is new for the next run.

    Of two processes that write at once the last one's file stays, and the images that only the other hashed are read
    again by the next run. Raises BenchError where the folder can't be written.
    """
    hashes = job.hashes
    if job.contents and hashes.current.items() - hashes.cached.items():
        entries = {**hashes.cached, **hashes.current}
        files.write(folder / NAME, json.dumps({"sha256": key(files=entries), "files": entries}).encode())
