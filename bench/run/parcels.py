"""The way of results from workers into the run folder, which only the command writes.

A task of an engine works in a folder of its process and returns the files that it wrote, as a parcel.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from tempfile import mkdtemp
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, files, record_files
from axiom_bench.run.executors import Executor, Future, Local
from axiom_bench.run.job import HASHES
from axiom_bench.run.shards import ANSWERS
from axiom_bench.run.worker import Task, compute_part, finish, prepare

MAX_ARRAYS = 100_000_000  # bytes of a file of pictures
ABOUT_JOB = (HASHES, "examination", "predictions", "objects")  # what a task reads instead of computing it again
VALUES = (record_files.CURVES, record_files.RECORDS)  # in this order: a record file says that its curves are there
OF_SHARD = (*VALUES, ANSWERS)
RETURNED: Mapping[Callable[..., Any], Sequence[str]] = {
    prepare: ABOUT_JOB,
    compute_part: OF_SHARD,
    finish: tuple(artefacts.steps()),
}


@dataclass(frozen=True)
class Parcel:
    """What a task returned, and the content of the files that it wrote, by their names in the run folder."""

    answer: Any
    files: Mapping[str, bytes]


def submit(executor: Executor, function: Callable[..., Any], task: Task) -> Future:
    """Have a worker prepare or finish a job, with the files that it reads."""
    if isinstance(executor, Local):
        return executor.submit(function, task)
    steps = artefacts.steps() if function is finish else ()
    inputs = _contents(task.folder, (*ABOUT_JOB, *VALUES, *steps))
    return executor.submit(do_apart, function, task, inputs)


def submit_parts(executor: Executor, task: Task, shards: Sequence[str]) -> dict[Future, str]:
    """Have workers compute the shards with these keys, each with the files that it reads. Return {future: key}."""
    if isinstance(executor, Local):
        return {executor.submit(compute_part, task, shard): shard for shard in shards}
    about_job = _contents(task.folder, ABOUT_JOB)
    futures = {}
    for shard in shards:
        inputs = about_job | _contents(task.folder, OF_SHARD, f"{shard}-*")
        futures[executor.submit(do_apart, compute_part, task, inputs, shard)] = shard
    return futures


def arriving(futures: Collection[Future]) -> Iterator[Future]:
    """Yield futures as they are done, so that no result waits for an earlier task."""
    done = SimpleQueue[Future]()
    for future in futures:
        future.add_done_callback(done.put)
    for _ in futures:
        yield done.get()


def received(task: Task, answer: Any) -> Any:
    """Return what the function returned, with the files that it wrote in the run folder. Raises BenchError if they
    can't be written."""
    if not isinstance(answer, Parcel):
        return answer
    for name, content in answer.files.items():
        files.write(task.folder / name, content)
    return answer.answer


def do_apart(function: Callable[..., Any], task: Task, inputs: Mapping[str, bytes], *arguments: Any) -> Parcel:
    """Call a function of `run.worker` in the folder of this process. Raises BenchError for arrays of too many bytes."""
    results = _own_folder()
    here = replace(task, settings=task.settings.model_copy(update={"results": str(results)}))
    results.mkdir(mode=0o700)
    try:
        for name, content in inputs.items():
            files.replace(here.folder / name, content, sync=False)
        answer = function(here, *arguments)
        contents = _contents(here.folder, RETURNED.get(function, ()))
    finally:
        shutil.rmtree(results)
    made = {name: content for name, content in contents.items() if inputs.get(name) != content}
    for name, content in made.items():
        if name.startswith("pictures/") and len(content) > MAX_ARRAYS:
            raise BenchError(
                f"The file of pictures has {len(content) / 1e6:,.0f} MB, and a worker returns at most "
                f"{MAX_ARRAYS / 1e6:.0f}; set pictures.arrays=false or fewer pictures.rows, or choose executor=local."
            )
    return Parcel(answer, made)


@cache
def _own_folder() -> Path:
    """Return the folder of this process. It exists during a task only, always under one name: the loaded job has it."""
    folder = Path(mkdtemp(prefix="axiom-bench-"))
    folder.rmdir()
    return folder


def _contents(folder: Path, places: Sequence[str], names: str = "*") -> dict[str, bytes]:
    """Return {name: content} of files in a run folder. places: files, or folders of which files of such names count."""
    contents = {}
    for place in places:
        path = folder / place
        for file in sorted(path.glob(names)) if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith("."):
                contents[file.relative_to(folder).as_posix()] = file.read_bytes()
    return contents
