"""The report and the gate need manifest and records alone: they run no code that these name, and import no torch."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from axiom_bench import report
from axiom_bench.gate import gate, write_baseline
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import sealed
from tests.made_runs import write_curves

COMMAND = """
import sys
from axiom_bench.cli.main import main
code = main(sys.argv[1:])
print("torch" in sys.modules, "torchvision" in sys.modules, "matplotlib" in sys.modules)
sys.exit(code)
"""


def hostile(folder: Path, witness: Path) -> None:
    """A manifest whose entries are calls of a shell: under every key that names code in a configuration."""
    manifest = sealed.read_json(folder / "manifest.json")
    shell = f"touch {shlex.quote(str(witness))}"
    calls = {
        "_target_": "builtins.dict",
        "values": "subprocess.getoutput",
        "aggregate": "subprocess.getoutput",
        "queries": "subprocess.getoutput",
        "forwards": f"__import__('os').system('{shell}')",
        "params": {"cmd": shell},
        "curves": {"some_curve": {"title": "A curve"}},
        "title": "{{ self.__init__.__globals__ }}",
    }
    manifest["config"]["metric"] = {"box_iou": calls, "conservation_error": calls}
    manifest["config"]["method"] = {"grad_cam": calls}
    for entry in (*manifest["metrics"].values(), *manifest["methods"].values()):
        entry.update({key: value for key, value in calls.items() if key not in ("title", "values")})
    curves = {"image_id": ["a", "b"], "target_class": 0, "method": "grad_cam", "curve": "some_curve", "status": "ok"}
    place = {"model": "scenes_fc", "layer": "features.9", "data": "scenes"}
    job = write_curves(folder, place, pd.DataFrame({**curves, "points": [[0.0], [1.0]]}), len(manifest["jobs"]))
    manifest |= {"curves": job.pop("curves"), "jobs": [*manifest["jobs"], job]}
    manifest_file.write(folder, manifest)


@pytest.mark.usefixtures("undrawn")
def test_a_manifest_that_names_code_runs_nothing(make_run: Any, make_records: Any, tmp_path: Path) -> None:
    """It ran a shell command: metadata of a metric went through the loader of plug-ins."""
    folder, witness = make_run(make_records(4), pictures=False), tmp_path / "a command ran"
    hostile(folder, witness)
    report.write(folder)
    report.headline(folder)
    baseline = write_baseline(folder, tmp_path / "baseline.csv")
    assert gate(folder, baseline).exit_code == 0
    assert not witness.exists()


@pytest.mark.parametrize(
    ("command", "draws"),
    [pytest.param(["report"], True, marks=pytest.mark.slow), (["gate", "--baseline", "baseline.csv"], False)],
)
def test_the_commands_import_no_torch(
    make_run: Any, make_records: Any, tmp_path: Path, command: list[str], draws: bool
) -> None:
    records = make_records(4)
    folder = make_run(records[records["metric"] == "box_iou"], pictures=False)
    write_baseline(folder, tmp_path / "baseline.csv")
    process = subprocess.run(
        [sys.executable, "-c", COMMAND, command[0], str(folder), *command[1:]],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == f"False False {draws}"
