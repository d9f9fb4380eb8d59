"""The gallery: images with every method's map and what was measured on them, as JSON for its
script. It is in the page, or of many images in a folder with a page and pictures of its own.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from markupsafe import Markup

from axiom_bench.columns import OBJECT, OK
from axiom_bench.explanation.overlay import COLOURS, colour_map
from axiom_bench.records import files
from axiom_bench.records.store import read_gallery
from axiom_bench.report.charts.styles import method_styles
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Section, part
from axiom_bench.report.tables.text import CONSTRUCTED
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, Value, number, rows_at
from axiom_bench.statistics.ranking import unbeaten
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

ID, TITLE = "gallery", "Gallery"
MOST_MAPS = 11  # in a row
MAX_INLINE = 100  # images in the page itself; of more, the pictures lie beside a page in a folder
FOLDER = "report"  # in the run folder: index.html and the pictures
PICTURES = "pictures"  # in that folder
REPORT = "../report.html"  # from that folder's page
# Nodes between which a browser interpolates: every fifth of matplotlib's 256 colours. Within 1 of
# 255, jet within 6.
STEPS = 52
# Perceptually uniform ones first.
COLOUR_MAPS = {"inferno": "Inferno", "viridis": "Viridis", "gray": "Grey", "jet": "Jet"}
WARNING = (
    "Jet isn't perceptually uniform: it shows edges where the map has none, and hides some that "
    "it has (Borland and Taylor, 2007). It is here for comparison with published figures."
)
Placed = Callable[
    [bytes, str], str
]  # (a picture's bytes, "webp" or "png") -> the address under which a page has it
# A row of `records.store.GALLERY`; where they are known also "top", the most probable classes,
# [name, text] each, and "zero", the methods whose map is zero everywhere.
Entry = Mapping[str, Any]
Image = tuple[str, int]  # image id and explained class


def section(run: RunFolder) -> Section:
    """The gallery in report.html; of more than MAX_INLINE images a link to the page in FOLDER, see
    `folder_section`. Raises BenchError for a damaged file of pictures.
    """
    pictures = entries(run)
    if not pictures or number_of_images(pictures) > MAX_INLINE:
        is_off = run.config.pictures.get("gallery") == 0
        body = part(
            "gallery_absent", images=number_of_images(pictures), folder=FOLDER, is_off=is_off
        )
        return Section(ID, TITLE, body)
    return section_of(gallery_data(run, pictures, inline))


def row(run: RunFolder, most: int | None = MOST_MAPS, address: str = f"#{ID}") -> Markup:
    """The maps of the first image of the first setting, one for all methods that have the same;
    empty where the run stored no pictures. most: how many maps; None for all, on the network of
    most. address: of all images.
    """
    stored = [
        entry for setting in run.settings for entry in entries(run) if setting_of(entry) == setting
    ]
    if not stored:
        return Markup("")
    entry = stored[0] if most else max(stored, key=lambda entry: len(entry["maps"]))
    titles: dict[bytes, list[str]] = {}
    for name, heatmap in zip(entry["methods"], entry["maps"], strict=True):
        if name in run.methods and heatmap:
            titles.setdefault(heatmap, []).append(run.metadata.method_title(name))
    shown = [(" = ".join(names), inline(heatmap, "webp")) for heatmap, names in titles.items()][
        :most
    ]
    return part(
        "maps",
        colours=next(colour_maps()),
        picture=inline(entry["picture"], "webp"),
        ratio=f"{entry['width']} / {entry['height']}",
        maps=shown,
        address=address,
        caption=f"{entry['image_id']}, class {entry['target_name']}, on {run.label(setting_of(entry))}",
    )


def folder_section(run: RunFolder) -> Section | None:
    """The gallery of a page in FOLDER, whose pictures are written beside it; None where report.html
    holds them. Raises BenchError as `section`, and where the folder can't be written.
    """
    pictures = entries(run)
    if number_of_images(pictures) <= MAX_INLINE:
        return None
    files.ensure_writable(run.path / FOLDER / PICTURES)
    return section_of(gallery_data(run, pictures, PictureFolder(run.path / FOLDER)), REPORT)


@dataclass(frozen=True)
class PictureFolder:
    """Writes pictures into a folder of the page's; their addresses are relative to the page.

    They aren't synced one by one, which took half of a report's time.
    """

    folder: Path

    def __call__(self, picture: bytes, kind: str) -> str:
        address = f"{PICTURES}/{hashlib.sha256(picture).hexdigest()[:20]}.{kind}"
        path = self.folder / address
        if path.is_symlink():  # of a stranger's folder: writing would follow it
            path.unlink()
        path.write_bytes(picture)
        return address


def inline(picture: bytes, kind: str) -> str:
    """The picture as a data URI: nothing lies beside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def section_of(data: Mapping[str, Any], report: str = "", colours: str = COLOURS) -> Section:
    """The gallery of what `gallery_data` returns. report: the link to the page with everything
    else, from a page that has the gallery alone. colours: matplotlib's colour map that is shown at
    first. Raises BenchError for an unknown one.
    """
    look = {
        "colour_maps": list(colour_maps(colours)),
        "warning": WARNING,
        "constructed": CONSTRUCTED,
    }
    body = part(
        "gallery", coverage=_coverage(data), report=report, has_labels=data["has_labels"], **look
    )
    return Section(
        ID,
        TITLE,
        body,
        styles=("gallery.css",),
        scripts=("gallery.js",),
        data={"gallery-data": data},
    )


def _coverage(data: Mapping[str, Any]) -> str:
    """Which of the run's images are shown; where networks differ, for each of them."""
    texts = {
        setting["label"]: _shown(setting["shown"], setting["of"], setting["rows"])
        for setting in data["settings"]
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{label}: {text}" for label, text in texts.items())


def _shown(shown: int, of: int | None, rows: str = "images") -> str:
    """of: how many images the run has; None where its manifest doesn't say. rows: "objects" where
    one is explained.

    >>> _shown(1, 1), _shown(2, 2), _shown(1, 2, "objects")
    ('1 image', 'All 2 images', '1 of 2 objects, spread evenly over them and not chosen by their values')
    """
    if shown == of:
        return f"All {shown:,} {rows}" if shown > 1 else f"1 {rows.removesuffix('s')}"
    total = "" if of is None else f" of {of:,}"
    return f"{shown:,}{total} {rows}, spread evenly over them and not chosen by their values"


def colour_maps(first: str = COLOURS) -> Iterator[dict[str, str]]:
    """matplotlib's, by name and title; red, green and blue of feComponentTransfer's tables, and the
    same colours from 0 to 1 as a gradient for CSS. first: any of matplotlib's. Raises BenchError
    for an unknown one.
    """
    for name in dict.fromkeys([first, *COLOUR_MAPS]):
        title = COLOUR_MAPS.get(name, name.capitalize())
        colours = colour_map(name)(np.linspace(0, 1, STEPS))[:, :3]
        tables = (" ".join(f"{value:.3g}" for value in channel.round(3)) for channel in colours.T)
        stops = ", ".join(
            "#" + "".join(f"{round(255 * value):02x}" for value in colour)
            for colour in colours[::3]
        )
        channels = dict(zip(("red", "green", "blue"), tables, strict=True))
        yield {
            "name": name,
            "title": title,
            **channels,
            "gradient": f"linear-gradient(to right, {stops})",
        }


def entries(run: RunFolder) -> list[dict[str, Any]]:
    """Every picture that the run stored of a setting with records. Raises BenchError for a damaged
    file.
    """
    return [
        entry for entry in read_gallery(run.path, run.manifest) if setting_of(entry) in run.settings
    ]


def setting_of(entry: Entry) -> Setting:
    """Where the entry's maps were computed."""
    return Setting(entry["model"], entry["layer"], entry["data"])


def number_of_images(pictures: Sequence[Entry]) -> int:
    """How many different images are shown: one may have several networks and explained classes."""
    return len({(entry["data"], entry["image_id"]) for entry in pictures})


def gallery_data(run: RunFolder, pictures: Sequence[Entry], placed: Placed) -> dict[str, Any]:
    """{"metrics", "methods", "settings", "has_labels", "images"}: what the script shows, names as
    people read them.
    """
    metrics = shown_metrics(run)
    settings = [setting for setting in run.settings if setting in set(map(setting_of, pictures))]
    notes = {name: str(run.metadata.method(name).note or "") for name in run.methods}
    return {
        "metrics": [{"title": value.title, "better": value.better} for value in metrics],
        "methods": [
            {"title": style.title, "colour": style.colour, "note": notes[name]}
            for name, style in method_styles(run).items()
        ],
        "settings": [_setting(run, setting, pictures) for setting in settings],
        "has_labels": run.config.target != "predicted",  # so that a prediction may be wrong
        "images": list(_images(run, settings, pictures, metrics, placed)),
    }


def _setting(run: RunFolder, setting: Setting, pictures: Sequence[Entry]) -> dict[str, Any]:
    """ranks: whether a value may be called the best: see `RunFolder.ranks`."""
    of_setting = [entry for entry in pictures if setting_of(entry) == setting]
    shown, rows = (
        number_of_images(of_setting),
        "objects" if OBJECT in of_setting[0]["image_id"] else "images",
    )
    images = run.metadata.model(setting.model).images.get(setting.data)
    kept = images.kept if images else None
    label, ranks = run.label(setting), run.ranks(setting)
    return {
        "label": label,
        "layer": setting.layer,
        "ranks": ranks,
        "shown": shown,
        "of": kept,
        "rows": rows,
    }


def _images(
    run: RunFolder,
    settings: Sequence[Setting],
    pictures: Sequence[Entry],
    metrics: Sequence[Value],
    placed: Placed,
) -> Iterator[dict[str, Any]]:
    places = {name: place for place, name in enumerate(run.methods)}
    classes: dict[tuple[Setting, str], set[int]] = {}
    for entry in pictures:
        classes.setdefault((setting_of(entry), entry["image_id"]), set()).add(entry["target_class"])
    values = {
        setting: measured(run, setting, metrics, {image for _, image in classes})
        for setting in settings
    }
    for entry in pictures:
        setting, image = setting_of(entry), entry["image_id"]
        explained, of_image = (
            classes[setting, image],
            values[setting].get((image, entry["target_class"]), {}),
        )
        target, predicted = (
            [entry[f"{role}_class"], entry[f"{role}_name"], _finite(entry[f"{role}_probability"])]
            for role in ("target", "predicted")
        )
        yield {
            "setting": settings.index(setting),
            "id": image,
            # The parts of a link: network, image and, where several classes of the image are
            # explained, the class.
            "key": [
                run.label(setting),
                image,
                *([entry["target_name"]] if len(explained) > 1 else ()),
            ],
            "width": entry["width"],
            "height": entry["height"],
            "boxes": np.round(entry["boxes"], 1).tolist(),
            "target": target,
            "predicted": predicted,
            "wrong": entry["predicted_class"] not in explained,
            "disagreement": _finite(entry["disagreement"]),
            "picture": placed(entry["picture"], "webp"),
            "outline": entry["outline"] and placed(entry["outline"], "png"),
            "maps": _maps(entry, places, placed),
            "top": entry.get("top", ()),
            "zero": [places[name] for name in _zero(entry) if name in places],
            "values": [
                {
                    places[method]: list(value)
                    for method, value in of_image.get(metric.name, {}).items()
                }
                for metric in metrics
            ],
        }


def _zero(entry: Entry) -> list[str]:
    """The methods whose map is zero everywhere, where that is known."""
    empty = [
        name
        for name, heatmap in zip(entry["methods"], entry["maps"], strict=True)
        if heatmap == b""
    ]
    return [*entry.get("zero", ()), *empty]


def _maps(entry: Entry, places: Mapping[str, int], placed: Placed) -> list[list[Any]]:
    """[method, address] of each map; instead of an address the method with the same map before it,
    or None for a map that is zero everywhere or isn't finite.
    """
    seen: dict[bytes, int] = {}
    maps: list[list[Any]] = []
    for name, heatmap in zip(entry["methods"], entry["maps"], strict=True):
        if name not in places:
            continue
        if not heatmap or heatmap in seen:
            maps.append([places[name], seen[heatmap] if heatmap else None])
        else:
            maps.append([places[name], placed(heatmap, "webp")])
            seen[heatmap] = places[name]
    return maps


def _finite(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and np.isfinite(value) else None


class Measured(NamedTuple):
    """A value of one image and method. text: as people read it, or the status in words where there
    is no value. rank: among the image's methods, 1 is best; None without a value, where the
    method's own formula makes the value 0, and where a control is unbeaten over all images.
    """

    value: float | None
    text: str
    rank: int | None


def shown_metrics(run: RunFolder) -> tuple[Value, ...]:
    """The metrics of the headline and of the overview table that say which map is better, for
    single images.
    """
    present = run.records.measured(METHOD_FREE)
    names = dict.fromkeys((*options_of(run).headline, *options_of(run).columns))
    values = (run.metadata.value(name) for name in names if name in present)
    return tuple(value for value in values if value.has_direction)


def measured(
    run: RunFolder, setting: Setting, metrics: Collection[Value], image_ids: Collection[str]
) -> dict[Image, dict[str, dict[str, Measured]]]:
    """{image: {metric: {method: Measured}}} of some images of one setting."""
    shown = run.records.where(run.records.keys["image_id"].isin(list(image_ids)).to_numpy())
    rows = rows_at(shown.frame(value.name for value in metrics), setting)
    rows = rows[rows["method"] != METHOD_FREE].astype(object)
    result: dict[Image, dict[str, dict[str, Measured]]] = {}
    for about in metrics:
        constructed = run.metadata.by_construction(about.name)
        is_ranked = not about.reached_by and not unbeaten(run, setting, about.name)
        of_metric = rows[rows["metric"] == about.name]
        for key, selected in of_metric.groupby(["image_id", "target_class"], sort=False):
            values = dict(
                zip(
                    selected["method"],
                    selected["value"].where(selected["status"] == OK),
                    strict=True,
                )
            )
            statuses = dict(zip(selected["method"], selected["status"], strict=True))
            unbiased = {
                name: value
                for name, value in values.items()
                if is_ranked and name not in constructed
            }
            ranks = ranked(unbiased, about.better, about.rounding)
            result.setdefault(cast(Image, key), {})[about.name] = {
                method: Measured(
                    float(f"{value:.6g}"),
                    number(value, about.rounding) + (CONSTRUCTED if method in constructed else ""),
                    ranks.get(method),
                )
                if math.isfinite(value)
                else Measured(None, statuses[method].replace("_", " "), None)
                for method, value in values.items()
            }
    return result


def ranked(
    values: Mapping[str, float], better: str, rounding: float = FLOAT32_ROUNDING
) -> dict[str, int]:
    """{method: 1 + how many methods are better}, for those with a finite value. Values that print
    the same tie: three digits, and what is below `rounding`. better: "lower" or "higher".

    >>> ranked({"a": 0.5, "b": 0.1, "c": 0.50001, "d": float("nan")}, "lower")
    {'a': 2, 'b': 1, 'c': 2}
    """
    sign = 1 if better == "lower" else -1
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    texts = {name: number(value, rounding) for name, value in finite.items()}
    return {
        name: 1
        + sum(
            sign * other < sign * value and texts[peer] != texts[name]
            for peer, other in finite.items()
        )
        for name, value in finite.items()
    }
