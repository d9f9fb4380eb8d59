"""`experiment=real` on a handful of photographs: trained weights, boxes, and the user's own network."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.cli.main import main
from axiom_bench.run.sweep import configuration

ROOT = Path(configuration(["experiment=real"])["real_root"])
HANDFUL = (
    "experiment=real",
    "model=squeezenet1_1,own_model",
    "method=[grad_cam,xgrad_cam,ablation_cam_axiomatic]",
    "metric=[sensitivity_error,conservation_error,confidence_drop,box_iou,zeta]",
    "data.size=6",
    "data.batch_size=6",
    "runtime.repeats=1",
    "runtime.batch_size=1",
    "pictures.rows=1",
    "pictures.gallery=1",
    "report.figures.formats=[png]",
    "device=cpu",
)


@pytest.mark.real
@pytest.mark.skipif(
    not (ROOT / "weights").is_dir(), reason=f"no photographs and weights in {ROOT}: set AXIOM_BENCH_REAL"
)
def test_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*HANDFUL, f"real_root={ROOT.resolve()}", f"results={tmp_path}"]) == 0, capsys.readouterr()
    folder = tmp_path / "real" / "default"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["models"]) == ["squeezenet1_1", "own_model"]
    assert list(manifest["data"]) == ["imagenet", "own_images"]
    rows = pd.concat(pd.read_parquet(folder / path) for path in manifest["records"])
    assert set(rows["status"]) == {"ok"}
    drops = rows[(rows["method"] == "ablation_cam_axiomatic") & (rows["metric"] == "sensitivity_error")]
    assert len(drops) == 12
    assert drops["value"].max() < 1e-3  # the sensitivity axiom holds by construction, but for guarded channels
    own = rows[(rows["model"] == "own_model") & (rows["metric"] == "zeta")]
    assert (own["target_class"] == own["predicted_class"]).mean() >= 0.5  # of 0.9 over all: the weights are right
    boxes = rows[(rows["metric"] == "box_iou") & (rows["method"] == "grad_cam")]
    assert boxes["value"].mean() > 0.2  # boxes follow their images through resize and crop


def test_a_real_root_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    nowhere = tmp_path / "nowhere"
    code = main(["experiment=real", "model=resnet18", f"real_root={nowhere}", f"results={tmp_path / 'results'}"])
    assert code == 2
    output = capsys.readouterr().out
    assert f"{nowhere}{os.sep}data{os.sep}imagenet" in output
    assert "ImageNet layout" in output  # what was expected there
