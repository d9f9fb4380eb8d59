"""Draw the race of `axiom-bench choose`: the values of all methods and layers by the metric that
decides, and who dropped out after how many images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure as Canvas

from axiom_bench.report.charts.drawing import MUTED, Chart, Figure, canvas
from axiom_bench.report.charts.styles import COLOURS, GREY, axis_title
from axiom_bench.report.options import PAGE
from axiom_bench.statistics.chosen import CHOSEN, CONTROL, IN_THE_RACE, WORSE, Choice, Standing
from axiom_bench.statistics.run_folder import RunFolder

RACE = Chart("race", "The race", "")
NORMAL = 1.959964  # quantile of the standard normal distribution for 95 %
ROW = 0.17  # inches: the height of a row
AXIS = 0.7  # inches: the height of the axis and the legend
LOOKS = {  # {status: colour and marker}
    CHOSEN: (COLOURS[1], "*"),
    IN_THE_RACE: (MUTED, "o"),
    WORSE: (COLOURS[5], "v"),
    CONTROL: (GREY, "D"),
}


def draw(run: RunFolder, choice: Choice) -> Figure:
    """Return the figure of the race that this run was measured for."""
    value = run.metadata.value(choice.metric)
    caption = (
        f"The mean of each method at each layer with its 95 % interval, on {choice.images:,} "
        "images. Triangles are methods that can't be the best; the number is that of the images "
        "after which a method dropped out. Diamonds are controls, which explain nothing."
    )
    return Figure(
        name="race",
        title=RACE.title,
        caption=caption,
        plot=partial(_plot, choice.standings, axis_title(value, "Mean")),
        chart=RACE,
        frame=_frame(choice.standings),
    )


def _frame(standings: Sequence[Standing]) -> pd.DataFrame:
    """Return the table of the race."""
    columns = {
        "Method": [standing.title for standing in standings],
        "Layer": [standing.layer for standing in standings],
        "Mean": [standing.mean for standing in standings],
        "Standard error": [standing.error for standing in standings],
        "Result": [standing.status for standing in standings],
        "Images": [standing.images for standing in standings],
    }
    return pd.DataFrame(columns)


def _plot(standings: Sequence[Standing], title: str) -> Canvas:
    """Draw a row per method and layer, the best value at the top."""
    figure = canvas(PAGE, AXIS + ROW * len(standings))
    axes = figure.subplots()
    for status, (colour, marker) in LOOKS.items():
        rows = [row for row, standing in enumerate(standings) if standing.status == status]
        if rows:
            axes.errorbar(
                [standings[row].mean for row in rows],
                rows,
                xerr=[NORMAL * standings[row].error for row in rows],
                label=status,
                linestyle="none",
                marker=marker,
                markersize=8 if status == CHOSEN else 4,
                color=colour,
            )
    labels = []
    for standing in standings:
        dropped = f" ({standing.images})" if standing.status == WORSE else ""
        labels.append(f"{standing.title}, {standing.layer}{dropped}")
    axes.set_yticks(range(len(standings)), labels)
    axes.set_ylim(len(standings) - 0.5, -0.5)
    axes.set_xlabel(title)
    figure.legend(loc="outside upper right", ncols=len(LOOKS))
    return figure
