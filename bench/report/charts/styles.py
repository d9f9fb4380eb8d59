"""The look of methods in charts, figures, findings and gallery, and what axes and captions call a metric."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from axiom_bench.report.options import options_of
from axiom_bench.statistics.labels import Value, number
from axiom_bench.statistics.run_folder import RunFolder

# Colours that readers with colour vision deficiencies tell apart: Okabe and Ito 2008, without black and yellow, which
# are too dark or too light for one of the two themes, then the darkest of Tol's "muted" scheme.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
GREY = "#7d7d87"  # of controls
MARKERS = "osD^vP*X"
MOST_STYLES = len(COLOURS) * len(MARKERS)
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2))  # lengths: drawn, left out, ...
BETTER = {"lower": "lower is better", "higher": "higher is better"}


@dataclass(frozen=True)
class MethodStyle:
    """title: as people read it. colour: "#rrggbb". marker: matplotlib's. dash: lengths drawn and left out.

    Eight numbers differ by colour, the following ones by marker and dash as well; controls by these alone.
    """

    title: str
    colour: str
    marker: str
    dash: tuple[int, ...]

    @property
    def linestyle(self) -> Any:
        """matplotlib's: its unit is the width of the line."""
        return "-" if self.dash == (1, 0) else (0, [length / 2 for length in self.dash])


def method_styles(run: RunFolder) -> dict[str, MethodStyle]:
    """{method: its style}, in the manifest's order, for all methods with records: that of its YAML's number, the same
    in every run; of a method without a number, or with another's, one that is free. Controls are grey."""
    is_control = {name: run.metadata.method(name).get("control") is True for name in run.methods}
    numbers: dict[str, int] = {}
    taken: dict[bool, set[int]] = {True: set(), False: set()}  # by whether they are of controls
    for name in run.methods:
        number, alike = run.metadata.method(name).get("style"), taken[is_control[name]]
        if isinstance(number, int) and 0 <= number < MOST_STYLES and number not in alike:
            numbers[name] = number
            alike.add(number)
    styles = {}
    for name in run.methods:
        alike = taken[is_control[name]]
        turn, colour = divmod(
            numbers.get(name, next(number for number in count() if number not in alike)), len(COLOURS)
        )
        alike.add(turn * len(COLOURS) + colour)
        marker, dash = MARKERS[(colour + turn) % len(MARKERS)], DASHES[turn % len(DASHES)]
        shade = GREY if is_control[name] else COLOURS[colour]
        styles[name] = MethodStyle(run.metadata.method_title(name), shade, marker, dash)
    return styles


def metrics_in_order(run: RunFolder, names: Collection[str]) -> list[str]:
    """These metrics: those of the headline first, then those of the overview, then the manifest's order."""
    first = (*options_of(run).headline, *options_of(run).columns, *run.metrics)
    return [name for name in dict.fromkeys(first) if name in names]


def at_same_spot(titles: Sequence[str], *coordinates: Iterable[float]) -> list[str]:
    """For each point the titles of the others that print the same coordinates: what a reader can't see below it."""
    keys = [tuple(map(number, point)) for point in zip(*coordinates, strict=True)]
    spots: dict[tuple[str, ...], list[str]] = {}
    for title, key in zip(titles, keys, strict=True):
        spots.setdefault(key, []).append(title)
    return [", ".join(other for other in spots[key] if other != title) for title, key in zip(titles, keys, strict=True)]


def axis_title(value: Value, statistic: str = "") -> str:
    """The metric with its unit, unless the title says it, and its direction, after the statistic that is shown: "Mean
    confidence drop [probability], higher is better"."""
    title = value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"
    if statistic:
        title = f"{statistic} {title[:1].lower()}{title[1:]}"
    return title + (f", {BETTER[value.better]}" if value.better in BETTER else "")
