"""A run with everything that the charts show: several layers, curves, run times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench.records import sealed
from axiom_bench.report.page.html import assemble
from axiom_bench.report.page.this_run import header
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import write_curves

LAYERS = {"scenes_fc": ("features.4", "features.9"), "scenes_residual": ("stages.2",)}
AXES = {
    "insertion": {"title": "Insertion", "x": "share of pixels shown", "y": "probability", "better": "higher",
                  "at": [0.0, 0.25, 0.5, 0.75, 1.0]},
}  # fmt: skip
PLACE = {"model": "scenes_fc", "layer": "features.9", "data": "scenes"}


def curves_of(methods: list[str], images: int = 8) -> pd.DataFrame:
    """Of image i and method m the points p * (1 + m) + i / 100: the mean is known."""
    at = np.array(AXES["insertion"]["at"])
    rows = [
        (f"scene_{i:05d}", method, list(0.1 * at * (1 + m) + i / 100))
        for m, method in enumerate(methods)
        for i in range(images)
    ]
    table = pd.DataFrame(rows, columns=["image_id", "method", "points"])
    return table.assign(target_class=0, curve="insertion", status="ok")


@pytest.fixture
def rich_folder(make_run: Any, make_records: Any, edit_manifest: Callable[..., None]) -> Path:
    records = make_records(16, layers=LAYERS)
    records.loc[(records["metric"] == "confidence_drop") & (records["method"] == "random"), "value"] -= 0.6  # below 0
    folder: Path = make_run(records, layers=LAYERS, pictures=False)
    methods = ["grad_cam", "xgrad_cam", "hires_cam"]
    jobs = sealed.read_json(folder / "manifest.json")["jobs"]
    job = write_curves(folder, PLACE, curves_of(methods), len(jobs))
    edit_manifest(folder, curves=job.pop("curves"), jobs=[*jobs, job], axes=AXES)
    return folder


@pytest.fixture
def rich_run(rich_folder: Path) -> RunFolder:
    return RunFolder.read(rich_folder)


@pytest.fixture
def chart_page(tmp_path: Path) -> Callable[[RunFolder], Path]:
    """A page of the charts alone."""

    def write(run: RunFolder) -> Path:
        from axiom_bench.report.charts.section import section

        part = section(run)
        assert part is not None
        path = tmp_path / "charts.html"
        path.write_text(assemble(header(run), [part]), encoding="utf-8")
        return path

    return write
