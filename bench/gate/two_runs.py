"""`axiom-bench compare`: what differs between two runs of one experiment: settings, images, values and statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.gate.by_image import moved_rows
from axiom_bench.gate.findings import KEY, MACHINE_DIFFERENCE, printable
from axiom_bench.records import reading
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.run_folder import RunFolder

ENTRIES = ("models", "data", "methods", "metrics")  # of a manifest
FACTS = ("versions", "device", "hardware", "precision")
OF_THE_COMMAND = ("run", "results")  # settings that decide nothing
MAX_LINES, MAX_SHOWN = 30, 80


def compare(folders: Sequence[Path]) -> tuple[int, list[str]]:
    """Of two runs: the exit code, 0 where nothing differs, else 1, and lines for a reader. Values count as different
    beyond what float32 rounds. Raises BenchError for a folder that is no run."""
    one, other = folders
    manifests = [reading.read_manifest(folder) for folder in folders]
    frames = [reading.read_records(folder, run) for folder, run in zip(folders, manifests, strict=True)]
    accuracies = list(_accuracies(*map(RunFolder.of, folders, manifests)))
    about = [*_settings(*map(_flat, manifests)), *_images(*manifests), *(line for line in accuracies if "->" in line)]
    values = list(_values(*frames))
    shown, more = values[:MAX_LINES], len(values) - MAX_LINES
    lines = [*about, *shown, *([f"... and {more} more metrics of methods"] if more > 0 else [])]
    if not lines:
        return 0, [*accuracies, f"{one} and {other}: the same settings, and the same {len(frames[0]):,} values."]
    count = f"{len(values)} metrics of methods differ" if values else "no value that both have differs"
    same = [line for line in accuracies if line not in about]
    return 1, [*map(printable, [*same, *lines]), f"{one} -> {other}: {count}."]


def _flat(run: Mapping[str, Any]) -> dict[str, str]:
    """{setting, or fact of the run: its value as text}."""
    config = {key: value for key, value in (run.get("config") or {}).items() if key not in OF_THE_COMMAND}
    weights = {name: about.get("weights_sha256", "")[:12] for name, about in (run.get("models") or {}).items()}
    entries: list[tuple[str, Any]] = [("", {**config, **{key: run.get(key) for key in FACTS}, "weights of": weights})]
    flat = {}
    while entries:
        name, value = entries.pop()
        if isinstance(value, Mapping) and value:
            entries += [(f"{name}.{key}".lstrip("."), each) for key, each in value.items()]
        else:
            flat[name] = str(value)
    return flat


def _settings(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({**before, **after}):
        was, is_now = before.get(name, "absent"), after.get(name, "absent")
        if was != is_now:
            yield f"{name}: {was[:MAX_SHOWN]} -> {is_now[:MAX_SHOWN]}"


def _accuracies(before: RunFolder, after: RunFolder) -> Iterator[str]:
    """Of each network how many images it names as labelled, in both runs, or before and after."""
    for place in {**before.accuracies, **after.accuracies}:
        texts = [str(run.accuracies.get(place, "not known")) for run in (before, after)]
        yield f"accuracy of {before.network(*place)}: {' -> '.join(dict.fromkeys(texts))}"


def _images(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Names that one side alone has, and images."""
    for kind in ENTRIES:
        then, now = (side.get(kind) or {} for side in (before, after))
        for word, left, right in (("only before", then, now), ("only now", now, then)):
            if names := [name for name in left if name not in right]:
                yield f"{kind} {word}: {', '.join(names)}"
    for name in (before.get("data") or {}).keys() & (after.get("data") or {}).keys():
        facts = [side["data"][name] for side in (before, after)]
        ids, ids_now = (set(each.get("ids") or ()) for each in facts)
        if ids != ids_now:
            yield f"images of {name}: {len(ids)} -> {len(ids_now)}, {len(ids & ids_now)} in both"
        elif facts[0].get("fingerprint") != facts[1].get("fingerprint"):
            yield f"images of {name}: other content or labels under the same names"


def _values(before: pd.DataFrame, after: pd.DataFrame) -> Iterator[str]:
    """A line for each metric of each method that both have, the furthest first."""
    columns, text = [*KEY, "image_id", "target_class", "value", "status"], {"status": str}
    pairs = moved_rows(*(side[columns].astype(text) for side in (before, after)))
    restated = pairs["status"] != pairs["status_now"]
    allowed = MACHINE_DIFFERENCE * np.maximum(1, np.nan_to_num(abs(pairs["value"].to_numpy(np.float64))))
    pairs = pairs.assign(restated=restated, differs=(pairs["moved"] > allowed) & ~restated)
    lines = [
        (float(rows["moved"].where(rows["differs"], 0.0).max()), _line(place, rows))
        for place, rows in pairs.groupby(list(KEY), sort=True)
        if (rows["restated"] | rows["differs"]).any()
    ]
    return (line for _, line in sorted(lines, key=lambda entry: -entry[0]))


def _line(place: Any, rows: pd.DataFrame) -> str:
    model, layer, data, method, metric = place
    parts, restated = [], rows[rows["restated"]]
    if count := int(rows["differs"].sum()):
        means = [number(float(rows.loc[rows[f"status{end}"] == OK, f"value{end}"].mean())) for end in ("", "_now")]
        far = number(float(rows.loc[rows["differs"], "moved"].max()))
        parts.append(f"{count} of {len(rows)} values by up to {far}, mean {means[0]} -> {means[1]}")
    changes = (restated["status"] + " -> " + restated["status_now"]).value_counts()
    parts += [f"{number_of} {change}" for change, number_of in changes.items()]
    return f"{model} at {layer} on {data}: {metric} of {method}: {'; '.join(parts)}"
