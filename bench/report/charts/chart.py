"""What a chart hands to the page, and the look that charts and figures share: one name, colour and marker a method."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder

Columns = Mapping[str, Sequence[Any]]
DIGITS = 5  # of the numbers in the page; a reader sees three


@dataclass(frozen=True)
class Panel:
    """One drawing. title: of the network. spec: the name of its spec. params: values of the spec's parameters.

    tables: the spec's named data sets, by column. A column `method` holds names, to which the page adds their `title`,
    `colour`, `shape` and `dash`. description: the text alternative. height, min_width: of the plot in pixels. axis:
    about how many pixels the axis below it takes, which the page keeps free until the panel is drawn.
    """

    title: str
    spec: str
    description: str
    tables: Mapping[str, Columns]
    height: int
    params: Mapping[str, Any] = field(default_factory=dict)
    min_width: int = 0
    axis: int = 60


@dataclass(frozen=True)
class Choice:
    """What one entry of the chart's list shows. label: of the entry. caption: what is shown, with n."""

    label: str
    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Chart:
    """id: in the page. chooses: what the list of choices is of, such as "Metric"; with one choice there is no list.
    specs: what builds each Vega-Lite spec, by name; those of one name are one."""

    id: str
    title: str
    chooses: str
    choices: Sequence[Choice]
    specs: Mapping[str, Callable[[], Mapping[str, Any]]]


def metrics_in_order(run: RunFolder, names: Collection[str]) -> list[str]:
    """These metrics: those of the headline first, then those of the overview, then the manifest's order."""
    first = (*options_of(run).headline, *options_of(run).columns, *run.metrics)
    return [name for name in dict.fromkeys(first) if name in names]


def columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """A table by column as JSON holds it: numbers with DIGITS digits, None for what isn't finite, texts as they are."""
    return {str(name): _as_json(table[name]) for name in table}


def _as_json(column: pd.Series) -> list[Any]:
    if not pd.api.types.is_float_dtype(column):
        return [entry.item() if isinstance(entry, np.generic) else entry for entry in column.tolist()]
    return [float(f"{entry:.{DIGITS}g}") if np.isfinite(entry) else None for entry in column.tolist()]


def beside(titles: Sequence[str], *coordinates: Iterable[float]) -> list[str]:
    """For each point the titles of the others that print the same coordinates: what a reader can't see below it."""
    spots: dict[tuple[str, ...], list[str]] = {}
    keys = [tuple(map(number, point)) for point in zip(*coordinates, strict=True)]
    for title, key in zip(titles, keys, strict=True):
        spots.setdefault(key, []).append(title)
    return [", ".join(other for other in spots[key] if other != title) for title, key in zip(titles, keys, strict=True)]


# Colours that readers with colour vision deficiencies tell apart: Okabe and Ito 2008, without black and yellow, which
# are too dark or too light for one of the two themes, then the darkest of Tol's "muted" scheme.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
MARKERS = "osD^vP*X"  # matplotlib's
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "stroke", "triangle-right")  # Vega's
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2))  # lengths in pixels: drawn, left out, ...


@dataclass(frozen=True)
class MethodStyle:
    """title: as people read it. colour: "#rrggbb". marker: matplotlib's. shape: Vega's. dash: lengths in pixels.

    The first eight methods differ by colour, the following ones by marker, shape and dash as well.
    """

    title: str
    colour: str
    marker: str
    shape: str
    dash: tuple[int, ...]


def method_styles(run: RunFolder) -> dict[str, MethodStyle]:
    """{method: its style}, in the manifest's order, for all methods with records. It doesn't depend on which of them a
    figure shows."""
    return {name: _style(run.metadata.method_title(name), place) for place, name in enumerate(run.methods)}


def _style(title: str, place: int) -> MethodStyle:
    turn, colour = divmod(place, len(COLOURS))
    sign = (colour + turn) % len(MARKERS)
    return MethodStyle(title, COLOURS[colour], MARKERS[sign], SHAPES[sign], DASHES[turn % len(DASHES)])
