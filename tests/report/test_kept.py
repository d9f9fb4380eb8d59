"""Tables and figures of two made runs against the texts in `kept/`: whatever changes in one of them is seen.

Words are compared as words and numbers as numbers, see `is_same_number`. A change that is meant: delete the text, run
this test twice (the first time writes and fails), and read the difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from axiom_bench.report import writing
from axiom_bench.report.charts.drawing import Figure
from axiom_bench.report.tables.table import to_markdown
from axiom_bench.report.writing import all_tables
from axiom_bench.statistics.run_folder import RunFolder
from tests.report.charts.conftest import write_rich

KEPT = Path(__file__).with_name("kept")
NUMBER = re.compile(r"(?<![\w#.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")  # no part of a name or of a colour
ZERO = Decimal("1e-12")  # below it a number on the scale of these runs is rounding
OF_ARTIST = ("label", "linewidth", "linewidths", "markersize", "marker", "linestyle", "alpha", "zorder", "fontsize",
             "rotation", "ha", "va", "clim", "hatch")  # fmt: skip
COLOURS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def is_same_number(first: str, second: str) -> bool:
    """Whether two printed numbers differ by one in the last digit at most: the last bits of a product of matrices
    depend on the processor, and what stands between two printed numbers is rounded to either. Counts are exact."""
    numbers = Decimal(first), Decimal(second)
    exponent = min(number.as_tuple().exponent for number in numbers)
    return abs(numbers[0] - numbers[1]) <= (max(Decimal(10) ** exponent, ZERO) if exponent < 0 else 0)


def differing(made: Iterable[str], kept: Iterable[str]) -> Iterator[str]:
    """The lines that differ, with their numbers."""
    for place, (line, old) in enumerate(zip_longest(made, kept, fillvalue="(no line)"), start=1):
        have_same_words = NUMBER.sub("0", line) == NUMBER.sub("0", old)
        if not (have_same_words and all(map(is_same_number, NUMBER.findall(line), NUMBER.findall(old)))):
            yield f"{place}: {line}\n   was: {old}"


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
        return f"({short(flat[0])} ... {short(flat[-1])}{mean}, {len(flat)}, {len(set(map(short, flat)))} different)"
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def look_of(artist: Any) -> str:
    looks = {name: getattr(artist, f"get_{name}")() for name in OF_ARTIST if hasattr(artist, f"get_{name}")}
    if str(looks["label"]).startswith("_child"):  # which one it is of its axes
        del looks["label"]
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
    if "xydata" in places:
        del places["bbox"]  # of these
    return short({name: value for name, value in (looks | places).items() if value is not None})


def figure_lines(figure: Figure) -> Iterator[str]:
    drawn, frame = figure.draw(), figure.frame
    yield f"## {figure.name} ({figure.number}), {short(drawn.get_size_inches())} inches: {figure.title}"
    yield f"{drawn.get_supxlabel()} | {drawn.get_supylabel()} | {figure.caption}"
    if figure.chart:
        yield f"{figure.chart.title}: {figure.label}"
        yield from (f"  {name}: {short(column.tolist())}" for name, column in frame.items())
    for axes in drawn.axes:
        labels = [[text.get_text() for text in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels())]
        limits = [axes.get_xscale(), axes.get_xlim(), axes.get_yscale(), axes.get_ylim()]
        yield f"axes {axes.get_title(loc='left')} {axes.get_xlabel()} {axes.get_ylabel()} {short(limits)} {labels}"
        groups: dict[str, list[str]] = {}
        for artist in (*axes.lines, *axes.collections, *axes.patches, *axes.texts, *axes.images):
            groups.setdefault(type(artist).__name__, []).append(look_of(artist))
        for kind, looks in groups.items():
            yield f"  {kind}: {len(looks)}, {len(set(looks))} different"
            yield from (f"    {look}" for look in dict.fromkeys([looks[0], looks[-1]]))
    for legend in drawn.legends:
        yield short(["legend", *(text.get_text() for text in legend.get_texts()), legend._ncols])


def figures(run: RunFolder) -> Iterator[str]:
    for figure in writing.all_figures(run):
        if isinstance(figure, Figure):
            yield from figure_lines(figure)
        else:
            yield f"## left out {figure.number}: {figure.title}: {figure.reason}"


def tables(run: RunFolder) -> Iterator[str]:
    for table in all_tables(run):
        yield from to_markdown(table).splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figures", "tables"])
def test_whatever_a_report_shows_is_as_it_was(usual, rich, name):
    made = {
        "figures": lambda: figures(rich),
        "tables": lambda: tables(usual),
    }[name]
    text = "".join(f"{line}\n" for line in made())
    path = KEPT / f"{name}.txt"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        pytest.fail(f"{path} was not there, and is written")
    changes = list(differing(text.splitlines(), path.read_text().splitlines()))
    assert not changes, "\n".join([f"{len(changes)} lines", *changes[:5]])


def test_numbers_are_compared_as_numbers_and_words_as_words():
    kept = ["a_1: 0.20 of 7", "#10e0ff"]
    for line in ("a_1: 0.20 of 7", "a_1: 0.21 of 7", "a_1: 0.2001 of 7"):  # the last of 0.19995 and 0.20005
        assert not list(differing([line, kept[1]], kept))
    for line in ("a_1: 0.22 of 7", "a_1: -0.20 of 7", "a_1: 0.20 of 8", "a_2: 0.20 of 7", "a_1: 0.20 on 7"):
        assert len(list(differing([line, kept[1]], kept))) == 1
    for lines in (kept[:1], [*kept, ""], [kept[0], "#11e0ff"]):
        assert len(list(differing(lines, kept))) == 1


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder.read(write_rich(tmp_path_factory.mktemp("kept") / "run"))
