"""`experiment=paper` on one photograph in ImageNet's layout with random weights, and `axiom-bench paper` on scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from axiom_bench.cli import paper as paper_command
from axiom_bench.cli.main import main
from axiom_bench.environment import conf_folder
from axiom_bench.report.paper import paper as study
from axiom_bench.run.sweep import configuration

NETWORKS = ["alexnet", "vgg16", "vgg19", "inception_v3", "resnet101"]
LAYERS = {"alexnet": "features.12", "inception_v3": "Mixed_7c"}  # run here; the others take seconds to be drawn
BOX = (
    "<annotation><object><name>n00000007</name><bndbox><xmin>30</xmin><ymin>20</ymin><xmax>200</xmax><ymax>180</ymax>"
    "</bndbox></object></annotation>"
)


def imagenet(root: Path) -> Path:
    """One image of the eighth of a thousand classes, with its box."""
    folder, boxes = root / "val" / "n00000007", root / "Annotations" / "CLS-LOC" / "val"
    folder.mkdir(parents=True)
    boxes.mkdir(parents=True)
    (root / "LOC_synset_mapping.txt").write_text("".join(f"n{number:08d} class {number}\n" for number in range(1000)))
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "ILSVRC2012_val_00000001.JPEG")
    (boxes / "ILSVRC2012_val_00000001.xml").write_text(BOX)
    return root


def test_the_networks_of_the_paper():
    hydra = yaml.safe_load((conf_folder() / "experiment" / "paper.yaml").read_text())["hydra"]
    assert hydra["sweeper"]["params"]["model"].split(",") == NETWORKS


@pytest.mark.parametrize(
    "names", [pytest.param(["alexnet"], id="alexnet"), pytest.param([*LAYERS], id="two", marks=pytest.mark.slow)]
)
def test_paper(names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = imagenet(tmp_path / "imagenet")
    overrides = [f"data.root={root}", "model.weights=null", "data.workers=0", "data.batch_size=1", "runtime.repeats=0"]
    metrics = "metric=[sensitivity_error,conservation_error,zeta,epsilon,box_iou]"
    chosen = [
        "model=" + ",".join(names),
        metrics,
        "pictures.rows=0",
        "pictures.gallery=0",
        "report.figures.formats=[png]",
        "device=cpu",
    ]
    assert main(["experiment=paper", *overrides, *chosen, f"results={tmp_path / 'results'}"]) == 0, capsys.readouterr()
    folder = tmp_path / "results" / "paper" / "default"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {name: model["layer"] for name, model in manifest["models"].items()} == {
        name: LAYERS[name] for name in names
    }
    rows = pd.concat(pd.read_parquet(folder / path) for path in manifest["records"])
    assert set(rows["target_class"]) == {7}
    measured = rows[rows["status"] == "ok"]
    for name in names:
        values = measured[measured["model"] == name].set_index(["method", "metric"])["value"]
        # Biases are 0 at first, so some of these are 0 but for float32's rounding of sums of thousands of terms.
        for error, residual in (("sensitivity_error", "zeta"), ("conservation_error", "epsilon")):
            assert values["xgrad_cam", error] == pytest.approx(values["-", residual], rel=1e-4, abs=1e-5)
        assert values["ablation_cam_axiomatic", "sensitivity_error"] < 1e-5
    assert measured.loc[measured["metric"] == "zeta", "value"].max() > 0.1
    assert (folder / "report.html").stat().st_size > 100_000
    assert {path.stem for path in (folder / "figures").glob("over_models_*.png")} == {
        "over_models_zeta",
        "over_models_epsilon",
    }


SMALL = (
    "data=scenes",
    "model=scenes_vgg",
    "data.size=4",
    "data.batch_size=8",
    "method=[grad_cam,ablation_cam,xgrad_cam,guided_xgrad_cam]",
    "metric=[sensitivity_error,conservation_error,zeta,epsilon,confidence_drop,box_iou,pointing_game,class_discriminability]",
    "runtime.repeats=1",
    "pictures.rows=1",
    "device=cpu",
)


def test_the_papers_figures_and_tables_have_a_file_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["paper", *SMALL, f"results={tmp_path}"]) == 0
    output = capsys.readouterr().out
    folder = tmp_path / "paper" / "default" / "paper"
    assert f"paper: {folder / 'index.html'}" in output
    index, page = ((folder / name).read_text() for name in ("index.md", "index.html"))
    assert not (tmp_path / "paper_two_classes").exists()  # the scenes themselves show several classes
    for exhibit in study().exhibits:
        assert f"{exhibit.number}: {exhibit.title}" in output
        assert f"## {exhibit.number}: {exhibit.title}" in index
        assert f'id="{exhibit.file}"' in page
        files = {path.name for path in folder.glob(f"{exhibit.file}*")}
        assert {path.suffix for path in map(Path, files)} >= ({".pdf", ".png"} if exhibit.figures else {".tex", ".md"})
        assert any("_column." in name for name in files)
        assert all(f"]({name})" in index for name in files)
    assert "in whose place stand scenes_vgg" in index
    assert "50,000 validation images, in whose place stand 4 of scenes" in index
    assert "has no copy of them" in index


def test_every_metric_and_method_of_the_paper_is_in_its_experiments():
    config = configuration(["experiment=paper"])
    of_two = configuration(["experiment=paper_two_classes"])
    for exhibit in study().exhibits:
        assert set(exhibit.tables) <= set((of_two if exhibit.two_classes else config)["metric"])
        assert exhibit.against is None or exhibit.against in config["method"]


def test_networks_of_real_root_stand_in_where_none_of_the_papers_has_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    commands: list[list[str]] = []

    def fails(arguments: list[str], _: Path | None, __: str) -> tuple[int, None, dict[str, str]]:
        commands.append(arguments)
        return 2, None, {"alexnet": "The weights can't be downloaded."}

    monkeypatch.setattr(paper_command, "_run", fails)
    assert main(["paper", f"results={tmp_path}"]) == 2
    assert commands[1] == [*commands[0], f"model={','.join(study().instead)}", paper_command.IN_PLACE]
    assert "nothing to show" in capsys.readouterr().out
    commands.clear()
    assert main(["paper", "model=alexnet", f"results={tmp_path}"]) == 2
    assert len(commands) == 1  # named networks are not replaced
