"""What the page shows, in its order: one section of each part of the report."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from axiom_bench.records import reading
from axiom_bench.report.figures.drawing import LeftOut
from axiom_bench.report.figures.saving import SavedFigure
from axiom_bench.report.page import combined, ran
from axiom_bench.report.page import figures as figures_part
from axiom_bench.report.page.html import assemble
from axiom_bench.report.page.section import Section
from axiom_bench.report.page.templating import render
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.tables.table import Table


def page(
    run: RunFolder, tables: Sequence[Table], figures: Iterable[SavedFigure | LeftOut], lines: Sequence[str]
) -> str:
    """The whole page; lines: the run's main results. The same run gives the same text."""
    facts = f"Run {run.manifest.get('run')}, made {run.manifest.get('created')}"
    title = f"axiom-bench: {run.manifest.get('experiment')}"
    return assemble(title, facts, list(_sections(run, tables, figures, lines)))


def _sections(
    run: RunFolder, tables: Sequence[Table], figures: Iterable[SavedFigure | LeftOut], lines: Sequence[str]
) -> Iterator[Section]:
    is_empty = run.records.empty
    failures = run.manifest.get("failures") or ()
    result = render("result.html.j2", failures=failures, lines=lines, overview=tables[0], empty=is_empty)
    yield Section("result", "Result", result)
    if not is_empty:
        yield figures_part.section(figures)
        yield Section("tables", "Tables", render("tables.html.j2", tables=tables[1:]))
    yield ran.section(run)
    if reading.is_combined(run.manifest):
        yield combined.section(run)
    yield _again(run)


def _again(run: RunFolder) -> Section:
    """The command line of the run, or of each that was combined, quoted for a shell, and the versions."""
    runs = run.manifest.get("runs") or [run.manifest]
    command = "\n".join(shlex.join(["axiom-bench", *(part.get("overrides") or ())]) for part in runs)
    versions, commit = run.manifest.get("versions") or {}, run.manifest.get("git_commit")
    body = render("again.html.j2", command=command, versions=versions, commit=commit)
    return Section("again", "Reproduce", body)
