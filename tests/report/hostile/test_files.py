"""The tables and figures of a run folder that a stranger wrote: no formula, no command, no markup comes of a text."""

from __future__ import annotations

import csv
import io
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

from axiom_bench.report.charts.drawing import Drawing
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.table import NUMBER, Group, Table, quoted, to_csv, to_markdown, unquoted
from axiom_bench.report.writing import all_figures
from axiom_bench.statistics.run_folder import RunFolder
from tests.report.conftest import row

Runs = dict[str, tuple[Path, list[str]]]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
COMMAND = re.compile(r"\\([A-Za-z]+\*?|.)", re.DOTALL)
PDFLATEX = shutil.which("pdflatex")
NAMES = (
    "=1+1", "@SUM(A1)", "+1e5x", "-2+3", "\t=1", "\r=1", "'=1", "x|y", "`x`", "<b>x</b>", "<!-- x", "[x](y)", "![x](y)",
    "**x**", "_x_", "~~x~~", "&lt;b&gt;", "https://x.invalid", "www.x.invalid", "<https://x.invalid>", "# x", "> x",
    "- x", "1. x", "    x", "a\nb", "a\r\rb", "---", "===", "\\", "\\|", "x\\", "```", "$x$", "x" * 2000, "\x1b[2Jx",
    "\u202ex",
)  # fmt: skip


def table(name: str) -> Table:
    return Table(
        name, name, ("Method", name, "Why"), (Group(name, (row(name, "1", name, bold=[0, 2]),)),), (name,), 1, True
    )


def test_no_cell_of_a_csv_file_is_a_formula(runs: Runs) -> None:
    """And every text is there: what was added is taken away by one rule."""
    folder, _ = runs["hostile"]
    frame = RunFolder.read(folder).summary
    for path in sorted((folder / "tables").glob("*.csv")):
        cells = [cell for line in csv.reader(io.StringIO(path.read_bytes().decode(), newline="")) for cell in line]
        assert [cell for cell in cells if cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)] == []
        if path.name == "summary.csv":
            assert set(frame["metric"].astype(str)) <= set(map(unquoted, cells))
            assert any(cell.startswith("'=") for cell in cells)


@given(st.text(alphabet="'=+-@\t\r1.e a"))
def test_a_quoted_text_comes_back(text: str) -> None:
    assert unquoted(quoted(text)) == text
    assert NUMBER.fullmatch(quoted(text)) or not quoted(text).startswith(FORMULA)


def test_numbers_and_plain_texts_stay_as_they_are() -> None:
    frame = pd.DataFrame({"name": ["-", "a=1", "-0.5", None], "value": [-0.5, 1e-7, float("nan"), 2.0]})
    assert to_csv(frame) == frame.to_csv(index=False, lineterminator="\n")
    assert to_csv(pd.DataFrame({"=x": pd.Categorical(["@a", "b"])})) == "'=x\n'@a\nb\n"
    assert to_csv(pd.DataFrame({"x": ["a\r=1", "b"], "y": [1, 2]})) == '"x","y"\n"a\r=1",1\n"b",2\n'


def test_latex_has_no_command_but_its_own(runs: Runs) -> None:
    """The commands of a table of attacks, of their labels too, are those that plain names have, and escapes."""
    plain, hostile = (
        {found[1] for path in (runs[kind][0] / "tables").glob("*.tex") for found in COMMAND.finditer(path.read_text())}
        for kind in ("plain", "hostile")
    )
    escapes = set("&%$#_{}") | {"textbackslash", "textasciitilde", "textasciicircum", "allowbreak"}
    longer = {"begingroup", "endgroup", "LTcapwidth", "caption*", "rule", "onecolumn", "medskip", "scriptsize",
              "footnotesize"}  # fmt: skip
    longer |= {"endfirsthead", "endhead", "endfoot", "endlastfoot"}  # of tables over several pages
    assert hostile - plain <= escapes | longer
    for path in (runs["hostile"][0] / "tables").glob("*.tex"):
        assert path.read_text().isascii() or not re.search("[\x00-\x09\x0b-\x1f\u2028\u202e]", path.read_text())
        assert re.fullmatch(r"[A-Za-z0-9@+=.:-]+", re.search(r"\\label\{(.*)\}", path.read_text())[1])  # type: ignore[index]


@pytest.mark.skipif(PDFLATEX is None, reason="no pdflatex: install a TeX with booktabs and longtable")
def test_latex_compiles_with_any_text(runs: Runs, tmp_path: Path) -> None:
    paths = sorted((runs["hostile"][0] / "tables").glob("*.tex"))
    for number, name in enumerate(NAMES):
        paths.append(tmp_path / f"name{number}.tex")
        paths[-1].write_text(to_latex(table(name)))
    inputs = "\n".join(rf"\input{{{path.as_posix()}}}\clearpage" for path in paths)
    packages = r"\documentclass{article}\usepackage{array,booktabs,longtable}"
    (tmp_path / "all.tex").write_text(packages + "\\begin{document}\n" + inputs + "\n\\end{document}\n")
    command = [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "-draftmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    opened = "".join(re.findall(r"\(/[^\s()]*", done.stdout))
    assert "passwd" not in re.sub(r"\s", "", opened)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_markdown_has_no_markup_but_its_own(name: str) -> None:
    """As CommonMark with tables and deletions has it: the elements of a table of plain names, and the text."""

    def kinds(text: str) -> list[str]:
        parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        tokens = [child for token in parser.parse(text) for child in (token, *(token.children or ()))]
        shown = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
        assert _letters(name) in _letters(shown) or text == to_markdown(table("x"))
        breaks = ("text", "text_special", "html_inline", "hardbreak", "softbreak")
        assert {token.content for token in tokens if token.type == "html_inline"} <= {"<br>"}
        return [token.type for token in tokens if token.type not in breaks]

    assert kinds(to_markdown(table(name))) == kinds(to_markdown(table("x")))
    assert not re.search(r"(?<!\\):(?=//)|www\.", to_markdown(table(name)))
    assert "\x1b" not in to_markdown(table(name))


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)


def test_a_figure_holds_text_alone(runs: Runs, tmp_path: Path) -> None:
    """SVG could hold scripts and links; matplotlib reads mathematics between dollar signs."""
    run = RunFolder.read(runs["hostile"][0])
    figures = {drawing.title: drawing for drawing in all_figures(run) if isinstance(drawing, Drawing)}
    chosen = [figure for figure in figures.values() if figure.name.startswith(("axiom_plane", "perturbation"))]
    assert len(chosen) == 2
    for figure in chosen:
        figure.save(tmp_path, ("svg",))
    for path in [*tmp_path.glob("*.svg"), *(runs["hostile"][0] / "figures").glob("*.svg")]:
        elements: list[Any] = list(ElementTree.parse(path).iter())
        tags = {element.tag.rpartition("}")[2] for element in elements if isinstance(element.tag, str)}
        assert not tags & {"script", "a", "foreignObject", "iframe", "animate", "set"}
        assert not [key for element in elements for key in element.attrib if key.startswith("on")]
        links = [value for element in elements for key, value in element.attrib.items() if key.endswith("href")]
        assert all(value.startswith(("#", "data:image/png;base64,")) for value in links)
