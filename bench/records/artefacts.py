"""What a run folder may hold: the one table of its kinds of files, and that none of them leads out of the folder.

A new kind of file is a row here, and the module that writes it: of one that is made for each job, a module with `STAGE`
and `ensure`, as `axiom_bench.run.computing.run_times` has them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from axiom_bench.errors import BenchError


class Artefact(NamedTuple):
    """place: a folder of the run folder, also the manifest's key of its files' names where these are an input of the
    report; or the name of a file. suffixes: of the folder's files. written_by, read_by: modules or rooms.

    store: "shard" is sent when a shard is done, and fetched with it; "once" is fetched where no file of its name and
    size is here, since its name decides what it holds; "fetched" is fetched; "sent" isn't; "here" is not even sent.
    stamp: whether a report is made from it, or makes it.
    """

    place: str
    suffixes: tuple[str, ...]
    written_by: str
    read_by: str
    store: Literal["shard", "once", "fetched", "sent", "here"]
    stamp: Literal["input", "output", ""] = ""


TABLE = (
    Artefact("records", ("parquet",), "axiom_bench.run.computing.stored", "records.reading", "shard", "input"),
    Artefact("curves", ("parquet",), "axiom_bench.run.computing.stored", "records.reading", "shard", "input"),
    Artefact("whole_set", ("parquet",), "axiom_bench.run.computing.whole_set", "records.reading", "fetched", "input"),
    Artefact("runtime", ("parquet",), "axiom_bench.run.computing.run_times", "records.reading", "fetched", "input"),
    Artefact("pictures", ("npz",), "axiom_bench.run.computing.pictures", "records.pictures", "fetched", "input"),
    Artefact("gallery", ("parquet",), "axiom_bench.run.computing.gallery", "records.pictures", "fetched", "input"),
    Artefact("predictions", ("json",), "axiom_bench.run.jobs.predictions", "run", "once"),
    Artefact("image_hashes.json", (), "axiom_bench.run.jobs.job", "run", "here"),
    Artefact("running", ("json",), "axiom_bench.records.running", "records.running", "here"),
    Artefact("manifest.json", (), "axiom_bench.records.manifest", "records.manifest", "fetched"),
    Artefact("report_stamp.json", (), "axiom_bench.report.stamp", "report", "sent"),
    Artefact("report.html", (), "report", "", "sent", "output"),
    Artefact("tables", ("csv", "md", "tex"), "report", "", "sent", "output"),
    Artefact("figures", ("png", "pdf", "svg"), "report", "", "sent", "output"),
    Artefact("report", ("html",), "report", "", "sent", "output"),  # of a gallery with many images
    Artefact("report/pictures", ("webp", "png"), "report", "", "sent", "output"),
    Artefact("paper", ("html", "md", "tex", "png", "pdf", "svg"), "report.paper", "", "sent"),
)


def listed() -> tuple[str, ...]:
    """The kinds of files that a manifest lists, under the names of their folders: what a report is made from."""
    return tuple(artefact.place for artefact in TABLE if artefact.stamp == "input")


def steps() -> dict[str, str]:
    """{kind: the module that makes its files for a job}, of what is made after the records."""
    made = (artefact for artefact in TABLE if artefact.stamp == "input" and artefact.store != "shard")
    return {artefact.place: artefact.written_by for artefact in made}


def in_store(*kinds: str) -> tuple[str, ...]:
    """The places that a store has in one of these ways, see `Artefact`."""
    return tuple(artefact.place for artefact in TABLE if artefact.store in kinds)


def outputs(folder: Path) -> list[Path]:
    """The files of a run folder that have names as a report's, also a user's own."""
    rows = [artefact for artefact in TABLE if artefact.stamp == "output"]
    named = [folder / artefact.place for artefact in rows if not artefact.suffixes]
    globs = ((folder / artefact.place).glob(f"*.{suffix}") for artefact in rows for suffix in artefact.suffixes)
    return [*named, *(path for found in globs for path in sorted(found))]


def check_folders(folder: Path) -> None:
    """Raises BenchError where a folder that is read or written leads out of the run folder, or a file that is read
    first leads out of it or is none, as a pipe, which would be waited for: a run folder may come from a stranger."""
    _check(folder, [artefact.place for artefact in TABLE if artefact.suffixes or artefact.read_by])


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raises BenchError as `check_folders`, for the files that a manifest lists; those of combined runs lie in
    other folders."""
    if manifest.get("runs"):
        return
    lists = [manifest.get(kind) or () for kind in listed()]
    lists += [job.get("records") or () for job in manifest.get("jobs") or ()]
    names = dict.fromkeys(str(name) for names in lists for name in names)
    _check(folder, (*dict.fromkeys(map(os.path.dirname, names)), *names))


def _check(folder: Path, names: Iterable[str]) -> None:
    root = os.path.realpath(folder)
    for name in names:
        path = os.path.join(folder, name)
        try:
            is_file = stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):  # absent: whoever reads it says so
            continue
        if is_file:
            continue
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise BenchError(f"{path} leads out of the run folder; put there the files themselves.")
        if not (os.path.isfile(path) or os.path.isdir(path)):
            raise BenchError(f"{path} is no file; run the same command again, which replaces it.")
