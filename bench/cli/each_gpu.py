"""device=each_gpu: this process takes the first GPU; for every other GPU one runs beside it and shares the shards.

Each is the same command as `axiom-bench run --share`, and sees its GPU alone. Where one dies, the others compute its
shards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from axiom_bench.errors import BenchError
from axiom_bench.run.composing.settings import EACH_GPU

VISIBLE = "CUDA_VISIBLE_DEVICES"
COMMAND = (sys.executable, "-P", "-m", "axiom_bench.cli.main", "run", "--share")  # -P: the current folder isn't first


def environments(device: str, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Of the processes beside this one: none unless device.name is `each_gpu`.

    environment: this process's own. Raises BenchError where there is no GPU.
    """
    if device != EACH_GPU:
        return []
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus:
        raise BenchError(f"device={EACH_GPU} needs NVIDIA GPUs that torch can use, and there is none; use device=cpu.")
    return of_gpus(gpus, environment)


def of_gpus(gpus: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of a process for each of so many GPUs but the first, which sees that one alone.

    >>> [each[VISIBLE] for each in of_gpus(3, {})], [each[VISIBLE] for each in of_gpus(2, {VISIBLE: "GPU-4f,6"})]
    (['1', '2'], ['6'])
    """
    visible = environment.get(VISIBLE)
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    return [{**environment, VISIBLE: name.strip()} for name in names[1:gpus]]


@contextmanager
def processes(
    overrides: Sequence[str],
    config_folder: Path | None,
    others: Sequence[Mapping[str, str]],
    command: Sequence[str] = COMMAND,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Inside, a process for each of these environments computes shards of the command line: those processes. At the end
    they are ended, since nothing is left to compute by then. One that failed is told."""
    folder = [] if config_folder is None else ["--config-dir", str(config_folder)]
    words = [*command, "--with", str(os.getpid()), *folder, *overrides]
    with ExitStack() as stack:
        started = []
        for environment in others:
            output = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                words, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            started.append((environment[VISIBLE], process, output))
        try:
            yield [process for _, process, _ in started]
            for gpu, process, output in started:
                if code := process.poll():
                    _tell(gpu, code, output)
        finally:
            for _, process, _ in started:
                process.terminate()  # without effect on one that has ended
            for _, process, _ in started:
                process.wait()


def _tell(gpu: str, code: int, output: IO[bytes]) -> None:
    output.seek(0)
    lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()] or ["no output"]
    how = f"exit code {code}" if code > 0 else f"signal {-code}"
    line = f"the process of GPU {gpu} ended early ({how}: {lines[-1]}); the others computed its share."
    print(line, file=sys.stderr, flush=True)
