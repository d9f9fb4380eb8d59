"""The figures of a report: all of them in order, saved by this process alone or with others.

Each draws from the run alone, or says in one sentence why it can't.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.report.charts import axiom_plane, by_depth, by_method, by_network, confusion, curves, pictures, ranking
from axiom_bench.report.charts.drawing import Drawing, LeftOut
from axiom_bench.report.options import options_of
from axiom_bench.report.processes import Process
from axiom_bench.statistics.run_folder import MANY, RunFolder

# The errors by depth where a run has several layers; then the paper's figures by number; then our own.
FIGURES = (
    by_depth.draw, pictures.draw_pair, by_network.draw, confusion.draw, pictures.draw_perturbed, pictures.draw_grid,
    ranking.draw, ranking.draw_mean_ranks, axiom_plane.draw, curves.draw,
)  # fmt: skip
SHARED = by_method.draw  # last
FOLDER = "figures"  # in the run folder


@dataclass(frozen=True)
class SavedFigure:
    """A figure whose files are written. png: path of the PNG. number: of the paper's figure that it is."""

    name: str
    title: str
    caption: str
    png: Path
    number: str = ""


def save_figures(
    run: RunFolder, processes: Sequence[Process] = (), tell: Callable[[str], None] = lambda step: None
) -> list[SavedFigure | LeftOut]:
    """Write figures/*.png and the other formats of `config.report.figures`; what was saved or left out, in order.

    processes: from `drawing_processes`. A share whose process failed is drawn here, so that the cause is raised as it
    is without processes: BenchError where a file of the run can't be read or the folder can't be written.
    """
    count = 1 + len(processes)
    figures = save_share(run, 0, count, tell)
    for index, process in enumerate(processes, start=1):
        tell(f"figures of process {index + 1} of {count}")
        if process.wait() != 0:
            save_share(run, index, count, tell)
    return figures


def save_share(
    run: RunFolder, index: int, count: int, tell: Callable[[str], None] = lambda step: None
) -> list[SavedFigure | LeftOut]:
    """Save one of `count` shares of the figures, one at a time: the first has all that aren't shared, and hands back
    what all shares save or leave out."""
    figures: list[SavedFigure | LeftOut] = []
    for figure in own_figures(run) if index == 0 else ():
        figures.append(_handled(run, figure, True, tell))
    for place, figure in enumerate(shared_figures(run)):
        is_own = _share(place, count, len(run.records) >= MANY) == index
        if is_own or index == 0:
            figures.append(_handled(run, figure, is_own, tell))
    return figures


def _handled(
    run: RunFolder, figure: Drawing | LeftOut, is_own: bool, tell: Callable[[str], None]
) -> SavedFigure | LeftOut:
    if isinstance(figure, LeftOut):
        return figure
    folder, options = run.path / FOLDER, options_of(run).figures
    if is_own:
        tell(f"figure {figure.file_name}")
        figure.save(folder, options.formats, options.columns)
    return SavedFigure(figure.file_name, figure.title, figure.caption, figure.png_path(folder), figure.number)


def _share(place: int, count: int, is_large: bool) -> int:
    """The share of a figure: the first, of the process that writes tables and page as well, is a third of each other;
    of a large run, which it also compares meanwhile, it has none."""
    if is_large and count > 1:
        return 1 + place % (count - 1)
    return (place % (3 * count - 2) + 2) // 3


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
