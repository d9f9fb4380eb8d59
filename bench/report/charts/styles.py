"""The look of methods in charts, figures, findings and gallery, and what axes and captions call a
metric.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from axiom_bench.report.options import options_of
from axiom_bench.statistics.labels import Value, number
from axiom_bench.statistics.run_folder import RunFolder

# Colours that readers with colour vision deficiencies tell apart: Okabe and Ito 2008, without black
# and yellow, which are too dark or too light for one of the two themes, then the darkest of Tol's
# "muted" scheme.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
GREY = "#7d7d87"  # of controls
MARKERS = "osD^vP*X"
NUM_NUMBERED = len(COLOURS) * len(MARKERS)  # the numbers that a method's YAML may have
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2))  # lengths: drawn, left out, ...
NUM_STYLES = NUM_NUMBERED * len(DASHES)
BETTER = {"lower": "lower is better", "higher": "higher is better"}


@dataclass(frozen=True)
class MethodStyle:
    """title: as people read it. colour: "#rrggbb". marker: matplotlib's. dash: lengths drawn and
    left out.

    Eight numbers differ by colour, the following ones by marker and dash as well; controls by these
    alone.
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
    """Return {method: its style}, in the manifest's order, for all methods with records.

    A method's style is that of the number in its YAML. A method without a number, or with one that
    another method of the run has, gets a style from its name, so that it looks alike on every page.
    Controls are grey.
    """
    is_control = {name: run.metadata.method(name).control is True for name in run.methods}
    number_by_method: dict[str, int] = {}
    taken: dict[bool, set[int]] = {True: set(), False: set()}  # by whether they are of controls
    for name in run.methods:
        number = run.metadata.method(name).style
        if (
            isinstance(number, int)
            and 0 <= number < NUM_NUMBERED
            and number not in taken[is_control[name]]
        ):
            number_by_method[name] = number
            taken[is_control[name]].add(number)
    for name in run.methods:
        if name not in number_by_method:
            number_by_method[name] = _number_from_name(name, taken[is_control[name]])
            taken[is_control[name]].add(number_by_method[name])
    styles = {}
    for name in run.methods:
        turn, colour = divmod(number_by_method[name], len(COLOURS))
        styles[name] = MethodStyle(
            title=run.metadata.method_title(name),
            colour=GREY if is_control[name] else COLOURS[colour],
            marker=MARKERS[(colour + turn) % len(MARKERS)],
            dash=DASHES[(turn + turn // len(MARKERS)) % len(DASHES)],
        )
    return styles


def _number_from_name(name: str, taken: Collection[int]) -> int:
    """Return a number behind those that YAML files may have, from the name alone unless it is
    taken.
    """
    num_from_names = NUM_STYLES - NUM_NUMBERED
    first = zlib.crc32(name.encode()) % num_from_names
    candidates = (NUM_NUMBERED + (first + step) % num_from_names for step in range(num_from_names))
    return next((number for number in candidates if number not in taken), NUM_NUMBERED + first)


def metrics_in_order(run: RunFolder, names: Collection[str]) -> list[str]:
    """These metrics: those of the headline first, then those of the overview, then the manifest's
    order.
    """
    first = (*options_of(run).headline, *options_of(run).columns, *run.metrics)
    return [name for name in dict.fromkeys(first) if name in names]


def at_same_spot(titles: Sequence[str], *coordinates: Iterable[float]) -> list[str]:
    """For each point the titles of the others that print the same coordinates: what a reader can't
    see below it.
    """
    keys = [tuple(map(number, point)) for point in zip(*coordinates, strict=True)]
    spots: dict[tuple[str, ...], list[str]] = {}
    for title, key in zip(titles, keys, strict=True):
        spots.setdefault(key, []).append(title)
    return [
        ", ".join(other for other in spots[key] if other != title)
        for title, key in zip(titles, keys, strict=True)
    ]


def axis_title(value: Value, statistic: str = "") -> str:
    """The metric with its unit, unless the title says it, and its direction, after the statistic
    that is shown: "Mean confidence drop [probability], higher is better".
    """
    title = (
        value.title
        if not value.unit or value.unit in value.title
        else f"{value.title} [{value.unit}]"
    )
    if statistic:
        title = f"{statistic} {title[:1].lower()}{title[1:]}"
    return title + (f", {BETTER[value.better]}" if value.better in BETTER else "")
