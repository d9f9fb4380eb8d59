"""`axiom-bench run`: a command line composed, checked, run and reported."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from axiom_bench.cli.terminal import say
from axiom_bench.errors import BenchError, unknown
from axiom_bench.run.composing import paths
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.progress import Estimate, progress

if TYPE_CHECKING:
    from axiom_bench.evaluation.plugins import Plugin
    from axiom_bench.run.composing.settings import Settings
    from axiom_bench.run.result import JobResult


def run(options: Namespace) -> int:
    """The command: each part of a suite, or a configuration printed. The highest exit code. Raises
    BenchError.
    """
    if options.cfg:
        print(configuration_text(options.overrides, options.config_dir), end="")
        return 0
    parts = [options.overrides]
    estimate = None
    if any(override.startswith("suite=") for override in options.overrides):
        from axiom_bench.run.composing import suites  # here: most runs are of none

        parts = [*suites.each_part(options.overrides)]
        estimate = Estimate(suites.num_jobs(options.overrides))
    codes = []
    for overrides in parts:
        code, lines = benchmark(overrides, options.config_dir, options.verbose, estimate)
        say(lines)
        codes.append(code)
    return max(codes)


def benchmark(
    overrides: Sequence[str],
    config_folder: Path | None = None,
    verbose: bool = False,
    estimate: Estimate | None = None,
) -> tuple[int, list[str]]:
    """Runs all jobs of a command line and writes their report: the exit code and the last lines.
    config_folder: a user's own folder of YAML files beside conf/. verbose: see `finish`; estimate:
    see `spine.run`. Raises BenchError, before anything is computed, for a mistake that concerns all
    jobs.
    """
    settings, results = run_jobs(overrides, config_folder, estimate=estimate)
    from axiom_bench.cli.finish import finish

    return finish(settings, results, overrides, verbose)


def compute(
    overrides: Sequence[str],
    config_folder: Path | None = None,
    goes_on: bool = False,
    estimate: Estimate | None = None,
) -> tuple[int, list[str], Path]:
    """Runs all jobs of a command line and keeps their values, without a report: the exit code, a
    line for each job that failed, and the run folder. goes_on, estimate: see `spine.run`. Raises
    BenchError as `benchmark` does.
    """
    settings, results = run_jobs(overrides, config_folder, goes_on, estimate)
    from axiom_bench.cli.finish import exit_code, failed
    from axiom_bench.run import manifest

    manifest.keep(settings, results, overrides)
    return exit_code(results), list(failed(results)), settings.run_folder


def run_jobs(
    overrides: Sequence[str],
    config_folder: Path | None = None,
    goes_on: bool = False,
    estimate: Estimate | None = None,
) -> tuple[Settings, Sequence[JobResult]]:
    """Run all jobs of a command line, and return the settings that they share and their results.

    goes_on, estimate: see `spine.run`. Raises BenchError as `benchmark` does.
    """
    with composed(overrides, config_folder) as composition:
        paths.check_paths(composition.plain(), composition.several)
        # A misspelt name or path has been answered by now: what follows imports torch.
        with progress("methods and metrics"):
            from axiom_bench.run import spine

            settings, methods, metrics = spine.checked(composition.plain())
            check_report(settings.report, methods, metrics)
        return settings, spine.run(composition, settings, goes_on, estimate)


def check_paths(overrides: Sequence[str], config_folder: Path | None = None) -> None:
    """Raises BenchError, before what takes seconds to import, for a command line that can't be
    composed, or whose paths lead to nothing.
    """
    with composed(overrides, config_folder) as composition:
        paths.check_paths(composition.plain(), composition.several)


def configuration_text(overrides: Sequence[str], config_folder: Path | None = None) -> str:
    """The resolved configuration of a command line's first job, as YAML. Raises BenchError."""
    with composed(overrides, config_folder) as composition:
        return yaml.safe_dump(composition.plain_job(), sort_keys=False, allow_unicode=True)


def check_report(
    report: Mapping[str, Any], methods: Sequence[Plugin], metrics: Sequence[Plugin]
) -> None:
    """Raises BenchError, with the nearest names, for a method or value that `report.*` names and no
    run could have. What `report.compare` names must be in this run; any other misspelt name would
    silently show nothing.
    """
    from axiom_bench import methods as all_methods
    from axiom_bench import metrics as all_metrics
    from axiom_bench.report.options import Options, check_keys, check_names

    check_keys(report)
    options = Options.of(report)
    names = [method.name for method in methods]
    if options.compare is not None and options.compare not in names:
        raise unknown("method in this run", options.compare, names)
    names += all_methods.names()
    by_default = Options.of().values.values()  # which no one misspells, and the run need not have
    values = _values(metrics).union(*by_default)
    try:
        check_names(options, names, values)
    except BenchError:  # not of this run: then of any metric, whose modules are imported for that
        check_names(
            options,
            names,
            values | _values([all_metrics.get(name) for name in all_metrics.names()]),
        )


def _values(metrics: Sequence[Plugin]) -> set[str]:
    """The names of all values of the metrics, of an image and of the whole data set."""
    from axiom_bench.evaluation.plugins import value_names, whole_set_value_names

    return {
        name
        for metric in metrics
        for name in (*value_names(metric), *whole_set_value_names(metric))
    }
