"""`axiom-bench paper`: which networks its exhibits show, and how long it says that it takes."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from axiom_bench.cli import paper as paper_command
from axiom_bench.cli.main import main
from axiom_bench.run import job, worker
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.result import Failure, Result
from axiom_bench.run.spine import PreparedJob
from axiom_bench.run.worker import Task
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import records_of, write_run

FEW = (
    *("data=scenes", "data.size=2", "data.workers=0", "method=[grad_cam,xgrad_cam]", "device=cpu", "runtime.repeats=0"),
    *("metric=[zeta,epsilon,average_drop]", "pictures.rows=0", "pictures.gallery=0"),
)


@pytest.mark.usefixtures("undrawn")
def test_an_estimate_comes_first_and_what_cannot_begin_is_loaded_once(tmp_path, monkeypatch, capsys):
    loads: Counter[str] = Counter()
    load = job.load_model

    def counting(settings: dict[str, Any], *shape: Any) -> Any:
        loads[settings["name"]] += 1
        return load(settings, *shape)

    monkeypatch.setattr(job, "load_model", counting)
    monkeypatch.setattr(paper_command, "_two_classes", lambda *_: (None, ""))
    command = ["paper", "model=scenes_vgg,resnet18", f"model.weights_folder={tmp_path}", *FEW, f"results={tmp_path}"]
    assert main(command) == 2
    lines = capsys.readouterr().out.splitlines()
    estimates = [place for place, line in enumerate(lines) if line.startswith("The run takes about ")]
    costs = [place for place, line in enumerate(lines) if "forward passes beside" in line]
    assert len(estimates) == len(costs) == 1
    assert estimates < costs
    assert "to compute 2 images on 1 network, and 10 s per network for run times and figures." in lines[estimates[0]]
    assert loads == {"scenes_vgg": 2, "resnet18": 1}
    assert sum("resnet18.safetensors" in line for line in lines) == 1
    assert main(command) == 2
    assert "All values are computed. Run times and figures take about 10 s." in capsys.readouterr().out


def test_an_estimate_is_the_sum_over_jobs_that_can_begin():
    jobs = [
        PreparedJob(Task("", "", {}), Result(name, {"model": {"name": name}}, shards={"s": 4}, missing=["s"]), seconds)
        for name, seconds in {"a": 12.0, "b": 2.0}.items()
    ]
    jobs.append(PreparedJob(Task("", "", {}), Result("c", failure=Failure("No weights."))))
    sentence = paper_command.estimate(jobs)
    assert sentence.startswith("The run takes about 34 s: 14 s to compute 8 images on 2 networks, and 10 s per network")


def test_computing_seconds_grow_with_rows_and_passes(tmp_path, monkeypatch):
    """Each of eleven labels costs a trace and a pass of average drop for each method. A trace of 2 rows takes 8 s."""
    ticks = itertools.count(0, 8.0)
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(ticks))
    settings = [setting for setting in FEW if not setting.startswith(("metric=", "data.size="))]
    settings += ["model=scenes_vgg", "data.size=5", "data.batch_size=2", f"results={tmp_path}"]
    seconds = []
    for metrics in ("[epsilon,average_drop]", "[epsilon,average_drop,zeta]"):
        with composed(["experiment=paper", *settings, f"metric={metrics}"]) as composition:
            task = Task(metrics, "", composition.plain_job())
        seconds.append(worker.computing_seconds(task, worker.prepare(task).missing))
    worker.forget()
    assert seconds[0] == pytest.approx(11 * (1 + 2) * 8 / 2)
    assert seconds[1] > seconds[0]  # by the ablation drops


CHOICES = {
    "model=resnet18,alexnet model.layer=last_relu": "model=resnet18 model.layer=last_relu model.weights_folder=null",
    "model=resnet18 model.weights_folder=W model.output=logits": (
        "model=resnet18 model.weights_folder=W model.output=logits"
    ),
    "model=user model.name=mine": "model=user model.name=mine model.weights_folder=null",
    "": "model=vgg16 model.weights_folder=null",
}


@pytest.mark.parametrize("typed", CHOICES)
def test_images_of_two_classes_are_shown_to_the_networks_that_ran(typed, tmp_path, monkeypatch):
    """The class discriminability of other networks says nothing about the chosen ones."""
    ran: list[list[str]] = []

    def run_nothing(arguments: list[str], *_: object) -> tuple[int, None, dict[str, str]]:
        ran.append(arguments)
        return 2, None, {"resnet18": "It has no class of VOC.", "other": "It has no class of VOC."}

    monkeypatch.setattr(paper_command, "_run", run_nothing)
    run = RunFolder.read(write_run(tmp_path / "run", records_of(6), pictures=False))
    run = replace(run, manifest={**run.manifest, "models": {"resnet18": {}, "vgg16": {}}})
    arguments = ["experiment=paper", "data.size=4", *typed.split(), "method=[xgrad_cam]"]
    made, problem = paper_command._two_classes(run, arguments, None)
    assert ran == [["experiment=paper_two_classes", "data.size=4", *CHOICES[typed].split()]]
    assert made is None
    assert problem == "Without resnet18, other: It has no class of VOC."
