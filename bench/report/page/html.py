"""Make a page from its sections and templates. A page is one file with the styles, scripts and data
of its sections, and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from axiom_bench.report.card import Tick
from axiom_bench.statistics.ranking import in_sentence


@dataclass(frozen=True)
class Section:
    """A section of a page, with the files that it needs.

    The page forbids eval and scripts that aren't files of page/static/. When colours change, it
    sends the event "themechange" to `document`. CSS needs only the page's custom properties.
    """

    id: str  # the anchor in the page, such as "tables"
    title: str  # the title of the heading and in the index
    body: Markup  # the HTML below the heading
    # Files in page/static/. The page holds each of them once, in the order of first use.
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    # {id: what a script reads}, written as JSON into <script type="application/json" id=...>
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Trust:
    """The evidence on how far the order of methods by one metric can be trusted."""

    title: str  # the metric's title
    ticks: Sequence[Tick]  # the verdicts of the committed scorecard
    on_these_images: str  # what the run's own images say, without a full stop
    no_leader: bool  # no metric passes every test of the scorecard


@dataclass(frozen=True)
class Header:
    """The head of a page."""

    above: str  # the line over the title
    title: str
    facts: dict[str, str]  # {name of the fact: sentence}
    notices: tuple[str, ...] = ()  # sentences about a run that hasn't ended
    # {label of a setting: sentences of its answer}, below the title
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    more_answers: int = 0  # the number of settings whose answers aren't shown here
    trust: Trust | None = None  # of the metric that the title rests on


FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: object) -> Markup:
    """Render a template of this folder as HTML. Every value is escaped, unless it is Markup."""
    return Markup(_environment().get_template(template).render(**values))


def render_part(name: str, **values: object) -> Markup:
    """Render a part of the page, a macro of sections.html.j2. Values are escaped as in `render`."""
    macros = _environment().get_template("sections.html.j2").module
    return Markup(getattr(macros, name)(**values))


def typeset(text: str) -> Markup:
    """Return a text as escaped HTML with a true minus, powers of ten and the text's line breaks. No
    line breaks within "n = 3", "p < 0.001" and "5 %".
    """
    html = str(escape(text))
    html = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", html)
    # "<1e-6" has no factor, unlike the powers of ten below.
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
    environment.filters["in_sentence"] = in_sentence
    return environment


STATIC = Path(__file__).parent / "static"
# The signs that could end a script element or change how its text is read, and the line ends of
# JavaScript that JSON allows.
_IN_JSON = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


@cache
def style(name: str) -> Markup:
    """Return a stylesheet of static/."""
    return Markup((STATIC / name).read_text(encoding="utf-8"))


@cache
def script(name: str) -> Markup:
    """Return a script of static/. In its strings, "<script", "</script" and "<!--" are written with
    an escape.
    """
    text = (STATIC / name).read_text(encoding="utf-8")
    return Markup(re.sub(r"<(?=/?script|!--)", r"\\x3c", text, flags=re.IGNORECASE))


def as_json(data: object) -> Markup:
    r"""Return data as JSON for a script element, which no text in the data can end.

    Raise ValueError for NaN and infinity, which JSON doesn't have.

    >>> str(as_json({"name": "</script>"}))
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_IN_JSON))


def policy(scripts: Iterable[str]) -> str:
    """Return the page's Content-Security-Policy. It loads only pictures that are next to the page
    or in it, and runs only these scripts. It also forbids to evaluate expressions.

    Args:
        scripts: The texts of the page's scripts.
    """
    hashes = []
    for text in scripts:
        digest = hashlib.sha256(text.encode()).digest()
        hashes.append(f"'sha256-{base64.b64encode(digest).decode()}'")
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


STYLES = ("page.css",)  # files of page/static/ that every page has
FIRST_SCRIPT = "theme.js"  # in the head, so that the page never shows the other theme first
SCRIPTS = ("page.js",)


def assemble(header: Header, sections: Sequence[Section]) -> str:
    """Return the whole page as HTML. Raise ValueError if two sections, or their data, have one
    id.
    """
    ids: list[str] = []
    data: dict[str, object] = {}
    for section in sections:
        ids += [section.id, *section.data]
        data.update(section.data)
    if len(set(ids)) < len(ids):
        raise ValueError(f"Two sections or data of the page have one id: {sorted(ids)}.")
    styles = _once(STYLES, *(section.styles for section in sections))
    scripts = _once(SCRIPTS, *(section.scripts for section in sections))
    first_script = script(FIRST_SCRIPT)
    script_texts = [script(name) for name in scripts]
    return render(
        "page.html.j2",
        header=header,
        sections=sections,
        styles=[style(name) for name in styles],
        first_script=first_script,
        scripts=script_texts,
        data={name: as_json(value) for name, value in data.items()},
        policy=policy([first_script, *script_texts]),
    )


def _once(*groups: Iterable[str]) -> list[str]:
    """Return all names of several groups, each once, in the order of their first use."""
    return list(dict.fromkeys(chain(*groups)))
