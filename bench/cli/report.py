"""`axiom-bench report`: write the report of one run, or of several combined, with `report.*`
settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from axiom_bench import report
from axiom_bench.environment import entry_names
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.records import combining, reading, running
from axiom_bench.report.options import KEYS, Options, check_names, with_settings
from axiom_bench.run.progress import progress

PREFIX = "report."
REFERENCE = "report.reference"  # a suite, whose published values are shown with the run's


def write(folders: Sequence[Path], words: Sequence[str], output: Path | None) -> list[str]:
    """Write the report of one run, or of several runs combined, and return the last lines.

    Args:
        folders: See `prepare_report`.
        words: See `prepare_report`.
        output: See `prepare_report`.

    Raises:
        BenchError: As `prepare_report` does.
    """
    folder, settings = prepare_report(folders, words, output)
    with progress("Writing the report") as shown:
        page = report.write(
            folder, settings, tell=lambda step: shown.says(f"Writing the report ({step})")
        )
    return [*running.progress_sentences(reading.read_manifest(folder)), f"report: {page}"]


def prepare_report(
    folders: Sequence[Path], words: Sequence[str], output: Path | None
) -> tuple[Path, dict[str, object]]:
    """Return the folder to report on, and the settings of the report.

    Several runs, or one run with an output, are combined into a folder first.

    Args:
        folders: The run folders.
        words: The settings KEY=VALUE. `report.reference=SUITE` adds the published run of a suite.
        output: The folder of the combined run; by default one that `combining.default_folder`
            names.

    Raises:
        BenchError: For a wrong setting, and as `combining.combine` does. If a setting names a
            method or value that the run doesn't have, the message has the nearest names.
    """
    references = []
    own_words = []
    for word in words:
        key, _, value = word.partition("=")
        if key == REFERENCE:
            references.append(_reference(folders[0], value))
        else:
            own_words.append(word)
    folders = [*folders, *references]
    settings = parse_settings(own_words)
    if len(folders) == 1 and output is None:
        folder = folders[0]
        manifest = reading.read_manifest(folder)
    else:
        folder = output or combining.default_folder(folders)
        manifest = combining.combine(folders, folder)
    # The run's own settings were checked when it ran, so their names are allowed below.
    run_options = Options.of(manifest.config.report)
    options = Options.of(with_settings(manifest, settings).config.report)
    methods = list(manifest.methods)
    if options.compare is not None and options.compare not in methods:
        raise unknown_name("method in this run", options.compare, methods)
    values = {*manifest.metrics, *run_options.headline}
    values.update(run_options.columns, run_options.columns_off)
    values.update(*run_options.figures.values.values())
    check_names(options, {*methods, *entry_names("method")}, values)
    return folder, settings


def _reference(folder: Path, suite: str) -> Path:
    """Return the published run of the suite's part that a run belongs to. Raise BenchError if the
    run isn't of that suite.
    """
    from axiom_bench.cli.rank import published_folders  # here: most reports have no reference

    folders = published_folders(suite)
    config = reading.read_manifest(folder).config
    suite_part = str(config.suite_part or "").partition("@")[0]
    own_suite, _, part = suite_part.partition("/")
    if own_suite != suite or part not in folders:
        raise BenchError(
            f"{folder} isn't a run of the suite {suite}, so its values can't be compared with the "
            f"published ones; axiom-bench suite={suite} makes one."
        )
    return folders[part]


def parse_settings(words: Sequence[str]) -> dict[str, object]:
    """Parse words KEY=VALUE of `report.*` into nested settings.

    Args:
        words: The words, such as "report.figures.grid=null".

    Returns:
        Settings such as {"headline": [...], "figures": {"grid": None}}.

    Raises:
        BenchError: For an unknown key, with the nearest ones, and for a value that doesn't fit.
    """
    names = list(KEYS)
    values: dict[str, object] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key not in names:
            raise unknown_name("setting of a report", key, names)
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BenchError(
                f"The value of {word} can't be understood; write {key}=[a,b] for a list."
            ) from error
    settings: dict[str, object] = {}
    groups: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        group, _, name = key.removeprefix(PREFIX).rpartition(".")
        if group:
            settings[group] = groups.setdefault(group, {})
            groups[group][name] = value
        else:
            settings[name] = value
    Options.of(settings)  # raises BenchError for wrong values
    return settings
