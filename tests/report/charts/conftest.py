"""A run with everything that the charts show: several layers, curves and run times."""

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
    "insertion": {
        "title": "Insertion",
        "x": "share of pixels shown",
        "y": "probability",
        "better": "higher",
        "at": [0.0, 0.25, 0.5, 0.75, 1.0],
    }
}
PLACE = {"model": "scenes_fc", "layer": "features.9", "data": "scenes"}


SVG = "{http://www.w3.org/2000/svg}"


def svg_of(figure: Figure) -> ElementTree.Element:
    """Return the root of the SVG drawing that the page contains for `figure`."""
    return ElementTree.fromstring(figure.save(Path("unused"), ()))


def elements_with(svg: ElementTree.Element, attribute: str) -> list[ElementTree.Element]:
    """Return the elements of `svg` that have `attribute`."""
    return [element for element in svg.iter() if attribute in element.attrib]


def reason_left_out(draw: Any, run: RunFolder) -> str:
    """Return why `draw` draws nothing: the reason of the only item that it yields."""
    (item,) = draw(run)
    assert isinstance(item, LeftOut)
    return item.reason


@pytest.fixture
def make_run_folder(make_run, make_records) -> Any:
    """A function (records or a number of images, layers, **options of make_run) -> RunFolder.

    The run has no pictures unless `pictures=True`.
    """

    def make(
        records: Any,
        layers: Any = None,
        pictures: bool = False,
        **options: Any,
    ) -> RunFolder:
        if isinstance(records, int):
            records = make_records(records, layers=layers) if layers else make_records(records)
        if layers:
            options["layers"] = layers
        return RunFolder.read(make_run(records, pictures=pictures, **options))

    return make


def write_rich_run(folder: Path) -> Path:
    """Write a run with several layers and run times, and with curves whose mean is known."""
    records = records_of(16, LAYERS, METHODS)
    is_random_drop = (records["metric"] == "confidence_drop") & (records["method"] == "random")
    records.loc[is_random_drop, "value"] -= 0.6  # negative values
    write_run(folder, records, layers=LAYERS, pictures=False)

    # The curve of image i and method number m is 0.1 * x * (1 + m) + i / 100.
    x = np.array(AXES["insertion"]["at"])
    curves = []
    for m, method in enumerate(["grad_cam", "xgrad_cam", "hires_cam"]):
        for i in range(8):
            curves.append((f"scene_{i:05d}", method, list(0.1 * x * (1 + m) + i / 100)))
    table = pd.DataFrame(curves, columns=["image_id", "method", "points"])
    table = table.assign(target_class=0, curve="insertion", status="ok")

    content = files.read_json(folder / artefacts.NAME)
    job = write_curves(folder, PLACE, table, len(content["jobs"]))
    content["curves"] = job.pop("curves")
    content["jobs"].append(job)
    content["axes"] = AXES
    write_entries(folder, content)
    return folder


@pytest.fixture
def rich_folder(tmp_path: Path) -> Path:
    """The folder of a rich run that the test may change."""
    return write_rich_run(tmp_path / "run")


@pytest.fixture(scope="session")
def rich_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The rich run that all tests share, so none changes it."""
    return RunFolder.read(write_rich_run(tmp_path_factory.mktemp("rich") / "run"))


@pytest.fixture(scope="session")
def write_charts() -> Callable[[RunFolder, Path], Path]:
    """A function (run, folder) -> the path of a page with only charts, two figures per chart."""

    def write(run: RunFolder, folder: Path) -> Path:
        saved = []
        for draw in FIGURES:
            charts = [item for item in draw(run) if isinstance(item, Figure) and item.chart]
            saved += [save_figure(run, figure, folder, ()) for figure in charts[:2]]
        section = charts_section(saved)
        assert section is not None
        path = folder / "charts.html"
        path.write_text(assemble(header(run), [section]), encoding="utf-8")
        return path

    return write
