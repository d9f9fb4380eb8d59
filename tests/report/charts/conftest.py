"""A run with everything that the charts show: several layers, curves, run times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from axiom_bench.records import artefacts, files
from axiom_bench.report.charts.drawing import Figure, LeftOut
from axiom_bench.report.page.html import assemble
from axiom_bench.report.page.this_run import header
from axiom_bench.report.writing import FIGURES, charts_section, save_figure
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import METHODS, records_of, write_curves, write_entries, write_run

LAYERS = {"scenes_fc": ("features.4", "features.9"), "scenes_residual": ("stages.2",)}
AXES = {
    "insertion": {"title": "Insertion", "x": "share of pixels shown", "y": "probability", "better": "higher",
                  "at": [0.0, 0.25, 0.5, 0.75, 1.0]},
}  # fmt: skip
PLACE = {"model": "scenes_fc", "layer": "features.9", "data": "scenes"}


SVG = "{http://www.w3.org/2000/svg}"


def svg_of(figure: Figure) -> ElementTree.Element:
    """What the page holds of a figure."""
    return ElementTree.fromstring(figure.save(Path("unused"), ()))


def parts(svg: ElementTree.Element, attribute: str) -> list[ElementTree.Element]:
    """The elements that have an attribute."""
    return [element for element in svg.iter() if attribute in element.attrib]


def left_out(draw: Any, run: RunFolder) -> str:
    """The reason of the only one that is left out, in place of all else."""
    (only,) = draw(run)
    assert isinstance(only, LeftOut)
    return only.reason


@pytest.fixture
def made(make_run, make_records) -> Any:
    """(records or their number, layers=None, **options of make_run) -> the run read, without
    pictures.
    """

    def make(records: Any, layers: Any = None, **options: Any) -> RunFolder:
        of_layers = {"layers": layers} if layers else {}
        rows = make_records(records, **of_layers) if isinstance(records, int) else records
        return RunFolder.read(make_run(rows, **{"pictures": False, **of_layers, **options}))

    return make


def write_rich(folder: Path) -> Path:
    records = records_of(16, LAYERS, METHODS)
    records.loc[
        (records["metric"] == "confidence_drop") & (records["method"] == "random"), "value"
    ] -= 0.6  # below 0
    write_run(folder, records, layers=LAYERS, pictures=False)
    at = np.array(AXES["insertion"]["at"])
    curves = [  # of image i and method m the points p * (1 + m) + i / 100: the mean is known
        (f"scene_{i:05d}", method, list(0.1 * at * (1 + m) + i / 100))
        for m, method in enumerate(["grad_cam", "xgrad_cam", "hires_cam"])
        for i in range(8)
    ]
    table = pd.DataFrame(curves, columns=["image_id", "method", "points"])
    content = files.read_json(folder / artefacts.NAME)
    job = write_curves(
        folder,
        PLACE,
        table.assign(target_class=0, curve="insertion", status="ok"),
        len(content["jobs"]),
    )
    changes = {"curves": job.pop("curves"), "jobs": [*content["jobs"], job], "axes": AXES}
    write_entries(folder, content | changes)
    return folder


@pytest.fixture
def rich_folder(tmp_path: Path) -> Path:
    """To be changed."""
    return write_rich(tmp_path / "run")


@pytest.fixture(scope="session")
def rich_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Read only."""
    return RunFolder.read(write_rich(tmp_path_factory.mktemp("rich") / "run"))


@pytest.fixture(scope="session")
def write_charts() -> Callable[[RunFolder, Path], Path]:
    """(run, folder) -> a page of the charts alone: of each the first two figures."""

    def write(run: RunFolder, folder: Path) -> Path:
        each = [
            [figure for figure in draw(run) if isinstance(figure, Figure) and figure.chart]
            for draw in FIGURES
        ]
        saved = [save_figure(run, figure, folder, ()) for few in each for figure in few[:2]]
        part = charts_section(saved)
        assert part is not None
        path = folder / "charts.html"
        path.write_text(assemble(header(run), [part]), encoding="utf-8")
        return path

    return write
