"""Which values of a user's own plug-in a later command takes, and that no other is ever stale."""

from __future__ import annotations

import importlib
import json
import os
import py_compile
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from axiom_bench.cli.benchmark import compute
from axiom_bench.records import reading, record_files
from axiom_bench.records.sources import Sources
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from axiom_bench.run.spine import configuration

from .conftest import RUN, tiny

PLUGIN = """
import json
import torch
from pathlib import Path
from axiom_bench.kinds import File
from users_help import FACTOR

def cam(trace, scale=1.0):
    return trace.gradients * scale * FACTOR * json.loads((Path(__file__).parent / "w.json").read_text())

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
    """The current folder, with a module of plug-ins, what it imports, and a file that it reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("users_cam.py").write_text(PLUGIN)
    Path("users_help.py").write_text("FACTOR = 1\n")
    Path("w.json").write_text("1")
    yield tmp_path
    forget()


def forget() -> None:
    """What a new process doesn't know."""
    for name in [name for name in sys.modules if name.startswith("users_")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def command(results: Path, folder: Path) -> Callable[..., tuple[set[str], list[float]]]:
    """Runs a command as a new process would: the (method, metric)s that it computed, and the values
    of `mine`.
    """
    seen: set[str] = set()

    def run(*overrides: str, goes_on: bool = False) -> tuple[set[str], list[float]]:
        forget()
        code, lines, path = compute([*tiny(overrides), f"results={results}"], goes_on=goes_on)
        assert code == 0, lines
        files = [
            file
            for files in record_files.read(path).files.values()
            for file in files
            if file.name not in seen
        ]
        seen.update(file.name for file in files)
        table = reading.read_records(path, reading.read_manifest(path)).sort_values("image_id")
        of_mine = table.loc[table["method"].astype(str) == "mine", "value"]
        return {method for file in files for method in file.values}, of_mine.tolist()

    return run


@pytest.mark.slow
def test_a_users_own_is_computed_again_by_every_command_and_the_suites_own_is_not(command):
    """So nothing that it reads can make its values stale."""
    assert command(*MINE)[0] == {"grad_cam", "mine"}
    Path("w.json").write_text("-1")
    computed, values = command(*MINE)
    assert computed == {"mine"}
    assert command(*MINE, "+method.mine.reuse=true", "run=other")[1] == values


@pytest.mark.slow
def test_reuse_takes_what_follows_from_source_parameters_and_declared_files(command):
    reused = (*MINE, "+method.mine.reuse=true", "+method.mine.files=[w.json]")
    assert command(*reused)[0] == {"grad_cam", "mine"}
    assert command(*reused)[0] == set()
    Path("users_cam.py").write_text(f'"""A docstring."""{PLUGIN}')
    assert command(*reused)[0] == set()
    for change in (
        lambda: Path("w.json").write_text("2"),
        lambda: Path("users_help.py").write_text("FACTOR = 2\n"),
        lambda: Path("users_cam.py").write_text(PLUGIN + "\nX = 1\n"),
    ):
        change()
        assert command(*reused)[0] == {"mine"}
    assert command(*reused, "+method.mine.params.scale=2")[0] == {"mine"}


@pytest.mark.slow
def test_a_stored_run_takes_what_was_said_of_a_plug_in_and_doesnt_call_it(command, results):
    drawing = ("+method.mine._target_=users_cam.drawing", "+method.mine.reuse=true", *MINE[1:])
    for _ in range(2):
        command(*drawing)
        calls = Path("calls").read_text()
        assert "draws from a global random state" in str(
            reading.read_manifest(results / RUN).methods["mine"]
        )
    Path("calls").write_text("")
    command(*drawing)
    assert calls
    assert not Path("calls").read_text()
    assert command(*drawing, "data.size=6")[0] == {"grad_cam", "mine"}
    assert Path("calls").read_text()


@pytest.mark.slow
def test_a_killed_command_goes_on_with_what_it_computed(command, results):
    overrides = (
        "+method.mine._target_=users_cam.stopping",
        "method=[grad_cam]",
        "metric=[gini]",
        "shard_size=1",
    )
    Path("stop").touch()
    with pytest.raises(KeyboardInterrupt):
        command(*overrides, "data.workers=0")
    Path("stop").unlink()
    before = sum(map(len, record_files.read(results / RUN).files.values()))
    assert before
    command(*overrides, "data.workers=0")
    files = [file for files in record_files.read(results / RUN).files.values() for file in files]
    assert len(files) == 5
    command(*overrides, "data.workers=0")  # which that one wasn't killed before
    by_shard = record_files.read(results / RUN).files
    assert sum("mine" in file.values for files in by_shard.values() for file in files) == 10


@pytest.mark.slow
def test_a_command_that_goes_on_takes_those_of_the_one_before(command):
    """As `submit` after `rank`: also with other run times."""
    first = command(*MINE)[1]
    assert command(*MINE, "runtime.repeats=1", goes_on=True) == (set(), first)
    Path("users_help.py").write_text("FACTOR = 2\n")
    assert command(*MINE, goes_on=True)[0] == {"mine"}


@pytest.fixture
def keys() -> Callable[..., dict[str, dict[str, str]]]:
    """The keys of a job's values, by a command of this name."""

    def of(name: str, *overrides: str) -> dict[str, dict[str, str]]:
        forget()
        return Keys(
            Job.of(Settings.of(configuration(tiny(("data.size=2", *overrides))))), name
        ).values

    return of


CHANGING = {  # {what: (settings, whether another command computes it anew)}
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
@pytest.mark.parametrize(("overrides", "anew"), CHANGING.values(), ids=CHANGING)
def test_what_another_command_computes_anew(keys, overrides, anew):
    chosen = ("method=[grad_cam]", "metric=[confidence_drop]", *overrides)
    one, same, other = keys("one", *chosen), keys("one", *chosen), keys("other", *chosen)
    assert one == same
    assert {
        (of, name) for of in one for name in one[of] if one[of][name] != other[of][name]
    } == anew


@pytest.mark.slow
def test_a_plug_in_of_an_installed_distribution_counts_by_its_version(keys, monkeypatch):
    found = Sources.distributions
    monkeypatch.setattr(
        Sources,
        "distributions",
        lambda self, top: ("mine",) if top == "users_cam" else found(self, top),
    )
    chosen = ("method=[grad_cam]", "metric=[gini]", "+method.mine._target_=users_cam.cam")
    first = keys("one", *chosen)
    assert first == keys("other", *chosen)
    monkeypatch.setattr("axiom_bench.records.sources.version_of", lambda name: "2")
    assert first["mine"] != keys("other", *chosen)["mine"]


def test_a_file_that_a_parameter_names_is_declared(keys):
    chosen = ("metric=[gini]", "+method.mine._target_=users_cam.of_file", "+method.mine.reuse=true")
    chosen = (*chosen, "+method.mine.params.path=w.json")
    before = keys("one", *chosen)
    Path("w.json").write_text("5")
    assert {name for name, of in keys("one", *chosen).items() if of != before[name]} == {"mine"}


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


def test_a_networks_file_is_compiled_from_the_text_that_is_hashed(folder):
    """Python takes bytecode of the same second and length for that of the file: here also of
    another text.
    """
    file = folder / "users_scores.py"
    answers = []
    for factor in (1, 2):
        file.write_text(f"def scores(logits):\n    return {factor} * logits\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        words = tiny(("data.size=2", f"model.output={file}:scores", "target=predicted"))
        job = Job.of(Settings.of(configuration(words)))
        (module,) = (module for name, module in sys.modules.items() if "users_scores" in name)
        answers.append((Keys(job).common, module.scores(1)))
        py_compile.compile(str(file))
        del sys.modules[module.__name__]
    assert [scores for _, scores in answers] == [1, 2]
    assert answers[0][0] != answers[1][0]


@pytest.mark.slow
def test_the_manifest_names_the_command_and_no_run_goes_on_where_it_ended(command, results):
    names = []
    for _ in range(2):
        command(*MINE)
        names.append(json.loads((results / RUN / "manifest.json").read_text())["command"])
    assert names[0] != names[1]
