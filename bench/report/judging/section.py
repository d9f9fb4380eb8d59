"""The page's section on the metrics: the table of each setting, and what its columns mean."""

from __future__ import annotations

from axiom_bench.judging.judgement import chosen_metrics, is_small, judge, spoiled_methods
from axiom_bench.report.judging.tables import TITLE, metrics_table
from axiom_bench.report.page.definitions import Terms
from axiom_bench.report.page.section import Section
from axiom_bench.report.page.tables import SCRIPTS, STYLES, block
from axiom_bench.report.page.templating import render
from axiom_bench.statistics.run_folder import RunFolder


def section(run: RunFolder, terms: Terms) -> Section | None:
    """None where no setting has trained weights, and for values of the layer alone.

    Of a run with many values the section holds only the command that judges it.
    """
    settings = [setting for setting in run.settings if not run.metadata.has_random_weights(setting.model)]
    names = chosen_metrics(run, None)
    if not settings or not names:
        return None
    found = [judge(run, setting, names, in_report=True) for setting in settings] if is_small(run) else []
    tables = [metrics_table(run, judgement, number) for number, judgement in enumerate(found, start=1)]
    body = render(
        "judging.html.j2",
        tables=block(tables, terms) if tables else "",
        has_truth=bool(spoiled_methods(run)),
        num_values=f"{len(run.records):,}",
        folder=f"results/{run.manifest['experiment']}/{run.manifest['run']}",
    )
    return Section("judging", TITLE, body, STYLES, SCRIPTS)
