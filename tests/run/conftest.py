"""Small runs of the embedded models with random weights, into a folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.records.reading import read_records
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.manifest import assemble
from axiom_bench.run.result import JobResult
from axiom_bench.run.spine import configuration
from tests.made_runs import undrawn  # noqa: F401
from tests.made_suites import tiny_suite  # noqa: F401

TINY = (
    *(
        "run=default",
        "model=scenes_vgg",
        "model.weights=null",
        "data.size=5",
        "data.batch_size=4",
        "shard_size=2",
        "device=cpu",
    ),
    *(
        "method=[grad_cam,xgrad_cam]",
        "metric=[sensitivity_error,confidence_drop,zeta]",
        "runtime.repeats=0",
    ),
    *("pictures.rows=0", "pictures.gallery=0"),
)
ENGINES = {
    "processes": ("executor=processes", "executor.count=2"),
    "dask": ("executor=dask",),
    "ray": ("executor=ray",),
    "submitit": (
        *("executor=submitit", "executor.cluster=local", "executor.tasks=2"),
        *("executor.parameters.gpus_per_node=null", "executor.parameters.cpus_per_task=1"),
    ),
}
PACKAGES = {"dask": "distributed", "ray": "ray", "submitit": "submitit"}
Run = Callable[..., list[JobResult]]
Rows = Callable[[list[JobResult]], pd.DataFrame]
RUN = Path("quick", "default")  # of a tiny run, in its results


def slow_engines(*names: str) -> list[Any]:
    """Settings of these executors, or of all, as parameters: slow, as another process imports what
    a run needs.
    """

    def is_absent(name: str) -> bool:
        return name in PACKAGES and find_spec(PACKAGES[name]) is None

    return [
        pytest.param(
            ENGINES[name],
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(is_absent(name), reason=f"{name} isn't installed"),
            ],
        )
        for name in names or ENGINES
    ]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an executor's processes: sums of other numbers of threads differ in rounding."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def failure(outcomes: list[JobResult]) -> str:
    """What a run of one job that failed says, which the user can mend."""
    (outcome,) = outcomes
    assert outcome.failure is not None
    assert outcome.failure.mendable
    return outcome.failure.message


def module_of(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own module, importable."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)


def pictures(folder: Path, *names: str) -> tuple[str, ...]:
    """Writes random images of these names; the settings of a run on them. Names of folders are the
    classes.
    """
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(
            0, 256, (96, 96 + number, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / name)
    return (
        "data=folder",
        f"data.root={folder}",
        "data.classes=null",
        "data.size=null",
        "data.workers=0",
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def tiny(overrides: tuple[str, ...]) -> list[str]:
    """These overrides, over those of a tiny run."""
    keys = {override.partition("=")[0] for override in overrides}
    return [*(override for override in TINY if override.partition("=")[0] not in keys), *overrides]


@pytest.fixture
def run(results: Path) -> Run:
    """Runs a tiny sweep with further overrides; its outcomes."""
    return lambda *overrides: run_jobs([*tiny(overrides), f"results={results}"])[1]


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command ends without writing its report."""
    monkeypatch.setattr("axiom_bench.report.write", lambda run, **_: run.path / "report.html")


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, list[JobResult]]]:
    """Runs a tiny sweep with further overrides, once for all tests, which only read it: its results
    and outcomes.
    """

    @cache
    def run_once(*overrides: str) -> tuple[Path, list[JobResult]]:
        results = tmp_path_factory.mktemp("finished") / "results"
        return results, run_jobs([*tiny(overrides), f"results={results}"])[1]

    return run_once


@pytest.fixture
def ran(results: Path, finished_run: Callable[..., tuple[Path, list[JobResult]]]) -> Run:
    """As `run`, but copies the files of a `finished_run` into `results`: for what is done with them
    afterwards.
    """

    def copy(*overrides: str) -> list[JobResult]:
        finished, outcomes = finished_run(*overrides)
        shutil.copytree(finished, results, dirs_exist_ok=True)
        moved = {"results": str(results)}
        return [
            replace(outcome, settings=outcome.settings.model_copy(update=moved))
            for outcome in outcomes
        ]

    return copy


@pytest.fixture
def job() -> Callable[..., Job]:
    """A tiny job with further overrides, not run."""
    return lambda *overrides: Job.of(Settings.of(configuration(tiny(overrides))))


@pytest.fixture
def rows(results: Path) -> Callable[[list[JobResult]], pd.DataFrame]:
    """The records of a run, sorted."""
    return partial(rows_of, results)


def assembled(outcomes: list[JobResult]) -> dict[str, Any]:
    """Return the manifest of these outcomes, of which at least one hasn't failed."""
    return assemble(
        outcomes, next(outcome.settings for outcome in outcomes if outcome.settings is not None)
    )


def rows_of(results: Path, outcomes: list[JobResult]) -> pd.DataFrame:
    """The records of a run in this folder of results, sorted."""
    table = read_records(results / "quick" / "default", assembled(outcomes))
    table = table.astype({name: str for name in table.columns if table[name].dtype == "category"})
    return table.sort_values(
        ["model", "layer", "image_id", "target_class", "method", "metric"], ignore_index=True
    )
