"""`experiment=shortcut` on a handful of scenes: the maps lie on the mark for the network that goes by it alone."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.cli.main import main
from axiom_bench.embedded import marked

HANDFUL = (
    "experiment=shortcut",
    "method=[grad_cam,uniform]",
    "data.size=40",
    "data.batch_size=8",
    "runtime.repeats=0",
    "pictures.rows=0",
    "pictures.gallery=0",
    "report.figures.formats=[png]",
    "device=cpu",
)


def test_shortcut(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each method that does better than a map that depends on no class shows the mark where it counts, and only there.

    On 59 scenes Grad-CAM's mean share is 0.918 and 0.003, the true ones 0.878 and 0.001, and uniform's 0.42 and 0.35.
    """
    assert main([*HANDFUL, f"results={tmp_path}"]) == 0, capsys.readouterr()
    folder = tmp_path / "shortcut" / "default"
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = pd.concat(pd.read_parquet(folder / path) for path in manifest["records"])
    assert set(rows["status"]) == {"ok"}
    assert set(rows["target_class"]) == {marked.CLASS}
    assert rows["image_id"].nunique() >= 5
    mean = rows.groupby(["model", "method", "metric"])["value"].mean()
    assert mean["scenes_shortcut", "-", "mark_effect_share"] > 0.7
    assert mean["scenes_vgg", "-", "mark_effect_share"] < 0.1
    assert mean["scenes_shortcut", "grad_cam", "mark_share"] > 0.7
    assert mean["scenes_vgg", "grad_cam", "mark_share"] < 0.1
    for network in ("scenes_shortcut", "scenes_vgg"):
        errors = mean[network, :, "mark_share_error"]
        assert errors["grad_cam"] < 0.5 * errors["uniform"]
