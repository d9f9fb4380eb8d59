"""`axiom-bench run`: compose, check, run and report a command line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from axiom_bench.cli.terminal import say
from axiom_bench.errors import BenchError
from axiom_bench.run.composing import paths
from axiom_bench.run.composing.composition import Composition, composed
from axiom_bench.run.composing.earlier import joined_command
from axiom_bench.run.progress import Estimate, progress

if TYPE_CHECKING:
    from axiom_bench.evaluation.plugins import Method, Metric
    from axiom_bench.run.composing.settings import Settings
    from axiom_bench.run.result import JobResult


def run(options: Namespace) -> int:
    """Run the command: each part of a suite, or one run, or with --cfg print the configuration.

    Args:
        options: The options of the command line.

    Returns:
        The highest exit code of the runs.

    Raises:
        BenchError: As `benchmark` does.
    """
    if options.cfg:
        print(configuration_text(options.overrides, options.config_dir), end="")
        return 0
    parts = [options.overrides]
    estimate = None
    if any(override.startswith("suite=") for override in options.overrides):
        from axiom_bench.run.composing import suites  # here: most runs belong to no suite

        parts = [*suites.part_command_lines(options.overrides)]
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
    """Run all jobs of a command line and write their report.

    The page also shows the methods and metrics of the previous command: see `joined_command`.

    Args:
        overrides: The words KEY=VALUE of the command line.
        config_folder: A user's own folder of YAML files, used in addition to conf/.
        verbose: See `finish`.
        estimate: See `spine.run`.

    Returns:
        The exit code and the last lines.

    Raises:
        BenchError: Before anything is computed, for a mistake that concerns all jobs.
    """
    with composed(overrides, config_folder) as composition:
        joined = joined_command(overrides, composition)
        if joined is None:
            settings, results = _run_composed(composition, False, estimate)
    if joined is not None:
        say([joined.sentence])
        overrides = joined.words
        settings, results = run_jobs(overrides, config_folder, estimate=estimate)
    from axiom_bench.cli.finish import finish

    return finish(settings, results, overrides, verbose)


def compute(
    overrides: Sequence[str],
    config_folder: Path | None = None,
    continue_run: bool = False,
    estimate: Estimate | None = None,
) -> tuple[int, list[str], Path]:
    """Run all jobs of a command line and keep their values, without a report.

    Args:
        overrides: See `benchmark`.
        config_folder: See `benchmark`.
        continue_run: See `spine.run`.
        estimate: See `spine.run`.

    Returns:
        The exit code, a line for each job that failed, and the run folder.

    Raises:
        BenchError: As `benchmark` does.
    """
    settings, results = run_jobs(overrides, config_folder, continue_run, estimate)
    from axiom_bench.cli.finish import exit_code, failure_lines
    from axiom_bench.run import manifest

    # no report follows, which would keep the manifest
    manifest.keep(settings, results, overrides)
    return exit_code(results), list(failure_lines(results)), settings.run_folder


def run_jobs(
    overrides: Sequence[str],
    config_folder: Path | None = None,
    continue_run: bool = False,
    estimate: Estimate | None = None,
) -> tuple[Settings, Sequence[JobResult]]:
    """Run all jobs of a command line, and return the settings that they share and their results.

    Args:
        overrides: See `benchmark`.
        config_folder: See `benchmark`.
        continue_run: See `spine.run`.
        estimate: See `spine.run`.

    Raises:
        BenchError: As `benchmark` does.
    """
    with composed(overrides, config_folder) as composition:
        return _run_composed(composition, continue_run, estimate)


def _run_composed(
    composition: Composition, continue_run: bool, estimate: Estimate | None
) -> tuple[Settings, Sequence[JobResult]]:
    """Check and run the jobs of a composed command line, see `run_jobs`."""
    paths.check_paths(composition.plain(), composition.swept_axes)
    # A misspelt name or path has been reported by now. The rest imports torch, which is slow.
    with progress("Loading methods and metrics"):
        from axiom_bench.run import spine

        settings, methods, metrics = spine.checked(composition.plain())
        check_report(settings.report, methods, metrics)
    return settings, spine.run(composition, settings, continue_run, estimate)


def check_paths(overrides: Sequence[str], config_folder: Path | None = None) -> None:
    """Check that a command line can be composed and that its paths exist, before the slow imports.

    Raises:
        BenchError: If the command line can't be composed, or if a path doesn't exist.
    """
    with composed(overrides, config_folder) as composition:
        paths.check_paths(composition.plain(), composition.swept_axes)


def configuration_text(overrides: Sequence[str], config_folder: Path | None = None) -> str:
    """Return the resolved configuration of a command line's first job, as YAML. Raise BenchError if
    it can't be composed.
    """
    with composed(overrides, config_folder) as composition:
        return yaml.safe_dump(composition.plain_job(), sort_keys=False, allow_unicode=True)


def check_report(
    report: Mapping[str, object], methods: Sequence[Method], metrics: Sequence[Metric]
) -> None:
    """Check that the methods and values that `report.*` names can exist.

    The names of `report.methods`, `report.compare` and `report.sort` must be in this run. Any other
    misspelt name would silently show nothing.

    Args:
        report: The settings `report.*`.
        methods: The methods of the run.
        metrics: The metrics of the run.

    Raises:
        BenchError: With the nearest names, for a method or value that no run could have.
    """
    from axiom_bench import methods as all_methods
    from axiom_bench import metrics as all_metrics
    from axiom_bench.report.options import Options, check_keys, check_names, check_shown

    check_keys(report)
    options = Options.of(report)
    names = [method.name for method in methods]
    check_shown(
        options, names, _values([metric for metric in metrics if metric.spec.of != "layer"])
    )
    names += all_methods.names()
    default_values = Options.of().values.values()  # correct names, which the run may lack
    values = _values(metrics).union(*default_values)
    try:
        check_names(options, names, values)
    except BenchError:
        # The name isn't a value of this run's metrics. It may be one of any other metric.
        others = [all_metrics.get(name) for name in all_metrics.names()]  # imports all modules
        check_names(options, names, values | _values(others))


def _values(metrics: Sequence[Metric]) -> set[str]:
    """Return the names of all values of the metrics, per image and of the whole data set."""
    from axiom_bench.evaluation.plugins import value_names, whole_set_value_names

    names: set[str] = set()
    for metric in metrics:
        names.update(value_names(metric))
        names.update(whole_set_value_names(metric))
    return names
