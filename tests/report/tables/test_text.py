"""Numbers and tables as Markdown, HTML and LaTeX. If a TeX is installed, the tables compile."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from axiom_bench.columns import NO_IMAGE, NOT_APPLICABLE
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.preconditions import ALWAYS, PRECONDITIONS, WRONG_CLASS
from axiom_bench.report.page.html import typeset
from axiom_bench.report.tables.latex import escape, to_latex
from axiom_bench.report.tables.summaries import headline_tables
from axiom_bench.report.tables.table import Group, Table, to_markdown
from axiom_bench.report.tables.text import REASONS, heading
from axiom_bench.report.writing import write_tables
from axiom_bench.statistics.labels import NOTHING, Value, number, share
from tests.report.conftest import row

ROWS = (row("grad_cam", "-0.500", "50 %", bold=[1]), row("x|y", "1.20e-7", "-"))
TABLE = Table(
    "some_table",
    "A_title",
    ("Method", "Error\nmean", "Why"),
    (Group("net_1 & co", ROWS),),
    ("n_1 = 3.",),
    1,
    True,
)


def test_number():
    texts = {
        0.012345: "0.0123",
        0.1: "0.100",
        12.0: "12.0",
        999.6: "1,000",
        4321.5: "4,322",
        0.00009996: "0.000100",
        0.00009: "9.00e-5",
        1.2e-7: "<1e-6",
        -1e-9: "<1e-6",
        2.5e-6: "2.50e-6",
        -0.25: "-0.250",
        2.5e9: "2.50e9",
        0.0: "0",
        float("nan"): NOTHING,
        float("inf"): NOTHING,
    }
    for value, text in texts.items():
        assert number(value) == text


def test_share_never_rounds_to_nothing_or_all():
    assert share(0, 9) == "0 %"
    assert share(1, 1000) == "<1 %"
    assert share(1, 2) == "50 %"
    assert share(999, 1000) == ">99 %"
    assert share(9, 9) == "100 %"
    assert share(0, 0) == "0 %"


def test_a_heading_says_of_what_its_values_are():
    value = Value("e", "Error", better="lower", kind="ratio")
    arrow = "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}"
    assert heading(value) == f"Error\nmedian [95 %]{arrow}"
    assert heading(value, whole_set=True) == f"Error\nwhole data set [95 %]{arrow}"


def test_markdown():
    assert to_markdown(TABLE) == (
        "# A_title\n\n## net_1 & co\n\n"
        "| Method | Error<br>mean | Why |\n|:---|---:|:---|\n| grad_cam | **-0.500** | 50 % |\n"
        "| x\\|y | 1.20e-7 | - |\n\nn_1 = 3.\n"
    )


def test_html_text():
    assert typeset("<b> -0.5\nx") == "&lt;b&gt; \N{MINUS SIGN}0.5<br>x"
    assert "10<sup>\N{MINUS SIGN}7</sup>" in typeset("1.20e-7")
    assert typeset("<1e-6") == "&lt;\N{NO-BREAK SPACE}10<sup>\N{MINUS SIGN}6</sup>"
    assert typeset("0-12 grad-cam-2") == "0-12 grad-cam-2"  # no minus inside a name or a range


def test_every_status_has_its_reason_in_words():
    """Check the statuses of this package. A user's plug-in may have statuses without a reason."""
    preconditions = (*PRECONDITIONS.values(), *ALWAYS, WRONG_CLASS)
    statuses = {condition.status for condition in preconditions}
    statuses |= {plugins.load("metric", name).spec.undefined for name in plugins.names("metric")}
    statuses |= {NO_IMAGE, NOT_APPLICABLE, "bad_image"}
    assert statuses <= set(REASONS)


NASTY = (
    r"a & b % c $ d # e _ f { g } h ~ i ^ j \ k < l > m | n \input{/etc/passwd} [o] *p* ``q'' r--s",
    "Łódź Ångström é ñ ü ß Ž ő ą Đ « » ’ … − ± ≤ α ∞ 犬 Ж 🐶 \u202e",  # noqa: RUF001
    "[first]",
    "*starred*",
    "my_package.my_module.my_very_long_function_name_of_a_users_own_method",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
)
PDFLATEX = shutil.which("pdflatex")
DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[textwidth=7in,textheight=9.3in]{geometry}
\usepackage[T1]{fontenc}
\usepackage{array,booktabs,longtable}
\begin{document}
%s
\end{document}
"""


def test_a_table_is_a_float_or_a_longtable():
    table = replace(
        TABLE, caption="A_caption.", footnote="5 % level.", comments=("report a_b\n\\end",)
    )
    assert to_latex(table) == "\n".join(
        [
            r"% Needs \usepackage[T1]{fontenc} and \usepackage{array,booktabs}.",
            r"% report a_b \end",
            r"\begin{table}",
            r"\centering",
            r"\caption{A\_caption.}",
            r"\label{tab:some-table}",
            r"\footnotesize\setlength{\tabcolsep}{4pt}",
            r"\begin{tabular}{@{}llrl@{}}",
            r"\toprule",
            r" & Method & \shortstack[r]{Error \\ mean} & Why \\",
            r"\midrule",
            r"net\_1 \& co & grad\_cam & \textbf{-0.500} & 50 \% \\",
            r" & x$|$y & 1.20e-7 & - \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip\raggedright 5 \% level.",
            r"\end{table}",
            "",
        ]
    )
    plain = to_latex(TABLE)
    assert r"\caption{A\_title.}" in plain
    assert r"\raggedright n\_1 = 3." in plain  # without a footnote, the notes

    rows = tuple(row(f"m{i}", "1", "-") for i in range(60))
    text = to_latex(Table("t", "T", TABLE.header, (Group("", rows),), ("A note.",)))
    parts = [
        r"\begin{longtable}{@{}lrr@{}}",
        r"\label{tab:t}",
        r"\endfirsthead",
        r"\endhead",
        r"\endlastfoot",
        "m0 ",
    ]
    assert sorted(parts, key=text.index) == parts
    assert text.endswith("\\end{longtable}\n\\raggedright A note.\\par}\n")
    assert text.count(r"\label") == 1
    assert r"\begin{table}" not in text


def test_long_words_and_headings_have_several_lines():
    names = "Grad-CAM, XGrad-CAM, HiResCAM, Ablation-CAM and others"
    rows = (row("m", "1", names),)
    header = ("Method", "A heading that is long", "Others")
    text = to_latex(Table("t", "T", header, (Group("", rows),), text_last=True))
    assert r">{\raggedright\arraybackslash}p{0.95\linewidth}@{}}" in text
    assert "Method & \\shortstack[r]{A heading \\\\ that is \\\\ long} & Others \\\\\n" in text

    header = ("Method", "Error\nmedian [95 %]", "Others")
    text = to_latex(Table("t", "T", header, (Group("", rows),), text_last=True))
    assert r"\shortstack[r]{Error \\ median \\ {[}95 \%]}" in text

    titles = ("Sensitivity error, lower is better", "Box IoU")
    groups = tuple(Group(title, rows) for title in titles)
    text = to_latex(Table("t", "T", header, groups, text_last=True))
    assert r"{@{}>{\raggedright\arraybackslash}p{0.16\linewidth}lr" in text
    assert text.count("Sensitivity error, lower is better & m") == 1


def lines_of_body(text: str) -> list[str]:
    """Return the rows of a LaTeX table, its heading included."""
    return [line for line in text.splitlines() if line.endswith(r"\\") and "caption" not in line]


@pytest.mark.slow
def test_every_row_has_as_many_cells_as_the_table_has_columns(usual, tmp_path):
    """Check what a LaTeX would refuse, if none is installed."""
    write_tables(usual, tmp_path)
    paths = sorted(tmp_path.glob("*.tex"))
    assert len(paths) > 8
    for path in paths:
        text = path.read_text()
        begun = re.findall(r"\\begin\{(\w+)\}", text)
        ended = re.findall(r"\\end\{(\w+)\}", text)
        assert begun == ended[::-1], path.name
        unescaped = re.sub(r"\\.", "", text)
        assert unescaped.count("{") == unescaped.count("}"), path.name
        columns = re.search(r"\\begin\{(?:tabular|longtable)\}\{@\{\}(.*)@\{\}\}", text)[1]
        num_columns = len(re.sub(r">\{[^}]*\}|\{[^}]*\}", "", columns))
        for line in lines_of_body(text):
            if not line.startswith(r"\multicolumn"):  # "Continued on next page" of a longtable
                assert len(re.findall(r"(?<!\\)&", line)) == num_columns - 1, line
        assert "resizebox" not in text


def test_every_special_character_of_latex():
    assert escape(r"a_b&c%d$e#f{g}h~i^j\k") == (
        r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k"
    )
    assert escape("犬é≤‡") == r"U+72ACé$\le$‡"


def test_a_headline_table_has_titles_networks_and_counts(usual):
    tables = {table.name: table for table in headline_tables(usual)}
    assert list(tables) == ["headline_conservation_error", "headline_box_iou"]
    table = tables["headline_conservation_error"]
    assert table.header == ("Method", "scenes_fc", "scenes_residual")
    methods = [cells[0].text for cells in table.groups[0].rows]
    # Only these methods are on the score's scale.
    assert methods == ["grad_cam", "xgrad_cam", "hires_cam", "ablation_cam_axiomatic"]
    values = usual.records.frame(["conservation_error"]).query("model == 'scenes_fc'")
    median = values.loc[values["method"] == "grad_cam", "value"].median()
    assert table.groups[0].rows[0][1].text.startswith(f"{median:.3f}")
    assert "n = 120 images, 120 rows." in table.notes[0]
    assert any(note.endswith(": not on the score's scale.") for note in table.notes)


def nasty_tables() -> list[Table]:
    """Return long, wide and empty tables whose texts are hard for LaTeX."""
    rows = tuple(row(text, "<1e-6", "-1,234 (-2.50e-9)", text, bold=[0, 1, 2]) for text in NASTY)
    header = (
        "Method",
        "Sensitivity error\nmedian (mean)\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}",
        NASTY[0],
        "Why",
    )
    groups = tuple(Group(text, rows) for text in NASTY)
    wide_header = ("Method", *["Conservation error"] * 25)
    wide_group = Group("", (row("a_b", *["0.5 ± 0.1"] * 25),))
    return [
        Table("nasty", NASTY[0], header, groups[:1], NASTY, text_last=True),
        Table("nasty_long", NASTY[1], header, groups * 2, NASTY, text_last=True),
        Table("wide", "Wide", wide_header, (wide_group,)),
        Table("empty", "Empty", TABLE.header, (), ("Every row has status ok.",)),
    ]


@pytest.mark.skipif(
    PDFLATEX is None, reason="no pdflatex: install a TeX with booktabs, geometry and longtable"
)
def test_tables_compile(usual, tmp_path):
    write_tables(usual, tmp_path)
    for table in nasty_tables():
        (tmp_path / f"{table.name}.tex").write_text(to_latex(table))
    inputs = [rf"\input{{{path.stem}}}\clearpage" for path in sorted(tmp_path.glob("*.tex"))]
    assert len(inputs) > 8
    (tmp_path / "document.tex").write_text(DOCUMENT % "\n".join(inputs))
    command = [
        str(PDFLATEX),
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "document.tex",
    ]
    for _ in range(2):  # the second run knows the labels and the widths of longtables
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
        )
        assert result.returncode == 0, result.stdout[-2000:]
    assert "multiply defined" not in (tmp_path / "document.log").read_text(errors="replace")
