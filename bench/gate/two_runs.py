"""`axiom-bench compare`: what differs between two runs of one experiment: settings, images, values
and statuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.gate.compare import (
    BY_IMAGE,
    MACHINE_DIFFERENCE,
    NOW,
    Difference,
    Limit,
    Rules,
    changes,
    compare,
    distance,
)
from axiom_bench.gate.findings import printable
from axiom_bench.records import reading
from axiom_bench.records.entries import Manifest
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder

ENTRIES = ("models", "data", "methods", "metrics")  # of a manifest
FACTS = ("versions", "device", "hardware", "precision")
OF_THE_COMMAND = ("run", "results")  # settings that decide nothing
MAX_LINES, MAX_SHOWN = 30, 80


def compare_runs(folders: Sequence[Path]) -> tuple[int, list[str]]:
    """Of two runs: the exit code, 0 where nothing differs, else 1, and lines for a reader. Values
    count as different beyond what float32 rounds. Raises BenchError for a folder that is no run.
    """
    one, other = folders
    manifests = [reading.read_manifest(folder) for folder in folders]
    frames = [
        reading.read_records(folder, run) for folder, run in zip(folders, manifests, strict=True)
    ]
    accuracies = list(_accuracies(*map(RunFolder.of, folders, manifests)))
    settings = changes(*map(_flat, manifests))
    about = [
        f"{name}: {was[:MAX_SHOWN]} -> {is_now[:MAX_SHOWN]}"
        for name, (was, is_now) in sorted(settings.items())
    ]
    about += [*_images(*manifests), *(line for line in accuracies if "->" in line)]
    values = list(_values(*frames))
    shown, more = values[:MAX_LINES], len(values) - MAX_LINES
    lines = [*about, *shown, *([f"... and {more} more metrics of methods"] if more > 0 else [])]
    if not lines:
        return 0, [
            *accuracies,
            f"{one} and {other}: the same settings, and the same {len(frames[0]):,} values.",
        ]
    count = (
        f"{len(values)} metrics of methods differ" if values else "no value that both have differs"
    )
    same = [line for line in accuracies if line not in about]
    return 1, [*map(printable, [*same, *lines]), f"{one} -> {other}: {count}."]


def _flat(run: Manifest) -> dict[str, str]:
    """{setting, or fact of the run: its value as text}."""
    config = {
        key: value for key, value in run.config.model_dump().items() if key not in OF_THE_COMMAND
    }
    facts = {key: getattr(run, key) for key in FACTS}
    weights = {name: (model.weights_sha256 or "")[:12] for name, model in run.models.items()}
    entries: list[tuple[str, Any]] = [("", {**config, **facts, "weights of": weights})]
    flat = {}
    while entries:
        name, value = entries.pop()
        if isinstance(value, Mapping) and value:
            entries += [(f"{name}.{key}".lstrip("."), each) for key, each in value.items()]
        else:
            flat[name] = str(value)
    return flat


def _accuracies(before: RunFolder, after: RunFolder) -> Iterator[str]:
    """Of each network how many images it names as labelled, in both runs, or before and after."""
    for place in {**before.accuracies, **after.accuracies}:
        texts = [str(run.accuracies.get(place, "not known")) for run in (before, after)]
        yield f"accuracy of {before.network(*place)}: {' -> '.join(dict.fromkeys(texts))}"


def _images(before: Manifest, after: Manifest) -> Iterator[str]:
    """Names that one side alone has, and images."""
    for kind in ENTRIES:
        then, now = getattr(before, kind), getattr(after, kind)
        for word, left, right in (("only before", then, now), ("only now", now, then)):
            if names := [name for name in left if name not in right]:
                yield f"{kind} {word}: {', '.join(names)}"
    for name in before.data.keys() & after.data.keys():
        ids, ids_now = set(before.data[name].ids), set(after.data[name].ids)
        if ids != ids_now:
            yield f"images of {name}: {len(ids)} -> {len(ids_now)}, {len(ids & ids_now)} in both"
        elif before.data[name].fingerprint != after.data[name].fingerprint:
            yield f"images of {name}: other content or labels under the same names"


def _values(before: pd.DataFrame, after: pd.DataFrame) -> Iterator[str]:
    """A line for each metric of each method that both have, the furthest first."""
    rules = Rules(
        BY_IMAGE, lambda _: [Limit("value", MACHINE_DIFFERENCE, relative=True)], equal=("status",)
    )
    lines = [_line(difference) for difference in compare(before, after, rules)]
    return (line for _, line in sorted(lines, key=lambda entry: -entry[0]))


def _line(difference: Difference) -> tuple[float, str]:
    """How far the values of a place moved, where they have the same status, and a line that says
    so.
    """
    rows = difference.rows
    is_restated = difference.differs["status"]
    moved = distance(rows)[difference.differs["value"] & ~is_restated]
    furthest = moved.max(initial=0.0)
    parts = []
    if len(moved):
        means = [
            number(float(rows.loc[rows[f"status{end}"] == OK, f"value{end}"].mean()))
            for end in ("", NOW)
        ]
        parts.append(
            f"{len(moved)} of {len(rows)} values by up to {number(furthest)}, mean "
            f"{' -> '.join(means)}"
        )
    restated = rows[is_restated].astype({"status": str, "status" + NOW: str})
    changes = (restated["status"] + " -> " + restated["status" + NOW]).value_counts()
    parts += [f"{count} {change}" for change, count in changes.items()]
    return furthest, f"{difference.where}: {'; '.join(parts)}"
