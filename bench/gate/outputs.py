"""Write the result of a gate: JUnit's XML, which CI services show as tests, JSON, and Markdown."""

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
from axiom_bench.gate.compare import KEY, Place
from axiom_bench.gate.comparison import HOLDS, MOVED, NOT_COMPARABLE, GateResult
from axiom_bench.gate.findings import BETTER, ORDER, WORSE, Finding, percent, printable
from axiom_bench.records import files
from axiom_bench.statistics.labels import number

# The characters that XML 1.0 can't contain, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

FORMAT = 1  # the format of the JSON, counted up if a key changes its meaning or is removed
VERDICTS = {0: "holds", 1: "moved", 2: "not_comparable"}  # by exit code

# The number of findings in the table. A page of all of them could exceed the limit of GitHub
# Actions' summaries (1 MiB).
MAX_FINDINGS = 50
SIGNS = {BETTER: "better", WORSE: "**worse**"}
MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~&:]|(?<=www)\.)")  # the characters to escape


def junit_xml(result: GateResult) -> str:
    """Return the result as JUnit's XML, with one testsuite per model, layer and data set.

    There is one test for each row that was compared and for each name that came or went. Findings
    are failures, unless they are allowed improvements, with which the gate holds. A gate that can't
    compare is one test with an error. The XML has all attributes and elements that the schema of
    Ant's JUnit task asks for, so that strict readers accept it too.
    """
    # The findings of each test, by the names of its suite, its class and itself.
    cases: dict[tuple[str, str, str], list[Finding]] = {}
    for row in result.rows:
        cases[_test_of_row(row)] = []
    for finding in result.findings:
        test_key = ("names", "names", " ".join(finding.place))
        if finding.row is not None:
            test_key = _test_of_row(finding.row)
        cases.setdefault(test_key, []).append(finding)
    if not cases:
        cases["gate", "gate", "comparison"] = []

    root = Element("testsuites")
    suites: dict[str, Element] = {}
    for (name, class_name, test), findings in cases.items():
        if name not in suites:
            attributes = {
                "name": _clean(name),
                "package": "axiom-bench",
                "id": str(len(suites)),
                "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
            }
            suite = SubElement(root, "testsuite", attributes, time="0", hostname="localhost")
            properties = SubElement(suite, "properties")
            SubElement(properties, "property", name="run", value=_clean(result.run))
            SubElement(properties, "property", name="baseline", value=_clean(result.baseline))
            suites[name] = suite
        case = SubElement(
            suites[name], "testcase", name=_clean(test), classname=_clean(class_name), time="0"
        )
        if findings and result.exit_code == MOVED:
            lines = [_clean(finding.line) for finding in findings]
            failure = SubElement(case, "failure", message=lines[0], type=findings[0].verdict)
            failure.text = "\n".join(lines)
        elif result.exit_code == NOT_COMPARABLE:
            SubElement(case, "error", message=_clean(result.conclusion), type="not_comparable")
    for suite in suites.values():
        for attribute, path in (("tests", ""), ("failures", "/failure"), ("errors", "/error")):
            suite.set(attribute, str(len(suite.findall(f"testcase{path}"))))
        SubElement(suite, "system-out").text = _clean(result.conclusion)
        SubElement(suite, "system-err")
    indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _test_of_row(row: Place) -> tuple[str, str, str]:
    """Return the names of the suite, the class and the test of a row."""
    return ".".join(row[:3]), ".".join(row[:4]), row[4]


def _clean(text: str) -> str:
    """Return at least one character, and only characters that XML can contain."""
    return _FORBIDDEN.sub("\ufffd", text).strip() or "-"


def json_text(result: GateResult) -> str:
    """Return the result as JSON with the keys of docs/ci.md; a number that isn't finite is null."""
    findings = []
    for finding in result.findings:
        # Every finding has all keys, so that a reader needs no case for a missing one.
        entry: dict[str, object] = dict.fromkeys(KEY)
        if finding.row:
            entry.update(zip(KEY, finding.row, strict=True))
        else:
            column, name = finding.place[:2]
            entry[column] = name
        entry["what"] = finding.what
        entry["verdict"] = finding.verdict
        entry["before"] = _number(finding.before)
        entry["after"] = _number(finding.after)
        entry["allowed"] = _number(finding.allowed)
        entry["sentence"] = finding.line
        findings.append(entry)
    images = []
    for image in result.images:
        image_entry: dict[str, object] = dict(zip(KEY, image.row, strict=True))
        image_entry["image_id"] = image.image_id
        image_entry["target_class"] = image.target_class
        image_entry["before"] = _number(image.before)
        image_entry["after"] = _number(image.after)
        images.append(image_entry)
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
    """Return a finite number as it is, and None for every other value."""
    return value if value is not None and math.isfinite(value) else None


def write_markdown(result: GateResult, file: Path) -> str:
    """Write the result as a page of Markdown, with its pictures in a folder next to the page.

    Args:
        result: The result.
        file: The file of the page.

    Returns:
        The page's text without pictures, for summaries that can't show files.

    Raises:
        BenchError: if a file can't be written.
    """
    folder = file.with_name(f"{file.stem}_maps")
    pictured = {
        index: _write_pictures(image, folder, index)
        for index, image in enumerate(result.images)
        if image.picture is not None
    }
    files.write(file, markdown(result, pictured).encode())
    return markdown(result, {})


def markdown(result: GateResult, pictured: dict[int, Sequence[str]]) -> str:
    """Return the result as a page of Markdown.

    Args:
        result: The result.
        pictured: The addresses of an image, its map before and its map after, by the image's index
            in `result.images`. An address is "" if there is no such picture.

    Returns:
        The page's text.
    """
    titles = {HOLDS: "The gate holds", NOT_COMPARABLE: "The gate can't compare"}
    title = titles.get(result.exit_code, "The gate fails: values moved")
    parts = [f"## {title}", escaped(result.conclusion)]
    parts += map(escaped, result.notes)
    worst_first = sorted(
        result.findings, key=lambda finding: (ORDER.index(finding.verdict), -finding.size)
    )
    if worst_first:
        head = ("model, layer, data", "method", "metric", "what", "before", "after", "change", "")
        alignment = ":--- :--- :--- :--- ---: ---: ---: :---"
        parts.append(_table(head, alignment, map(_cells, worst_first[:MAX_FINDINGS])))
    if len(worst_first) > MAX_FINDINGS:
        parts.append(f"and {len(worst_first) - MAX_FINDINGS} more.")
    return "\n\n".join([*parts, *_images(result, pictured)]) + "\n"


def _table(head: Sequence[str], alignment: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; `alignment` is the second line, with spaces between columns."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, f"|{alignment.replace(' ', '|')}|")
    return "\n".join(lines)


def _cells(finding: Finding) -> list[str]:
    """Return the cells of a finding's row in the table."""
    if finding.row is None:
        return ["", "", "", code(" ".join(finding.place)), "", "", escaped(finding.text), "changed"]
    names = [code(name) for name in finding.row]
    numbers = ["", "", escaped(finding.text)]
    if finding.before is not None and finding.after is not None:
        change = finding.after - finding.before
        sign = "+" if change > 0 else ""
        text = f"{sign}{number(change)}"
        relative = percent(finding.before, finding.after)
        if relative:
            text += f" ({relative})"
        numbers = [number(finding.before), number(finding.after), text]
    return [
        ", ".join(names[:3]),
        *names[3:],
        escaped(finding.what),
        *numbers,
        SIGNS.get(finding.verdict, "changed"),
    ]


def _images(result: GateResult, pictured: dict[int, Sequence[str]]) -> Iterator[str]:
    """Yield the parts of the page about the images that moved most: a table for each row."""
    if result.images:
        yield "### Images that moved most"
    for row, members in groupby(enumerate(result.images), key=lambda entry: entry[1].row):
        images = list(members)
        names = [code(name) for name in row]
        yield f"{names[3]}, {names[4]} ({', '.join(names[:3])})"
        head = ["image", "class", "before", "after"]
        alignment = ":--- ---: ---: ---:"
        has_maps = any(index in pictured for index, _ in images)
        if has_maps:
            head += ["image", "map before", "map after"]
            alignment += " :--- :--- :---"
        rows = []
        for index, image in images:
            cells = [
                code(image.image_id),
                str(image.target_class),
                number(image.before),
                number(image.after),
            ]
            if has_maps:
                for address in pictured.get(index, ("", "", "")):
                    cells.append(f"![]({address})" if address else "")
            rows.append(cells)
        yield _table(head, alignment, rows)


def _write_pictures(image: MovedImage, folder: Path, index: int) -> Sequence[str]:
    """Write the image and its maps over it as PNG, and return their addresses relative to the page;
    "" for a picture that doesn't exist.
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
        if picture is None:
            addresses.append("")
            continue
        file = folder / f"{index:02d}_{name}.png"
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        files.write(file, buffer.getvalue())
        addresses.append(f"{folder.name}/{file.name}".replace(" ", "%20"))
    return addresses


def _opened(content: bytes | None, mode: str) -> Image.Image | None:
    """Return a stored picture in a mode of Pillow, or None if it can't be opened."""
    if content is None:
        return None
    # The run folder may be a stranger's, so only the formats that a run stores are read.
    try:
        return Image.open(io.BytesIO(content), formats=["WEBP", "PNG"]).convert(mode)
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def escaped(text: str) -> str:
    r"""Return a text in which nothing is Markdown, HTML, a link or a mention of somebody.

    >>> escaped("a|b <c>")
    'a\\|b \\<c\\>'
    """
    return MARKUP.sub(r"\\\1", " ".join(text.split())).replace("@", "@\u200b")


def code(name: str) -> str:
    r"""Return a name as code, in which nothing is Markdown either.

    >>> code("xgrad_cam@torchcam"), code("a|b`c")
    ('`xgrad_cam@torchcam`', "`a\\|b'c`")
    """
    text = printable(name).replace("`", "'").replace("\\", "/").replace("|", r"\|")
    return f"`{text}`"
