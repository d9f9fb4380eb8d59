"""Colour maps as SVG filters: a browser colours a grey map by one, also where a script may not read its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib
import numpy as np

# Nodes between which a browser interpolates: every fifth of matplotlib's 256 colours. Within 1 of 255, jet within 6.
STEPS = 52
# Perceptually uniform ones first, of which the first is the default.
TITLES = {"inferno": "Inferno", "viridis": "Viridis", "gray": "Grey", "jet": "Jet"}
WARNING = (
    "Jet isn't perceptually uniform: it shows edges where the map has none, and hides some that it has (Borland and "
    "Taylor, 2007). It is here for comparison with published figures."
)


@dataclass(frozen=True)
class ColourMap:
    """red, green, blue: of feComponentTransfer's tables. gradient: the same colours for CSS, from 0 to 1."""

    name: str
    title: str
    red: str
    green: str
    blue: str
    gradient: str


def colour_maps() -> Iterator[ColourMap]:
    """matplotlib's, by the names of TITLES."""
    for name, title in TITLES.items():
        colours = matplotlib.colormaps[name](np.linspace(0, 1, STEPS))[:, :3]
        red, green, blue = (" ".join(f"{value:.3g}" for value in channel.round(3)) for channel in colours.T)
        stops = ", ".join("#" + "".join(f"{round(255 * value):02x}" for value in colour) for colour in colours[::3])
        yield ColourMap(name, title, red, green, blue, f"linear-gradient(to right, {stops})")
