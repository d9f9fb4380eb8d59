"""Write all files of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from axiom_bench.records import files
from axiom_bench.report import stamp
from axiom_bench.report.figures.saving import save_figures
from axiom_bench.report.gallery import section as gallery
from axiom_bench.report.page.contents import gallery_page, page
from axiom_bench.report.processes import Process
from axiom_bench.report.tables import write_tables
from axiom_bench.statistics.run_folder import RunFolder


def write_report(
    run: RunFolder, processes: Sequence[Process] = (), tell: Callable[[str], None] = lambda step: None
) -> None:
    """Write tables/, figures/ and report.html; of a gallery with many images also report/index.html and its pictures.

    processes: draw a share of the figures each. tell: is told what is made next. Raises BenchError where a file of the
    run can't be read or the folder can't be written.
    """
    tell("comparisons")
    run.compare_all()
    tell("tables")
    tables = write_tables(run, run.path / "tables")
    figures = save_figures(run, processes, tell)
    tell("page")
    files.write(run.path / stamp.PAGE, page(run, tables, figures, gallery.section(run)).encode())
    if section := gallery.folder_section(run):
        files.write(run.path / gallery.FOLDER / "index.html", gallery_page(run, section).encode())
