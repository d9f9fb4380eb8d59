"""Bring the results of workers into the run folder: the link between `run.spine` and an executor.

A task that runs in another process, or on another machine, works in a folder of its own and returns
the files that it wrote as a parcel. Only the command writes them into the run folder, so that
workers need no disk in common with it. An error of a task is returned, too.
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
from axiom_bench.run.progress import silent
from axiom_bench.run.result import Failure
from axiom_bench.run.shards import ANSWERS
from axiom_bench.run.worker import Task, compute_part, finish, prepare

# Bytes of a file of pictures, which a worker without a shared folder returns as one message. The
# driver holds the messages of all workers in memory.
MAX_ARRAYS = 100_000_000
# a task reads them instead of computing them again
JOB_PLACES = (
    HASHES,
    "examination",
    "predictions",
    "objects",
)
# curves first: a record file promises that its curves exist
VALUE_PLACES = (
    record_files.CURVES,
    record_files.RECORDS,
)
SHARD_PLACES = (*VALUE_PLACES, ANSWERS)
RETURNED_PLACES: Mapping[Callable[..., object], Sequence[str]] = {
    prepare: JOB_PLACES,
    compute_part: SHARD_PLACES,
    finish: tuple(artefacts.writer_by_kind()),
}
"""The files and folders of the run folder that each task may write."""


@dataclass(frozen=True)
class Parcel:
    """The result of a task, with the files that it wrote."""

    answer: object
    """The value that the task returned."""
    files: Mapping[str, bytes]
    """{path relative to the run folder: content}."""


def submit(executor: Executor, function: Callable[..., object], task: Task) -> Future:
    """Have a worker prepare or finish a job. If the worker is another process, send it the files
    that the task reads.
    """
    if isinstance(executor, Local):
        return executor.submit(answer_or_failure, function, task)
    steps = artefacts.writer_by_kind() if function is finish else ()
    inputs = _contents(task.folder, (*JOB_PLACES, *VALUE_PLACES, *steps))
    return executor.submit(answer_or_failure, call_in_own_folder, function, task, inputs)


def submit_parts(executor: Executor, task: Task, shards: Sequence[str]) -> dict[Future, str]:
    """Have workers compute the shards with these keys. Return {future: key of its shard}."""
    futures = {}
    if isinstance(executor, Local):
        for shard in shards:
            future = executor.submit(answer_or_failure, compute_part, task, shard)
            futures[future] = shard
        return futures
    job_files = _contents(task.folder, JOB_PLACES)
    for shard in shards:
        inputs = job_files | _contents(task.folder, SHARD_PLACES, f"{shard}-*")
        future = executor.submit(
            answer_or_failure, call_in_own_folder, compute_part, task, inputs, shard
        )
        futures[future] = shard
    return futures


def answer_or_failure(function: Callable[..., object], *arguments: object) -> object:
    """Return the result of a function, or its error as a Failure.

    Any process can unpickle a Failure, and the command can't mistake it for an error of the engine.
    """
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
        return Failure.of(error)


def arriving(futures: Collection[Future]) -> Iterator[Future]:
    """Yield futures as their tasks end, so that no result waits for an earlier task."""
    done = SimpleQueue[Future]()
    for future in futures:
        future.add_done_callback(done.put)
    for _ in futures:
        yield done.get()


def received(task: Task, answer: object) -> Any:
    """Write the files of a parcel into the run folder, and return the value that the task returned.

    Args:
        task: The task.
        answer: A parcel or a Failure, or the value itself if the task ran in this process.

    Raises:
        Failure: If the task has raised an error.
        BenchError: If a file can't be written.
    """
    if isinstance(answer, Failure):
        raise answer
    if not isinstance(answer, Parcel):
        return answer
    for name, content in answer.files.items():
        files.write(task.folder / name, content)
    return answer.answer


def call_in_own_folder(
    function: Callable[..., object], task: Task, inputs: Mapping[str, bytes], *arguments: object
) -> Parcel:
    """Call a function of `run.worker` in a folder of this process, and return its result as a
    parcel.

    Progress isn't shown, since many processes may share a terminal.

    Args:
        function: The function.
        task: Its task. The function gets a copy whose run folder lies in the folder of this
            process.
        inputs: The files that the function reads: {path relative to the run folder: content}.
        arguments: Further arguments of the function.

    Raises:
        BenchError: If a file of pictures has more than MAX_ARRAYS bytes.
    """
    results = _process_folder()
    local_task = replace(task, settings=task.settings.model_copy(update={"results": str(results)}))
    results.mkdir(mode=0o700)
    try:
        for name, content in inputs.items():
            files.replace(local_task.folder / name, content, sync=False)
        with silent():
            answer = function(local_task, *arguments)
        contents = _contents(local_task.folder, RETURNED_PLACES.get(function, ()))
    finally:
        shutil.rmtree(results)
    # the command has the inputs already, so that an unchanged one needn't travel back
    new_files = {name: content for name, content in contents.items() if inputs.get(name) != content}
    for name, content in new_files.items():
        if name.startswith("pictures/") and len(content) > MAX_ARRAYS:
            raise BenchError(
                f"The file of pictures has {len(content) / 1e6:,.0f} MB, and a worker returns at "
                f"most {MAX_ARRAYS / 1e6:.0f}; set pictures.arrays=false or fewer pictures.rows, "
                "or choose executor=local."
            )
    return Parcel(answer, new_files)


@cache
def _process_folder() -> Path:
    """Return the folder of this process. It exists only during a task.

    Its name never changes, since the job that the process keeps loaded refers to it.
    """
    folder = Path(mkdtemp(prefix="axiom-bench-"))
    folder.rmdir()
    return folder


def _contents(folder: Path, places: Sequence[str], names: str = "*") -> dict[str, bytes]:
    """Return {path relative to the run folder: content} of some of its files.

    Args:
        folder: The run folder.
        places: Files and folders in it.
        names: The pattern of file names in those folders.
    """
    contents = {}
    for place in places:
        path = folder / place
        for file in sorted(path.glob(names)) if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith("."):
                contents[file.relative_to(folder).as_posix()] = file.read_bytes()
    return contents
