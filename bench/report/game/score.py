"""`axiom-bench game-score`: the tables of a game's answers, as text and as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.report.game import accuracy, answers, predicting
from axiom_bench.report.game.score_tables import accuracy_table, needed_line, pairs_table, predictions_table, to_text
from axiom_bench.report.page.html import assemble
from axiom_bench.report.page.section import Section
from axiom_bench.report.page.templating import render
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.tables.markdown import to_markdown
from axiom_bench.report.tables.table import Table

FORMATS = (".csv", ".html", ".md")


def score(paths: Sequence[Path], run: Path | None = None, output: Path | None = None, seed: int = 0) -> list[str]:
    """The lines of the report. run: of the game, for the table of metrics. output: also written as FORMATS tell.

    Raises BenchError.
    """
    if output is not None and output.suffix not in FORMATS:
        raise BenchError(f"--output {output} ends with none of {', '.join(FORMATS)}, which tell its format.")
    read = answers.read(paths)
    result = accuracy.score(read.table, seed)
    titles = read.table.drop_duplicates("method").set_index("method")["title"].to_dict()
    tables = [accuracy_table(result, titles), pairs_table(result, titles)]
    frames = {"": result.accuracies, "_pairs": result.pairs}
    if run is not None:
        folder = RunFolder.read(run)
        metrics = predicting.predictions(folder, read.table, seed)
        tables.append(predictions_table(metrics, folder))
        frames["_metrics"] = metrics
    lines = [f"{len(read.table):,} answers of {read.players} players, game {read.table['game'][0]}", *read.notes]
    lines.append(needed_line(result, read.players))
    written = [] if output is None else _write(output, lines, tables, frames)
    text = [part for table in tables for part in ("", *to_text(table))]
    return [*lines, *text, *(["", *written] if written else [])]


def _write(output: Path, lines: Sequence[str], tables: Sequence[Table], frames: dict[str, pd.DataFrame]) -> list[str]:
    """Lines that name the files that it wrote: one, or of CSV one for each table."""
    if output.suffix == ".csv":
        contents = {
            output.with_stem(output.stem + ending): frame.to_csv(index=False) for ending, frame in frames.items()
        }
    elif output.suffix == ".md":
        contents = {output: "\n\n".join([*lines, *map(to_markdown, tables)])}
    else:
        contents = {output: assemble("What do you see?", "", list(_sections(lines, tables)))}
    for path, text in contents.items():
        files.write(path, text.encode())
    return [f"written: {path}" for path in contents]


def _sections(lines: Sequence[str], tables: Sequence[Table]) -> Iterator[Section]:
    yield Section("answers", "Answers", render("game_answers.html.j2", lines=lines))
    for table in tables:
        yield Section(table.name, table.title, render("game_table.html.j2", table=table))
