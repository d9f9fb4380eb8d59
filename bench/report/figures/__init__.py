"""The report's figures, one idea a file: each draws from the run alone, or says in one sentence why it can't."""

from __future__ import annotations

from collections.abc import Iterator

from axiom_bench.report.figures import (  # fmt: skip
    axiom_plane,
    by_depth,
    by_method,
    confusion,
    critical_difference,
    map_grid,
    over_models,
    pair,
    perturbation_curves,
    perturbed,
    ranking,
)
from axiom_bench.report.figures.drawing import Drawing, LeftOut
from axiom_bench.statistics.run_folder import RunFolder

# The errors by depth where a run has several layers; then the paper's figures by number; then our own.
FIGURES = (
    by_depth.draw, pair.draw, over_models.draw, confusion.draw, perturbed.draw, map_grid.draw,
    ranking.draw, critical_difference.draw, axiom_plane.draw, perturbation_curves.draw,
)  # fmt: skip
SHARED = by_method.draw  # last


def all_figures(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """In the order of the report; each is drawn when it is asked for."""
    yield from own_figures(run)
    yield from shared_figures(run)


def own_figures(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """All but the shared ones."""
    for draw in FIGURES:
        yield from draw(run)


def shared_figures(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """The last of them, which take most of the time and little before they are drawn: processes share these."""
    return SHARED(run)
