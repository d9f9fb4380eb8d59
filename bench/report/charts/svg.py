"""A drawing as SVG: what a reader sees who rests on a mark, and the form in which the page holds it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]")  # an SVG file can hold none of them
NAMESPACE, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
INK, LINE = "#1b1b1f", "#cccccc"  # of text and of rules in every drawing; the page has its own, by theme
THEME = {INK: "var(--ink)", LINE: "var(--line)"}
PLACES = frozenset({"d", "x", "y", "width", "height", "transform"})  # attributes with coordinates
PIXELS = 125 / 72  # of the page for a point: more than in print (96 / 72), where text has 7 or 8 points
FONT = "'DejaVu Sans', Verdana, sans-serif"  # as wide as the font that decided where labels stand


def mark(artist: Any, methods: Sequence[str | Sequence[str]] = (), titles: Sequence[str] = ()) -> None:
    """Say of which method an artist's marks are, or of which they share, and what a reader sees who rests on them.
    One entry is for all of the artist, several are for its parts."""
    artist.set_gid(json.dumps({"methods": list(methods), "titles": [CONTROL.sub("", title) for title in titles]}))


def file(data: bytes) -> bytes:
    """matplotlib's SVG with titles, as a file."""
    root = _titled(data, {})
    ElementTree.register_namespace("xlink", LINK)
    return bytes(_text(root).encode())


def inline(data: bytes, label: str, places: Mapping[str, int]) -> Markup:
    """matplotlib's SVG with titles, for the page: in its colours, without what isn't seen. label: the text alternative.
    places: of methods, which marks have as `data-method`."""
    root = _titled(data, places)
    box = root.attrib["viewBox"]
    root.attrib = {"viewBox": box, "width": f"{float(box.split()[2]) * PIXELS:.0f}", "role": "img",
                   "aria-label": CONTROL.sub("", label), "font-family": FONT, "stroke-linejoin": "round"}  # fmt: skip
    _shorten(root)
    referred = {reference for element in root.iter() for reference in _references(element)}
    for element in root.iter():
        if "id" in element.attrib and element.attrib["id"] not in referred:
            del element.attrib["id"]
    return Markup(re.sub(r"(<g></g>|<defs></defs>|(?<=>)\s+(?=<))+", "", _text(root)).strip())


def _titled(data: bytes, places: Mapping[str, int]) -> ElementTree.Element:
    """With a <title> in each mark that has one, and the place of its method."""
    root = ElementTree.fromstring(CONTROL.sub("", data.decode()))  # names of ticks may still hold some
    for group in root.iter(_tag("g")):
        if not group.get("id", "").startswith("{"):
            continue
        marked = json.loads(group.attrib.pop("id"))
        for element, method in zip(_parts(group, marked["methods"]), marked["methods"], strict=False):
            names = [method] if isinstance(method, str) else method
            if found := [str(places[name]) for name in names if name in places]:
                element.set("data-method", " ".join(found))
        for element, text in zip(_parts(group, marked["titles"]), marked["titles"], strict=False):
            title = ElementTree.Element(_tag("title"))
            title.text = text
            element.insert(0, title)
    return root


def _parts(group: ElementTree.Element, entries: Sequence[str]) -> list[ElementTree.Element]:
    """What the entries are of: the group, or its markers, or where it has none its paths; none that don't fit."""
    if len(entries) == 1:
        return [group]
    parts = list(group.iter(_tag("use"))) or list(group.findall(_tag("path")))
    return parts if len(parts) == len(entries) else []


def _shorten(root: ElementTree.Element) -> None:
    """Take out what is not seen and what the root says for all, and round places to hundredths of a point."""
    for parent in list(root.iter()):
        for child in list(parent):
            style = child.get("style", "")
            is_empty = child.tag == _tag("path") and "stroke" not in style and "fill: none" in style
            if (is_empty and parent.tag != _tag("defs")) or child.tag in (_tag("metadata"), _tag("style")):
                parent.remove(child)
    for element in root.iter():
        for name in PLACES.intersection(element.keys()) if element is not root else ():
            shorter = re.sub(r"\d+\.\d{2,}", lambda digits: f"{float(digits[0]):.2f}".rstrip("0").rstrip("."),
                             element.attrib[name])  # fmt: skip
            element.set(name, re.sub(r"\s+", " ", shorter).strip())
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if link := element.attrib.pop(f"{{{LINK}}}href", None):
            element.set("href", link)
        if "style" in element.attrib:
            parts = (part for part in element.attrib["style"].split("; ") if not part.startswith("font-family"))
            themed = re.sub("#[0-9a-f]{6}", lambda colour: THEME.get(colour[0], colour[0]), "; ".join(parts))
            element.set("style", themed)


def _references(element: ElementTree.Element) -> list[str]:
    return [element.get("href", "").removeprefix("#"), *re.findall(r"url\(#(.+?)\)", " ".join(element.attrib.values()))]


def _text(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode")


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
