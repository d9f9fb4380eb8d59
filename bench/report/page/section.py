"""A section of the page: what one part of the report contributes to report.html."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """id: anchor in the page, such as "tables". title: of the heading and in the index. body: HTML below the heading.

    styles, scripts: files in page/static/ that the section needs; the page holds each of them once, in the order of
    first use. data: {id: what a script reads}, written as JSON into <script type="application/json" id=...> elements.

    The page forbids eval and scripts that aren't files of page/static/. When colours change it sends the event
    "themechange" to `document`; CSS needs nothing but the page's custom properties.
    """

    id: str
    title: str
    body: Markup
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
