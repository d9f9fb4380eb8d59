"""report.html from its sections: one file with their styles, scripts and data, which loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from axiom_bench.report.page import inlining
from axiom_bench.report.page.header import Header
from axiom_bench.report.page.section import Section
from axiom_bench.report.page.templating import render

STYLES = ("page.css",)
FIRST_SCRIPT = "theme.js"  # in the head, so that the page never shows the other theme first
SCRIPTS = ("page.js",)


def assemble(header: Header, sections: Sequence[Section]) -> str:
    """The whole page. Raises ValueError where two sections, or their data, have one id."""
    ids = [name for section in sections for name in (section.id, *section.data)]
    if len(set(ids)) < len(ids):
        raise ValueError(f"Two sections or data of the page have one id: {sorted(ids)}.")
    styles = _once(STYLES, *(section.styles for section in sections))
    first, scripts = inlining.script(FIRST_SCRIPT), _once(SCRIPTS, *(section.scripts for section in sections))
    texts = [inlining.script(name) for name in scripts]
    return render(
        "page.html.j2",
        header=header,
        sections=sections,
        styles=[inlining.style(name) for name in styles],
        first_script=first,
        scripts=texts,
        data={name: inlining.as_json(data) for section in sections for name, data in section.data.items()},
        policy=inlining.policy([first, *texts]),
    )


def _once(*names: Iterable[str]) -> list[str]:
    """All names in the order of their first use."""
    return list(dict.fromkeys(name for group in names for name in group))
