"""Small runs to let faults befall: started as a process or forked from this one, waited for, and compared."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .launcher import Plan, prepare
from .trial import Trial

RUN = Path("quick", "default")  # below the results folder
TINY = (
    *("model=scenes_vgg", "data.batch_size=4", "shard_size=2", "data.workers=2", "device=cpu", "runtime.repeats=1"),
    *("method=[grad_cam,xgrad_cam]", "metric=[sensitivity_error,confidence_drop,max_box_acc,zeta]"),
    *("runtime.batch_size=2", "pictures.rows=1", "pictures.gallery=1", "report.figures.formats=[png]"),
)
NOTE = "reference.json"
IMAGES = 24
PATIENCE = 300.0  # seconds for a run of seconds, on a machine that does other things as well


@dataclass
class Process:
    """A run that was begun. pid: also its process group's. said: the file with its output."""

    pid: int
    said: Path
    code: int | None = None

    def poll(self) -> int | None:
        """The exit code, -N for signal N; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code. Raises TimeoutError, and kills the group, for a process that doesn't end."""
        until = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"a run didn't end within {seconds:.0f} s: {self.output()[-2000:]}")
            time.sleep(0.005)
        return self.code  # type: ignore[return-value]

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.002)

    def output(self) -> str:
        return self.said.read_text(errors="replace") if self.said.exists() else ""


def forked(arguments: Sequence[str], plan: Plan, said: Path, change: Callable[[], None] | None = None) -> Process:
    """A run in a group of its own, without the seconds that a new interpreter takes. change: called in the child."""
    pid = os.fork()
    if pid:
        return Process(pid, said)
    code = 70
    try:
        os.setpgid(0, 0)
        _redirect(said)
        prepare(plan)
        if change is not None:
            change()
        from axiom_bench.cli.main import main

        sys.argv = ["axiom-bench", *arguments]
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - as Python's own end of a process
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def fresh(arguments: Sequence[str], plan: Plan, said: Path, **options: Any) -> Process:
    """A run by a new interpreter, in a session of its own."""
    command = [sys.executable, "-m", "faulting.launcher", plan.as_json(), *arguments]
    folders = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    with said.open("wb") as file:
        streams = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        process = subprocess.Popen(command, env=environment, **streams)
    process.returncode = 0  # it is waited for here, by its number
    return Process(process.pid, said)


def _redirect(said: Path) -> None:
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def group_is_gone(pgid: int) -> bool:
    """Whether no process of the group is left; those that are dead and not yet waited for don't count."""
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(pgid, 0)
        except ProcessLookupError:
            return True
        return False
    return not any(_alive_in(pgid, path) for path in Path("/proc").glob("[0-9]*/stat"))


def _alive_in(pgid: int, stat: Path) -> bool:
    try:
        state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
    except OSError:  # it has just ended
        return False
    return int(group) == pgid and state != "Z"


def wait_until(happened: Callable[[], bool], process: Process | None = None, seconds: float = PATIENCE) -> bool:
    """Whether it happened before the process ended. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not happened():
        if process is not None and process.poll() is not None:
            return happened()
        if time.monotonic() > until:
            raise TimeoutError("what a trial waits for doesn't come")
        time.sleep(0.005)
    return True


def shards_of(log: Path, pid: int | None = None) -> tuple[list[str], list[str]]:
    """The shards that were begun and those that were ended, as often as they were; by one process, or by all."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    own = [words for words in lines if pid is None or words[1:2] == [str(pid)]]
    return [words[2] for words in own if words[0] == "start"], [words[2] for words in own if words[0] == "end"]


def contents(folder: Path) -> str:
    """A hash of every value of a run: records, curves and values of the whole set, sorted; not of run times."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):  # Arrow's threads stay out of the process that forks
        try:
            text = _contents(folder)
        except Exception as error:  # noqa: BLE001 - the trial's answer
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode()[:4096])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


def compare(trial: Trial, folder: Path, values: str) -> None:
    """Whether a run folder holds the values of an undisturbed run."""
    trial.identical = (own := contents(folder)) == values
    trial.must(trial.identical, f"the records aren't those of an undisturbed run, {values}: {own}")


def _contents(folder: Path) -> str:
    from axiom_bench.records import manifest as manifest_file
    from axiom_bench.records import store
    from axiom_bench.records.reading import read_records

    manifest = manifest_file.read(folder)
    rows = read_records(folder, manifest).astype(str).values.tolist()
    for kind in ("curves", "whole_set"):
        rows += [list(row.values()) for name in manifest[kind] for row in store.read_table(folder / name).to_pylist()]
    digest = hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()
    return f"{len(rows)} rows, {digest}"


@contextlib.contextmanager
def stopped_at_the_end(*processes: Process) -> Iterator[None]:
    """Nothing of a trial outlives it."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


def reference(work: Path, arguments: Sequence[str]) -> tuple[str, float]:
    """(hash of the values, seconds) of an undisturbed run, see `kept_reference`."""
    _, folder = kept_reference(work, arguments)
    values, seconds = json.loads((folder / NOTE).read_text())
    return values, seconds


def kept_reference(work: Path, arguments: Sequence[str]) -> tuple[str, Path]:
    """(hash of the values, folder) of an undisturbed run, which is made once. The folder holds its results/, and its
    log, which has a line for each write."""
    folder = work / "reference" / hashlib.sha256(repr(arguments).encode()).hexdigest()[:12]
    if not (folder / NOTE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start, results = time.monotonic(), folder / "results"
        process = forked(
            [*arguments, f"results={results}"], Plan(str(folder / "log"), full=str(results)), folder / "said"
        )
        if process.wait() != 0:
            raise RuntimeError(f"the undisturbed run failed:\n{process.output()}")
        seconds = time.monotonic() - start
        (folder / NOTE).write_text(json.dumps([contents(results / RUN), seconds]))
    return json.loads((folder / NOTE).read_text())[0], folder


def photographs(work: Path) -> Path:
    """A folder of image files, <class>/<image>.png: some of the embedded scenes, which the embedded networks know."""
    folder = work / "photographs"
    if not folder.exists():
        from axiom_bench.data.drawn.scenes import Scenes

        scenes = Scenes(size=IMAGES)
        draft = work / "photographs.draft"
        for name in range(10):
            (draft / str(name)).mkdir(parents=True, exist_ok=True)
        for index in range(IMAGES):
            sample = scenes.read(index)
            sample.image.save(draft / str(sample.label) / f"{index}.png")
        draft.rename(folder)
    return folder
