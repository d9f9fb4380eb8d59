"""`axiom-bench game-score`: the tables of a game's answers, as text and as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.report.game import accuracy, answers, predicting
from axiom_bench.report.game.score_tables import accuracy_table, needed_line, pairs_table, predictions_table
from axiom_bench.report.page.definitions import Terms
from axiom_bench.report.page.header import Header
from axiom_bench.report.page.html import assemble
from axiom_bench.report.page.section import Section
from axiom_bench.report.page.tables import SCRIPTS, STYLES, block
from axiom_bench.report.tables.csv_text import to_csv
from axiom_bench.report.tables.markdown import to_markdown
from axiom_bench.report.tables.plain import to_text
from axiom_bench.report.tables.table import Table
from axiom_bench.statistics.run_folder import RunFolder

FORMATS = (".csv", ".html", ".md")


def score(paths: Sequence[Path], run: Path | None = None, output: Path | None = None, seed: int = 0) -> list[str]:
    """The lines of the report. run: of the game, for the table of metrics. output: also written as FORMATS tell.

    Raises BenchError.
    """
    if output is not None and output.suffix not in FORMATS:
        raise BenchError(f"--output {output} ends with none of {', '.join(FORMATS)}, which tell its format.")
    files.check_output(output)
    if seed < 0:
        raise BenchError(f"--seed {seed}: give 0 or more.")
    read = answers.read(paths)
    result = accuracy.score(read.table, seed)
    titles = dict(zip(read.table["method"], read.table["title"], strict=True))
    tables = [accuracy_table(result, titles), pairs_table(result, titles)]
    frames = {"": result.accuracies, "_pairs": result.pairs}
    if run is not None:
        folder = RunFolder.read(run)
        metrics = predicting.predictions(folder, read.table, seed)
        tables.append(predictions_table(metrics, folder))
        frames["_metrics"] = metrics
    game = read.table["game"][0]
    counted = f"{len(read.table):,} answers of {read.players} players, game {game}"
    lines = [counted, *read.notes, needed_line(result, read.players)]
    written = [] if output is None else _write(output, game, lines, tables, frames)
    text = [part for table in tables for part in ("", *to_text(table))]
    return [*lines, *text, *(["", *written] if written else [])]


def _write(
    output: Path, game: str, lines: Sequence[str], tables: Sequence[Table], frames: dict[str, pd.DataFrame]
) -> list[str]:
    """Lines that name the files that it wrote: one, or of CSV one for each table."""
    if output.suffix == ".csv":
        contents = {output.with_stem(output.stem + ending): to_csv(frame) for ending, frame in frames.items()}
    elif output.suffix == ".md":
        contents = {output: "\n\n".join([*lines, *map(to_markdown, tables)])}
    else:
        contents = {output: assemble(_header(game, lines), list(_sections(tables)))}
    for path, text in contents.items():
        files.write(path, text.encode())
    return [f"written: {path}" for path in contents]


def _header(game: str, lines: Sequence[str]) -> Header:
    counted, *notes, needed = lines
    facts = {"Counted": counted, **({"Notes": " ".join(notes)} if notes else {}), "Still needed": needed}
    return Header(f"axiom-bench, game {game}", "What do you see?", facts)


def _sections(tables: Sequence[Table]) -> Iterator[Section]:
    for table in tables:
        yield Section(table.name, table.title, block([table], Terms()), STYLES, SCRIPTS)
