"""The report of a run: tables, statistics, figures and one page, from manifest and records alone.

Imports records, columns and errors; never torch, and no code that a run folder names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_bench.errors import BenchError
from axiom_bench.report import stamp

if TYPE_CHECKING:
    from axiom_bench.statistics.paired_tests import compare
    from axiom_bench.statistics.run_folder import RunFolder

__all__ = ["compare", "headline", "write"]


def write(
    run: RunFolder | Path,
    settings: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda step: None,
) -> Path:
    """Write tables/, figures/ and report.html into a run folder; the path of report.html.

    run: the folder, or what was read from it already. settings: of a folder, `report.*` over those of the run, as
    {"headline": ["box_iou"], "figures": {"grid": None}}. tell: Called with the name of the next
    step. A report of the same records, settings and code that is there undamaged is left as it is; else it is written
    anew, and the same records give the same bytes. The index of all runs beside it is written in any case.
    Raises BenchError where the run can't be read or the folder can't be written.
    """
    from axiom_bench.records import reading, running
    from axiom_bench.report import index
    from axiom_bench.report.options import with_settings

    if not isinstance(run, Path):
        folder, manifest = run.path, run.manifest
    else:
        folder, manifest = run, with_settings(reading.read_manifest(run), settings)
    inputs = stamp.inputs(folder, manifest)
    try:
        if not stamp.is_current(folder, inputs):
            with running.held(folder, running.REPORT):
                if not stamp.is_current(folder, inputs):  # another process may have written it meanwhile
                    _write(run, settings, inputs, tell)
        index.update(folder, manifest)
    except FileNotFoundError as error:
        if not Path(error.filename or "").is_relative_to(folder):
            raise
        raise BenchError(f"{error.filename} was removed while the report was written; write it again.") from error
    return folder / stamp.PAGE


def _write(
    run: RunFolder | Path,
    settings: Mapping[str, Any] | None,
    inputs: str,
    tell: Callable[[str], None],
) -> None:
    from axiom_bench.report.options import options_of, read_run
    from axiom_bench.report.tables.headline import result_lines
    from axiom_bench.report.tables.text import accuracy_text
    from axiom_bench.report.writing import write_report
    from axiom_bench.statistics.ranking import conclusion

    start = time.perf_counter()
    read = read_run(run, settings) if isinstance(run, Path) else run
    before = stamp.begin(read.path)
    write_report(read, tell)
    tell("headline")
    options = options_of(read)
    sentence = conclusion(read, options.headline, options.compare, options.rival)[0]
    shown = {"headline": result_lines(read), "conclusion": sentence, "accuracy": accuracy_text(read)}
    stamp.write(read.path, inputs, shown, before, time.perf_counter() - start)


def headline(run: RunFolder | Path) -> list[str]:
    """The run's main results in 80 columns, see `tables.result_lines`.

    run: the folder, or what was read from it already. Raises BenchError where the run can't be read.
    """
    from axiom_bench.records import reading

    folder, manifest = (run, reading.read_manifest(run)) if isinstance(run, Path) else (run.path, run.manifest)
    stored = stamp.headline(folder, stamp.inputs(folder, manifest))
    if stored is not None:
        return stored
    from axiom_bench.report.tables.headline import result_lines
    from axiom_bench.statistics.run_folder import RunFolder

    return result_lines(RunFolder.read(run) if isinstance(run, Path) else run)


def __getattr__(name: str) -> Any:
    if name == "compare":
        from axiom_bench.statistics.paired_tests import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
