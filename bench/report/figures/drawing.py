"""What a figure's file hands back: a drawing with its caption, or the sentence that says why it is left out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import seaborn
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from axiom_bench.records import files

DPI = 150
PNG = {"compress_level": 3}  # 6, the default, takes three times as long for a tenth fewer bytes
PALETTE = seaborn.color_palette("colorblind")
MARKERS = "osD^vP*Xdp<>"
FONTS = Path(__file__).parent / "fonts"  # DejaVu Sans with fewer signs: see scripts/subset_fonts.py
# Fonts are embedded as TrueType (type 42), as conferences ask; no time or version goes into a file.
_STYLE: Any = {
    **seaborn.axes_style("whitegrid"),
    **seaborn.plotting_context("paper", font_scale=1.1),
    "font.family": ["Report Sans", "DejaVu Sans"],  # the second for signs that the first lacks
    "pdf.fonttype": 42,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """name: of the files. caption: what is shown, with n. plot: draws the figure, in the report's style.

    The figure is drawn when it is asked for, so that several processes can share a report's figures.
    """

    name: str
    title: str
    caption: str
    plot: Callable[[], Figure]

    def draw(self) -> Figure:
        """The figure, drawn anew at each call."""
        with style():
            return self.plot()

    def png_path(self, folder: Path) -> Path:
        """Where `save` writes the PNG."""
        return folder / f"{self.name}.png"

    def save(self, folder: Path) -> None:
        """Write PNG and PDF. Raises BenchError where the folder can't be written."""
        figure = self.draw()
        files.write(self.png_path(folder), _bytes(figure, "png"))
        files.write(folder / f"{self.name}.pdf", _bytes(figure, "pdf"))


@dataclass(frozen=True)
class LeftOut:
    """A figure that can't be drawn, and why, in one sentence that names the setting which brings it."""

    title: str
    reason: str
    number: str = ""


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with style():
        options: dict[str, Any] = {"pil_kwargs": PNG} if kind == "png" else {}
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=_METADATA[kind], **options)
        figure.set_layout_engine("none")  # the first format laid it out; again costs as much as drawing
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures; matplotlib's own settings are as before afterwards."""
    _register_fonts()
    with matplotlib.rc_context(_STYLE):
        yield


@cache
def _register_fonts() -> None:
    """Tell matplotlib of the fonts, once: an entry more in its list, which no other figure asks for."""
    for path in sorted(FONTS.glob("*.ttf")):
        font_manager.fontManager.addfont(str(path))


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches, apart from pyplot: nothing global to close."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Figure, count: int, most: int = 3, **how: Any) -> list[Any]:
    """`count` axes in rows of at most `most`; the rest of the last row is empty."""
    columns = min(count, most)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False, **how).ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    for lowest in axes[max(0, count - columns) : count]:  # shared axes label the last row alone, which may be empty
        lowest.tick_params(labelbottom=True)
    return list(axes[:count])
