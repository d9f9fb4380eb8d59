"""The result of a gate for programs: JUnit's XML, which CI services show as tests, and JSON."""

from __future__ import annotations

import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from PIL import Image, UnidentifiedImageError

from axiom_bench.explanation.overlay import blend
from axiom_bench.gate.by_image import MovedImage
from axiom_bench.gate.comparison import HOLDS, MOVED, NOT_COMPARABLE, GateResult
from axiom_bench.gate.findings import BETTER, KEY, WORSE, Finding, printable
from axiom_bench.records import files
from axiom_bench.statistics.labels import number

# What XML 1.0 can't hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Case = tuple[str, str]  # class name and name


def junit_xml(result: GateResult) -> str:
    """One testsuite for each model, layer and data set, with the attributes and elements that the schema of Ant's JUnit
    task asks for, so that stricter readers take it too. Failures are findings, one test for each row that was compared
    and for each name that came or went; a gate that can't compare is one test with an error. With allowed improvements,
    which hold, nothing fails."""
    root = Element("testsuites")
    suites = _suites(result)
    for place, (name, cases) in enumerate(suites.items()):
        suite = _suite(root, name, place, cases, result)
        for (class_name, test), findings in cases.items():
            case = SubElement(suite, "testcase", name=_clean(test), classname=_clean(class_name), time="0")
            if findings and result.exit_code == MOVED:
                lines = [_clean(finding.line) for finding in findings]
                SubElement(case, "failure", message=lines[0], type=findings[0].verdict).text = "\n".join(lines)
            elif result.exit_code == NOT_COMPARABLE:
                SubElement(case, "error", message=_clean(result.conclusion), type="not_comparable")
        SubElement(suite, "system-out").text = _clean(result.conclusion)
        SubElement(suite, "system-err")
    indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suites(result: GateResult) -> dict[str, dict[Case, list[Finding]]]:
    """{name of a suite: {test: its findings}}"""
    suites: dict[str, dict[Case, list[Finding]]] = defaultdict(dict)
    for row in result.rows:
        suites[".".join(row[:3])].setdefault((".".join(row[:4]), row[4]), [])
    for finding in result.findings:
        if finding.row is not None:
            suite, case = ".".join(finding.row[:3]), (".".join(finding.row[:4]), finding.row[4])
        else:
            suite, case = "names", ("names", " ".join(finding.place))
        suites[suite].setdefault(case, []).append(finding)
    if not suites:
        suites["gate"]["gate", "comparison"] = []
    return suites


def _suite(
    root: Element, name: str, number: int, cases: Mapping[Case, Sequence[Finding]], result: GateResult
) -> Element:
    failures = sum(bool(findings) for findings in cases.values()) if result.exit_code == MOVED else 0
    errors = len(cases) if result.exit_code == NOT_COMPARABLE else 0
    about = {
        "name": _clean(name), "package": "axiom-bench", "id": str(number), "tests": str(len(cases)),
        "failures": str(failures), "errors": str(errors), "time": "0", "hostname": "localhost",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
    }  # fmt: skip
    suite = SubElement(root, "testsuite", about)
    properties = SubElement(suite, "properties")
    for key, value in (("run", result.run), ("baseline", result.baseline)):
        SubElement(properties, "property", name=key, value=_clean(value))
    return suite


def _clean(text: str) -> str:
    """At least one character, none that XML can't hold."""
    return _FORBIDDEN.sub("\ufffd", text).strip() or "-"


FORMAT = 1  # of the JSON: counted up where a key changes its meaning or goes
VERDICTS = {0: "holds", 1: "moved", 2: "not_comparable"}  # of exit codes


def json_text(result: GateResult) -> str:
    """Keys as docs/ci.md describes them; a number that isn't finite is null."""
    content = {
        **{"format": FORMAT, "run": result.run, "baseline": result.baseline, "exit_code": result.exit_code},
        **{"verdict": VERDICTS[result.exit_code], "conclusion": result.conclusion, "notes": list(result.notes)},
        "rows_compared": len(result.rows),
        "findings": [_finding(finding) for finding in result.findings],
        "images": [
            {
                **dict(zip(KEY, image.row, strict=True)),
                **{"image_id": image.image_id, "target_class": image.target_class},
                **{"before": _number(image.before), "after": _number(image.after)},
            }
            for image in result.images
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    row = finding.row
    place = dict(zip(KEY, row, strict=True)) if row else {finding.place[0]: finding.place[1]}
    return {
        **{name: place.get(name) for name in KEY},
        **{"what": finding.what, "verdict": finding.verdict},
        **{name: _number(getattr(finding, name)) for name in ("before", "after", "allowed", "p")},
        "sentence": finding.line,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


MAX_FINDINGS = 50  # in the table; a page of all would be too long for a summary of GitHub Actions (1 MiB)
SIGNS = {BETTER: "better", WORSE: "**worse**"}
ORDER = {WORSE: 0, BETTER: 2}
MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~&:]|(?<=www)\.)")


def write_markdown(result: GateResult, file: Path) -> str:
    """Writes the page, and its pictures into a folder beside it; the page's text without pictures, for a summary where
    no files can be shown. Raises BenchError where it can't be written."""
    folder = file.with_name(f"{file.stem}_maps")
    shown = [(place, image) for place, image in enumerate(result.images) if image.picture is not None]
    pictured = {place: _pictures(image, folder, place) for place, image in shown}
    files.write(file, markdown(result, pictured).encode())
    return markdown(result, {})


def markdown(result: GateResult, pictured: dict[int, Sequence[str]]) -> str:
    """pictured: {place in result.images: addresses of the image, its map before and its map after; "" for none}."""
    titles = {HOLDS: "The gate holds", NOT_COMPARABLE: "The gate can't compare"}
    head = [f"## {titles.get(result.exit_code, 'The gate moved')}", escaped(result.conclusion)]
    parts = [*head, *map(escaped, result.notes), _table(result.findings), *_images(result, pictured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(findings: Sequence[Finding]) -> str:
    """The findings of rows as a table, the worst first; those of names as a list."""
    if not findings:
        return ""
    in_order = sorted(findings, key=lambda finding: (ORDER.get(finding.verdict, 1), -finding.size))
    lines = [
        "| model, layer, data | method | metric | what | before | after | change | |",
        "|:---|:---|:---|:---|---:|---:|---:|:---|",
    ]
    lines += [_line(finding) for finding in in_order[:MAX_FINDINGS]]
    if len(in_order) > MAX_FINDINGS:
        lines += ["", f"and {len(in_order) - MAX_FINDINGS} more."]
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    if finding.row is None:
        cells = ["", "", "", code(" ".join(finding.place)), "", "", escaped(finding.text), "changed"]
        return f"| {' | '.join(cells)} |"
    names = [code(name) for name in finding.row]
    sign = SIGNS.get(finding.verdict, "changed")
    if finding.before is None or finding.after is None:
        numbers = ["", "", escaped(finding.text)]
    else:
        change = finding.after - finding.before
        percent = f" ({100 * change / abs(finding.before):+.3g} %)" if finding.before and np.isfinite(change) else ""
        numbers = [number(finding.before), number(finding.after), f"{'+' * (change > 0)}{number(change)}{percent}"]
    return f"| {' | '.join([', '.join(names[:3]), *names[3:], escaped(finding.what), *numbers, sign])} |"


def _images(result: GateResult, pictured: dict[int, Sequence[str]]) -> Iterator[str]:
    if not result.images:
        return
    yield "### Images that moved most"
    places = range(len(result.images))
    for row, members in groupby(places, key=lambda place: result.images[place].row):
        names = [code(name) for name in row]
        yield f"{names[3]}, {names[4]} ({', '.join(names[:3])})"
        group = list(members)
        has_maps = any(place in pictured for place in group)
        head = ["image", "class", "before", "after", *(["image", "map before", "map after"] if has_maps else [])]
        lines = [f"| {' | '.join(head)} |", "|:---|---:|---:|---:|" + ":---|" * (len(head) - 4)]
        for place in group:
            image = result.images[place]
            cells = [code(image.image_id), str(image.target_class), number(image.before), number(image.after)]
            if has_maps:
                cells += [f"![]({address})" if address else "" for address in pictured.get(place, ("", "", ""))]
            lines.append(f"| {' | '.join(cells)} |")
        yield "\n".join(lines)


def _pictures(image: MovedImage, folder: Path, place: int) -> Sequence[str]:
    """Writes the image and its maps over it as PNG; their addresses relative to the page, "" for one that is none."""
    plain = _opened(image.picture, "RGB")
    pictures = {"image": plain, "before": None, "after": None}
    for name, content in (("before", image.map_before), ("after", image.map_after)):
        heatmap = _opened(content, "L")
        if plain is not None and heatmap is not None:
            heat = np.asarray(heatmap.resize(plain.size)) / 255
            pictures[name] = Image.fromarray(blend(np.asarray(plain), heat.astype(np.float32)))
    addresses = []
    for name, picture in pictures.items():
        file = folder / f"{place:02d}_{name}.png"
        if picture is not None:
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            files.write(file, buffer.getvalue())
        addresses.append("" if picture is None else f"{folder.name}/{file.name}".replace(" ", "%20"))
    return addresses


def _opened(content: bytes | None, mode: str) -> Image.Image | None:
    """A picture of a run folder, which may be a stranger's: None for one that can't be opened."""
    if content is None:
        return None
    try:
        return Image.open(io.BytesIO(content), formats=["WEBP", "PNG"]).convert(mode)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def escaped(text: str) -> str:
    """Text in which nothing is Markdown, HTML, a link or a mention of somebody.

    >>> escaped("a|b <c>")
    'a\\\\|b \\\\<c\\\\>'
    """
    return MARKUP.sub(r"\\\1", " ".join(text.split())).replace("@", "@\u200b")


def code(name: str) -> str:
    """A name as code, in which nothing is Markdown either.

    >>> code("xgrad_cam@torchcam"), code("a|b`c")
    ('`xgrad_cam@torchcam`', "`a\\\\|b'c`")
    """
    return "`{}`".format(printable(name).replace("`", "'").replace("\\", "/").replace("|", r"\|"))
