"""`axiom-bench report`: write the report of one run, or of several combined, with `report.*`
settings.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from axiom_bench import report
from axiom_bench.environment import entry_names
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.records import combining, reading, running
from axiom_bench.report.options import KEYS, Options, check_names, check_shown
from axiom_bench.report.shown import Changes, check_order, read_run, with_changes
from axiom_bench.run.progress import progress

PREFIX = "report."
TITLE = ".title"
# groups of a run's settings, which decide values or how they are computed
RUN_GROUPS = (
    "method",
    "metric",
    "model",
    "data",
    "target",
    "device",
    "executor",
    "pictures",
    "runtime",
)
LAYER_VALUE = "layer"  # the subject of a metric that measures no method
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
    folder, changes = prepare_report(folders, words, output)
    with progress("Writing the report") as shown:
        run = read_run(folder, changes)
        # A run that still computes may get values later.
        is_complete = not running.progress_sentences(run.manifest)
        if "sort" in changes.report and is_complete:
            check_order(run)
        page = report.write(run, tell=lambda step: shown.says(f"Writing the report ({step})"))
    return [*running.progress_sentences(run.manifest), f"report: {page}"]


def prepare_report(
    folders: Sequence[Path], words: Sequence[str], output: Path | None
) -> tuple[Path, Changes]:
    """Return the folder to report on, and the settings that change its report.

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
    changes = parse_settings(own_words)
    if len(folders) == 1 and output is None:
        folder = folders[0]
        manifest = reading.read_manifest(folder)
    else:
        folder = output or combining.default_folder(folders)
        manifest = combining.combine(folders, folder)
    # The run's own settings were checked when it ran, so their names are allowed below.
    run_options = Options.of(manifest.config.report)
    options = Options.of(with_changes(manifest, changes).config.report)
    methods = list(manifest.methods)
    method_values = [name for name, entry in manifest.metrics.items() if entry.of != LAYER_VALUE]
    check_shown(options, methods, method_values)
    values = {*manifest.metrics, *run_options.headline}
    values.update(run_options.columns, run_options.columns_off)
    values.update(*run_options.figures.values.values())
    check_names(options, {*methods, *entry_names("method")}, values)
    return folder, changes


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


def parse_settings(words: Sequence[str]) -> Changes:
    """Parse words KEY=VALUE of `report.*`, `method.NAME.title` and `metric.NAME.title`.

    Args:
        words: The words, such as "report.figures.grid=null".

    Raises:
        BenchError: For an unknown key, with the nearest ones, for a value that doesn't fit, and for
            a setting that only a run has.
    """
    names = list(KEYS)
    values: dict[str, object] = {}
    titles: dict[str, dict[str, str]] = {"method": {}, "metric": {}}
    for word in words:
        key, _, text = word.partition("=")
        group, _, name = key.partition(".")
        if group in titles and name.endswith(TITLE):
            titles[group][name.removesuffix(TITLE)] = _title(key, text)
            continue
        if group in RUN_GROUPS:
            raise BenchError(
                f"axiom-bench report computes nothing, so it can't set {key}. It can set report.*, "
                f"method.NAME.title and metric.NAME.title; the run sets the rest: "
                f"axiom-bench ... {shlex.quote(word)}."
            )
        if key not in names:
            raise unknown_name("setting", key, names, place="of a report")
        values[key] = _parsed(word)
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
    # in the order of the settings, so that the same settings give the same page
    ordered = sorted(words, key=lambda word: word.partition("=")[0])
    return Changes(settings, titles["method"], titles["metric"], tuple(ordered))


def _parsed(word: str) -> object:
    """Return the value of a word KEY=VALUE. Raise BenchError if it is no YAML."""
    key, _, text = word.partition("=")
    try:
        value: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BenchError(
            f"The value of {word} can't be understood; write {key}=[a,b] for a list."
        ) from error
    return value


def _title(key: str, text: str) -> str:
    """Return a title as it is typed, without the quotes around it. Raise BenchError if it is
    empty.
    """
    title = text.strip()
    if len(title) > 1 and title[0] == title[-1] and title[0] in "\"'":
        title = title[1:-1].strip()
    if not title:
        raise BenchError(f"{key} has no text; write {key}=TITLE.")
    return title
