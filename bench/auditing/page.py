"""Write an audit as a page, Markdown, JSON and a badge."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.auditing.case import Finding
from axiom_bench.auditing.pictures import Panels
from axiom_bench.auditing.result import DEPENDENCES, EFFECTS, AuditResult
from axiom_bench.explanation.overlay import Pixels, colour_map
from axiom_bench.gate.outputs import code, escaped
from axiom_bench.report.page.html import Header, Section, assemble, render

FORMAT = 1  # the format of the JSON, counted up if a key changes its meaning or is removed
STYLES = ("audit.css",)
COLOURS = "inferno"  # of maps without negative values
SIGNED_COLOURS = "coolwarm"  # of maps with negative values: 0 is in the middle
SHOWN_SIDE = 224  # pixels of a picture's longer side, about
NO_EFFECTS = "Nothing: the model, its gradients, the input and all global states stay as they were."
NO_DEPENDENCES = (
    "Only on what it should: the model, the layer, the image and the class, in every tried setting."
)
NOT_RUN = "A folder of maps can't show it; audit the function itself."
BADGE_LABEL = "CAM"
BADGE_CHARACTER = 6.6  # pixels of an average character at the badge's size of text
BADGE_COLOURS = {"known": "#1f6f3f", "other_than_named": "#a8331f", "unknown": "#56565e"}


def page(audit: AuditResult) -> str:
    """Return an audit as one HTML file that loads nothing."""
    sections = []
    if audit.panels is not None:
        sections.append(
            Section("maps", "One image", _maps(audit.panels, audit.formula_title), styles=STYLES)
        )
    groups = _groups(audit)
    has_code = bool(audit.effects or audit.dependences)
    body = render("audit.html.j2", part="findings", groups=groups, has_code=has_code)
    sections.append(Section("findings", "Findings", body, styles=STYLES))
    rows = [(name, magnitude(value)) for name, value in audit.answer.differences.items()]
    if rows:
        body = render("audit.html.j2", part="differences", rows=rows, caption=_caption(audit))
        sections.append(Section("differences", "Differences", body, styles=STYLES))
    body = render("audit.html.j2", part="tried", sentences=audit.tried)
    sections.append(Section("tried", "What was tried", body, styles=STYLES))
    notices = audit.notes
    if audit.is_as_expected is not True:
        notices = (audit.expectation_sentence, *notices)
    facts = {"Implementation": audit.name, **audit.facts}
    if audit.expected is not None:
        facts["Expected"] = str(audit.expected)
    header = Header("axiom-bench audit", audit.sentence, facts, notices=notices)
    return assemble(header, sections)


def magnitude(value: float) -> str:
    """Return a difference with one significant digit, or two above 0.01.

    >>> magnitude(3.14e-7), magnitude(0.1834), magnitude(0)
    ('3e-7', '0.18', '0')
    """
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if value >= 0.01:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _caption(audit: AuditResult) -> str:
    """Return the sentence below the table of differences."""
    title = audit.formula_title
    return f"The largest difference from {title}, as a share of the map's largest value."


def _groups(audit: AuditResult) -> list[tuple[str, Sequence[Finding], str]]:
    """Return the headings with their findings, and the sentence if there are none."""
    if not audit.has_findings:
        return [(EFFECTS, (), NOT_RUN), (DEPENDENCES, (), NOT_RUN)]
    return [
        (EFFECTS, audit.effects, NO_EFFECTS),
        (DEPENDENCES, audit.dependences, NO_DEPENDENCES),
    ]


def _maps(panels: Panels, formula: str) -> Markup:
    """Return the image, the two maps and their difference, side by side."""
    maps = (panels.implementation, panels.formula)
    largest = max(float(np.abs(values).max()) for values in maps) or 1.0
    is_signed = any(float(values.min()) < 0 for values in maps)
    difference = np.abs(panels.implementation - panels.formula)
    shown = [
        {"title": f"One image, {panels.case}", "picture": _data_uri(panels.image)},
        {"title": "This implementation", "picture": _drawn(maps[0], largest, is_signed)},
        {"title": formula, "picture": _drawn(maps[1], largest, is_signed)},
        {
            "title": f"Difference, at most {magnitude(float(difference.max()) / largest)}",
            "picture": _drawn(difference, largest, is_signed=False),
        },
    ]
    caption = "The maps and their difference have one scale of colours."
    if is_signed:
        caption = f"{caption} Blue is negative and red positive in the maps."
    return render("audit.html.j2", part="maps", panels=shown, caption=caption)


def _drawn(values: NDArray[np.float64], largest: float, is_signed: bool) -> str:
    """Return a map as a picture, with `largest` at the end of the colours."""
    shares = values / largest
    colours = COLOURS
    if is_signed:
        shares = (shares + 1) / 2
        colours = SIGNED_COLOURS
    return _data_uri(colour_map(colours)(shares.clip(0, 1), bytes=True)[..., :3])


def _data_uri(pixels: Pixels) -> str:
    """Return a picture as a PNG within an address, enlarged so that its pixels stay sharp."""
    picture = Image.fromarray(pixels)
    factor = max(1, SHOWN_SIDE // max(picture.size))
    size = (factor * picture.width, factor * picture.height)
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def markdown(audit: AuditResult) -> str:
    """Return an audit as Markdown for a pull request."""
    lines = [f"### CAM audit of {code(audit.name)}", "", f"**{escaped(audit.sentence)}**", ""]
    if audit.expectation_sentence:
        lines += [escaped(audit.expectation_sentence), ""]
    lines += [f"- {escaped(note)}" for note in audit.notes]
    for heading, findings, nothing in _groups(audit):
        lines += ["", f"**{heading}**", ""]
        if not findings:
            lines.append(nothing)
        for finding in findings:
            lines += [f"- {escaped(finding.sentence)}", "", *_indented_code(finding.code), ""]
    lines += ["", "<details><summary>Differences and what was tried</summary>", ""]
    if audit.answer.differences:
        lines += ["| network | largest difference |", "| :--- | ---: |"]
        for name, value in audit.answer.differences.items():
            lines.append(f"| {escaped(name)} | {magnitude(value)} |")
        lines += ["", _caption(audit), ""]
    lines += [f"- {escaped(sentence)}" for sentence in audit.tried]
    lines += ["", "</details>", ""]
    return "\n".join(lines)


def _indented_code(text: str) -> list[str]:
    """Return code as a block of a list's entry. Four more spaces make a block without a fence,
    which no line of the code can end.
    """
    return [f"      {line}" for line in text.splitlines()]


def json_text(audit: AuditResult) -> str:
    """Return an audit as JSON. A difference that isn't finite is null."""
    answer = audit.answer
    differences = {
        name: value if math.isfinite(value) else None for name, value in answer.differences.items()
    }
    nearest = None
    if answer.nearest is not None:
        nearest = {
            "formula": answer.nearest,
            "changes": answer.nearest_changes,
            "differences": differences,
        }
    content = {
        "format": FORMAT,
        "implementation": audit.name,
        "verdict": audit.sentence,
        "status": answer.status,
        "formula": answer.formula,
        "changes": answer.changes,
        "equal": answer.equal,
        "nearest": nearest,
        "expected": None if audit.expected is None else str(audit.expected),
        "exit_code": audit.exit_code,
        "is_approximate": audit.is_approximate,
        "differences": differences,
        "effects": [asdict(finding) for finding in audit.effects],
        "dependences": [asdict(finding) for finding in audit.dependences],
        "notes": audit.notes,
        "tried": audit.tried,
        "facts": audit.facts,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def badge(audit: AuditResult) -> str:
    """Return an SVG badge with the formula, such as "Grad-CAM, softmax score"."""
    text = audit.badge_text
    # an unmet expectation is another formula, too
    status = "other_than_named" if audit.is_as_expected is False else audit.answer.status
    badge = render(
        "badge.svg.j2",
        label=BADGE_LABEL,
        label_width=_badge_width(BADGE_LABEL),
        text=text,
        text_width=_badge_width(text),
        colour=BADGE_COLOURS[status],
    )
    return str(badge)


def _badge_width(text: str) -> int:
    """Return the width of a part of the badge, which is 14 pixels wider than its text."""
    return round(BADGE_CHARACTER * len(text)) + 14
