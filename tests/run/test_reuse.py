"""Tests of the stored values of a user's own plug-in that a later command reuses.

No reused value is ever stale.
"""

from __future__ import annotations

import importlib
import json
import os
import py_compile
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from axiom_bench.cli.benchmark import compute
from axiom_bench.records import reading, record_files
from axiom_bench.records.sources import Sources
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from axiom_bench.run.spine import configuration

from .conftest import RUN, tiny_overrides

PLUGIN = """
import json
import torch
from pathlib import Path
from axiom_bench.kinds import File
from users_help import FACTOR

def cam(trace, scale=1.0):
    weight = json.loads((Path(__file__).parent / "w.json").read_text())
    return trace.gradients * scale * FACTOR * weight

def of_file(trace, path: File = ""):
    return trace.gradients

def stopping(trace):
    if Path("stop").exists() and trace.image_ids[-1] >= "evaluation-0-000004":
        raise KeyboardInterrupt
    return trace.gradients

def drawing(trace):
    with open("calls", "a") as file:
        file.write("x")
    return trace.gradients * torch.rand(1)

def metric(explanation):
    return explanation.trace.scores
"""
MINE = ("+method.mine._target_=users_cam.cam", "method=[grad_cam]", "metric=[gini]")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module of plug-ins, its import, and a file that it reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("users_cam.py").write_text(PLUGIN)
    Path("users_help.py").write_text("FACTOR = 1\n")
    Path("w.json").write_text("1")
    yield tmp_path
    forget()


def forget() -> None:
    """Forget the user's modules, as a new process doesn't know them."""
    for name in [name for name in sys.modules if name.startswith("users_")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def command(results: Path, folder: Path) -> Callable[..., tuple[set[str], list[float]]]:
    """A function that runs a command as a new process would.

    It returns the methods that the command computed, and the values of the method `mine`.
    """
    seen_files: set[str] = set()

    def run(overrides: Sequence[str], goes_on: bool = False) -> tuple[set[str], list[float]]:
        forget()
        words = [*tiny_overrides(overrides), f"results={results}"]
        code, lines, path = compute(words, continue_run=goes_on)
        assert code == 0, lines
        computed_methods = set()
        for file in files_in(path):
            if file.name not in seen_files:
                computed_methods |= set(file.values)
                seen_files.add(file.name)
        table = reading.read_records(path, reading.read_manifest(path)).sort_values("image_id")
        values = table.loc[table["method"].astype(str) == "mine", "value"]
        return computed_methods, values.tolist()

    return run


def files_in(run_folder: Path) -> list[Any]:
    """Return all record files of a run."""
    return list(chain.from_iterable(record_files.read(run_folder).files.values()))


@pytest.mark.slow
def test_a_users_own_is_computed_again_by_every_command_and_the_suites_own_is_not(command):
    """Check that a file which the plug-in reads can't make its values stale."""
    computed_methods, _ = command(MINE)
    assert computed_methods == {"grad_cam", "mine"}
    Path("w.json").write_text("-1")
    computed_methods, values = command(MINE)
    assert computed_methods == {"mine"}
    _, values_of_other_run = command([*MINE, "+method.mine.reuse=true", "run=other"])
    assert values_of_other_run == values


@pytest.mark.slow
def test_reuse_takes_what_follows_from_source_parameters_and_declared_files(command):
    def computed_methods(overrides: Sequence[str] = ()) -> set[str]:
        reuse = ("+method.mine.reuse=true", "+method.mine.files=[w.json]")
        methods, _ = command([*MINE, *reuse, *overrides])
        return methods

    assert computed_methods() == {"grad_cam", "mine"}
    assert computed_methods() == set()
    Path("users_cam.py").write_text(f'"""A docstring."""{PLUGIN}')
    assert computed_methods() == set()
    for path, text in (
        ("w.json", "2"),
        ("users_help.py", "FACTOR = 2\n"),
        ("users_cam.py", PLUGIN + "\nX = 1\n"),
    ):
        Path(path).write_text(text)
        assert computed_methods() == {"mine"}
    assert computed_methods(["+method.mine.params.scale=2"]) == {"mine"}


@pytest.mark.slow
def test_a_stored_run_takes_what_was_said_of_a_plug_in_and_doesnt_call_it(command, results):
    drawing = ("+method.mine._target_=users_cam.drawing", "+method.mine.reuse=true", *MINE[1:])
    for _ in range(2):
        command(drawing)
        calls = Path("calls").read_text()
        entry = reading.read_manifest(results / RUN).methods["mine"]
        assert "draws from a global random state" in str(entry)
    assert calls

    Path("calls").write_text("")
    command(drawing)
    assert not Path("calls").read_text()

    computed_methods, _ = command([*drawing, "data.size=6"])
    assert computed_methods == {"grad_cam", "mine"}
    assert Path("calls").read_text()


@pytest.mark.slow
def test_a_killed_command_goes_on_with_what_it_computed(command, results):
    overrides = (
        "+method.mine._target_=users_cam.stopping",
        "method=[grad_cam]",
        "metric=[gini]",
        "shard_size=1",
        "data.workers=0",
    )
    Path("stop").touch()
    with pytest.raises(KeyboardInterrupt):
        command(overrides)
    Path("stop").unlink()
    assert files_in(results / RUN)

    command(overrides)
    assert len(files_in(results / RUN)) == 5

    # The command before was not killed, so that this command computes `mine` again.
    command(overrides)
    assert sum("mine" in file.values for file in files_in(results / RUN)) == 10


@pytest.mark.slow
def test_a_command_that_goes_on_takes_those_of_the_one_before(command):
    """Check a command that continues another, such as `submit` after `rank`.

    It may measure run times that the first command didn't measure.
    """
    _, first_values = command(MINE)
    assert command([*MINE, "runtime.repeats=1"], goes_on=True) == (set(), first_values)
    Path("users_help.py").write_text("FACTOR = 2\n")
    computed_methods, _ = command(MINE, goes_on=True)
    assert computed_methods == {"mine"}


@pytest.fixture
def keys() -> Callable[..., dict[str, dict[str, str]]]:
    """A function that returns the keys of a job's values, given the name of the command."""

    def keys_of_command(name: str, overrides: Sequence[str]) -> dict[str, dict[str, str]]:
        forget()
        config = configuration(tiny_overrides(("data.size=2", *overrides)))
        return Keys(Job.of(Settings.of(config)), name).values

    return keys_of_command


# The plug-in: (its settings, the methods and metrics that another command computes again).
RECOMPUTED = {
    "a method": (("+method.mine._target_=users_cam.cam",), {("mine", "confidence_drop")}),
    "a method that is reused": (
        ("+method.mine._target_=users_cam.cam", "+method.mine.reuse=true"),
        set(),
    ),
    "a wrapped method": (
        (
            "+method.mine._target_=axiom_bench.methods.guided.guided",
            "+method.mine.params={wrapped: users_cam.cam}",
        ),
        {("mine", "confidence_drop")},
    ),
    "a wrapped method that is reused": (
        (
            "+method.mine._target_=axiom_bench.methods.guided.guided",
            "+method.mine.params={wrapped: users_cam.cam}",
            "+method.mine.reuse=true",
        ),
        set(),
    ),
    "a metric": (("+metric.score._target_=users_cam.metric",), {("grad_cam", "score")}),
    "a metric that is reused": (
        ("+metric.score._target_=users_cam.metric", "+metric.score.reuse=true"),
        set(),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "recomputed"), RECOMPUTED.values(), ids=RECOMPUTED)
def test_what_another_command_computes_anew(keys, overrides, recomputed):
    words = ("method=[grad_cam]", "metric=[confidence_drop]", *overrides)
    first = keys("one", words)
    same = keys("one", words)
    other = keys("other", words)
    assert first == same
    different = set()
    for method, key_by_metric in first.items():
        for metric, key in key_by_metric.items():
            if key != other[method][metric]:
                different.add((method, metric))
    assert different == recomputed


@pytest.mark.slow
def test_a_plug_in_of_an_installed_distribution_counts_by_its_version(keys, monkeypatch):
    installed_distributions = Sources.distributions

    def distributions(self: Sources, top: str) -> tuple[str, ...]:
        return ("mine",) if top == "users_cam" else installed_distributions(self, top)

    monkeypatch.setattr(Sources, "distributions", distributions)
    chosen = ("method=[grad_cam]", "metric=[gini]", "+method.mine._target_=users_cam.cam")
    first = keys("one", chosen)
    assert first == keys("other", chosen)
    monkeypatch.setattr("axiom_bench.records.sources.version_of", lambda name: "2")
    assert first["mine"] != keys("other", chosen)["mine"]


@pytest.mark.slow
def test_a_file_that_a_parameter_names_is_declared(keys):
    chosen = (
        "metric=[gini]",
        "+method.mine._target_=users_cam.of_file",
        "+method.mine.reuse=true",
        "+method.mine.params.path=w.json",
    )
    before = keys("one", chosen)
    Path("w.json").write_text("5")
    after = keys("one", chosen)
    assert {method for method in after if after[method] != before[method]} == {"mine"}


@pytest.mark.slow
def test_tensors_that_are_not_among_the_weights_are_in_the_common_key(job):
    def key_of(value: float, name: str) -> str:
        module = torch.nn.Sequential(torch.nn.ReLU())
        if name == "buffer":
            module[0].register_buffer(name, torch.tensor(value), persistent=False)
        else:
            setattr(module[0], name, torch.tensor(value))
        return Keys(replace(plain, model=replace(plain.model, module=module))).common

    plain = job()
    assert key_of(1, "buffer") == key_of(1, "buffer") != key_of(2, "buffer")
    assert key_of(1, "plain") == key_of(1, "plain") != key_of(2, "plain")


@pytest.mark.slow
def test_a_networks_file_is_compiled_from_the_text_that_is_hashed(folder):
    """Check a file that changes within a second and keeps its length.

    Python itself would take the bytecode of the first text for that of the second.
    """
    file = folder / "users_scores.py"
    common_keys = []
    scores = []
    for factor in (1, 2):
        file.write_text(f"def scores(logits):\n    return {factor} * logits\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        words = tiny_overrides(("data.size=2", f"model.output={file}:scores", "target=predicted"))
        job = Job.of(Settings.of(configuration(words)))
        (module,) = (module for name, module in sys.modules.items() if "users_scores" in name)
        common_keys.append(Keys(job).common)
        scores.append(module.scores(1))
        py_compile.compile(str(file))
        del sys.modules[module.__name__]
    assert scores == [1, 2]
    assert common_keys[0] != common_keys[1]


@pytest.mark.slow
def test_the_manifest_names_the_command_and_no_run_goes_on_where_it_ended(command, results):
    names = []
    for _ in range(2):
        command(MINE)
        manifest = json.loads((results / RUN / "manifest.json").read_text())
        names.append(manifest["command"])
    assert names[0] != names[1]
