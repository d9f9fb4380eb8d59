"""One name, colour, marker and dash for each method, the same in every figure, chart and legend of a report."""

from __future__ import annotations

from dataclasses import dataclass

from axiom_bench.statistics.run_folder import RunFolder

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
