"""The look of methods in charts, figures, findings and gallery, the order of metrics, the titles of
axes, and drawings in the colours of the page's theme.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from axiom_bench.report.options import options_of
from axiom_bench.statistics.labels import Value, number
from axiom_bench.statistics.ranking import on_common_images
from axiom_bench.statistics.run_folder import RunFolder

# Colours that readers with colour vision deficiencies tell apart: those of Okabe and Ito 2008, then
# sienna and the olive of Tol's "muted" scheme. Black, yellow and Tol's wine are left out, because
# they are too dark or too light for one of the page's two themes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a0522d", "#999933")
GREY = "#7d7d87"  # the colour of controls, methods that a good method must beat
MARKERS = "osD^vP*X"
NUM_NUMBERED = len(COLOURS) * len(MARKERS)  # the numbers that a method's YAML may have
DASHES = ((1, 0), (6, 2), (2, 2), (8, 2, 2, 2))  # lengths, in turn drawn and left out
NUM_STYLES = NUM_NUMBERED * len(DASHES)
# characters that an SVG file can't hold
NOT_IN_SVG = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
FONT = "'DejaVu Sans', Verdana, sans-serif"  # as wide as Report Sans, which no reader's machine has
INK = "#1b1b1f"  # the colour of text in every drawing
LINE = "#cccccc"  # the colour of rules in every drawing
THEME = {INK: "var(--ink)", LINE: "var(--line)"}  # {drawing's colour: colour of the page's theme}
# CSS pixels per point: the smallest text of a drawing, 6 points, has 11 pixels. Print has 96 / 72.
PIXELS = 132 / 72
ROOT = re.compile('<svg [^>]*viewBox="([^"]*)"[^>]*>')
BETTER = {"lower": "lower is better", "higher": "higher is better"}


@dataclass(frozen=True)
class MethodStyle:
    """The look of a method.

    Eight styles differ by colour, further ones also by marker and dash. Controls differ only by
    marker and dash.

    Attributes:
        title: The method's title.
        colour: The colour, "#rrggbb".
        marker: matplotlib's marker.
        dash: The lengths of a line, in turn drawn and left out.
    """

    title: str
    colour: str
    marker: str
    dash: tuple[int, ...]

    @property
    def linestyle(self) -> str | tuple[float, Sequence[float]]:
        """The style of a line in matplotlib, whose unit is the width of the line."""
        return "-" if self.dash == (1, 0) else (0, [length / 2 for length in self.dash])


def method_styles(run: RunFolder) -> dict[str, MethodStyle]:
    """Return {method: its style}, in the manifest's order, for all methods with records.

    A method's style is that of the number in its YAML. A method without a number, or with one that
    another method of the run has, gets a style from its name, so that it looks alike on every page.
    Controls are grey.
    """
    is_control = {name: run.metadata.method(name).control is True for name in run.methods}
    number_by_method: dict[str, int] = {}
    # the numbers of controls (True) and of other methods (False)
    used_numbers: dict[bool, set[int]] = {True: set(), False: set()}
    for name in run.methods:
        number = run.metadata.method(name).style
        used = used_numbers[is_control[name]]
        if isinstance(number, int) and 0 <= number < NUM_NUMBERED and number not in used:
            number_by_method[name] = number
            used.add(number)
    for name in run.methods:
        if name not in number_by_method:
            used = used_numbers[is_control[name]]
            number_by_method[name] = _number_from_name(name, used)
            used.add(number_by_method[name])
    styles = {}
    for name in run.methods:
        turn, colour = divmod(number_by_method[name], len(COLOURS))
        marker = (colour + turn) % len(MARKERS)
        dash = (turn + turn // len(MARKERS)) % len(DASHES)
        styles[name] = MethodStyle(
            title=run.metadata.method_title(name),
            colour=GREY if is_control[name] else COLOURS[colour],
            marker=MARKERS[marker],
            dash=DASHES[dash],
        )
    return styles


def _number_from_name(name: str, used: Collection[int]) -> int:
    """Return a number above those that YAML files may have. It depends only on the name unless the
    number is used.
    """
    num_from_names = NUM_STYLES - NUM_NUMBERED
    first = zlib.crc32(name.encode()) % num_from_names
    candidates = (NUM_NUMBERED + (first + step) % num_from_names for step in range(num_from_names))
    return next((number for number in candidates if number not in used), NUM_NUMBERED + first)


def metrics_in_order(run: RunFolder, names: Collection[str]) -> list[str]:
    """Return these metrics: those of the headline, then those of the overview, then the others in
    the manifest's order.
    """
    first = (*options_of(run).headline, *options_of(run).columns, *run.metrics)
    return [name for name in dict.fromkeys(first) if name in names]


def titles_at_same_spot(titles: Sequence[str], *coordinates: Iterable[float]) -> list[str]:
    """Return for each point the titles of other points that print the same coordinates.

    A reader can't see the other points, since the point covers them.

    Args:
        titles: The title of each point.
        coordinates: The values of each point on each axis.
    """
    spots = [tuple(map(number, point)) for point in zip(*coordinates, strict=True)]
    titles_by_spot: dict[tuple[str, ...], list[str]] = {}
    for title, spot in zip(titles, spots, strict=True):
        titles_by_spot.setdefault(spot, []).append(title)
    texts = []
    for title, spot in zip(titles, spots, strict=True):
        texts.append(", ".join(other for other in titles_by_spot[spot] if other != title))
    return texts


def common_rows(rows: pd.DataFrame) -> str:
    """Return how many rows all compared methods have, such as "123 of 124 rows in common"; "" if no
    method lacks a row.

    Args:
        rows: The summary rows of one metric and setting.
    """
    compared = rows[rows["compared"].astype(bool)]
    if compared.empty or not on_common_images(rows):
        return ""
    return f"{int(compared['common_n'].max()):,} of {int(rows['n'].max()):,} rows in common"


def axis_title(value: Value, statistic: str = "") -> str:
    """Return the title of an axis that shows a metric.

    The title has the statistic, the metric, its unit and its direction, such as "Mean confidence
    drop [probability], higher is better". A unit that the metric's title has isn't repeated.
    """
    title = value.title
    if value.unit and value.unit not in value.title:
        title = f"{title} [{value.unit}]"
    if statistic:
        title = f"{statistic} {title[:1].lower()}{title[1:]}"
    if value.better in BETTER:
        title = f"{title}, {BETTER[value.better]}"
    return title


def themed_svg(data: bytes, name: str, title: str, description: str) -> Markup:
    """Return matplotlib's SVG as an element of the page, in the colours of the page's theme.

    Args:
        data: The file that matplotlib wrote, without control characters.
        name: The drawing's name in ids, unique in the page.
        title: The title for screen readers.
        description: The longer text for screen readers.
    """
    text = data.decode()
    root = ROOT.search(text)
    assert root is not None, "matplotlib writes a viewBox"
    # matplotlib numbers the groups of each drawing from 1, so their ids would repeat in the page
    drawing = re.sub('<g id="[^"]*">', "<g>", text[root.end() :])
    for colour, variable in THEME.items():
        drawing = drawing.replace(f": {colour}", f": {variable}")
    drawing = drawing.replace("'Report Sans', 'DejaVu Sans'", FONT)
    width = round(float(root[1].split()[2]) * PIXELS)
    template = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'viewBox="{viewbox}" width="{width}" role="img" aria-labelledby="{name}-title" '
        'aria-describedby="{name}-description"><title id="{name}-title">{title}</title>'
        '<desc id="{name}-description">{description}</desc>'
    )
    begin = template.format(
        viewbox=root[1],
        width=width,
        name=name,
        title=NOT_IN_SVG.sub("", title),
        description=NOT_IN_SVG.sub("", description),
    )
    return begin + Markup(drawing.strip())
