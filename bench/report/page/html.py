"""A page from its sections: one file with their styles, scripts and data, which loads nothing, and
its templates.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape


@dataclass(frozen=True)
class Section:
    """id: anchor in the page, such as "tables". title: of the heading and in the index. body: HTML
    below the heading.

    styles, scripts: files in page/static/ that the section needs; the page holds each of them once,
    in the order of first use. data: {id: what a script reads}, written as JSON into <script
    type="application/json" id=...> elements.

    The page forbids eval and scripts that aren't files of page/static/. When colours change it
    sends the event "themechange" to `document`; CSS needs nothing but the page's custom properties.
    """

    id: str
    title: str
    body: Markup
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """above: the line over the title. facts: {what: sentence}. notices: sentences about a run that
    hasn't ended. trust: {metric: how far its part of the title can be trusted}. also: a sentence
    below the title.
    """

    above: str
    title: str
    facts: dict[str, str]
    notices: tuple[str, ...] = ()
    trust: Mapping[str, str] = field(default_factory=dict)
    also: str = ""


FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> Markup:
    """A template of this folder as HTML. Every value is escaped, unless it is Markup."""
    return Markup(_environment().get_template(template).render(**values))


def part(name: str, **values: Any) -> Markup:
    """A part of the page, a macro of sections.html.j2, as `render` renders a template."""
    return Markup(getattr(_environment().get_template("sections.html.j2").module, name)(**values))


def typeset(text: str) -> Markup:
    """Escaped, with a true minus, powers of ten, the text's line breaks, and none in "n = 3", "p <
    0.001" and "5 %".
    """
    html = str(escape(text))
    html = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", html)
    html = html.replace("&lt;1e-6", "&lt;\N{NO-BREAK SPACE}10<sup>\N{MINUS SIGN}6</sup>")
    times_ten = "\\1\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10<sup>"
    html = re.sub(r"(\d)e-(\d+)\b", f"{times_ten}\N{MINUS SIGN}\\2</sup>", html)
    html = re.sub(r"(\d)e(\d+)\b", f"{times_ten}\\2</sup>", html)
    html = re.sub(r"\b([np]) (=|&lt;) (?=\d)", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", html)
    html = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", html)
    return Markup(html.replace("\n", "<br>"))


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


STATIC = Path(__file__).parent / "static"
# What would end a script element, or change how its text is read, and line ends of JavaScript that
# JSON allows.
_IN_JSON = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


@cache
def style(name: str) -> Markup:
    """A stylesheet of static/."""
    return Markup((STATIC / name).read_text(encoding="utf-8"))


@cache
def script(name: str) -> Markup:
    """A script of static/; "<script", "</script" and "<!--" in its strings are written with an
    escape.
    """
    text = (STATIC / name).read_text(encoding="utf-8")
    return Markup(re.sub(r"<(?=/?script|!--)", r"\\x3c", text, flags=re.IGNORECASE))


def as_json(data: Any) -> Markup:
    """JSON for a script element, which no text in the data can end. Raises ValueError for NaN and
    infinity, which JSON doesn't have.

    >>> str(as_json({"name": "</script>"}))
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    return Markup(
        json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(
            _IN_JSON
        )
    )


def policy(scripts: Iterable[str]) -> str:
    """The page's Content-Security-Policy: nothing is loaded but pictures that lie beside the page
    or in it, and no script runs but these texts. No expression is evaluated either.
    """
    hashes = (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    parts = {
        "default-src": "'none'",
        "script-src": " ".join(hashes),
        "style-src": "'unsafe-inline'",
        "img-src": "'self' file: data: blob:",
        "font-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


STYLES = ("page.css",)
FIRST_SCRIPT = "theme.js"  # in the head, so that the page never shows the other theme first
SCRIPTS = ("page.js",)


def assemble(header: Header, sections: Sequence[Section]) -> str:
    """The whole page. Raises ValueError where two sections, or their data, have one id."""
    ids = [name for section in sections for name in (section.id, *section.data)]
    if len(set(ids)) < len(ids):
        raise ValueError(f"Two sections or data of the page have one id: {sorted(ids)}.")
    styles = _once(STYLES, *(section.styles for section in sections))
    first, scripts = (
        script(FIRST_SCRIPT),
        _once(SCRIPTS, *(section.scripts for section in sections)),
    )
    texts = [script(name) for name in scripts]
    return render(
        "page.html.j2",
        header=header,
        sections=sections,
        styles=[style(name) for name in styles],
        first_script=first,
        scripts=texts,
        data={name: as_json(data) for section in sections for name, data in section.data.items()},
        policy=policy([first, *texts]),
    )


def _once(*names: Iterable[str]) -> list[str]:
    """All names in the order of their first use."""
    return list(dict.fromkeys(name for group in names for name in group))
