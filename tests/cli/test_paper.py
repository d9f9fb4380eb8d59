"""Tests of `axiom-bench paper` and the networks that its exhibits show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from axiom_bench.cli import paper as paper_command
from axiom_bench.cli.main import main
from axiom_bench.records.entries import Manifest, ModelEntry
from axiom_bench.run import job
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import records_of, write_run

SMALL = (
    "data=scenes",
    "data.size=2",
    "data.workers=0",
    "method=[grad_cam,xgrad_cam]",
    "device=cpu",
    "runtime.repeats=0",
    "metric=[zeta,epsilon,average_drop]",
    "pictures.rows=0",
    "pictures.gallery=0",
)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_what_cannot_begin_is_loaded_once(tmp_path, monkeypatch, capsys):
    loads: Counter[str] = Counter()
    load = job.load_model

    def load_and_count(settings: dict[str, Any], *shape: Any) -> Any:
        loads[settings["name"]] += 1
        return load(settings, *shape)

    monkeypatch.setattr(job, "load_model", load_and_count)
    monkeypatch.setattr(paper_command, "_two_classes", lambda *_: (None, ""))
    models = ["model=scenes_vgg,resnet18", f"model.weights_folder={tmp_path}"]

    assert main(["paper", *models, *SMALL, f"results={tmp_path}"]) == 2

    lines = capsys.readouterr().out.splitlines()
    assert loads == {"scenes_vgg": 1, "resnet18": 1}
    assert sum("resnet18.safetensors" in line for line in lines) == 1


NO_FOLDER = "model.weights_folder=null"
MODEL_SETTINGS = {  # settings that the user types, and those of the run on images of two classes
    "model=resnet18,alexnet model.layer=last_relu": (
        f"model=resnet18 model.layer=last_relu {NO_FOLDER}"
    ),
    "model=resnet18 model.weights_folder=W model.output=logits": (
        "model=resnet18 model.weights_folder=W model.output=logits"
    ),
    "model=user model.name=mine": f"model=user model.name=mine {NO_FOLDER}",
    "": f"model=vgg16 {NO_FOLDER}",
}


@pytest.mark.parametrize("typed", MODEL_SETTINGS)
def test_images_of_two_classes_are_shown_to_the_networks_that_ran(typed, tmp_path, monkeypatch):
    """Check the settings of the second run.

    The class discriminability of other networks says nothing about the chosen ones.
    """
    commands: list[list[str]] = []

    def run_nothing(arguments: list[str], *_: object) -> tuple[int, None, dict[str, str]]:
        commands.append(arguments)
        return 2, None, {"resnet18": "It has no class of VOC.", "other": "It has no class of VOC."}

    monkeypatch.setattr(paper_command, "_run", run_nothing)
    run = RunFolder.read(write_run(tmp_path / "run", records_of(6), pictures=False))
    run = replace(run, manifest=Manifest(models={"resnet18": ModelEntry(), "vgg16": ModelEntry()}))
    arguments = ["experiment=paper", "data.size=4", *typed.split(), "method=[xgrad_cam]"]

    folder, problem = paper_command._two_classes(run, arguments, None)

    settings = MODEL_SETTINGS[typed].split()
    assert commands == [["experiment=paper_two_classes", "data.size=4", *settings]]
    assert folder is None
    assert problem == "Without resnet18, other: It has no class of VOC."
