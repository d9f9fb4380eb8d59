"""The gallery: images with every method's map and the values measured on them, as JSON for its
script. A few images are in the page. Many images are in a folder, with a page and pictures of its
own. The report, the leaderboard and `axiom-bench explain` show it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

import numpy as np
from markupsafe import Markup

from axiom_bench.columns import OK
from axiom_bench.explanation.overlay import COLOURS, colour_map
from axiom_bench.records import files
from axiom_bench.records.store import GalleryRow, read_gallery
from axiom_bench.report.charts.styles import method_styles
from axiom_bench.report.options import options_of
from axiom_bench.report.page.html import Section, render_part
from axiom_bench.report.tables.text import CONSTRUCTED
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting, Value, number, rows_at
from axiom_bench.statistics.ranking import unbeaten
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

ID = "gallery"
TITLE = "Gallery"
MOST_MAPS = 11  # the most maps in a row
WIDE = 2  # a picture at least so many times as wide as high, such as a signal, is drawn larger
# The most images that the page holds itself. Of more images, the pictures are files next to a page
# in a folder.
MAX_INLINE = 100
FOLDER = "report"  # in the run folder: index.html and the pictures
PICTURES = "pictures"  # in that folder
REPORT = "../report.html"  # from that folder's page
# Nodes between which a browser interpolates: every fifth of matplotlib's 256 colours. Within 1 of
# 255, jet within 6.
STEPS = 52
# The perceptually uniform ones come first.
COLOUR_MAPS = {"inferno": "Inferno", "viridis": "Viridis", "gray": "Grey", "jet": "Jet"}
WARNING = (
    "Jet isn't perceptually uniform: it shows edges where the map has none, and hides some that "
    "it has (Borland and Taylor, 2007). It is here for comparison with published figures."
)
# (a picture's bytes, "webp" or "png") -> the address under which a page has it
Placed = Callable[[bytes, str], str]
Image = tuple[str, int]  # image id and explained class


class SettingData(TypedDict):
    """The facts that the script shows of a setting: one model, cut at one layer, on one data
    set.
    """

    label: str
    layer: str
    ranks: bool
    """True if a value may be called the best, see `RunFolder.ranks_methods`."""
    shown: int
    """The number of images in the gallery."""
    of: int | None
    """The number of images of the run; `None` if the manifest doesn't have it."""
    noun: str
    """What is counted: "image", "object" or "word"."""


class GalleryData(TypedDict):
    """The JSON that the gallery's script reads. Lists of methods and metrics are in the order of
    `methods` and `metrics`.
    """

    metrics: list[dict[str, str]]
    methods: list[dict[str, str]]
    settings: list[SettingData]
    has_labels: bool
    """True if the explained class is a label, so that a prediction may be wrong."""
    images: list[dict[str, object]]


def section(run: RunFolder, own_pictures: Sequence[GalleryRow] | None = None) -> Section:
    """Return the gallery in report.html. For more than MAX_INLINE images, return a link to the page
    in FOLDER, see `folder_section`. Raise BenchError for a damaged file of pictures.

    `own_pictures` are shown instead of those that the run stored, with the values of `run`, for the
    methods that have a map there.
    """
    pictures = stored_pictures(run) if own_pictures is None else own_pictures
    names = None
    if own_pictures is not None:
        names = {name for entry in pictures for name in entry["methods"]}
    if not pictures or number_of_images(pictures) > MAX_INLINE:
        is_off = run.config.pictures.get("gallery") == 0
        body = render_part(
            "gallery_absent", images=number_of_images(pictures), folder=FOLDER, is_off=is_off
        )
        return Section(ID, TITLE, body)
    return gallery_section(gallery_data(run, pictures, data_address, names))


def maps_row(
    run: RunFolder,
    most: int | None = MOST_MAPS,
    address: str = f"#{ID}",
    own_pictures: Sequence[GalleryRow] | None = None,
) -> Markup:
    """Return a row of maps of one image. Methods with the same map share one. The row is empty
    without pictures.

    Args:
        run: The run, as read from its folder.
        most: How many maps of the first setting's first image are shown. `None`: all maps, of the
            image with the most maps.
        address: The address of the page with all images.
        own_pictures: The pictures; `None`: those that the run stored.
    """
    pictures = stored_pictures(run) if own_pictures is None else own_pictures
    stored = []
    for setting in run.settings:
        stored += [entry for entry in pictures if setting_of(entry) == setting]
    if not stored:
        return Markup("")
    entry = stored[0] if most else max(stored, key=_number_of_maps)
    # methods with the same map have the same bytes, and share a picture
    titles_by_map: dict[bytes, list[str]] = {}
    for name, heatmap in maps_in_order(entry, run.methods):
        if heatmap:
            titles_by_map.setdefault(heatmap, []).append(run.metadata.method_title(name))
    maps = [
        (" = ".join(titles), data_address(heatmap, "webp"))
        for heatmap, titles in titles_by_map.items()
    ]
    setting = setting_of(entry)
    subject = "word" if _noun(run, setting) == "word" else "class"
    return render_part(
        "maps",
        colours=next(colour_maps()),
        picture=data_address(entry["picture"], "webp"),
        ratio=f"{entry['width']} / {entry['height']}",
        is_wide=entry["width"] >= WIDE * entry["height"],
        maps=maps[:most],
        address=address,
        caption=f"{entry['image_id']}, {subject} {entry['target_name']}, on {run.label(setting)}",
    )


def folder_section(run: RunFolder) -> Section | None:
    """Return the gallery of a page in FOLDER, and write its pictures next to that page. Return
    `None` if report.html holds the pictures. Raise BenchError as `section`, and if the folder can't
    be written.
    """
    pictures = stored_pictures(run)
    if number_of_images(pictures) <= MAX_INLINE:
        return None
    files.ensure_writable(run.path / FOLDER / PICTURES)
    return gallery_section(gallery_data(run, pictures, PictureFolder(run.path / FOLDER)), REPORT)


@dataclass(frozen=True)
class PictureFolder:
    """A writer of pictures into a page's folder. It returns their addresses relative to the page.

    The pictures aren't synced one by one, which took half of a report's time.
    """

    folder: Path

    def __call__(self, picture: bytes, kind: str) -> str:
        """Write a picture, and return its address."""
        address = f"{PICTURES}/{hashlib.sha256(picture).hexdigest()[:20]}.{kind}"
        path = self.folder / address
        if path.is_symlink():  # a stranger's folder may have one, and writing would follow it
            path.unlink()
        path.write_bytes(picture)
        return address


def data_address(picture: bytes, kind: str) -> str:
    """Return the picture as a data URI, so that the page needs no file next to it."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def gallery_section(data: GalleryData, report: str = "", colours: str = COLOURS) -> Section:
    """Return the gallery's section. Raise BenchError for an unknown colour map.

    Args:
        data: The result of `gallery_data`.
        report: The link to the report, for a page that has only the gallery.
        colours: matplotlib's colour map that is shown at first.
    """
    body = render_part(
        "gallery",
        coverage=_coverage(data["settings"]),
        report=report,
        has_labels=data["has_labels"],
        colour_maps=list(colour_maps(colours)),
        warning=WARNING,
        constructed=CONSTRUCTED,
    )
    return Section(
        ID,
        TITLE,
        body,
        styles=("gallery.css",),
        scripts=("gallery.js",),
        data={"gallery-data": data},
    )


def _coverage(settings: Sequence[SettingData]) -> str:
    """Return how many of the run's images are shown; if networks differ, for each of them."""
    texts = {
        setting["label"]: _shown(setting["shown"], setting["of"], setting["noun"])
        for setting in settings
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{label}: {text}" for label, text in texts.items())


def _shown(shown: int, total: int | None, noun: str = "image") -> str:
    """Return how many of `total` images are shown. `total` is `None` if the manifest doesn't have
    it. `noun` says what is counted instead of images.

    >>> _shown(1, 1), _shown(2, 2)
    ('1 image', 'All 2 images')
    >>> _shown(1, 2, "object")
    '1 of 2 objects, spread evenly over them and not chosen by their values'
    """
    if shown == total:
        return f"All {shown:,} {noun}s" if shown > 1 else f"1 {noun}"
    fraction = f"{shown:,}" if total is None else f"{shown:,} of {total:,}"
    return f"{fraction} {noun}s, spread evenly over them and not chosen by their values"


def colour_maps(first: str = COLOURS) -> Iterator[dict[str, str]]:
    """Yield colour maps with name and title; "red", "green" and "blue" are the tables of
    feComponentTransfer, and "gradient" has the same colours from 0 to 1 for CSS. Raise BenchError
    for an unknown colour map.

    Args:
        first: The name of any of matplotlib's colour maps, which comes first.
    """
    for name in dict.fromkeys([first, *COLOUR_MAPS]):
        colours = colour_map(name)(np.linspace(0, 1, STEPS))[:, :3]
        red, green, blue = (
            " ".join(f"{value:.3g}" for value in channel.round(3)) for channel in colours.T
        )
        stops = []
        for colour in colours[::3]:
            stops.append("#" + "".join(f"{round(255 * value):02x}" for value in colour))
        yield {
            "name": name,
            "title": COLOUR_MAPS.get(name, name.capitalize()),
            "red": red,
            "green": green,
            "blue": blue,
            "gradient": f"linear-gradient(to right, {', '.join(stops)})",
        }


def stored_pictures(run: RunFolder) -> list[GalleryRow]:
    """Return every picture that the run stored of a setting with records. Raise BenchError for a
    damaged file.
    """
    return [
        entry for entry in read_gallery(run.path, run.manifest) if setting_of(entry) in run.settings
    ]


def setting_of(entry: GalleryRow) -> Setting:
    """Return the setting in which the entry's maps were computed."""
    return Setting(entry["model"], entry["layer"], entry["data"])


def maps_in_order(entry: GalleryRow, methods: Iterable[str]) -> list[tuple[str, bytes | None]]:
    """Return (method, map) of these methods, in their order, if the entry has their map."""
    place_of_method = {name: place for place, name in enumerate(methods)}
    maps = []
    for name, heatmap in zip(entry["methods"], entry["maps"], strict=True):
        if name in place_of_method:
            maps.append((name, heatmap))
    return sorted(maps, key=lambda item: place_of_method[item[0]])


def _number_of_maps(entry: GalleryRow) -> int:
    """Return how many maps the entry has. Methods that can't explain the image have none."""
    return sum(heatmap is not None for heatmap in entry["maps"])


def number_of_images(pictures: Sequence[GalleryRow]) -> int:
    """Return how many different images are shown. An image may have several networks and explained
    classes.
    """
    return len({(entry["data"], entry["image_id"]) for entry in pictures})


def gallery_data(
    run: RunFolder,
    pictures: Sequence[GalleryRow],
    placed: Placed,
    names: Collection[str] | None = None,
) -> GalleryData:
    """Return the data that the script shows. Names are as people read them.

    Args:
        run: The run, as read from its folder.
        pictures: The images, see `stored_pictures`.
        placed: Called with each picture's bytes and kind; returns its address.
        names: The methods that are shown; `None`: all of the run.
    """
    metrics = shown_metrics(run)
    shown = [name for name in run.methods if names is None or name in names]
    picture_settings = set(map(setting_of, pictures))
    settings = [setting for setting in run.settings if setting in picture_settings]
    methods = []
    styles = method_styles(run)
    for name in shown:
        style = styles[name]
        note = str(run.metadata.method(name).note or "")
        methods.append({"title": style.title, "colour": style.colour, "note": note})
    return {
        "metrics": [{"title": value.title, "better": value.better} for value in metrics],
        "methods": methods,
        "settings": [_setting(run, setting, pictures) for setting in settings],
        "has_labels": run.config.target != "predicted",
        "images": list(_images(run, settings, pictures, metrics, placed, shown)),
    }


def _setting(run: RunFolder, setting: Setting, pictures: Sequence[GalleryRow]) -> SettingData:
    """Return what the script shows of a setting."""
    setting_pictures = [entry for entry in pictures if setting_of(entry) == setting]
    images = run.metadata.model(setting.model).images.get(setting.data)
    return {
        "label": run.label(setting),
        "layer": setting.layer,
        "ranks": run.ranks_methods(setting),
        "shown": number_of_images(setting_pictures),
        "of": images.kept if images else None,
        "noun": _noun(run, setting),
    }


def _noun(run: RunFolder, setting: Setting) -> str:
    """Return what a setting's rows explain: an "image", an "object" or a "word"."""
    images = run.metadata.model(setting.model).images.get(setting.data)
    return images.noun if images else "image"


def _images(
    run: RunFolder,
    settings: Sequence[Setting],
    pictures: Sequence[GalleryRow],
    metrics: Sequence[Value],
    placed: Placed,
    methods: Sequence[str],
) -> Iterator[dict[str, object]]:
    """Yield what the script shows of each image."""
    method_places = {name: place for place, name in enumerate(methods)}
    classes: dict[tuple[Setting, str], set[int]] = {}
    for entry in pictures:
        classes.setdefault((setting_of(entry), entry["image_id"]), set()).add(entry["target_class"])
    image_ids = {image_id for _, image_id in classes}
    values = {setting: measured_values(run, setting, metrics, image_ids) for setting in settings}
    for entry in pictures:
        setting = setting_of(entry)
        image_id = entry["image_id"]
        explained_classes = classes[setting, image_id]
        # The parts of a link: network, image and, if several classes of the image are explained,
        # the class.
        key = [run.label(setting), image_id]
        if len(explained_classes) > 1:
            key.append(entry["target_name"])
        image_values = values[setting].get((image_id, entry["target_class"]), {})
        shown_values = []
        for metric in metrics:
            by_method = image_values.get(metric.name, {})
            shown_values.append(
                {
                    method_places[method]: list(value)
                    for method, value in by_method.items()
                    if method in method_places
                }
            )
        zero_methods = [name for name in _methods_with_zero_map(entry) if name in method_places]
        yield {
            "setting": settings.index(setting),
            "id": image_id,
            "key": key,
            "width": entry["width"],
            "height": entry["height"],
            "boxes": np.round(entry["boxes"], 1).tolist(),
            "target": _class_entry(
                entry["target_class"], entry["target_name"], entry["target_probability"]
            ),
            "predicted": _class_entry(
                entry["predicted_class"],
                entry["predicted_name"],
                entry["predicted_probability"],
            ),
            "wrong": entry["predicted_class"] not in explained_classes,
            "disagreement": _finite(entry["disagreement"]),
            "picture": placed(entry["picture"], "webp"),
            "outline": entry["outline"] and placed(entry["outline"], "png"),
            "maps": _maps(entry, method_places, placed),
            "top": entry.get("top", ()),
            "zero": [method_places[name] for name in zero_methods],
            "values": shown_values,
        }


def _class_entry(index: int, name: str, probability: float | None) -> list[object]:
    """Return the index, name and probability of a class, as the script reads them."""
    return [index, name, _finite(probability)]


def _methods_with_zero_map(entry: GalleryRow) -> list[str]:
    """Return the methods whose map is known to be zero everywhere."""
    names = [*entry.get("zero", ())]
    for name, heatmap in zip(entry["methods"], entry["maps"], strict=True):
        if heatmap == b"":
            names.append(name)
    return names


def _maps(
    entry: GalleryRow, places: Mapping[str, int], placed: Placed
) -> list[list[int | str | None]]:
    """Return [method, address] of each map. A map that another method has before it has that method
    instead of an address. A map that is zero everywhere or isn't finite has `None`.
    """
    seen: dict[bytes, int] = {}
    maps: list[list[int | str | None]] = []
    for name, heatmap in maps_in_order(entry, places):
        if not heatmap or heatmap in seen:
            maps.append([places[name], seen[heatmap] if heatmap else None])
        else:
            maps.append([places[name], placed(heatmap, "webp")])
            seen[heatmap] = places[name]
    return maps


def _finite(value: float | None) -> float | None:
    """Return a number with four digits, or `None` if it is unknown or not finite."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.4g}")


class Measured(NamedTuple):
    """A value of one image and method."""

    value: float | None
    text: str  # as people read it, or the status in words if there is no value
    # The place among the image's methods; 1 is best. `None` without a value, if the method's own
    # formula makes the value 0, and if a control is unbeaten over all images.
    rank: int | None


def shown_metrics(run: RunFolder) -> tuple[Value, ...]:
    """Return the metrics of the headline and of the overview table that say which map of a single
    image is better.
    """
    present = run.records.metrics_with_images(METHOD_FREE)
    names = dict.fromkeys((*options_of(run).headline, *options_of(run).columns))
    values = (run.metadata.value(name) for name in names if name in present)
    return tuple(value for value in values if value.has_direction)


def measured_values(
    run: RunFolder, setting: Setting, metrics: Collection[Value], image_ids: Collection[str]
) -> dict[Image, dict[str, dict[str, Measured]]]:
    """Return {image: {metric: {method: Measured}}} of some images of one setting."""
    shown = run.records.select(run.records.keys["image_id"].isin(list(image_ids)).to_numpy())
    rows = rows_at(shown.frame(metric.name for metric in metrics), setting)
    rows = rows[rows["method"] != METHOD_FREE].astype(object)
    result: dict[Image, dict[str, dict[str, Measured]]] = {}
    for metric in metrics:
        constructed = run.metadata.by_construction(metric.name)
        is_ranked = not metric.reached_by and not unbeaten(run, setting, metric.name)
        metric_rows = rows[rows["metric"] == metric.name]
        for key, image_rows in metric_rows.groupby(["image_id", "target_class"], sort=False):
            methods = image_rows["method"]
            ok_values = image_rows["value"].where(image_rows["status"] == OK)
            values = dict(zip(methods, ok_values, strict=True))
            statuses = dict(zip(methods, image_rows["status"], strict=True))
            # Values that a method's own formula makes zero have no rank.
            ranked_values = {}
            if is_ranked:
                ranked_values = {
                    name: value for name, value in values.items() if name not in constructed
                }
            ranks = image_ranks(ranked_values, metric.better, metric.rounding)
            by_method = {}
            for method, value in values.items():
                if math.isfinite(value):
                    mark = CONSTRUCTED if method in constructed else ""
                    text = number(value, metric.rounding) + mark
                    by_method[method] = Measured(float(f"{value:.6g}"), text, ranks.get(method))
                else:
                    by_method[method] = Measured(None, statuses[method].replace("_", " "), None)
            result.setdefault(cast(Image, key), {})[metric.name] = by_method
    return result


def image_ranks(
    values: Mapping[str, float], better: str, rounding: float = FLOAT32_ROUNDING
) -> dict[str, int]:
    """Return {method: 1 + how many methods are better} of the methods with a finite value. Values
    that print the same tie: they have the same three digits, or both are below `rounding`.

    Args:
        values: {method: its value}.
        better: "lower" or "higher".
        rounding: Values below it count as zero.

    >>> image_ranks({"a": 0.5, "b": 0.1, "c": 0.50001, "d": float("nan")}, "lower")
    {'a': 2, 'b': 1, 'c': 2}
    """
    sign = 1 if better == "lower" else -1
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    texts = {name: number(value, rounding) for name, value in finite.items()}
    ranks = {}
    for name, value in finite.items():
        num_better = sum(
            sign * other < sign * value and texts[peer] != texts[name]
            for peer, other in finite.items()
        )
        ranks[name] = 1 + num_better
    return ranks
