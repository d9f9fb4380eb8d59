"""Tables, figures and charts of two made runs against the texts in `kept/`: whatever changes in one of them is seen.

A change that is meant: delete the text, run this test twice (the first time writes and fails), and read the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from axiom_bench.report import writing
from axiom_bench.report.charts.drawing import Drawing
from axiom_bench.report.options import COLUMN, PAGE
from axiom_bench.report.tables import all_tables
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.table import to_markdown
from axiom_bench.statistics.run_folder import RunFolder
from tests.report.charts.conftest import write_rich

KEPT = Path(__file__).with_name("kept")
OF_ARTIST = ("label", "linewidth", "linewidths", "markersize", "marker", "linestyle", "alpha", "zorder", "fontsize",
             "rotation", "ha", "va", "clim", "hatch")  # fmt: skip
COLOURS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def short(value: Any) -> str:
    """Numbers to four digits, of many the first, the last, their mean and how many."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {short(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple | np.ndarray):
        flat = np.ravel(np.array(value, dtype=object)).tolist()
        if len(flat) <= 6:
            return f"({', '.join(map(short, flat))})"
        numbers = [float(entry) for entry in flat if isinstance(entry, int | float) and np.isfinite(entry)]
        mean = f", mean {np.mean(numbers):.4g}" if numbers else ""
        return f"({short(flat[0])} ... {short(flat[-1])}{mean}, {len(flat)}, {len(set(map(str, flat)))} different)"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def look_of(artist: Any) -> str:
    looks = {name: getattr(artist, f"get_{name}")() for name in OF_ARTIST if hasattr(artist, f"get_{name}")}
    for name in COLOURS:
        colour = getattr(artist, f"get_{name}", lambda: None)()
        if colour is not None and np.size(colour):
            all_colours = [colour] if isinstance(colour, str) else np.atleast_2d(colour)
            each = [to_hex(one, keep_alpha=True) for one in all_colours]
            looks[name] = each if len(each) > 1 else each[0]
    places = {
        name: getattr(artist, f"get_{name}")()
        for name in ("xydata", "offsets", "array", "text", "position", "bbox", "extent")
        if hasattr(artist, f"get_{name}")
    }
    if hasattr(artist, "get_paths"):
        places["paths"] = np.concatenate([path.vertices for path in artist.get_paths()])
    places = {name: getattr(place, "bounds", place) for name, place in places.items()}
    return short({name: value for name, value in (looks | places).items() if value is not None})


def figure_lines(drawing: Drawing, width: float) -> Iterator[str]:
    figure = drawing.draw(width)
    yield f"## {drawing.name} ({drawing.number}), {short(figure.get_size_inches())} inches: {drawing.title}"
    yield f"{figure.get_supxlabel()} | {figure.get_supylabel()} | {drawing.caption}"
    for axes in figure.axes:
        labels = [[text.get_text() for text in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels())]
        limits = [axes.get_xscale(), axes.get_xlim(), axes.get_yscale(), axes.get_ylim()]
        yield f"axes {axes.get_title(loc='left')} {axes.get_xlabel()} {axes.get_ylabel()} {short(limits)} {labels}"
        groups: dict[str, list[str]] = {}
        for artist in (*axes.lines, *axes.collections, *axes.patches, *axes.texts, *axes.images):
            groups.setdefault(type(artist).__name__, []).append(look_of(artist))
        for kind, looks in groups.items():
            yield from (f"  {kind} {look}" for look in looks[:2])
            yield f"  {kind}: {len(looks)}, {len(set(looks))} different, the last {looks[-1]}"
    for legend in figure.legends:
        yield short(["legend", *(text.get_text() for text in legend.get_texts()), legend._ncols])


def figures(run: RunFolder, width: float) -> Iterator[str]:
    for drawing in writing.all_figures(run):
        if not isinstance(drawing, Drawing):
            yield f"## left out {drawing.number}: {drawing.title}: {drawing.reason}"
        elif width == PAGE or drawing.in_column:
            yield from figure_lines(drawing, width)


def charts(run: RunFolder) -> Iterator[str]:
    for chart in filter(None, (draw(run) for draw in writing.CHARTS)):
        yield f"## {chart.id}: {chart.title} {chart.chooses}"
        for choice in chart.choices:
            yield f"choice {choice.label}: {choice.caption}"
            for panel in choice.panels:
                yield "panel " + short({**vars(panel), "tables": ""})
                yield from (f"  {name}: {short(table)}" for name, table in panel.tables.items())
        for name, build in chart.specs.items():
            yield f"spec {name}: {build()}"


def tables(run: RunFolder, form: Callable[..., str], most: int | None = None) -> Iterator[str]:
    for table in islice(all_tables(run, run.summary, run.split_summary), most):
        yield from form(table).splitlines()


@pytest.mark.parametrize("name", ["figures", "figures_in_a_column", "charts", "tables", "tables_latex"])
def test_whatever_a_report_shows_is_as_it_was(usual, rich, name):
    made = {
        "figures": lambda: figures(rich, PAGE),
        "figures_in_a_column": lambda: figures(usual, COLUMN),
        "charts": lambda: charts(rich),
        "tables": lambda: tables(usual, to_markdown),
        "tables_latex": lambda: tables(rich, to_latex, most=2),
    }[name]
    text = "".join(f"{line}\n" for line in made())
    path = KEPT / f"{name}.txt"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        pytest.fail(f"{path} was not there, and is written")
    assert text.splitlines() == path.read_text().splitlines()


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder.read(write_rich(tmp_path_factory.mktemp("kept") / "run"))
