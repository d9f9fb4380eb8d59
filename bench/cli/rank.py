"""`axiom-bench reference`, `rank` and `leaderboard`: published values, a method's places among them, all as pages."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from axiom_bench import report
from axiom_bench.cli.benchmark import compute
from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError, unknown
from axiom_bench.judging.standing import Standing, range_of_places, standing
from axiom_bench.records import combining, files, publishing, reading
from axiom_bench.report.options import Options
from axiom_bench.report.tables.table import Cell, Group, Table, to_text
from axiom_bench.report.tables.text import ARROWS
from axiom_bench.run.composing.suites import Suite
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder

QUIET = ("pictures.rows=0", "pictures.gallery=0", "report.figures.grid=null")
REFERENCE = "reference"  # the folder in the package
MAX_NAMES = 3  # of methods in a line
REPEATS = 3  # of run times


def published(suite: str, required: bool = True) -> dict[str, Path]:
    """{part: the run folder of its published values}. Raises BenchError for a suite that isn't there and, where they
    are required, one that has none."""
    parts = Suite.of(suite).parts
    folders = {part: conf_folder().with_name(REFERENCE) / suite / part for part in parts}
    found = {part: folder for part, folder in folders.items() if (folder / "manifest.json").is_file()}
    if required and not found:
        raise BenchError(
            f"No values of the suite {suite} are in this installation; axiom-bench suite={suite} computes them."
        )
    return found


def reference(suite: str) -> list[str]:
    """The headline of each part's published values, with what they were computed by."""
    lines: list[str] = []
    for part, folder in published(suite).items():
        run = RunFolder.read(folder)
        about = run.manifest
        made = f"{publishing.commits(about)}, {str(about.get('created'))[:10]}, {about.get('hardware')}"
        lines += [f"{suite}/{part}: {len(run.methods)} methods, {made}", *_note(suite, part), *report.headline(run)]
        lines += [f"  in {folder}", ""]
    return lines[:-1]


def _note(suite: str, part: str) -> list[str]:
    """What the suite says of a part's images, as lines."""
    note = Suite.of(suite).part(part).note
    return [f"  {note}"] if note else []


def rank(
    method: str, suite: str, metrics: Sequence[str], output: Path | None, overrides: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """Computes a method's values of a suite, or continues, and compares them with the published ones: the exit code and
    the lines to print. method: a name of conf/method, or the dotted path of one's own. metrics: names of values; () for
    all that have a direction. output: a JSON file of all standings. overrides: of what the suite leaves free. Raises
    BenchError."""
    folders = published(suite)
    manifests = {part: reading.read_manifest(folder) for part, folder in folders.items()}
    for metric in metrics:
        names = {name for manifest in manifests.values() for name in manifest["metrics"]}
        if metric not in names:
            raise unknown(f"metric of the suite {suite}", metric, names)
    name = name_in_run(method, {taken for manifest in manifests.values() for taken in manifest["methods"]})
    code, lines, places, costs = 0, list[str](), dict[str, dict[str, list[Standing]]](), list[float]()
    for part, folder in folders.items():
        failed, messages, computed = computed_part(suite, part, method, name, REPEATS, overrides)
        code = max(code, failed)
        with TemporaryDirectory() as combined:
            combining.combine([computed, folder], Path(combined) / "combined")
            run = RunFolder.read(Path(combined) / "combined")
            places[part] = _standings(run, name, metrics)
            lines += [*messages, *_lines(run, f"{suite}/{part}", name, places[part]), *_note(suite, part), ""]
        times = run.runtime[(run.runtime["step"] == "method") & (run.runtime["method"].astype(str) == name)]
        costs += list(times["forwards"].dropna())
    if costs:
        lines.append(f"cost: {number(min(costs))} to {number(max(costs))} forward passes' time, beyond the trace")
    if output is not None:
        about = {"suite": suite, "sha256": Suite.of(suite).sha256, "method": method}
        files.write(output, json.dumps(about | {"parts": places}, indent=1, default=Standing.as_dict).encode())
        lines.append(f"written: {output}")
    compared = ((part, metric, of) for part, by in places.items() for metric, of in by.items() if of)
    return code, [*lines, *(_badge(suite, *first) for first in islice(compared, 1))]


def computed_part(
    suite: str, part: str, method: str, name: str, repeats: int, overrides: Sequence[str] = ()
) -> tuple[int, list[str], Path]:
    """As `benchmark.compute`, of a method alone on a part of a suite. repeats: of run times."""
    fixed = (*overrides_of(method, name), *QUIET, f"runtime.repeats={repeats}")
    return compute([f"suite={suite}/{part}", *fixed, *overrides])


def name_in_run(method: str, taken: Collection[str]) -> str:
    """A method's name in its run; one's own is called as no other is."""
    name = method.rpartition(".")[2]
    return f"my_{name}" if "." in method and name in taken else name


def overrides_of(method: str, name: str, *others: str) -> list[str]:
    """What chooses a method, beside others of ours. name: in its run."""
    if "." not in method:
        others = tuple(dict.fromkeys((*others, method)))
    own = [f"+method.{name}._target_={method}"] if "." in method else []
    return [f"method=[{','.join(others)}]", *own]


def _standings(run: RunFolder, name: str, metrics: Sequence[str]) -> dict[str, list[Standing]]:
    """{metric: the method's standing on each network}, of those asked for, or all that have a direction, the headline
    first."""
    headline = Options.of(run.config).headline
    wanted = [metric for metric in run.metrics if run.metadata.value(metric).has_direction]
    wanted.sort(key=lambda metric: headline.index(metric) if metric in headline else len(headline))
    return {
        metric: [each for setting in run.settings if (each := standing(run, setting, metric, name))]
        for metric in wanted
        if not metrics or metric in metrics
    }


def _lines(run: RunFolder, title: str, name: str, places: Mapping[str, Sequence[Standing]]) -> list[str]:
    """A table with a row for each metric, and what it says over the networks."""
    rows = []
    for metric, standings in places.items():
        value = run.metadata.value(metric)
        heading = value.title + ARROWS.get(value.better, "")
        if not standings:
            rows.append(_row(heading, "no value", "", "", ""))
            continue
        low, high, groups = range_of_places(standings)
        always = set.intersection(*(set(each.tied) for each in standings))
        tied = [run.metadata.method_title(each) for each in run.methods if each in always]
        ties = ", ".join(tied[:MAX_NAMES]) + (f" and {len(tied) - MAX_NAMES} more" if len(tied) > MAX_NAMES else "")
        values = sorted(each.value for each in standings)
        beats = sum(each.beats_controls for each in standings)
        rows.append(_row(
            heading, f"{number(values[0])} to {number(values[-1])}", f"{low} to {high} of {groups}",
            f"{beats} of {len(standings)}", ties or "none",
        ))  # fmt: skip
    header = ("", "values by network", "places", "above all controls", "not told from, on every network")
    table = Table(
        "rank", f"{run.metadata.method_title(name)} on {title}", header, (Group("", tuple(rows)),), text_last=True
    )
    return [*to_text(table), *_examples(run, places)]


def _examples(run: RunFolder, places: Mapping[str, Sequence[Standing]]) -> list[str]:
    """On which images of the first network the method has its best and its worst values, by the first metric."""
    for metric, standings in places.items():
        for first in standings[:1]:
            by = f"by {run.metadata.value(metric).title} on {first.network}"
            return [f"  images {by}: best {', '.join(first.best)}; worst {', '.join(first.worst)}"]
    return []


def _row(*texts: str) -> tuple[Cell, ...]:
    return tuple(map(Cell, texts))


def _badge(suite: str, part: str, metric: str, standings: Sequence[Standing]) -> str:
    """A Markdown image that says the places by one metric."""
    low, high, groups = range_of_places(standings)
    label, message = f"{suite}/{part} {metric}", f"place {low} to {high} of {groups}"
    quoted = [
        text.replace("-", "--").replace("_", "__").replace(" ", "_").replace("/", "%2F") for text in (label, message)
    ]
    return f"badge: ![{label}: {message}](https://img.shields.io/badge/{quoted[0]}-{quoted[1]}-blue)"
