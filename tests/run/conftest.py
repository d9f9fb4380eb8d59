"""Fixtures that run the embedded models with random weights on few images.

Each run writes into a temporary folder of results.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
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
    "run=default",
    "model=scenes_vgg",
    "model.weights=null",
    "data.size=5",
    "data.batch_size=4",
    "shard_size=2",
    "device=cpu",
    "method=[grad_cam,xgrad_cam]",
    "metric=[sensitivity_error,confidence_drop,zeta]",
    "runtime.repeats=0",
    "pictures.rows=0",
    "pictures.gallery=0",
)
ENGINES = {
    "processes": ("executor=processes", "executor.count=2"),
    "dask": ("executor=dask",),
    "ray": ("executor=ray",),
    "submitit": (
        "executor=submitit",
        "executor.cluster=local",
        "executor.tasks=2",
        "executor.parameters.gpus_per_node=null",
        "executor.parameters.cpus_per_task=1",
    ),
}
PACKAGES = {"dask": "distributed", "ray": "ray", "submitit": "submitit"}
Run = Callable[..., list[JobResult]]
Rows = Callable[[list[JobResult]], pd.DataFrame]
RUN = Path("quick", "default")  # the run folder of a tiny run, relative to its folder of results


def slow_engines(*names: str) -> list[Any]:
    """Return the settings of the named executors, or of all executors, as slow parameters.

    They are slow because each worker process imports torch and the methods again.
    """

    def is_absent(name: str) -> bool:
        return name in PACKAGES and find_spec(PACKAGES[name]) is None

    parameters = []
    for name in names or ENGINES:
        skip_if_absent = pytest.mark.skipif(is_absent(name), reason=f"{name} isn't installed")
        parameters.append(pytest.param(ENGINES[name], marks=[pytest.mark.slow, skip_if_absent]))
    return parameters


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an executor's processes one thread each: the number of threads changes the rounding."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def failure(outcomes: list[JobResult]) -> str:
    """Return the message of the only job, which failed in a way that the user can fix."""
    (outcome,) = outcomes
    assert outcome.failure is not None
    assert outcome.failure.is_users_to_fix
    return outcome.failure.message


def write_module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a user's own module and make it importable."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)


def write_images(folder: Path, *names: str) -> tuple[str, ...]:
    """Write random images with these names and return the settings of a run on them.

    The names of the folders are the classes.
    """
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(number)
        pixels = random.integers(0, 256, (96, 96 + number, 3), dtype=np.uint8)
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
    """The folder of results of this test."""
    return tmp_path / "results"


def tiny_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a tiny run, replaced and completed by `overrides`."""
    keys = {override.partition("=")[0] for override in overrides}
    kept = [override for override in TINY if override.partition("=")[0] not in keys]
    return [*kept, *overrides]


@pytest.fixture
def run(results: Path) -> Run:
    """A function that runs a tiny sweep with further overrides and returns its outcomes."""

    def run_tiny(overrides: Sequence[str] = ()) -> list[JobResult]:
        _, outcomes = run_jobs([*tiny_overrides(overrides), f"results={results}"])
        return outcomes

    return run_tiny


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends without writing its report."""
    monkeypatch.setattr("axiom_bench.report.write", lambda run, **_: run.path / "report.html")


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, list[JobResult]]]:
    """A function that runs a tiny sweep and returns its folder of results and its outcomes.

    The same overrides run once for all tests, which only read the files.
    """

    @cache
    def run_once(overrides: tuple[str, ...]) -> tuple[Path, list[JobResult]]:
        results = tmp_path_factory.mktemp("finished") / "results"
        _, outcomes = run_jobs([*tiny_overrides(overrides), f"results={results}"])
        return results, outcomes

    def run_or_reuse(overrides: Sequence[str] = ()) -> tuple[Path, list[JobResult]]:
        return run_once(tuple(overrides))

    return run_or_reuse


@pytest.fixture
def copied_run(results: Path, finished_run: Callable[..., tuple[Path, list[JobResult]]]) -> Run:
    """A replacement for `run` that copies the files of a `finished_run` into `results`.

    It is for tests that change the files or run again on them.
    """

    def copy(overrides: Sequence[str] = ()) -> list[JobResult]:
        finished, outcomes = finished_run(overrides)
        shutil.copytree(finished, results, dirs_exist_ok=True)
        new_folder = {"results": str(results)}
        moved_outcomes = []
        for outcome in outcomes:
            settings = outcome.settings.model_copy(update=new_folder)
            moved_outcomes.append(replace(outcome, settings=settings))
        return moved_outcomes

    return copy


@pytest.fixture
def job() -> Callable[..., Job]:
    """A function that returns a tiny job with further overrides, without running it."""

    def compose_job(overrides: Sequence[str] = ()) -> Job:
        config = configuration(tiny_overrides(overrides))
        return Job.of(Settings.of(config))

    return compose_job


@pytest.fixture
def rows(results: Path) -> Callable[[list[JobResult]], pd.DataFrame]:
    """A function that returns the records of a run in `results`, sorted."""
    return partial(rows_of, results)


def manifest_of(outcomes: list[JobResult]) -> dict[str, Any]:
    """Return the manifest of these outcomes; at least one of them must not have failed."""
    all_settings = [outcome.settings for outcome in outcomes if outcome.settings is not None]
    return assemble(outcomes, all_settings[0])


def rows_of(results: Path, outcomes: list[JobResult]) -> pd.DataFrame:
    """Return the records of a run in this folder of results, sorted."""
    table = read_records(results / RUN, manifest_of(outcomes))
    categories = [name for name in table.columns if table[name].dtype == "category"]
    table = table.astype(dict.fromkeys(categories, str))
    keys = ["model", "layer", "image_id", "target_class", "method", "metric"]
    return table.sort_values(keys, ignore_index=True)
