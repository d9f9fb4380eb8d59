"""`experiment=voc` on a handful of photographs: VOC's classes through an ImageNet network, several in an image."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.cli.main import main
from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.run.sweep import configuration

ROOT = Path(configuration(["experiment=voc"])["real_root"])
HANDFUL = (
    "experiment=voc",
    "model=squeezenet1_1",
    "method=[xgrad_cam,ablation_cam_axiomatic]",
    "metric=[sensitivity_error,confidence_drop,box_iou,zeta]",
    "data.size=5",
    "data.batch_size=5",
    "runtime.repeats=0",
    "pictures.rows=1",
    "pictures.gallery=1",
    "report.figures.formats=[png]",
    "device=cpu",
)


@pytest.mark.real
@pytest.mark.skipif(
    not (ROOT / "weights").is_dir(), reason=f"no photographs and weights in {ROOT}: set AXIOM_BENCH_REAL"
)
def test_voc(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*HANDFUL, f"real_root={ROOT.resolve()}", f"results={tmp_path}"]) == 0, capsys.readouterr()
    folder = tmp_path / "voc" / "default"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["models"]) == ["squeezenet1_1+voc_groups"]
    rows = pd.concat(pd.read_parquet(folder / path) for path in manifest["records"])
    explained = rows[rows["metric"] == "zeta"]
    assert explained["target_class"].between(0, len(CLASSES) - 1).all()
    assert explained["image_id"].nunique() == 5
    assert set(explained["status"]) == {"ok"}
    drops = rows[(rows["method"] == "ablation_cam_axiomatic") & (rows["metric"] == "sensitivity_error")]
    assert drops["value"].max() < 1e-3  # the drops through the groups are exact
    assert (explained["target_class"] == explained["predicted_class"]).mean() >= 0.3


@pytest.mark.real
@pytest.mark.skipif(not (ROOT / "weights").is_dir(), reason=f"no photographs and weights in {ROOT}")
def test_without_the_groups_the_sentence_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = main([*HANDFUL, "model.output=logits", f"real_root={ROOT.resolve()}", f"results={tmp_path}"])
    assert code == 2
    assert "model.output=voc_groups" in capsys.readouterr().out
