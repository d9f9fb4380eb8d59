"""`axiom-bench verify`: a sample of a run's values, computed anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from axiom_bench.cli.finish import keep
from axiom_bench.cli.main import main
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records import artefacts, holdings, store
from axiom_bench.run import verification
from axiom_bench.run.sweep import sweep

SETTINGS = (
    *("model=scenes_vgg", "data.size=5", "data.batch_size=4", "shard_size=2", "device=cpu"),
    *(
        "method=[grad_cam,xgrad_cam]",
        "metric=[sensitivity_error,box_iou,zeta]",
        "runtime.repeats=0",
        "target=predicted",
    ),
    *("pictures.rows=0", "pictures.gallery=0", "data.workers=0"),
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


class InThisProcess:
    """A new one takes three seconds to import torch."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable, *arguments: object) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def run(tmp_path, monkeypatch):
    """(overrides) -> a run in the current folder, which has a module of plug-ins; its computed shards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(verification, "ProcessPoolExecutor", InThisProcess)
    Path("verified_plugins.py").write_text(PLUGINS)

    def run(*overrides: str) -> int:
        config, outcomes = sweep([*SETTINGS, *overrides])
        assert keep(config, outcomes) is not None
        return outcomes[0].computed.shards

    return run


def verified(capsys, *options) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = main(["verify", str(FOLDER), *options])
    printed = capsys.readouterr()
    assert code < 2, printed.err
    return code, printed.out.splitlines()


def test_an_untouched_run_is_the_same_bit_by_bit(run, capsys):
    run()
    code, lines = verified(capsys)
    assert (code, lines) == (0, ["15 values of 3 images were computed anew and compared bit by bit: all are the same."])
    verdict = json.loads((FOLDER / "manifest.json").read_text())["verified"]
    assert {**verdict, "at": ""} == {
        **{"values": 15, "images": 3, "seed": 0, "compared": "bit by bit", "differing": 0, "at": ""}
    }
    assert run() == 0  # a verified run goes on


FLAT = ("metric=[sensitivity_error,zeta]", "+metric.flat._target_=axiom_bench.metrics.gini.gini")


def test_values_of_a_guard_that_is_off_are_named(run, capsys, monkeypatch):
    """A metric writes to others' maps, as before there was a proof: the same command without it shows their values."""
    with monkeypatch.context() as patch:
        patch.setattr(Plugin, "is_foreign", False)
        metric, *flat = FLAT
        run(metric, "+metric.halved._target_=verified_plugins.halved", *flat)
    assert run(*FLAT) == 0
    code, lines = verified(capsys)
    assert code == 1
    assert [line.split(": ")[1].split(" differs")[0] for line in lines[1:-1]] == [
        "flat of grad_cam",
        "flat of xgrad_cam",
    ]
    assert lines[-1].endswith("delete the run folder, and run it again.")


def test_what_depends_on_the_batch_isnt_the_same_again(run, capsys):
    run("+method.centred._target_=verified_plugins.centred")
    assert main(["verify", str(FOLDER)]) == 2
    assert "method.centred._target_=verified_plugins.centred. Add --trust" in capsys.readouterr().err
    code, lines = verified(capsys, "--trust")
    assert code == 1
    assert all(" of centred differs in " in line for line in lines[1:-1])


def test_a_run_of_a_users_own_method_alone_has_all_its_values_compared(run, capsys):
    """The layer's metrics too, which have no method."""
    run("method=[]", "+method.mine._target_=verified_plugins.gradients")
    code, lines = verified(capsys, "--trust")
    assert (code, lines[1:]) == (0, [])
    assert lines[0].startswith("9 values of 3 images ")


def changed(scale: float, **about: str) -> None:
    """The stored values of xgrad_cam's sensitivity error times this. about: keys of the manifest."""
    manifest = json.dumps({**artefacts.read(FOLDER), **about})
    for shard, (file,) in holdings.read(FOLDER).files.items():
        table = store.read_table(FOLDER / file.name, store.SCHEMA).to_pandas()
        of_method = (table["method"] == "xgrad_cam") & (table["metric"] == "sensitivity_error")
        table["value"] = table["value"].where(~of_method, table["value"] * scale)
        notes = {"names": file.names, "curves": file.curves, "axes": file.axes}
        written = holdings.write(FOLDER, shard, file.values, table, table[:0], notes)
        manifest = manifest.replace(file.name, written.name)
    artefacts.write(FOLDER, json.loads(manifest))


@pytest.mark.parametrize(("hardware", "scale", "code"), [
    (None, 1 + 1e-15, 1), ("another CPU", 1 + 1e-9, 0), ("another CPU", 1.5, 1),
])  # fmt: skip
def test_other_hardware_is_compared_within_the_gates_tolerances(run, capsys, hardware, scale, code):
    run()
    changed(scale, **({"hardware": hardware} if hardware else {}))
    found, lines = verified(capsys)
    assert found == code
    assert ("within the gate's tolerances" in lines[0]) == bool(hardware)
    if code:
        assert len(lines) == 3
        assert "scenes_vgg at features.13 on scenes: " in lines[1]
        assert "sensitivity_error of xgrad_cam" in lines[1]


def test_combined_runs_are_refused(run, capsys):
    run()
    artefacts.write(FOLDER, {**artefacts.read(FOLDER), "runs": [{"folder": "a"}]})
    assert main(["verify", str(FOLDER)]) == 2
    assert "combines several runs; verify each of them." in capsys.readouterr().err


@pytest.mark.slow
def test_processes_of_their_own(run, capsys, monkeypatch):
    monkeypatch.undo()
    run()
    assert verified(capsys)[0] == 0
