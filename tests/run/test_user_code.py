"""A user's own modules, as a run imports them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OWN = """\
import torchvision

def my_cam(trace):
    assert torchvision.__version__
    return trace.gradients.mean((2, 3), keepdim=True)
"""
RUN = "from axiom_bench.run.sweep import sweep; _, (outcome,) = sweep({}); print(outcome.failure)"


@pytest.mark.slow
def test_a_users_module_may_import_torchvision(tmp_path: Path):
    """Also where torchvision's compiled operators can't be loaded beside a CPU-only torch."""
    (tmp_path / "my_module.py").write_text(OWN)
    overrides = ["+method.mine._target_=my_module.my_cam", "model=scenes_vgg", "method=[grad_cam]", "metric=[zeta]"]
    overrides += ["data.size=1", "runtime.repeats=0", "pictures.rows=0", f"results={tmp_path}"]
    run = subprocess.run(
        [sys.executable, "-c", RUN.format(overrides)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip().endswith("None"), run.stdout + run.stderr
