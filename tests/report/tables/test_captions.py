"""The captions and footnotes of LaTeX tables, and the columns that a paper has room for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from axiom_bench.report.shown import Changes, read_run
from axiom_bench.report.tables.comparisons import pair_tables
from axiom_bench.report.tables.latex import for_paper, to_latex
from axiom_bench.report.tables.summaries import (
    LATEX_METRICS,
    headline_tables,
    latex_overview_table,
)
from axiom_bench.report.tables.table import cell_widths
from axiom_bench.report.writing import all_tables

MAX_WORDS = 40  # of a footnote
CONTROL = {"control": "explains nothing"}


def test_a_caption_says_what_which_data_and_how_many(usual):
    table = next(iter(headline_tables(usual)))
    text = to_latex(for_paper(usual, table, ["fu2020axiom", "axiombench"]))
    assert (
        r"\caption{Conservation error (median, 95 \% interval; lower is better) of 4 methods on "
        r"scenes\_fc and scenes\_residual, 120 images of scenes.}"
    ) in text
    assert r"\label{tab:headline-conservation-error}" in text
    assert r"% Cite with references.bib: \cite{fu2020axiom,axiombench}" in text


@pytest.mark.slow
def test_controls_are_counted_apart(usual):
    methods = dict(usual.manifest.methods)
    methods["random"] = methods["random"].model_copy(update=CONTROL)
    manifest = usual.manifest.model_copy(update={"methods": methods})
    run = replace(usual, manifest=manifest)
    table = for_paper(run, latex_overview_table(run))
    assert "of 5 methods and 1 control on " in table.caption
    assert table.footnote.endswith("Controls: random.")


@pytest.mark.slow
def test_a_footnote_has_few_words(usual):
    for table in (*all_tables(usual), *headline_tables(usual), latex_overview_table(usual)):
        footnote = for_paper(usual, table).footnote
        assert len(footnote.split()) <= MAX_WORDS, f"{table.name}: {footnote}"


def test_a_footnote_explains_only_the_marks_of_its_table(usual):
    table = next(iter(headline_tables(usual)))
    footnote = for_paper(usual, table).footnote
    texts = [cell.text for group in table.groups for cells in group.rows for cell in cells]
    assert ("‡ 0 by construction." in footnote) == any("‡" in text for text in texts)
    assert ("† Fewer images." in footnote) == any("†" in text for text in texts)
    is_bold = any(cell.bold for group in table.groups for cells in group.rows for cell in cells)
    assert ("Bold: best" in footnote) == is_bold


def test_the_latex_overview_has_few_metrics_and_no_run_time(usual):
    table = latex_overview_table(usual)
    assert 1 < len(table.header) <= 1 + LATEX_METRICS
    assert sum(cell_widths(table)) < 110
    assert not any("run time" in heading.lower() for heading in table.header)
    text = to_latex(for_paper(usual, table))
    assert '% For other columns: axiom-bench report RUN "report.latex.columns=' in text


@pytest.mark.slow
def test_a_user_chooses_the_columns(usual):
    chosen = ["box_iou", "zeta", "confidence_drop"]
    run = read_run(usual.path, Changes({"latex": {"columns": chosen}}))
    titles = [column.title for column in latex_overview_table(run).columns]
    assert titles == ["Method", "Box IoU", "Normalised zeta", "Confidence drop"]


def test_pairs_have_the_columns_of_a_page(usual):
    table = for_paper(usual, next(pair_tables(usual)))
    header = ("Method", "Against", "Better", "Same", "Worse", "Difference [95 %]", "p, Holm")
    assert table.header == header
    assert all(len(cells) == len(header) for group in table.groups for cells in group.rows)
    assert table.alignment[-1]
