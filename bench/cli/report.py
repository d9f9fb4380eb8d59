"""The command `axiom-bench report`: one run, or several combined, with `report.*` settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from axiom_bench import report
from axiom_bench.environment import entry_names
from axiom_bench.errors import BenchError, unknown
from axiom_bench.records import combining, reading, running
from axiom_bench.report.options import KEYS, Options, check_names, with_settings
from axiom_bench.run.progress import progress

PREFIX = "report."
REFERENCE = "report.reference"  # a suite, whose published values stand beside the run


def write(folders: Sequence[Path], words: Sequence[str], output: Path | None) -> list[str]:
    """Writes the report of one run, or of a combination, see `prepared`: the last lines. Raises
    BenchError.
    """
    folder, settings = prepared(folders, words, output)
    with progress("report") as shown:
        page = report.write(folder, settings, tell=lambda step: shown.says(f"report: {step}"))
    return [*running.sentences(reading.read_manifest(folder)), f"report: {page}"]


def prepared(
    folders: Sequence[Path], words: Sequence[str], output: Path | None
) -> tuple[Path, dict[str, Any]]:
    """The folder to report on, and the settings. Several runs, or one with an output, are combined
    into a folder first. words: KEY=VALUE; report.reference=SUITE is one more run. Raises BenchError
    for a wrong setting, with the nearest names for a method or value that one names and the run
    doesn't have, and as `combining.combine`.
    """
    suites = [word.partition("=")[2] for word in words if word.partition("=")[0] == REFERENCE]
    folders = [*folders, *(_reference(folders[0], suite) for suite in suites)]
    settings = parsed([word for word in words if word.partition("=")[0] != REFERENCE])
    if len(folders) == 1 and output is None:
        folder = folders[0]
        manifest = reading.read_manifest(folder)
    else:
        folder = output or combining.default_folder(folders)
        manifest = combining.combine(folders, folder)
    # Settings of the run's own were checked when it ran.
    of_run = Options.of(manifest.config.report)
    options = Options.of(with_settings(manifest, settings).config.report)
    methods = list(manifest.methods)
    if options.compare is not None and options.compare not in methods:
        raise unknown("method in this run", options.compare, methods)
    values = {*manifest.metrics, *of_run.headline, *of_run.columns, *of_run.columns_off}
    values.update(*of_run.figures.values.values())
    check_names(options, {*methods, *entry_names("method")}, values)
    return folder, settings


def _reference(folder: Path, suite: str) -> Path:
    """The published run of the part of a suite that a run is of. Raises BenchError where it is of
    none, or of another.
    """
    from axiom_bench.cli.rank import published  # here: most reports have none

    folders = published(suite)
    config = reading.read_manifest(folder).config
    of_run, _, part = str(config.suite_part or "").partition("@")[0].partition("/")
    if of_run != suite or part not in folders:
        raise BenchError(
            f"{folder} isn't a run of the suite {suite}, so its values can't stand beside the "
            f"published ones; axiom-bench suite={suite} makes one."
        )
    return folders[part]


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE of `report.*` as {"headline": [...], "figures": {"grid": None}}. Raises BenchError,
    with the nearest names, for another key, and for a value that doesn't fit.
    """
    names = list(KEYS)
    values: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key not in names:
            raise unknown("setting of a report", key, names)
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BenchError(
                f"The value of {word} can't be understood; write {key}=[a,b] for a list."
            ) from error
    settings: dict[str, Any] = {}
    for key, value in values.items():
        group, _, name = key.removeprefix(PREFIX).rpartition(".")
        (settings.setdefault(group, {}) if group else settings)[name] = value
    Options.of(settings)  # which refuses wrong values
    return settings
