"""What a killed process was at: the next one begins with smaller batches where memory may be why it was killed.

Nothing is raised in a process that the system kills for its memory. So while a job's values are computed, a file in the
run folder says at which batch size; it goes with the process, however that ends, unless it is killed. A start that
finds the file of a process that is gone takes memory for the reason where the kernel counts more processes killed for
memory now than then, or, where that count isn't to be had, where it was the second death in one shard.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

from axiom_bench.cutting.halving import Limits
from axiom_bench.kinds import whole
from axiom_bench.records import processes

FILES = ".at_work.*.json"
BOOT, COUNTS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/vmstat")
log = logging.getLogger("axiom_bench.machine")


@dataclass(frozen=True)
class Work:
    """What a process is at. since: when it began, in the kernel's clock, since numbers of processes are used again.

    boot: of the machine. kills: how many processes the kernel has killed for memory; None: it doesn't say. again:
    whether a process was killed in this shard before, with no such count.
    """

    job: str
    host: str
    process: int
    since: str
    boot: str
    kills: int | None
    rows: int
    memory: int
    shard: str = ""
    again: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for what no process wrote."""
        numbers = (self.process, self.rows, self.memory, *(() if self.kills is None else (self.kills + 1,)))
        if not all(map(whole(1).fits, numbers)):
            raise ValueError(f"no numbers of a process: {numbers}")

    def is_over(self) -> bool:
        """Whether its process has been on this machine, and is gone."""
        if self.host != processes.host():
            return False
        began_again = self.boot != _text(BOOT) or self.since != _since(self.process)
        return began_again or not processes.is_alive(self.process)

    def was_for_memory(self) -> bool:
        """Whether the process may have been killed for its memory."""
        now = _kills()
        if self.kills is None or now is None or self.boot != _text(BOOT):
            return self.again
        return now > self.kills


@contextmanager
def at_work(job: str, rows: int, limits: Limits, folder: Path) -> Iterator[Callable[[str], None]]:
    """Halves the limits where a process was killed at this job for its memory, and says so. Yields a function that is
    told the key of each shard before it is computed.

    rows: of a batch, where nothing limits it. When the code inside ends well, what killed processes left is removed.
    """
    left = {path: work for path, work in _all(folder) if work.job == job and work.is_over()}
    for_memory = {path: work for path, work in left.items() if work.was_for_memory()}
    _halve(limits, list(for_memory.values()))
    _remove(set(left) - set(for_memory))
    path = folder / FILES.replace("*", uuid4().hex[:8])
    process = os.getpid()
    own = Work(job, processes.host(), process, _since(process), _text(BOOT), _kills(), rows, limits.memory)
    uncounted = {work.shard for work in left.values() if work.kills is None or work.boot != own.boot}

    def tell(shard: str) -> None:
        now = replace(own, rows=limits.of(rows), memory=limits.memory, shard=shard, again=shard in uncounted)
        with suppress(OSError):  # a disk that is full: the record file, which must be written, will say so
            path.write_text(json.dumps(asdict(now)))

    try:
        yield tell
        _remove(set(for_memory))
    finally:
        _remove({path})


def _halve(limits: Limits, killed: list[Work]) -> None:
    """Below the smallest sizes at which a process was killed."""
    if not killed:
        return
    least = min(killed, key=lambda work: (work.rows, work.memory))
    limits.rows, limits.memory = least.rows, min(limits.memory, least.memory)
    before = f"{least.rows} rows in a batch" if least.rows > 1 else f"one row and {least.memory / 2**20:.3g} MiB"
    limits.halve(least.rows)
    now = f"{limits.rows} rows" if least.rows > 1 else f"{limits.memory / 2**20:.3g} MiB for its extra passes"
    log.warning("process %s was killed at %s, perhaps for memory: beginning with %s", least.process, before, now)


def _all(folder: Path) -> Iterator[tuple[Path, Work]]:
    for path in sorted(folder.glob(FILES)):
        try:
            yield path, Work(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # killed while it wrote, or another version's: no reason to stop
            continue


def _remove(paths: set[Path]) -> None:
    for path in paths:
        with suppress(OSError):  # the folder may be gone, or read-only by now
            path.unlink(missing_ok=True)


def _since(process: int) -> str:
    """When a process began; "" where there is none, or the system doesn't say."""
    return "".join(_text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()[19:20])


def _kills() -> int | None:
    """How many processes the kernel has killed for memory since it started; None where it doesn't say."""
    counts = dict(line.split() for line in _text(COUNTS).splitlines())
    return int(counts["oom_kill"]) if "oom_kill" in counts else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
