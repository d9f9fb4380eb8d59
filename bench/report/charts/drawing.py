"""Draw and save figures: their look, the layout of panels, the counts of captions, and the reason
if a figure is left out. All modules of charts draw with it, so that all figures look alike.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
import seaborn
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullFormatter
from PIL import Image

from axiom_bench.errors import plural
from axiom_bench.records import files
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.report.charts.styles import INK, LINE, NOT_IN_SVG, themed_svg
from axiom_bench.report.options import HEIGHT, PAGE
from axiom_bench.report.tables.text import reason
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import (
    FLOAT32_ROUNDING,
    Setting,
    counts_text,
    number,
    rows_at,
)
from axiom_bench.statistics.ranking import coincide
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

DPI = 200
# The default, 6, takes three times as long for a tenth fewer bytes.
PNG = {"compress_level": 3}
MUTED = "#0072b2"  # the colour of values that belong to no method
MATPLOTLIB_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONTS = Path(__file__).parent / "fonts"  # DejaVu Sans with fewer signs: see scripts/subset_fonts.py
OWN_FONTS = ("Report Sans", "DejaVu Sans")  # the second for signs that the first lacks
# Figures are drawn at the size at which they are printed.
TEXT = 8  # points
SMALL = 7  # points
LETTER = 0.06  # inches: the mean width of a letter of SMALL
LEAST_PANEL = 0.85  # inches: the width of a panel that can still be read
_FAMILIES = [*OWN_FONTS]  # `can_draw` appends fonts of this machine
# Fonts are embedded as TrueType (type 42), as conferences ask; no time or version goes into a file.
_STYLE: dict[str, object] = {
    **seaborn.axes_style("whitegrid"),
    **seaborn.plotting_context("paper"),
    "font.family": _FAMILIES,
    "font.size": TEXT,
    # fitting letters to pixels takes time, and nobody sees it at this resolution
    "text.hinting": "none",
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "figure.labelsize": TEXT,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # text stays text
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "axes.edgecolor": LINE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.labelpad": 2,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "grid.linewidth": 0.5,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
}
_METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
}


class Chart(NamedTuple):
    """A place in the page's section Charts.

    Attributes:
        id: The id of the place's element.
        title: The heading.
        chooses: The label of the list in which a reader chooses one of the place's figures, such as
            "Metric".
    """

    id: str
    title: str
    chooses: str


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure that can be drawn.

    Attributes:
        name: The name of the files (see `file_name`).
        title: The heading.
        caption: A text that says what is shown, with the number of images and rows.
        plot: Draws the figure, at most 7 inches wide.
        chart: The place of the page that shows the figure as SVG. Without a place, the page shows
            the PNG among the figures.
        label: The figure's entry in the place's list.
        frame: The numbers that are drawn. The page shows them as a table below the SVG.
    """

    name: str
    title: str
    caption: str
    plot: Callable[[], Canvas]
    chart: Chart | None = None
    label: str = ""
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)

    def draw(self) -> Canvas:
        """Draw the figure, again at each call."""
        with style():
            return with_plain_texts(self.plot())

    @property
    def file_name(self) -> str:
        """The name of the files without suffix.

        Characters that can't be in a file's name are replaced, since a metric's name may have them.
        """
        return files.safe_name(self.name)

    def save(self, folder: Path, formats: Sequence[str] = ("png",)) -> Markup:
        """Write a file of each format and return the SVG for the page.

        Args:
            folder: The folder of the files.
            formats: The formats, "png", "pdf" or "svg".

        Returns:
            The SVG element; "" if the figure has no place in the page's section Charts.

        Raises:
            BenchError: If the folder can't be written.
        """
        drawn = self.draw()
        for kind in formats:
            files.write(folder / f"{self.file_name}.{kind}", _bytes(drawn, kind))
        if self.chart is None:
            return Markup("")
        # The salt gives each drawing ids of its own, since one page has all drawings.
        content = _bytes(drawn, "svg", salt=self.name)
        return themed_svg(content, self.file_name, self.title, self.caption)


@dataclass(frozen=True)
class LeftOut:
    """A figure that can't be drawn.

    Attributes:
        title: The heading.
        reason: One sentence with the setting that adds the figure.
        name: The beginning of the names of its files, if another command also draws the figure.
    """

    title: str
    reason: str
    name: str = ""


@cache
def can_draw(text: str) -> bool:
    """Return whether there are fonts with all characters of a text.

    Fonts of this machine that have characters which the figures' own fonts lack are used in all
    figures that are drawn afterwards.
    """
    missing = {
        ord(character)
        for character in text
        if character.isprintable() and not character.isspace() and not character.isascii()
    }
    for entry in _fonts():
        if not missing:
            break
        found = missing & _characters(entry.fname)
        if found and entry.name not in _FAMILIES:
            _FAMILIES.append(entry.name)
        missing -= found
    return not missing


def _fonts() -> Iterator[font_manager.FontEntry]:
    """Yield the figures' own fonts, which have the characters of most texts, then the other fonts
    of the machine. Fonts whose characters all look alike or are pictures are left out.
    """
    _register_fonts()
    manager = font_manager.fontManager
    yield from [entry for entry in manager.ttflist if entry.name in OWN_FONTS]
    listed = {entry.fname for entry in manager.ttflist}
    installed = {
        *font_manager.findSystemFonts(),
        *font_manager.findSystemFonts(str(MATPLOTLIB_FONTS)),
    }
    # All installations share matplotlib's list. It may be older than a font, or an installation
    # without the font may have written it.
    for path in sorted(installed - listed):
        with suppress(OSError, RuntimeError):
            manager.addfont(path)
    for entry in list(manager.ttflist):
        if not re.search("last ?resort|emoji", entry.name, re.IGNORECASE):
            yield entry


@cache
def _characters(file: str) -> frozenset[int]:
    """Return the code points of a font's characters, none if the font's file is damaged."""
    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def with_plain_texts(figure: Canvas) -> Canvas:
    """Show all texts of a figure as they are written, and return the figure.

    A dollar sign in the name of a class or model doesn't begin a formula; only logarithmic axes
    write powers. Control characters are removed, since an SVG file can't hold them. A character
    that no font has is shown by its code.
    """
    axis_objects = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    powers: set[Text] = set()
    for axis in axis_objects:
        if axis.get_scale() != "linear":
            powers.update(axis.get_ticklabels(minor=False))
            powers.update(axis.get_ticklabels(minor=True))
    for text in set(figure.findobj(Text)) - powers:
        text.set_parse_math(False)
        content = NOT_IN_SVG.sub("", text.get_text())
        if not content.isascii():
            content = "".join(
                character if can_draw(character) else f"U+{ord(character):04X}"
                for character in content
            )
            text.set_fontfamily(_FAMILIES)
        text.set_text(content)
    for axis in axis_objects:
        if not axis.get_label_text():
            # otherwise each drawing measures all tick labels, to put an empty label next to them
            axis.set_label_coords(0, 0)
    return figure


def _bytes(figure: Canvas, kind: str, salt: str = "") -> bytes:
    """Return a file of the figure. `salt`: Gives an SVG without background ids of its own."""
    buffer = io.BytesIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": salt or "axiom-bench"}):
        if kind == "png":  # the same bytes as by savefig, which draws a figure with a layout twice
            figure.dpi = DPI
            renderer = FigureCanvasAgg(figure)
            renderer.draw()
            picture = Image.fromarray(np.asarray(renderer.buffer_rgba())[..., :3])
            picture.save(buffer, kind, dpi=(DPI, DPI), **PNG)
        else:
            figure.savefig(
                buffer, format=kind, dpi=DPI, metadata=_METADATA[kind], transparent=bool(salt)
            )
        # The first format computes the layout. The engine "none" would draw twice, as any engine.
        figure.set_layout_engine(None)
    if kind == "svg":  # tick labels may still have control characters
        return NOT_IN_SVG.sub("", buffer.getvalue().decode()).encode()
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw figures in their own look, whatever the user's matplotlibrc says, and restore the
    settings afterwards.
    """
    _register_fonts()
    with matplotlib.style.context(["default", _STYLE]):
        yield


@cache
def _register_fonts() -> None:
    """Add the figures' own font to matplotlib's list, and matplotlib's fonts if the list lacks
    them.

    All installations of a user share the file with this list. An installation that was being
    removed may have written it.
    """
    listed = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted([*FONTS.glob("*.ttf"), *MATPLOTLIB_FONTS.glob("*.ttf")]):
        if str(path) not in listed:
            font_manager.fontManager.addfont(str(path))


def canvas(width: float, height: float) -> Canvas:
    """Return an empty figure of this size in inches.

    pyplot doesn't know the figure, so that nobody has to close it.
    """
    figure = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels_per_row(count: int, width: float, panel: float, row: float, most: int = 3) -> int:
    """Return how many of `count` panels a row has.

    If the rows would be higher than a page, a row has more panels, down to a width of LEAST_PANEL.

    Args:
        count: The number of panels.
        width: The width of a row in inches.
        panel: The preferred width of a panel in inches.
        row: The height of a row in inches.
        most: The maximum number of panels of a row if the rows fit on a page.
    """
    per_row = max(1, min(count, most, round(width / panel)))
    while per_row < count:
        height = -(-count // per_row) * row
        if height <= HEIGHT or width / (per_row + 1) < LEAST_PANEL:
            break
        per_row += 1
    return per_row


def panels(
    figure: Canvas, count: int, per_row: int = 3, sharex: bool = False, sharey: bool = False
) -> list[Axes]:
    """Return `count` axes in rows of at most `per_row`. The rest of the last row is empty."""
    columns = min(count, per_row)
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    axes = grid.ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    # Shared axes have labels only in the last row, in which these columns may be empty.
    for lowest in axes[max(0, count - columns) : count]:
        lowest.tick_params(labelbottom=True)
    return list(axes[:count])


def wrap_name(name: str, width: int = 14) -> str:
    r"""Break a name into lines of about `width` letters.

    Lines break at spaces, hyphens and after underscores.

    >>> wrap_name("ablation_cam_axiomatic")
    'ablation_cam_\naxiomatic'
    """
    parts = textwrap.wrap(name.replace("_", "_ "), max(4, width), break_long_words=False)
    return "\n".join(part.replace("_ ", "_") for part in parts)


def set_title(axes: Axes, text: str, inches: float, y: float | None = None) -> None:
    """Set the title of a panel, in as many lines as the panel's width in inches requires.

    `y` is its height. Without it, matplotlib measures all tick labels to place the title.
    """
    axes.set_title(wrap_name(text, int(inches / (1.2 * LETTER))), y=y)


def label_y(figure: Canvas, text: str) -> None:
    """Write one label for the y axes of all panels, in as many lines as the figure's height
    requires.
    """
    letter = LETTER * TEXT / SMALL
    figure.supylabel(wrap_name(text, int(figure.get_figheight() / letter)))


PANEL = 1.9  # inches: the width of a panel
LEGEND = 1.4  # inches: the width of the legend
ENTRY = 0.14  # inches: the height of an entry of the legend


def side_by_side(
    shown: Mapping[str, Callable[[Axes], None]],
    order: Sequence[str],
    square: float | None = None,
    **share: bool,
) -> Canvas:
    """Draw a panel per title, with one legend for all panels on their right.

    Args:
        shown: The titles, and the function that draws each panel.
        order: The labels of the legend, in order.
        square: The maximum width of a panel in inches, if panels are as wide as they are high.
        share: The options "sharex" and "sharey" of matplotlib.
    """
    width = PAGE - LEGEND
    per_row = panels_per_row(len(shown), width, PANEL, PANEL)
    side = width / per_row
    rows = -(-len(shown) // per_row)
    # one row of panels may be lower than the legend next to it
    height = max(PANEL * rows, 0.3 + ENTRY * len(order))
    if square is not None:
        side = min(square, side)
        height = 0.95 * side * rows
    figure = canvas(side * per_row + LEGEND, height)
    all_axes = panels(figure, len(shown), per_row, **share)
    for axes, (title, fill) in zip(all_axes, shown.items(), strict=True):
        fill(axes)
        set_title(axes, title, side)
    legend(figure, order)
    return figure


def legend(figure: Canvas, order: Sequence[str]) -> Legend:
    """Add one legend for all panels on their right, of those labels that are drawn."""
    handle_by_label = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handle_by_label[label] = handle
    labels = [label for label in dict.fromkeys(order) if label in handle_by_label]
    handles = [handle_by_label[label] for label in labels]
    texts = [wrap_name(label, 22) for label in labels]
    return figure.legend(handles, texts, loc="outside right upper")


# The minimum upper end of an axis from 0. Methods that are exact except for rounding lie below it.
SMALLEST = 0.01
# If the largest value is so many times the smallest, a linear axis hides the small values.
SPREAD = 20.0


def spread_axis(axes: Axes, name: str, values: Floats, from_zero: bool = False) -> None:
    """Set the scale and the limits of the axis "x" or "y" for these values.

    Values of at least 0 that spread wide have an axis from 0, which is logarithmic beyond the
    smallest value. Other values have a linear axis. An axis never spans only rounding, which would
    seem to rank methods that coincide.

    Args:
        axes: matplotlib's axes.
        name: The axis, "x" or "y".
        values: The values that are drawn.
        from_zero: A linear axis begins at 0.
    """
    axis = getattr(axes, f"{name}axis")
    set_limits = getattr(axes, f"set_{name}lim")
    positive = values[values >= FLOAT32_ROUNDING]
    if len(positive) and values.min() >= 0 and positive.max() > SPREAD * positive.min():
        # the scale is linear between 0 and the first tick, because methods may have an error of 0
        start = max(positive.min(), positive.max() / 1000)
        first_tick = 10.0 ** np.floor(np.log10(start))
        getattr(axes, f"set_{name}scale")("symlog", linthresh=first_tick)
        axis.set_minor_formatter(NullFormatter())
        set_limits(0, 1.5 * positive.max())
        return
    if from_zero or max(-values.min(), values.max()) < FLOAT32_ROUNDING:
        set_limits(0, max(1.15 * values.max(), SMALLEST))
    axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))


def draw_matrix(
    axes: Axes,
    shares: Floats | pd.DataFrame,
    texts: np.ndarray | Sequence[Sequence[str]],
    most: float,
    dark: float,
    size: float,
    aspect: Literal["auto", "equal"],
) -> AxesImage:
    """Draw cells in blue, the darker the larger their share, with texts on them.

    Args:
        axes: matplotlib's axes.
        shares: The share of each cell, (rows, columns).
        texts: The text of each cell, (rows, columns). "" draws none.
        most: The share that would have the darkest blue.
        dark: The share above which texts are white.
        size: The size of the texts in points.
        aspect: "equal" for square cells, "auto" for cells that fill the axes.

    Returns:
        matplotlib's image.
    """
    picture = axes.imshow(shares, vmin=0, vmax=most, cmap="Blues", aspect=aspect)
    axes.grid(visible=False)
    for (row, column), text in np.ndenumerate(np.asarray(texts, dtype=object)):
        if text:
            colour = "white" if np.asarray(shares)[row, column] > dark else "0.2"
            cell = axes.text(
                column, row, text, ha="center", va="center", fontsize=size, color=colour
            )
            # the layout needs no room for it, and measuring it takes as long as drawing it
            cell.set_in_layout(False)
    return picture


def join_frames(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the frames of several networks as one frame with a first column for the network.

    The frame of only one network is returned as it is.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))
    frames = [
        pd.DataFrame({"Network": [label] * len(frame), **frame}) for label, frame in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def written(value: object) -> str:
    """Return a cell of a frame as readers see it."""
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def most_comparable_first(run: RunFolder, names: Sequence[str]) -> list[str]:
    """Return metrics with the one first that tells the most methods apart, controls aside.

    A chart opens on its first metric. It has a direction if any of the metrics has one.
    """
    if not names:
        return []
    rows = run.summary[(run.summary["n"] > 0) & (run.summary["method"] != METHOD_FREE)]
    rows = rows[~rows["method"].isin(run.metadata.controls)]

    def comparisons(name: str) -> tuple[bool, int]:
        metric_rows = rows[rows["metric"] == name]
        num_methods = 0
        for setting in settings_that_differ(run, name)[0]:
            num_methods += rows_at(metric_rows, setting)["method"].nunique()
        return run.metadata.value(name).has_direction, num_methods

    best = max(names, key=comparisons)
    return [best, *(name for name in names if name != best)]


def settings_that_differ(run: RunFolder, *metrics: str) -> tuple[list[Setting], str]:
    """Return the settings in which methods differ by one of these metrics.

    Returns:
        The settings, and a sentence about the other settings, whose chart would show one spot. The
        sentence is "" if there are none.
    """
    different: list[Setting] = []
    same: list[Setting] = []
    for setting in run.settings:
        if all(coincide(run, setting, name) for name in metrics):
            same.append(setting)
        else:
            different.append(setting)
    if not same:
        return different, ""
    labels = ", ".join(map(run.label, same))
    note = f"Not drawn, since all methods, controls aside, have the same values: {labels}."
    return different, note


def counts_by(rows: pd.DataFrame, by: Sequence[str]) -> str:
    """Return the fewest and the most images and rows of groups of rows, such as "n = 60 to 64
    images, 112 to 120 rows".
    """
    groups = rows.groupby(list(by), observed=True)
    image = image_numbers(rows["image_id"])
    num_images = image.max(initial=0) + 1
    # One number per pair of a group and an image: nunique() of each group takes four times as long.
    pairs = pd.unique(groups.ngroup().to_numpy() * num_images + image)
    return counts_text(np.bincount(pairs // num_images), groups.size())


def reason_without_value(run: RunFolder, metric: str, needs: str = "") -> str:
    """Return why a metric has no value, and the settings that add it.

    Args:
        run: The run.
        metric: The metric's name in the configuration.
        needs: Words for what the metric needs in addition to its own setting.
    """
    values = {name for name, entry in run.manifest.metrics.items() if entry.metric == metric}
    values.add(metric)
    statuses = Counter(run.records.counts(values)) + Counter(run.class_records.counts(values))
    condition = f"; {needs}" if needs else ""
    if not statuses:
        return f"This run doesn't measure {metric}: add it with metric=[...,{metric}]{condition}."
    reasons = []
    for status, count in statuses.most_common():
        reasons.append(f"{reason(status)} ({plural(count, 'row')})")
    return f"{metric} has no value: {', '.join(reasons)}{condition}."
