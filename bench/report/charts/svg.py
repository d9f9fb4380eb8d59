"""A drawing as SVG in the page: matplotlib's own, in the colours of the page's theme."""

from __future__ import annotations

import re

from markupsafe import Markup

CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]"
)  # an SVG file can hold none of them
FONT = "'DejaVu Sans', Verdana, sans-serif"  # as wide as Report Sans, which no reader's machine has
INK = "#1b1b1f"  # the colour of text in every drawing
LINE = "#cccccc"  # the colour of rules in every drawing
THEME = {INK: "var(--ink)", LINE: "var(--line)"}  # the page has its own colours, by theme
PIXELS = (
    125 / 72
)  # CSS pixels per point: more than in print (96 / 72), where text has 7 or 8 points
ROOT = re.compile('<svg [^>]*viewBox="([^"]*)"[^>]*>')


def inline(data: bytes, name: str, title: str, description: str) -> Markup:
    """Return matplotlib's SVG as an element of the page.

    Args:
        data: The file that matplotlib wrote, without control characters.
        name: The drawing's name in ids, unique in the page.
        title: The title for screen readers.
        description: The longer text for screen readers.
    """
    text = data.decode()
    root = ROOT.search(text)
    assert root is not None, "matplotlib writes a viewBox"
    drawing = re.sub(
        '<g id="[^"]*">', "<g>", text[root.end() :]
    )  # matplotlib counts them anew in each drawing
    for colour, variable in THEME.items():
        drawing = drawing.replace(f": {colour}", f": {variable}")
    drawing = drawing.replace("'Report Sans', 'DejaVu Sans'", FONT)
    width = round(float(root[1].split()[2]) * PIXELS)
    begin = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{viewbox}" '
        'width="{width}" role="img" aria-labelledby="{name}-title" aria-describedby="{name}-description">'
        '<title id="{name}-title">{title}</title><desc id="{name}-description">{description}</desc>'
    ).format(
        viewbox=root[1],
        width=width,
        name=name,
        title=CONTROL.sub("", title),
        description=CONTROL.sub("", description),
    )
    return begin + Markup(drawing.strip())
