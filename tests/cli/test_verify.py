"""Tests of `axiom-bench verify`, which computes a sample of a run's values again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.main import main
from axiom_bench.cli.verify import compare_with_stored
from axiom_bench.data.embedded import Scenes
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records.entries import Manifest, MetricEntry
from axiom_bench.run import shards, verification
from axiom_bench.run.manifest import hardware, keep
from axiom_bench.statistics.labels import Metadata
from tests.gate.conftest import TOLERANCES, records_of, times
from tests.made_runs import entries_of, write_entries

from .conftest import forget

SETTINGS = (
    "run=default",
    "model=scenes_vgg",
    "data.size=5",
    "data.batch_size=4",
    "shard_size=2",
    "device=cpu",
    "method=[grad_cam,xgrad_cam]",
    "metric=[sensitivity_error,box_iou,zeta]",
    "target=predicted",
    "runtime.repeats=0",
    "pictures.rows=0",
    "pictures.gallery=0",
    "data.workers=0",
)
PLUGINS = """
def gradients(trace):
    return trace.gradients

def centred(trace):
    return trace.gradients - trace.gradients.mean(0)

def halved(explanation):
    heatmap = explanation.heatmap.numpy()
    heatmap[heatmap < 0.9] = 0
    return explanation.heatmap.mean((1, 2))
"""
FOLDER = Path("results/quick/default")


@pytest.fixture
def run(tmp_path, monkeypatch, in_this_process):
    """A function that computes a run in the current folder and returns how many shards it computed.

    The folder has a module of plug-ins.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("verified_plugins.py").write_text(PLUGINS)

    def run(overrides: Sequence[str] = ()) -> int:
        forget(tmp_path)
        settings, outcomes = run_jobs([*SETTINGS, *overrides])
        assert keep(settings, outcomes) is not None
        return outcomes[0].computed.shards

    yield run
    forget(tmp_path)


def verify(capsys, *options) -> tuple[int, list[str]]:
    """Verify the run, and return the exit code and the printed lines."""
    capsys.readouterr()
    code = main(["verify", str(FOLDER), "--seed", "0", *options])
    printed = capsys.readouterr()
    assert code < 2, printed.err
    return code, printed.out.splitlines()


@pytest.mark.slow
def test_an_untouched_run_is_the_same_bit_by_bit(run, capsys):
    run()

    code, lines = verify(capsys)

    assert code == 0
    assert lines == [
        "15 values of 3 images (seed 0) were computed again and compared bit by bit: all are the "
        "same."
    ]
    verdict = json.loads((FOLDER / "manifest.json").read_text())["verified"]
    del verdict["at"]  # the time
    assert verdict == {
        "values": 15,
        "images": 3,
        "seed": 0,
        "compared": "bit by bit",
        "differing": 0,
    }
    assert run() == 0  # the same command reuses the values of a verified run


@pytest.mark.slow
def test_a_method_that_the_run_left_out_is_left_out_in_silence(run, capsys, recwarn):
    run(["+method.cam._target_=axiom_bench.methods.cam.cam"])  # scenes_vgg has no global pooling
    recwarn.clear()
    code, _ = verify(capsys)
    assert code == 0
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.slow
def test_jobs_that_failed_are_listed_by_status_and_left_out_by_verify(run, capsys):
    settings, outcomes = run_jobs([*SETTINGS, "model.layer=features.13,features.99,features.98"])
    assert keep(settings, outcomes) is not None

    code, (summary,) = verify(capsys)

    assert code == 0
    assert summary.startswith("15 values of 3 images ")
    assert main(["status", str(FOLDER)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{FOLDER} isn't complete: its last command ended on ")
    assert first.endswith(", and jobs failed.")
    assert lines[0] == "scenes_vgg at features.13 on scenes: 5 images."
    reasons = [line.split(";")[0] for line in lines[1:]]
    assert reasons == [
        "failed: scenes_vgg: There is no layer 'features.99'",
        "failed: scenes_vgg: There is no layer 'features.98'",
    ]


METRICS = "metric=[sensitivity_error,zeta]"
FLAT = "+metric.flat._target_=axiom_bench.metrics.gini.gini"


@pytest.mark.slow
def test_values_of_a_guard_that_is_off_are_named(run, capsys, monkeypatch):
    """Check a run with a metric that writes to other metrics' maps.

    The guard against this is off. The same command without the metric reuses the other values, and
    `verify` finds that they are wrong.
    """
    with monkeypatch.context() as patch:
        patch.setattr(Plugin, "is_foreign", False)
        run([METRICS, "+metric.halved._target_=verified_plugins.halved", FLAT])
    assert run([METRICS, FLAT]) == 0

    code, lines = verify(capsys)

    assert code == 1
    differing = [line.split(": ")[1].split(" differs")[0] for line in lines[1:-1]]
    assert differing == ["flat of grad_cam", "flat of xgrad_cam"]
    assert lines[-1].endswith("delete the run folder, and run it again.")


@pytest.mark.slow
def test_what_depends_on_the_batch_isnt_the_same_again(run, capsys):
    run(["+method.centred._target_=verified_plugins.centred"])
    assert main(["verify", str(FOLDER)]) == 2
    error = capsys.readouterr().err
    assert "method.centred._target_=verified_plugins.centred. Add --trust" in error
    code, lines = verify(capsys, "--trust")
    assert code == 1
    assert all(" of centred differs in " in line for line in lines[1:-1])


@pytest.mark.slow
def test_a_run_of_a_users_own_method_alone_has_all_its_values_compared(run, capsys):
    """Check that the layer's metrics, which have no method, are also compared."""
    run(["method=[]", "+method.mine._target_=verified_plugins.gradients"])
    code, (line,) = verify(capsys, "--trust")
    assert code == 0
    assert line.startswith("9 values of 3 images ")


@pytest.mark.parametrize(
    ("other", "factor", "differing"),
    [
        ({}, 1 + 1e-15, 2),
        ({"threads": 1000}, 1 + 1e-9, 0),
        ({"hardware": "another CPU"}, 1 + 1e-9, 0),
        ({"hardware": "another CPU"}, 1.5, 2),
    ],
)
def test_another_machine_is_compared_within_the_gates_tolerances(other, factor, differing):
    stored = records_of()
    content = {
        "device": "cpu",
        "versions": {},
        "hardware": hardware(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        **other,
    }
    run = Manifest.model_validate(content)
    metrics = {name: MetricEntry(tolerance=rule) for name, rule in TOLERANCES.items()}
    metadata = Metadata(Manifest(metrics=metrics))

    comparison, lines = compare_with_stored(stored, times(factor)(stored), run, metadata)

    assert comparison.startswith("within the gate's tolerances" if other else "bit by bit")
    assert len(lines) == differing
    assert all(" at last on scenes: error of xgrad_cam" in line for line in lines)


@pytest.mark.slow
def test_combined_runs_are_refused(run, capsys):
    run()
    write_entries(FOLDER, {**entries_of(FOLDER), "runs": [{"folder": "a"}]})
    assert main(["verify", str(FOLDER)]) == 2
    assert "combines several runs; verify each of them." in capsys.readouterr().err


@pytest.mark.slow
def test_processes_of_their_own(run, capsys, monkeypatch):
    monkeypatch.setattr(verification, "ProcessPoolExecutor", ProcessPoolExecutor)
    run()
    code, _ = verify(capsys)
    assert code == 0


# A user's metric, network and output. One of the four placeholders reads a value that changes
# between two runs, the others are 1.0.
MODULE = """
import importlib
import json
import os
from pathlib import Path
import torch
HERE = Path(__file__).parent

def score(explanation):
    return explanation.trace.scores * {plugin}

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("buffer", torch.tensor({buffer}), persistent=False)
        self.factor = {builder}

    def forward(self, values):
        return values * self.buffer * self.factor

class Output(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = {output}

    def forward(self, logits):
        return logits * self.factor

def build():
    features = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), Scaled()]
    return torch.nn.Sequential(*features, torch.nn.Flatten(), torch.nn.Linear(400, 3))
"""
READ_FILE = "json.loads((HERE / 'w.json').read_text())"
READ_ENVIRONMENT = "float(os.environ['USERS_FACTOR'])"
USER_SETTINGS = (
    "model=user",
    "model.name=bent",
    "model.architecture=bent:build",
    "model.weights=null",
    "model.layer='1'",
    "model.resize=12",
    "model.crop=12",
    "data.size=3",
    "shard_size=3",
    "method=[grad_cam]",
    "metric=[conservation_error_raw]",
    "+metric.score._target_=bent.score",
    "+metric.score.reuse=true",
    "target=predicted",
    "model.output=bent:Output",
)


def write_factor(value: int) -> None:
    """Write the value that READ_FILE and READ_ENVIRONMENT read."""
    Path("w.json").write_text(f"{value}.0")
    os.environ["USERS_FACTOR"] = str(value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("placeholder", "expression"),
    [
        pytest.param("plugin", READ_FILE, id="a plug-in opens a file"),
        pytest.param(
            "plugin",
            READ_ENVIRONMENT,
            id="a plug-in asks the environment",
            marks=pytest.mark.slow,
        ),
        pytest.param("builder", READ_FILE, id="a builder opens a file"),
        pytest.param("output", READ_FILE, id="an output opens a file", marks=pytest.mark.slow),
        pytest.param("buffer", READ_FILE, id="a buffer that isn't saved", marks=pytest.mark.slow),
    ],
)
def test_a_stale_value_is_named(run, capsys, monkeypatch, placeholder, expression):
    """Check values that depend on a file or variable that the run doesn't know.

    The same command computes nothing again after the value has changed: the plug-in's `reuse` is
    true, and the key of the network doesn't contain its tensors.
    """
    monkeypatch.setenv("USERS_FACTOR", "")
    expressions = {"plugin": "1.0", "buffer": "1.0", "builder": "1.0", "output": "1.0"}
    expressions[placeholder] = expression
    Path("bent.py").write_text(MODULE.format(**expressions))
    with monkeypatch.context() as patch:
        patch.setattr("axiom_bench.run.keys.tensors_sha256", lambda _: "")
        write_factor(1)
        run(USER_SETTINGS)
        write_factor(2)
        assert run(USER_SETTINGS) == 0

    code, lines = verify(capsys, "--trust")

    assert code == 1
    assert any("score of grad_cam differs in 3 of 3 values" in line for line in lines)


@pytest.mark.slow
def test_an_image_that_is_replaced_between_hashing_and_decoding_is_named(run, capsys, monkeypatch):
    def write_photograph(number: int) -> None:
        file = Path("photographs/digit/a.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Scenes(size=2).read(number).image.save(file)
        os.utime(file, (1e9, 1e9))

    def replace_and_compute(*arguments, compute_shard=shards.compute_shard):
        write_photograph(1)
        return compute_shard(*arguments)

    write_photograph(0)
    overrides = (
        "data=folder",
        "data.root=photographs",
        "data.classes=null",
        "data.size=1",
        "metric=[confidence_drop]",
    )
    with monkeypatch.context() as patch:
        patch.setattr("axiom_bench.data.loading.check_unchanged", lambda *_: None)
        patch.setattr("axiom_bench.run.worker.shards.compute_shard", replace_and_compute)
        run(overrides)
    write_photograph(0)
    assert run(overrides) == 0

    code, lines = verify(capsys, "--trust")

    assert code == 1
    # The predicted class differs too: the stored and the new class have a row each.
    assert "confidence_drop of grad_cam differs in 2 of 2 values" in lines[1]
