"""Templates of the page, and how a text of the report is typeset in HTML."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> Markup:
    """A template of this folder as HTML. Every value is escaped, unless it is Markup."""
    return Markup(_environment().get_template(template).render(**values))


def typeset(text: str) -> Markup:
    """Escaped, with a true minus, powers of ten, the text's own line breaks, and none inside "n = 3" or "p < 0.001"."""
    html = str(escape(text))
    html = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", html)
    html = html.replace("&lt;1e-6", "&lt;\N{NO-BREAK SPACE}10<sup>\N{MINUS SIGN}6</sup>")
    html = re.sub(r"(\d)e(-?)(\d+)\b", _power, html)
    html = re.sub(r"\b([np]) (=|&lt;) (?=\d)", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", html)
    return Markup(html.replace("\n", "<br>"))


def _power(match: re.Match[str]) -> str:
    sign = "\N{MINUS SIGN}" if match[2] else ""
    return f"{match[1]}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10<sup>{sign}{match[3]}</sup>"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = typeset
    return environment
