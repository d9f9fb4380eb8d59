"""Figures: their look, how one is drawn and saved, the counts of its caption, and why one is left
out.
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
from typing import Any, Literal, NamedTuple

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
import seaborn
from markupsafe import Markup
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullFormatter
from PIL import Image

from axiom_bench.records import files
from axiom_bench.records.by_metric import image_numbers
from axiom_bench.report.charts import svg
from axiom_bench.report.options import HEIGHT, PAGE
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, counts_text, number
from axiom_bench.statistics.ranking import coincide
from axiom_bench.statistics.run_folder import RunFolder

DPI = 200
PNG: dict[str, Any] = {
    "compress_level": 3
}  # 6, the default, takes three times as long for a tenth fewer bytes
MUTED = "#0072b2"  # of what belongs to no method
MATPLOTLIB_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONTS = Path(__file__).parent / "fonts"  # DejaVu Sans with fewer signs: see scripts/subset_fonts.py
OWN_FONTS = ("Report Sans", "DejaVu Sans")  # the second for signs that the first lacks
TEXT, SMALL = 8, 7  # points: figures are drawn at the size at which they are printed
LETTER = 0.06  # inches: the mean width of a letter of SMALL
LEAST_PANEL = 0.85  # inches: the width of a panel that can still be read
# Fonts are embedded as TrueType (type 42), as conferences ask; no time or version goes into a file.
_STYLE: Any = {
    **seaborn.axes_style("whitegrid"),
    **seaborn.plotting_context("paper"),
    "font.family": [*OWN_FONTS],
    "font.size": TEXT,
    # fitting letters to pixels takes time, and none is seen at this resolution
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
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), svg.INK),
    **dict.fromkeys(("grid.color", "axes.edgecolor"), svg.LINE),
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.labelpad": 2,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "grid.linewidth": 0.5,
    **dict.fromkeys(("figure.autolayout", "figure.constrained_layout.use"), False),
    "legend.frameon": False,
    "legend.handlelength": 1.6,
}
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
}


class Chart(NamedTuple):
    """A place in the page's section Charts. id: of its element. chooses: what the list is of by
    which a reader chooses one of its figures, such as "Metric".
    """

    id: str
    title: str
    chooses: str


@dataclass(frozen=True, eq=False)
class Figure:
    """name: of the files, see `file_name`. caption: what is shown, with n. plot: draws it, 7 inches
    wide or less. number: of the paper's figure that it is, as "Fig 2(a)".

    chart: where the page shows it as SVG, with `frame`, what is drawn by the columns' titles, as a
    table below it, and `label` as its entry in the chart's list. Without one the page shows the PNG
    among the figures.
    """

    name: str
    title: str
    caption: str
    plot: Callable[[], Canvas]
    number: str = ""
    chart: Chart | None = None
    label: str = ""
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)

    def draw(self) -> Canvas:
        """The figure, drawn anew at each call."""
        with style():
            return with_plain_texts(self.plot())

    @property
    def file_name(self) -> str:
        """The name without what can't be in a file's name, without suffix: it may hold a metric's
        name.
        """
        return files.safe_name(self.name)

    def save(self, folder: Path, formats: Sequence[str] = ("png",)) -> Markup:
        """Write a file of each format, and return the SVG for the page, empty if the page has no
        chart of the figure. Raises BenchError if the folder can't be written.
        """
        drawn = self.draw()
        for kind in formats:
            files.write(folder / f"{self.file_name}.{kind}", _bytes(drawn, kind))
        if self.chart is None:
            return Markup("")
        # The salt gives each drawing ids of its own, since all of them are in one page.
        return svg.inline(
            _bytes(drawn, "svg", salt=self.name), self.file_name, self.title, self.caption
        )


@dataclass(frozen=True)
class LeftOut:
    """A figure that can't be drawn, and why, in one sentence that names the setting which brings
    it.
    """

    title: str
    reason: str
    number: str = ""


@cache
def can_draw(text: str) -> bool:
    """Whether there are fonts with all signs of a text: the figures' own, or others of this
    machine, which figures that are drawn from then on take too.
    """
    missing = {
        ord(sign)
        for sign in text
        if sign.isprintable() and not sign.isspace() and not sign.isascii()
    }
    families: list[str] = _STYLE["font.family"]
    for entry in _fonts():
        if not missing:
            break
        if held := missing & _signs(entry.fname):
            families += [entry.name] if entry.name not in families else []
            missing -= held
    return not missing


def _fonts() -> Iterator[font_manager.FontEntry]:
    """The figures' own fonts, which most texts do with, then those of the machine, without those
    whose signs are all alike, or pictures.
    """
    _register_fonts()
    manager = font_manager.fontManager
    yield from [entry for entry in manager.ttflist if entry.name in OWN_FONTS]
    listed = {entry.fname for entry in manager.ttflist}
    installed = {
        *font_manager.findSystemFonts(),
        *font_manager.findSystemFonts(str(MATPLOTLIB_FONTS)),
    }
    # matplotlib's list, which all installations share, may be older than a font, or be written by
    # one that lacked it
    for path in sorted(installed - listed):
        with suppress(OSError, RuntimeError):
            manager.addfont(path)
    yield from [
        entry
        for entry in manager.ttflist
        if not re.search("last ?resort|emoji", entry.name, re.IGNORECASE)
    ]


@cache
def _signs(file: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError):  # a damaged one
        return frozenset()


def with_plain_texts(figure: Canvas) -> Canvas:
    """Names of classes and models may hold dollar signs, which are text; only logarithmic axes
    write powers. Control characters have no sign, and an SVG file can't hold them. A sign that no
    font has is shown by its code.
    """
    both = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    logarithmic = (axis for axis in both if axis.get_scale() != "linear")
    powers = {
        label
        for axis in logarithmic
        for is_minor in (False, True)
        for label in axis.get_ticklabels(is_minor)
    }
    for text in set(figure.findobj(Text)) - powers:
        text.set_parse_math(False)
        signs = svg.CONTROL.sub("", text.get_text())
        if not signs.isascii():
            signs = "".join(sign if can_draw(sign) else f"U+{ord(sign):04X}" for sign in signs)
            text.set_fontfamily(_STYLE["font.family"])
        text.set_text(signs)
    for axis in both:
        if (
            not axis.get_label_text()
        ):  # else it is put beside the tick labels, all measured for it, at each drawing
            axis.set_label_coords(0, 0)
    return figure


def _bytes(figure: Canvas, kind: str, salt: str = "") -> bytes:
    """salt: of an SVG without background, for ids of its own."""
    buffer = io.BytesIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": salt or "axiom-bench"}):
        if kind == "png":  # as savefig does, which draws a figure with a layout twice
            figure.dpi = DPI
            drawn = FigureCanvasAgg(figure)
            drawn.draw()
            Image.fromarray(np.asarray(drawn.buffer_rgba())[..., :3]).save(
                buffer, kind, dpi=(DPI, DPI), **PNG
            )
        else:
            figure.savefig(
                buffer, format=kind, dpi=DPI, metadata=_METADATA[kind], transparent=bool(salt)
            )
        figure.set_layout_engine(
            None
        )  # the first format laid it out; "none" draws twice, as where there is one
    if kind == "svg":
        return svg.CONTROL.sub(
            "", buffer.getvalue().decode()
        ).encode()  # labels of ticks may still hold some
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

    All installations of a user share the file with this list. One that was being removed may have
    written it.
    """
    listed = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted([*FONTS.glob("*.ttf"), *MATPLOTLIB_FONTS.glob("*.ttf")]):
        if str(path) not in listed:
            font_manager.fontManager.addfont(str(path))


def canvas(width: float, height: float) -> Canvas:
    """An empty figure, in inches, apart from pyplot: nothing global to close."""
    figure = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def across(count: int, width: float, panel: float, row: float, most: int = 3) -> int:
    """How many of `count` panels stand beside each other.

    As many as are `panel` inches wide, but more, down to LEAST_PANEL, where rows of `row` inches
    would be higher than a page.
    """
    per_row = max(1, min(count, most, round(width / panel)))
    while (
        -(-count // per_row) * row > HEIGHT
        and per_row < count
        and width / (per_row + 1) >= LEAST_PANEL
    ):
        per_row += 1
    return per_row


def panels(figure: Canvas, count: int, per_row: int = 3, **share: Any) -> list[Any]:
    """`count` axes in rows of at most `per_row`; the rest of the last row is empty."""
    columns = min(count, per_row)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, **share).ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    for lowest in axes[
        max(0, count - columns) : count
    ]:  # shared axes label the last row alone, which may be empty
        lowest.tick_params(labelbottom=True)
    return list(axes[:count])


def wrapped(name: str, width: int = 14) -> str:
    """A name in lines of about `width` letters; it breaks at spaces, hyphens and after underscores.

    >>> wrapped("ablation_cam_axiomatic")
    'ablation_cam_\\naxiomatic'
    """
    parts = textwrap.wrap(name.replace("_", "_ "), max(4, width), break_long_words=False)
    return "\n".join(part.replace("_ ", "_") for part in parts)


def set_title(axes: Any, text: str, inches: float, **look: Any) -> None:
    """A panel's title, in as many lines as its width asks for."""
    axes.set_title(wrapped(text, int(inches / (1.2 * LETTER))), **look)


PANEL, LEGEND, ENTRY = (
    1.9,
    1.4,
    0.14,
)  # inches: the width of a panel and of the legend, the height of its entries


def side_by_side(
    shown: Mapping[str, Callable[[Any], None]],
    order: Sequence[str],
    square: float | None = None,
    **share: bool,
) -> Canvas:
    """A panel for each title, filled by its function, with the legend of all beside them. order: of
    the legend. square: panels as wide as high, of so many inches at most.
    """
    room = PAGE - LEGEND
    per_row = across(len(shown), room, PANEL, PANEL)
    side, rows = room / per_row, -(-len(shown) // per_row)
    height = max(PANEL * rows, 0.3 + ENTRY * len(order))
    if square is not None:
        side = min(square, side)
        height = 0.95 * side * rows
    figure = canvas(side * per_row + LEGEND, height)
    for axes, (title, fill) in zip(
        panels(figure, len(shown), per_row, **share), shown.items(), strict=True
    ):
        fill(axes)
        set_title(axes, title, side)
    legend(figure, order)
    return figure


def legend(figure: Canvas, order: Sequence[str]) -> Any:
    """One legend for all panels, beside them, of those labels that are drawn."""
    pairs = (
        pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    )
    handles = {label: handle for handle, label in pairs}
    labels = [label for label in dict.fromkeys(order) if label in handles]
    shown = [handles[label] for label in labels], [wrapped(label, 22) for label in labels]
    return figure.legend(*shown, loc="outside right upper")


SMALLEST = (
    0.01  # the least that an axis from 0 shows: below lie methods that are exact but for rounding
)
SPREAD = (
    20.0  # of the largest to the smallest value: from here on a linear axis hides the small ones
)


def spread_axis(axes: Any, name: str, values: Floats, from_zero: bool = False) -> None:
    """The axis "x" or "y" for these values: logarithmic beyond the smallest, and from 0, where
    values of at least 0 spread wide; else linear. It never spans rounding alone, which would rank
    methods that coincide.
    """
    positive = values[values >= FLOAT32_ROUNDING]
    if len(positive) and values.min() >= 0 and positive.max() > SPREAD * positive.min():
        start = max(positive.min(), positive.max() / 1000)
        getattr(axes, f"set_{name}scale")(
            "symlog", linthresh=10.0 ** np.floor(np.log10(start))
        )  # its first tick
        getattr(axes, f"{name}axis").set_minor_formatter(NullFormatter())
        getattr(axes, f"set_{name}lim")(0, 1.5 * positive.max())
        return
    if from_zero or max(-values.min(), values.max()) < FLOAT32_ROUNDING:
        getattr(axes, f"set_{name}lim")(0, max(1.15 * values.max(), SMALLEST))
    getattr(axes, f"{name}axis").set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))


def matrix(
    axes: Any,
    shares: Any,
    texts: Any,
    most: float,
    dark: float,
    size: float,
    aspect: Literal["auto", "equal"],
) -> Any:
    """Cells in blue, the darker the larger their share, of which `most` would be the darkest, with
    the texts on them: (rows, columns) both. The image. dark: the share from which on texts are
    white.
    """
    picture = axes.imshow(shares, vmin=0, vmax=most, cmap="Blues", aspect=aspect)
    axes.grid(visible=False)
    for (row, column), text in np.ndenumerate(np.asarray(texts, dtype=object)):
        if text:
            colour = "white" if np.asarray(shares)[row, column] > dark else "0.2"
            cell = axes.text(
                column, row, text, ha="center", va="center", fontsize=size, color=colour
            )
            cell.set_in_layout(
                False
            )  # there is no room to make for it, which takes as long as drawing
    return picture


def by_network(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The frames of several networks as one, which names them in its first column; of one network
    its own.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))
    named = [
        pd.DataFrame({"Network": [label] * len(frame), **frame}) for label, frame in parts.items()
    ]
    return pd.concat(named, ignore_index=True)


def written(value: Any) -> str:
    """A cell of a frame as readers see it."""
    return (
        number(value)
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def told_apart(run: RunFolder, *metrics: str) -> tuple[list[Setting], str]:
    """The settings in which methods differ by one of these metrics, and a sentence on the others,
    whose chart would show one spot.
    """
    same = [
        setting for setting in run.settings if all(coincide(run, setting, name) for name in metrics)
    ]
    note = (
        "Not drawn, since all methods, controls aside, have the same values: "
        f"{', '.join(map(run.label, same))}."
    )
    return [setting for setting in run.settings if setting not in same], note if same else ""


def counts_by(rows: pd.DataFrame, by: Sequence[str]) -> str:
    """ "n = 60 to 64 images, 112 to 120 rows": the fewest and the most of the groups of rows."""
    groups = rows.groupby(list(by), observed=True)
    image = image_numbers(rows["image_id"])
    many = image.max(initial=0) + 1
    pairs = pd.unique(
        groups.ngroup().to_numpy() * many + image
    )  # groups with their images, in a quarter of the time
    return counts_text(np.bincount(pairs // many), groups.size())


def not_measured(run: RunFolder, metric: str, needs: str = "") -> str:
    """Why a metric has no value, and the settings that bring it. needs: those beside the metric
    itself, in words.
    """
    values = {name for name, entry in run.manifest.metrics.items() if entry.metric == metric} | {
        metric
    }
    statuses = Counter(run.records.counts(values)) + Counter(run.class_records.counts(values))
    also = f"; {needs}" if needs else ""
    if not statuses:
        return f"This run doesn't measure {metric}: add it with metric=[...,{metric}]{also}."
    counts = ", ".join(f"{status} {count}" for status, count in statuses.most_common())
    return f"No row of {metric} has status ok ({counts}){also}."
