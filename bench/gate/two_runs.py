"""List what differs between two runs of one experiment, for `axiom-bench compare`: settings,
images, values and statuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.gate.compare import (
    AFTER_SUFFIX,
    IMAGE_KEY,
    MACHINE_DIFFERENCE,
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

ENTRIES = ("models", "data", "methods", "metrics")  # the fields of a manifest with entries by name
FACTS = ("versions", "device", "hardware", "precision")  # the fields that are compared as settings
IGNORED_SETTINGS = ("run", "results")  # settings that change no value
MAX_LINES = 30  # lines about values
MAX_SHOWN = 80  # characters of a setting


def compare_runs(folders: Sequence[Path]) -> tuple[int, list[str]]:
    """Compare two runs. Values differ if they differ by more than float32 rounds.

    Args:
        folders: The folders of the two runs.

    Returns:
        The exit code, which is 0 if nothing differs and otherwise 1, and lines for a reader.

    Raises:
        BenchError: if there aren't two folders, or if one isn't a run.
    """
    if len(folders) != 2:
        raise BenchError(
            f"{plural(len(folders), 'run folder')} can't be compared; give two: axiom-bench "
            "compare results/quick/default results/quick/other."
        )
    folder_before, folder_after = folders
    before = reading.read_manifest(folder_before)
    after = reading.read_manifest(folder_after)
    records_before = reading.read_records(folder_before, before)
    records_after = reading.read_records(folder_after, after)

    accuracies = list(
        _accuracies(RunFolder.of(folder_before, before), RunFolder.of(folder_after, after))
    )
    changed_accuracies = [line for line in accuracies if "->" in line]
    settings = changes(_flat_settings(before), _flat_settings(after))
    lines = [
        f"{name}: {then[:MAX_SHOWN]} -> {now[:MAX_SHOWN]}"
        for name, (then, now) in sorted(settings.items())
    ]
    lines += [*_entries_and_images(before, after), *changed_accuracies]
    # Accuracies that are the same are printed for orientation, and are no difference.
    same_accuracies = [line for line in accuracies if line not in lines]

    values = list(_values(records_before, records_after))
    lines += values[:MAX_LINES]
    if len(values) > MAX_LINES:
        lines.append(f"... and {len(values) - MAX_LINES} more metrics of methods")
    keys_before = _keys(records_before)
    keys_after = _keys(records_after)
    common = keys_before.intersection(keys_after)
    only_before = len(keys_before) - len(common)
    only_after = len(keys_after) - len(common)
    if not lines:
        same = f"the same settings, and the same {plural(len(common), 'value')}"
        if only_before or only_after:
            same += f"; {only_before:,} more values only before, and {only_after:,} only now"
        return 0, [*accuracies, f"{folder_before} and {folder_after}: {same}."]
    count = "no value that both have differs"
    if values:
        count = (
            f"{plural(len(values), 'metric')} of methods {verb(len(values), 'differs', 'differ')}"
        )
    elif common.empty:
        count = "they have no value in common"
    return 1, [
        *map(printable, [*same_accuracies, *lines]),
        f"{folder_before} -> {folder_after}: {count}.",
    ]


def _flat_settings(run: Manifest) -> dict[str, str]:
    """Return the settings and facts of a run as texts, with dots in the names of nested ones."""
    settings = run.config.model_dump()
    for key in IGNORED_SETTINGS:
        settings.pop(key, None)
    for key in FACTS:
        settings[key] = getattr(run, key)
    settings["weights of"] = {
        name: (model.weights_sha256 or "")[:12] for name, model in run.models.items()
    }
    entries: list[tuple[str, object]] = [("", settings)]
    flat = {}
    while entries:
        name, value = entries.pop()
        if isinstance(value, Mapping) and value:
            for key, inner_value in value.items():
                entries.append((f"{name}.{key}".lstrip("."), inner_value))
        else:
            flat[name] = str(value)
    return flat


def _accuracies(before: RunFolder, after: RunFolder) -> Iterator[str]:
    """Yield a line about each network's accuracy, once if it is the same in both runs."""
    for place in {**before.accuracies, **after.accuracies}:
        texts = [str(run.accuracies.get(place, "not known")) for run in (before, after)]
        yield f"accuracy of {before.network(*place)}: {' -> '.join(dict.fromkeys(texts))}"


def _entries_and_images(before: Manifest, after: Manifest) -> Iterator[str]:
    """Yield lines about the entries that only one run has, and about images that differ."""
    for kind in ENTRIES:
        then = getattr(before, kind)
        now = getattr(after, kind)
        for words, names, other_names in (("only before", then, now), ("only now", now, then)):
            missing = [name for name in names if name not in other_names]
            if missing:
                yield f"{kind} {words}: {', '.join(missing)}"
    for name in before.data.keys() & after.data.keys():
        ids = set(before.data[name].ids)
        ids_now = set(after.data[name].ids)
        if ids != ids_now:
            yield f"images of {name}: {len(ids)} -> {len(ids_now)}, {len(ids & ids_now)} in both"
        elif before.data[name].fingerprint != after.data[name].fingerprint:
            yield f"images of {name}: other content or labels under the same names"


def _keys(records: pd.DataFrame) -> pd.MultiIndex:
    """Return the rows that name the values of records."""
    return pd.MultiIndex.from_frame(records[list(IMAGE_KEY)].astype(str))


def _values(before: pd.DataFrame, after: pd.DataFrame) -> Iterator[str]:
    """Yield a line for each metric of each method that differs, the furthest first."""
    rules = Rules(
        IMAGE_KEY, lambda _: [Limit("value", MACHINE_DIFFERENCE, relative=True)], equal=("status",)
    )
    lines = [_line(difference) for difference in compare(before, after, rules)]
    return (line for _, line in sorted(lines, key=lambda entry: -entry[0]))


def _line(difference: Difference) -> tuple[float, str]:
    """Return how far the values of a place moved at most, and a line about the place.

    Only values with the same status in both runs count as moved.
    """
    rows = difference.rows
    has_other_status = difference.differs["status"]
    moved = distance(rows)[difference.differs["value"] & ~has_other_status]
    furthest = moved.max(initial=0.0)
    parts = []
    if len(moved):
        means = [
            number(float(rows.loc[rows[f"status{side}"] == OK, f"value{side}"].mean()))
            for side in ("", AFTER_SUFFIX)
        ]
        parts.append(
            f"{len(moved)} of {plural(len(rows), 'value')} by up to {number(furthest)}, mean "
            f"{' -> '.join(means)}"
        )
    statuses = rows[has_other_status].astype({"status": str, "status" + AFTER_SUFFIX: str})
    counts = (statuses["status"] + " -> " + statuses["status" + AFTER_SUFFIX]).value_counts()
    parts += [f"{count} {change}" for change, count in counts.items()]
    return furthest, f"{difference.place_text}: {'; '.join(parts)}"
