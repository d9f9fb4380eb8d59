"""The report of a run folder that a stranger wrote: its texts make no element, script, formula,
command or markup.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

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
from tests.report.hostile.conftest import WITNESS, letters

pytestmark = pytest.mark.slow  # two whole reports

Runs = dict[str, tuple[Path, list[str]]]
LINKS = re.compile(r"(#|data:image/(png|webp);base64,|figures/)[^\s]*", re.ASCII)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
COMMAND = re.compile(r"\\([A-Za-z]+\*?|.)", re.DOTALL)
PDFLATEX = shutil.which("pdflatex")
NAMES = (
    "=1+1", "@SUM(A1)", "+1e5x", "-2+3", "\t=1", "\r=1", "'=1", "x|y", "`x`", "<b>x</b>", "<!-- x", "[x](y)", "![x](y)",
    "**x**", "_x_", "~~x~~", "&lt;b&gt;", "https://x.invalid", "www.x.invalid", "<https://x.invalid>", "# x", "> x",
    "- x", "1. x", "    x", "a\nb", "a\r\rb", "---", "===", "\\", "\\|", "x\\", "```", "$x$", "x" * 2000, "\x1b[2Jx",
    "\u202ex",
)  # fmt: skip


DRAWN = ("g", "text", "path", "use", "defs")


@pytest.fixture(scope="module")
def structures(runs: Runs) -> dict[str, Structure]:
    return {
        kind: Structure((folder / "report.html").read_text("utf-8"))
        for kind, (folder, _) in runs.items()
    }


def test_names_make_no_element_and_no_attribute(structures):
    """A page of attacks has the elements of the same page with plain names. Where a name is broken
    into lines depends on it: so do the parts of drawings, which are of a few kinds.
    """
    elements = {
        kind: [(tag, tuple(values)) for tag, values in own.elements if tag not in {"br", *DRAWN}]
        for kind, own in structures.items()
    }
    attributes = {kind: {name for tag, values in own.elements if tag in DRAWN for name in values}
                  for kind, own in structures.items()}  # fmt: skip
    assert attributes["hostile"] <= attributes["plain"] | {"transform"}
    assert len(elements["plain"]) > 500
    assert elements["hostile"] == elements["plain"]


def test_no_code_runs_that_a_manifest_names(runs):
    """Metadata of a metric once went through the loader of plug-ins, which the gate may not
    import.
    """
    assert not WITNESS.exists()


def test_addresses_lead_nowhere_else(structures):
    """`http-equiv` could load another page, a link could be a script."""
    attributes = [pair for _, values in structures["hostile"].elements for pair in values.items()]
    assert len([value for _, value in attributes if value.startswith("default-src")]) == 1
    others = [value for name, value in attributes if name in ("href", "src", "action")]
    assert [value for value in others if not LINKS.fullmatch(value)] == []
    assert ("http-equiv", "refresh") not in attributes


def test_code_and_style_are_the_same(structures):
    """Of script and style elements, the data alone differ; they are JSON, in which no text can end
    the element.
    """
    plain, hostile = (structures[kind].data for kind in ("plain", "hostile"))
    assert plain.keys() == hostile.keys()
    assert {name for name in plain if plain[name] != hostile[name]} == {"gallery-data"}
    assert "attacker.invalid" in json.dumps(json.loads(hostile["gallery-data"]))
    assert not set("<>\u2028\u2029\r") & set(hostile["gallery-data"])


def test_every_text_that_is_shown_is_shown_whole(structures, runs):
    """The page shows of the attacks what it shows of plain names: nothing was cut off where markup
    would begin.
    """
    shown = {}
    for kind, (_, texts) in runs.items():
        values = [value for _, values in structures[kind].elements for value in values.values()]
        text = letters("".join((*structures[kind].words, *values)))
        shown[kind] = [place for place, name in enumerate(texts) if letters(name) in text]
    assert len(shown["plain"]) > 60
    missing = set(shown["plain"]) - set(shown["hostile"])
    cut = {"sha256", "commit", "curve"}  # to 12 letters; to those of a file's name
    # of the configuration, where texts have quotes and escapes
    in_yaml = {
        "key",
        "value",
        "target",
        "number",
    }
    # which is a word
    assert {runs["plain"][1][place][:-2] for place in missing} <= cut | in_yaml | {"status"}


def test_a_browser_runs_and_asks_for_nothing(open_page, runs):
    """Every menu opened, every choice made, every button pressed: `open_page` fails for an error or
    a request.
    """
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
    assert (
        page.locator(
            "[onload], [onerror], [href^='javascript:' i], iframe, object, embed, base"
        ).count()
        == 0
    )
    assert page.locator("body script[src], link[href]").count() == 0


def table(name: str) -> Table:
    return Table(
        name,
        name,
        ("Method", name, "Why"),
        (Group(name, (row(name, "1", name, bold=[0, 2]),)),),
        (name,),
        1,
        True,
    )


def test_no_cell_of_a_csv_file_is_a_formula(runs):
    """And every text is there: what was added is taken away by one rule."""
    folder, _ = runs["hostile"]
    frame = RunFolder.read(folder).summary
    for path in sorted((folder / "tables").glob("*.csv")):
        cells = [
            cell
            for line in csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))
            for cell in line
        ]
        assert [
            cell for cell in cells if cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)
        ] == []
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
    """The commands of a table of attacks, of their labels too, are those that plain names have, and
    escapes.
    """
    plain, hostile = (
        {
            found[1]
            for path in (runs[kind][0] / "tables").glob("*.tex")
            for found in COMMAND.finditer(path.read_text())
        }
        for kind in ("plain", "hostile")
    )
    escapes = set("&%$#_{}") | {"textbackslash", "textasciitilde", "textasciicircum", "allowbreak"}
    longer = {"begingroup", "endgroup", "onecolumn", "resizebox", "tiny", "arraybackslash"}
    longer |= {"endfirsthead", "endhead", "endfoot", "endlastfoot"}  # of tables over several pages
    assert hostile - plain <= escapes | longer
    for path in (runs["hostile"][0] / "tables").glob("*.tex"):
        assert path.read_text().isascii() or not re.search(
            "[\x00-\x09\x0b-\x1f\u2028\u202e]", path.read_text()
        )
        assert re.fullmatch(
            r"[A-Za-z0-9@+=.:-]+", re.search(r"\\label\{(.*)\}", path.read_text())[1]
        )  # type: ignore[index]


@pytest.mark.skipif(
    PDFLATEX is None, reason="no pdflatex: install a TeX with booktabs and longtable"
)
def test_latex_compiles_with_any_text(runs, tmp_path):
    paths = sorted((runs["hostile"][0] / "tables").glob("*.tex"))
    for number, name in enumerate(NAMES):
        paths.append(tmp_path / f"name{number}.tex")
        paths[-1].write_text(to_latex(table(name)))
    inputs = "\n".join(rf"\input{{{path.as_posix()}}}\clearpage" for path in paths)
    packages = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,longtable}"
    (tmp_path / "all.tex").write_text(
        packages + "\\begin{document}\n" + inputs + "\n\\end{document}\n"
    )
    command = [
        str(PDFLATEX),
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "-draftmode",
        "all.tex",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    opened = "".join(re.findall(r"\(/[^\s()]*", done.stdout))
    assert "passwd" not in re.sub(r"\s", "", opened)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_markdown_has_no_markup_but_its_own(name):
    """As CommonMark with tables and deletions has it: the elements of a table of plain names, and
    the text.
    """

    def kinds(text: str) -> list[str]:
        parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        tokens = [
            child for token in parser.parse(text) for child in (token, *(token.children or ()))
        ]
        shown = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
        assert letters(name) in letters(shown) or text == to_markdown(table("x"))
        breaks = ("text", "text_special", "html_inline", "hardbreak", "softbreak")
        assert {token.content for token in tokens if token.type == "html_inline"} <= {"<br>"}
        return [token.type for token in tokens if token.type not in breaks]

    assert kinds(to_markdown(table(name))) == kinds(to_markdown(table("x")))
    assert not re.search(r"(?<!\\):(?=//)|www\.", to_markdown(table(name)))
    assert "\x1b" not in to_markdown(table(name))


def test_a_figure_holds_text_alone(runs):
    """SVG could hold scripts and links; matplotlib reads mathematics between dollar signs."""
    paths = list((runs["hostile"][0] / "figures").glob("*.svg"))
    assert {path.name[:7] for path in paths} >= {"axiom_p", "perturb", "by_meth"}
    for path in paths:
        elements: list[Any] = list(ElementTree.parse(path).iter())
        tags = {
            element.tag.rpartition("}")[2] for element in elements if isinstance(element.tag, str)
        }
        assert not tags & {"script", "a", "foreignObject", "iframe", "animate", "set"}
        assert not [key for element in elements for key in element.attrib if key.startswith("on")]
        links = [
            value
            for element in elements
            for key, value in element.attrib.items()
            if key.endswith("href")
        ]
        assert all(value.startswith(("#", "data:image/png;base64,")) for value in links)
