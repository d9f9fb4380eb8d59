"""Put matplotlib's SVG of a drawing into the page, in the colours of the page's theme."""

from __future__ import annotations

import re

from markupsafe import Markup

# characters that an SVG file can't hold
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
FONT = "'DejaVu Sans', Verdana, sans-serif"  # as wide as Report Sans, which no reader's machine has
INK = "#1b1b1f"  # the colour of text in every drawing
LINE = "#cccccc"  # the colour of rules in every drawing
THEME = {INK: "var(--ink)", LINE: "var(--line)"}  # {drawing's colour: colour of the page's theme}
# CSS pixels per point: the smallest text of a drawing, 6 points, has 11 pixels. Print has 96 / 72.
PIXELS = 132 / 72
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
    # matplotlib numbers the groups of each drawing from 1, so their ids would repeat in the page
    drawing = re.sub('<g id="[^"]*">', "<g>", text[root.end() :])
    for colour, variable in THEME.items():
        drawing = drawing.replace(f": {colour}", f": {variable}")
    drawing = drawing.replace("'Report Sans', 'DejaVu Sans'", FONT)
    width = round(float(root[1].split()[2]) * PIXELS)
    template = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'viewBox="{viewbox}" width="{width}" role="img" aria-labelledby="{name}-title" '
        'aria-describedby="{name}-description"><title id="{name}-title">{title}</title>'
        '<desc id="{name}-description">{description}</desc>'
    )
    begin = template.format(
        viewbox=root[1],
        width=width,
        name=name,
        title=CONTROL.sub("", title),
        description=CONTROL.sub("", description),
    )
    return begin + Markup(drawing.strip())
