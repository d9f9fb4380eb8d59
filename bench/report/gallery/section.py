"""The page's section of the gallery, and the folder with a page and pictures that takes its place for many images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from axiom_bench.records import files
from axiom_bench.report.gallery.data import entries, gallery_data, inline, number_of_images
from axiom_bench.report.page.html import Section, render
from axiom_bench.report.tables.text import CONSTRUCTED
from axiom_bench.statistics.run_folder import RunFolder

ID, TITLE = "gallery", "Gallery"
MAX_INLINE = 100  # images in the page itself; of more, the pictures lie beside a page in a folder
FOLDER = "report"  # in the run folder: index.html and the pictures
PICTURES = "pictures"  # in that folder
REPORT = "../report.html"  # from that folder's page


def section(run: RunFolder) -> Section:
    """The gallery in report.html; of more than MAX_INLINE images a link to the page in FOLDER, see `folder_section`.
    Raises BenchError for a damaged file of pictures."""
    pictures = entries(run)
    if not pictures or number_of_images(pictures) > MAX_INLINE:
        absent = {"images": number_of_images(pictures), "folder": FOLDER, "is_off": _is_off(run)}
        return Section(ID, TITLE, render("gallery_absent.html.j2", **absent))
    return _section(gallery_data(run, pictures, inline))


def folder_section(run: RunFolder) -> Section | None:
    """The gallery of a page in FOLDER, whose pictures are written beside it; None where report.html holds them.
    Raises BenchError as `section`, and where the folder can't be written."""
    pictures = entries(run)
    if number_of_images(pictures) <= MAX_INLINE:
        return None
    files.ensure_writable(run.path / FOLDER / PICTURES)
    return _section(gallery_data(run, pictures, PictureFolder(run.path / FOLDER)), REPORT)


@dataclass(frozen=True)
class PictureFolder:
    """Writes pictures into a folder of the page's; their addresses are relative to the page.

    They aren't synced one by one, which took half of a report's time: the report's stamp has their hashes.
    """

    folder: Path

    def __call__(self, picture: bytes, kind: str) -> str:
        address = f"{PICTURES}/{hashlib.sha256(picture).hexdigest()[:20]}.{kind}"
        path = self.folder / address
        if path.is_symlink():  # of a stranger's folder: writing would follow it
            path.unlink()
        path.write_bytes(picture)
        return address


def _section(data: Mapping[str, Any], report: str = "") -> Section:
    """report: the link to the page with everything else, from a page that has the gallery alone."""
    body = render(
        "gallery.html.j2",
        colour_maps=list(colour_maps()),
        warning=WARNING,
        coverage=_coverage(data),
        constructed=CONSTRUCTED,
        report=report,
    )
    return Section(ID, TITLE, body, styles=("gallery.css",), scripts=("gallery.js",), data={"gallery-data": data})


def _coverage(data: Mapping[str, Any]) -> str:
    """Which of the run's images are shown; where networks differ, for each of them."""
    texts = {setting["label"]: _shown(setting["shown"], setting["of"]) for setting in data["settings"]}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{label}: {text}" for label, text in texts.items())


def _shown(shown: int, of: int | None) -> str:
    """of: how many images the run has; None where its manifest doesn't say.

    >>> _shown(2, 2), _shown(1, 2)
    ('All 2 images', '1 of 2 images, spread evenly over them and not chosen by their values')
    """
    if shown == of:
        return f"All {shown:,} images"
    total = "" if of is None else f" of {of:,}"
    return f"{shown:,}{total} images, spread evenly over them and not chosen by their values"


def _is_off(run: RunFolder) -> bool:
    """Whether the run was told to store no pictures."""
    pictures = run.config.get("pictures") or {}
    return pictures.get("gallery") == 0


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
