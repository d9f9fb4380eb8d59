"""The result of a gate for programs: JUnit's XML, which CI services show as tests, and JSON."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from PIL import Image, UnidentifiedImageError

from axiom_bench.explanation.overlay import blend
from axiom_bench.gate.by_image import MovedImage
from axiom_bench.gate.compare import KEY
from axiom_bench.gate.comparison import HOLDS, MOVED, NOT_COMPARABLE, GateResult
from axiom_bench.gate.findings import BETTER, ORDER, WORSE, Finding, percent, printable
from axiom_bench.records import files
from axiom_bench.statistics.labels import number

# What XML 1.0 can't hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(result: GateResult) -> str:
    """One testsuite for each model, layer and data set, with the attributes and elements that the
    schema of Ant's JUnit task asks for, so that stricter readers take it too. Failures are
    findings, one test for each row that was compared and for each name that came or went; a gate
    that can't compare is one test with an error. With allowed improvements, which hold, nothing
    fails.
    """
    cases: dict[tuple[str, ...], list[Finding]] = {}  # of each suite, class and test
    for row in result.rows:
        cases[".".join(row[:3]), ".".join(row[:4]), row[4]] = []
    for finding in result.findings:
        place, of_name = finding.place, ("names", "names", " ".join(finding.place))
        of_row = finding.row and (".".join(place[:3]), ".".join(place[:4]), place[4])
        cases.setdefault(of_row or of_name, []).append(finding)
    root, suites = Element("testsuites"), dict[str, Element]()
    for (name, class_name, test), findings in (
        cases or {("gate", "gate", "comparison"): []}
    ).items():
        if name not in suites:
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
            about = {
                "name": _clean(name),
                "package": "axiom-bench",
                "id": str(len(suites)),
                "timestamp": now,
            }
            suites[name] = SubElement(root, "testsuite", about, time="0", hostname="localhost")
            properties = SubElement(suites[name], "properties")
            for key, value in (("run", result.run), ("baseline", result.baseline)):
                SubElement(properties, "property", name=key, value=_clean(value))
        case = SubElement(
            suites[name], "testcase", name=_clean(test), classname=_clean(class_name), time="0"
        )
        if findings and result.exit_code == MOVED:
            lines = [_clean(finding.line) for finding in findings]
            SubElement(
                case, "failure", message=lines[0], type=findings[0].verdict
            ).text = "\n".join(lines)
        elif result.exit_code == NOT_COMPARABLE:
            SubElement(case, "error", message=_clean(result.conclusion), type="not_comparable")
    for suite in suites.values():
        for count, path in (("tests", ""), ("failures", "/failure"), ("errors", "/error")):
            suite.set(count, str(len(suite.findall(f"testcase{path}"))))
        SubElement(suite, "system-out").text = _clean(result.conclusion)
        SubElement(suite, "system-err")
    indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """At least one character, none that XML can't hold."""
    return _FORBIDDEN.sub("\ufffd", text).strip() or "-"


FORMAT = 1  # of the JSON: counted up where a key changes its meaning or goes
VERDICTS = {0: "holds", 1: "moved", 2: "not_comparable"}  # of exit codes


def json_text(result: GateResult) -> str:
    """Keys as docs/ci.md describes them; a number that isn't finite is null."""
    findings = [
        {
            **dict.fromkeys(KEY),
            **(
                dict(zip(KEY, each.row, strict=True))
                if each.row
                else {each.place[0]: each.place[1]}
            ),
            "what": each.what,
            "verdict": each.verdict,
            "before": _number(each.before),
            "after": _number(each.after),
            "allowed": _number(each.allowed),
            "sentence": each.line,
        }
        for each in result.findings
    ]
    images = [
        {
            **dict(zip(KEY, image.row, strict=True)),
            "image_id": image.image_id,
            "target_class": image.target_class,
            "before": _number(image.before),
            "after": _number(image.after),
        }
        for image in result.images
    ]
    content = {
        "format": FORMAT,
        "run": result.run,
        "baseline": result.baseline,
        "exit_code": result.exit_code,
        "verdict": VERDICTS[result.exit_code],
        "conclusion": result.conclusion,
        "notes": result.notes,
        "rows_compared": len(result.rows),
        "findings": findings,
        "images": images,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


MAX_FINDINGS = (
    50  # in the table; a page of all would be too long for a summary of GitHub Actions (1 MiB)
)
SIGNS = {BETTER: "better", WORSE: "**worse**"}
MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~&:]|(?<=www)\.)")


def write_markdown(result: GateResult, file: Path) -> str:
    """Writes the page, and its pictures into a folder beside it; the page's text without pictures,
    for a summary where no files can be shown. Raises BenchError where it can't be written.
    """
    folder = file.with_name(f"{file.stem}_maps")
    shown = [
        (place, image) for place, image in enumerate(result.images) if image.picture is not None
    ]
    pictured = {place: _pictures(image, folder, place) for place, image in shown}
    files.write(file, markdown(result, pictured).encode())
    return markdown(result, {})


def markdown(result: GateResult, pictured: dict[int, Sequence[str]]) -> str:
    """pictured: {place in result.images: addresses of the image, its map before and its map after;
    "" for none}.
    """
    titles = {HOLDS: "The gate holds", NOT_COMPARABLE: "The gate can't compare"}
    parts = [f"## {titles.get(result.exit_code, 'The gate moved')}", escaped(result.conclusion)]
    parts += map(escaped, result.notes)
    in_order = sorted(
        result.findings, key=lambda finding: (ORDER.index(finding.verdict), -finding.size)
    )
    if in_order:  # the worst first
        head = ("model, layer, data", "method", "metric", "what", "before", "after", "change", "")
        parts.append(
            _table(
                head,
                ":--- :--- :--- :--- ---: ---: ---: :---",
                map(_cells, in_order[:MAX_FINDINGS]),
            )
        )
    if len(in_order) > MAX_FINDINGS:
        parts.append(f"and {len(in_order) - MAX_FINDINGS} more.")
    return "\n\n".join([*parts, *_images(result, pictured)]) + "\n"


def _table(head: Sequence[str], rule: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(cells).join(("| ", " |")) for cells in (head, *rows)]
    return "\n".join([lines[0], rule.replace(" ", "|").join("||"), *lines[1:]])


def _cells(finding: Finding) -> list[str]:
    if finding.row is None:
        return ["", "", "", code(" ".join(finding.place)), "", "", escaped(finding.text), "changed"]
    names = [code(name) for name in finding.row]
    numbers = ["", "", escaped(finding.text)]
    if finding.before is not None and finding.after is not None:
        change = finding.after - finding.before
        sign = "+" if change > 0 else ""
        relative = percent(finding.before, finding.after)
        text = f"{sign}{number(change)}{relative and f' ({relative})'}"
        numbers = [number(finding.before), number(finding.after), text]
    return [
        ", ".join(names[:3]),
        *names[3:],
        escaped(finding.what),
        *numbers,
        SIGNS.get(finding.verdict, "changed"),
    ]


def _images(result: GateResult, pictured: dict[int, Sequence[str]]) -> Iterator[str]:
    if result.images:
        yield "### Images that moved most"
    for row, members in groupby(enumerate(result.images), key=lambda entry: entry[1].row):
        names, group = [code(name) for name in row], list(members)
        yield f"{names[3]}, {names[4]} ({', '.join(names[:3])})"
        has_maps = any(place in pictured for place, _ in group)
        rows = []
        for place, image in group:
            addresses = pictured.get(place, ("", "", "")) if has_maps else ()
            maps = [f"![]({address})" if address else "" for address in addresses]
            values = (number(image.before), number(image.after))
            rows.append([code(image.image_id), str(image.target_class), *values, *maps])
        head = (
            "image",
            "class",
            "before",
            "after",
            *(("image", "map before", "map after") if has_maps else ()),
        )
        yield _table(head, ":--- ---: ---: ---:" + " :---" * (len(head) - 4), rows)


def _pictures(image: MovedImage, folder: Path, place: int) -> Sequence[str]:
    """Writes the image and its maps over it as PNG; their addresses relative to the page, "" for
    one that is none.
    """
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
        addresses.append(
            "" if picture is None else f"{folder.name}/{file.name}".replace(" ", "%20")
        )
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
