"""Attacks by the texts of a stranger's run folder.

No text becomes an element or a script of the page, a formula, a LaTeX command, or markup.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from axiom_bench.cli.main import main
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.table import (
    NUMBER,
    Group,
    Table,
    quoted,
    to_csv,
    to_markdown,
    unquoted,
)
from axiom_bench.statistics.run_folder import RunFolder
from tests.report.conftest import Structure, row
from tests.report.hostile.conftest import WITNESS, letters, write_report

pytestmark = pytest.mark.slow  # two whole reports

Runs = dict[str, tuple[Path, list[str]]]
LINKS = re.compile(r"(#|data:image/(png|webp);base64,|figures/)[^\s]*", re.ASCII)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
COMMAND = re.compile(r"\\([A-Za-z]+\*?|.)", re.DOTALL)
PDFLATEX = shutil.which("pdflatex")
NAMES = (
    "=1+1", "@SUM(A1)", "+1e5x", "-2+3", "\t=1", "\r=1", "'=1", "x|y", "`x`", "<b>x</b>",
    "<!-- x", "[x](y)", "![x](y)", "**x**", "_x_", "~~x~~", "&lt;b&gt;", "https://x.invalid",
    "www.x.invalid", "<https://x.invalid>", "# x", "> x", "- x", "1. x", "    x", "a\nb",
    "a\r\rb", "---", "===", "\\", "\\|", "x\\", "```", "$x$", "x" * 2000, "\x1b[2Jx", "\u202ex",
)  # fmt: skip
SVG_TAGS = ("g", "text", "path", "use", "defs")


@pytest.fixture(scope="module")
def structures(runs: Runs) -> dict[str, Structure]:
    return {
        kind: Structure((folder / "report.html").read_text("utf-8"))
        for kind, (folder, _) in runs.items()
    }


def test_names_make_no_element_and_no_attribute(structures):
    """Check that the page of attacks has the same elements as the page with plain names.

    The line breaks of a name depend on the name, and so do the parts of drawings. Drawings are
    compared only by the attributes of their elements.
    """

    def html_elements(structure: Structure) -> list[tuple[str, tuple[str, ...]]]:
        return [
            (tag, tuple(attributes))
            for tag, attributes in structure.elements
            if tag != "br" and tag not in SVG_TAGS
        ]

    def svg_attributes(structure: Structure) -> set[str]:
        names: set[str] = set()
        for tag, attributes in structure.elements:
            if tag in SVG_TAGS:
                names.update(attributes)
        return names

    plain = structures["plain"]
    hostile = structures["hostile"]
    assert svg_attributes(hostile) <= svg_attributes(plain) | {"transform"}
    assert len(html_elements(plain)) > 500
    assert html_elements(hostile) == html_elements(plain)


def test_no_code_runs_that_a_manifest_names(hostile_run, undrawn):
    """Check a manifest whose metadata once went through the loader of plug-ins."""
    WITNESS.unlink(missing_ok=True)
    write_report(hostile_run)
    assert main(["judge", str(hostile_run)]) == 0
    assert not WITNESS.exists()


def test_addresses_lead_nowhere_else(structures):
    """Check links, which could be scripts, and `http-equiv`, which could load another page."""
    pairs: list[tuple[str, str]] = []
    for _, attributes in structures["hostile"].elements:
        pairs += attributes.items()
    assert len([value for _, value in pairs if value.startswith("default-src")]) == 1
    addresses = [value for name, value in pairs if name in ("href", "src", "action")]
    assert [address for address in addresses if not LINKS.fullmatch(address)] == []
    assert ("http-equiv", "refresh") not in pairs


def test_code_and_style_are_the_same(structures):
    """Check that script and style elements differ only in data.

    The data are JSON, in which no text can end the element.
    """
    plain = structures["plain"].data
    hostile = structures["hostile"].data
    assert plain.keys() == hostile.keys()
    assert {name for name in plain if plain[name] != hostile[name]} == {"gallery-data"}
    assert "attacker.invalid" in json.dumps(json.loads(hostile["gallery-data"]))
    assert not set("<>\u2028\u2029\r") & set(hostile["gallery-data"])


def test_every_text_that_is_shown_is_shown_whole(structures, runs):
    """Check that no attack was cut off where markup would begin.

    The page of attacks shows every text whose plain counterpart the plain page shows.
    """

    def shown_texts(kind: str) -> set[int]:
        structure = structures[kind]
        words = list(structure.words)
        for _, attributes in structure.elements:
            words += attributes.values()
        page_letters = letters("".join(words))
        _, texts = runs[kind]
        return {number for number, text in enumerate(texts) if letters(text) in page_letters}

    plain = shown_texts("plain")
    assert len(plain) > 60
    _, plain_texts = runs["plain"]
    missing = {plain_texts[number][:-2] for number in plain - shown_texts("hostile")}
    shortened = {"sha256", "commit", "curve"}  # to 12 letters, or to the letters of a file's name
    quoted_in_yaml = {"key", "value", "target", "number"}  # in the configuration
    assert missing <= shortened | quoted_in_yaml | {"status"}  # a status is shown in words


def test_a_browser_runs_and_asks_for_nothing(open_page, runs):
    """Open every menu and use the controls. `open_page` fails if there is an error or a request."""
    page = open_page(runs["hostile"][0] / "report.html")
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    page.evaluate(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
    )
    for select in page.locator("select:enabled:visible").all()[:8]:
        for value in range(min(2, select.locator("option").count())):
            select.select_option(index=value)
    page.locator(".chart svg[role=img]").first.wait_for()
    page.evaluate("document.querySelectorAll('.page-term').forEach((term) => term.focus())")
    page.locator(".gallery-grid").first.click()
    page.locator(".gallery-next").click()
    page.keyboard.press("Escape")
    assert page.evaluate("window.attacked") is None
    active = "[onload], [onerror], [href^='javascript:' i], iframe, object, embed, base"
    assert page.locator(active).count() == 0
    assert page.locator("body script[src], link[href]").count() == 0


def table(name: str) -> Table:
    """Return a table of one row in which every text is `name`."""
    cells = row(name, "1", name, bold=[0, 2])
    return Table(
        name,
        name,
        ("Method", name, "Why"),
        (Group(name, (cells,)),),
        (name,),
        1,
        True,
    )


def test_no_cell_of_a_csv_file_is_a_formula(runs):
    """Check also that `unquoted` gives back every text."""
    folder, _ = runs["hostile"]
    frame = RunFolder.read(folder).summary
    for path in sorted((folder / "tables").glob("*.csv")):
        lines = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))
        cells = list(itertools.chain.from_iterable(lines))
        texts = [cell for cell in cells if not NUMBER.fullmatch(cell)]
        assert [text for text in texts if text.startswith(FORMULA)] == []
        if path.name == "summary.csv":
            assert set(frame["metric"].astype(str)) <= set(map(unquoted, cells))
            assert any(cell.startswith("'=") for cell in cells)


@given(st.text(alphabet="'=+-@\t\r1.e a"))
def test_a_quoted_text_comes_back(text):
    assert unquoted(quoted(text)) == text
    assert NUMBER.fullmatch(quoted(text)) or not quoted(text).startswith(FORMULA)


def test_numbers_and_plain_texts_stay_as_they_are():
    frame = pd.DataFrame(
        {"name": ["-", "a=1", "-0.5", None], "value": [-0.5, 1e-7, float("nan"), 2.0]}
    )
    assert to_csv(frame) == frame.to_csv(index=False, lineterminator="\n")
    assert to_csv(pd.DataFrame({"=x": pd.Categorical(["@a", "b"])})) == "'=x\n'@a\nb\n"
    assert to_csv(pd.DataFrame({"x": ["a\r=1", "b"], "y": [1, 2]})) == '"x","y"\n"a\r=1",1\n"b",2\n'


def test_latex_has_no_command_but_its_own(runs):
    """Check that tables of attacks add only escapes and the commands of long tables."""

    def table_texts(kind: str) -> list[str]:
        folder, _ = runs[kind]
        return [path.read_text() for path in (folder / "tables").glob("*.tex")]

    plain_commands = set(COMMAND.findall("\n".join(table_texts("plain"))))
    hostile_commands = set(COMMAND.findall("\n".join(table_texts("hostile"))))
    escapes = set("&%$#_{}") | {"textbackslash", "textasciitilde", "textasciicircum", "allowbreak"}
    long_tables = {"arraybackslash", "linewidth", "multicolumn", "textit", "addlinespace"}
    long_tables |= {"endfirsthead", "endhead", "endfoot", "endlastfoot"}
    assert hostile_commands - plain_commands <= escapes | long_tables
    for text in table_texts("hostile"):
        assert text.isascii() or not re.search("[\x00-\x09\x0b-\x1f\u2028\u202e]", text)
        label = re.search(r"\\label\{(.*)\}", text)
        assert label is not None
        assert re.fullmatch(r"[A-Za-z0-9@+=.:-]+", label[1])


@pytest.mark.skipif(
    PDFLATEX is None, reason="no pdflatex: install a TeX with booktabs and longtable"
)
def test_latex_compiles_with_any_text(runs, tmp_path):
    paths = sorted((runs["hostile"][0] / "tables").glob("*.tex"))
    for number, name in enumerate(NAMES):
        paths.append(tmp_path / f"name{number}.tex")
        paths[-1].write_text(to_latex(table(name)))
    inputs = "\n".join(rf"\input{{{path.as_posix()}}}\clearpage" for path in paths)
    packages = (
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{array,booktabs,longtable}"
    )
    document = packages + "\\begin{document}\n" + inputs + "\n\\end{document}\n"
    (tmp_path / "all.tex").write_text(document)
    command = [
        str(PDFLATEX),
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "-draftmode",
        "all.tex",
    ]
    process = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert process.returncode == 0, process.stdout[-2000:]
    opened_files = "".join(re.findall(r"\(/[^\s()]*", process.stdout))
    assert "passwd" not in re.sub(r"\s", "", opened_files)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_markdown_has_no_markup_but_its_own(name):
    """Check that CommonMark sees the elements of a table with plain names, and the whole text.

    The parser also knows tables and deletions.
    """
    plain = to_markdown(table("x"))

    def element_types(text: str) -> list[str]:
        parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        tokens = []
        for token in parser.parse(text):
            tokens += [token, *(token.children or ())]
        shown = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
        assert letters(name) in letters(shown) or text == plain
        assert {token.content for token in tokens if token.type == "html_inline"} <= {"<br>"}
        text_types = ("text", "text_special", "html_inline", "hardbreak", "softbreak")
        return [token.type for token in tokens if token.type not in text_types]

    markdown = to_markdown(table(name))
    assert element_types(markdown) == element_types(plain)
    assert not re.search(r"(?<!\\):(?=//)|www\.", markdown)
    assert "\x1b" not in markdown


def test_a_figure_holds_text_alone(runs):
    """Check that no SVG file has scripts or links.

    matplotlib also draws texts between dollar signs as mathematics.
    """
    paths = list((runs["hostile"][0] / "figures").glob("*.svg"))
    assert {path.name[:7] for path in paths} >= {"axiom_p", "perturb", "by_meth"}
    for path in paths:
        for element in ElementTree.parse(path).iter():
            if isinstance(element.tag, str):
                tag = element.tag.rpartition("}")[2]
                assert tag not in {"script", "a", "foreignObject", "iframe", "animate", "set"}
            for name, value in element.attrib.items():
                assert not name.startswith("on")
                if name.endswith("href"):
                    assert value.startswith(("#", "data:image/png;base64,"))
