"""`experiment=paper`: the five networks on one photograph in ImageNet's layout, with random weights, one report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from axiom_bench.cli.main import main

LAYERS = {
    "alexnet": "features.12",
    "vgg16": "features.30",
    "vgg19": "features.36",
    "inception_v3": "Mixed_7c",
    "resnet101": "layer4",
}
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


def test_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = imagenet(tmp_path / "imagenet")
    overrides = [f"data.root={root}", "model.weights=null", "data.workers=0", "data.batch_size=1", "runtime.repeats=0"]
    metrics = "metric=[sensitivity_error,conservation_error,zeta,epsilon,box_iou]"
    argv = ["experiment=paper", *overrides, metrics, "pictures.rows=1", "device=cpu", f"results={tmp_path / 'results'}"]
    assert main(argv) == 0, capsys.readouterr()
    folder = tmp_path / "results" / "paper" / "default"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {name: model["layer"] for name, model in manifest["models"].items()} == LAYERS
    rows = pd.concat(pd.read_parquet(folder / path) for path in manifest["records"])
    assert set(rows["target_class"]) == {7}
    measured = rows[rows["status"] == "ok"]
    for name in LAYERS:
        values = measured[measured["model"] == name].set_index(["method", "metric"])["value"]
        # Random VGGs have no biases, so some of these are 0 but for float32's rounding of sums of 25,088 terms.
        for error, residual in (("sensitivity_error", "zeta"), ("conservation_error", "epsilon")):
            assert values["xgrad_cam", error] == pytest.approx(values["-", residual], rel=1e-4, abs=1e-5)
        assert values["ablation_cam_axiomatic", "sensitivity_error"] < 1e-5
    assert measured.loc[measured["metric"] == "zeta", "value"].max() > 0.1
    assert (folder / "report.html").stat().st_size > 100_000
    assert {path.stem for path in (folder / "figures").glob("over_models_*.png")} == {
        "over_models_zeta",
        "over_models_epsilon",
    }
