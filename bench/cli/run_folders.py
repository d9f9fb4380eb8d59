"""Run folders that a command line names, which may be in a store, as s3://bucket/results/quick/default."""

from __future__ import annotations

from pathlib import Path

from axiom_bench.errors import BenchError
from axiom_bench.records import remote


def run_folder(text: str) -> Path:
    """The folder of a run to read; of one in a store its mirror here, with what it needs. Raises BenchError."""
    if not remote.is_url(text):
        return remote.folder_of(text)
    from axiom_bench.records.mirror import fetched
    from axiom_bench.run.progress import progress

    with progress(f"fetching {text}"):
        return fetched(text)


def local_folder(text: str) -> Path:
    """A run folder of this machine. Raises BenchError for an URL."""
    if remote.is_url(text):
        raise BenchError(f"This works in a folder of this machine only, not in {text}.")
    return remote.folder_of(text)


def send(folder: Path) -> None:
    """What a command has written into a run folder goes to its store, if it has one. Raises BenchError."""
    if remote.url_of(folder) is not None:
        from axiom_bench.records.mirror import push

        push(folder)
