"""Write all files of a report."""

from __future__ import annotations

from axiom_bench.records import files
from axiom_bench.report import stamp
from axiom_bench.report.figures.saving import drawing_processes, save_figures
from axiom_bench.report.last_lines import last_lines
from axiom_bench.report.page.html import page
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.tables import write_tables


def write_report(run: RunFolder) -> None:
    """Write tables/, figures/ and report.html; what an earlier report wrote is removed first.

    Raises BenchError where a file of the run can't be read or the folder can't be written.
    """
    stamp.remove_outputs(run.path)
    with drawing_processes(run) as processes:
        tables = write_tables(run, run.path / "tables")
        figures = save_figures(run, processes)
    files.write(run.path / stamp.PAGE, page(run, tables, figures, last_lines(run)).encode())
