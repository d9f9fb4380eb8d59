"""The default command, as a user types it: another process, another folder, nothing set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import methods
import metrics

COMMAND = Path(sys.executable).with_name("axiom-bench")


def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLUMNS")}
    return subprocess.run(
        [COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_quick(tmp_path: Path):
    first = typed(tmp_path, "data.size=6")
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # Hydra leaves nothing in the current folder
    folder = tmp_path / "results" / "quick" / "default"
    assert first.stdout.splitlines()[-1] == "report: results/quick/default/report.html"
    assert "images/s" in first.stdout
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["models"]) == ["scenes_vgg", "scenes_resnet"]
    assert list(manifest["methods"]) == methods.names()
    assert {about["metric"] for about in manifest["metrics"].values()} == set(metrics.names())

    again = typed(tmp_path, "data.size=6")
    assert again.returncode == 0
    assert "2 of 2 shards were already there: nothing was computed" in again.stdout
    assert "images/s" not in again.stdout

    wrong = typed(tmp_path, "method=[xgradcam]")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("axiom-bench: There is no method 'xgradcam'; did you mean")
    assert len(wrong.stderr.splitlines()) == 1
