"""`axiom-bench tidy`: merges the files of each shard, and on request drops what no value of the run needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, holdings, locks, reading, store
from axiom_bench.records.holdings import Holdings, RecordFile, Values

MAX_NAMES = 10  # groups of unneeded values that are named


def tidy(folder: Path, drop: bool, beside: str | None = None) -> list[str]:
    """Merges the record files of each shard, and with `drop` removes what the run's manifest doesn't need. beside: the
    dotted path of a user's own method or metric: values that were computed in its company aren't needed. Returns what
    was done, in lines. Nothing is lost if it is interrupted. Raises BenchError where the folder has no manifest, no
    value in that company, and while a run is using it."""
    folder = Path(folder)
    run = artefacts.read(folder)
    with locks.held(folder, wait=False):
        held = holdings.read(folder)
        wanted = _wanted(held, run)
        touched = {file.name for files in held.files.values() for file in files if beside in file.beside}
        if beside is not None and not touched:
            raise BenchError(f"No value of {folder} was computed beside {beside!r}; {_company(held)}.")
        lines = list(_unneeded(held, wanted, touched, drop))
        renamed: dict[str, RecordFile | None] = {}
        for shard, files in held.files.items():
            for group in _groups(files):
                keep = [_kept(file, wanted.get(shard, {}), touched) if drop else file.values for file in group]
                if len(group) > 1 or keep[0] != group[0].values:
                    merged = _merge(folder, group, keep)
                    renamed |= dict.fromkeys((file.name for file in group), merged)
        artefacts.write(folder, _with_names(run, renamed))
        holdings.remove(folder, [*renamed, *(held.damaged if drop else ())])
    count = sum(map(len, held.files.values()))
    after = count - len(renamed) + len({file.name for file in renamed.values() if file})
    result = f"{count} record files are now {after}" if renamed else "no record files to merge"
    return [*lines, f"{folder}: {result}."]


def _wanted(held: Holdings, run: Mapping[str, Any]) -> dict[str, Values]:
    shard_of = {file.name: shard for shard, files in held.files.items() for file in files}
    wanted: dict[str, Values] = {}
    for job in run.get("jobs") or ():
        shards = {shard_of[name] for name in job.get("records") or () if name in shard_of}
        wanted |= dict.fromkeys(shards, job.get("values") or {})
    return wanted


def _kept(file: RecordFile, wanted: Values, touched: Collection[str]) -> dict[str, dict[str, str]]:
    """What is needed of a file. touched: names of files of which nothing is."""
    return {} if file.name in touched else file.holds(wanted)


def _company(held: Holdings) -> str:
    """Beside which plug-ins values were computed."""
    names = sorted({name for files in held.files.values() for file in files for name in file.beside})
    return f"some were beside {', '.join(names)}" if names else "all are of the suite's own methods and metrics"


def _unneeded(held: Holdings, wanted: Mapping[str, Values], touched: Collection[str], drop: bool) -> Iterator[str]:
    """A line for each group of values that the manifest doesn't count, and for files that can't be used."""
    shards: Counter[tuple[str, str]] = Counter()
    for shard, files in held.files.items():
        for file in files:
            rest = holdings.without(file.values, _kept(file, wanted.get(shard, {}), touched))
            shards.update((method, metric) for method, metrics in rest.items() for metric in metrics)
    word = "dropped" if drop else "not needed by the run"
    methods: dict[str, list[str]] = {}
    for method, metric in sorted(shards):
        methods.setdefault(metric, []).append(method)
    for metric, own in list(methods.items())[:MAX_NAMES]:
        count = sum(shards[method, metric] for method in own)
        yield f"{word}: {metric} of {', '.join(own)} ({count} values of a shard)"
    if len(methods) > MAX_NAMES:
        yield f"{word}: {len(methods) - MAX_NAMES} more metrics ({', '.join(list(methods)[MAX_NAMES:])})"
    if names := held.damaged:
        yield f"{word}: {len(names)} files, damaged ({names[0]}{', ...' if len(names) > 1 else ''})"
    if not drop and (shards or names):
        yield "--drop removes what isn't needed."


def _groups(files: Sequence[RecordFile]) -> list[list[RecordFile]]:
    """Files that can be one: those of a group hold no value under two keys, and none twice."""
    groups: list[tuple[list[RecordFile], set[tuple[str, str]]]] = []
    for file in files:
        pairs = {(method, metric) for method, metrics in file.values.items() for metric in metrics}
        group, taken = next((entry for entry in groups if not pairs & entry[1]), ([], set()))
        if not group:
            groups.append((group, taken))
        group.append(file)
        taken |= pairs
    return [group for group, _ in groups]


def _merge(folder: Path, group: Sequence[RecordFile], keep: Sequence[Values]) -> RecordFile | None:
    """Writes the chosen values of several files as one; None where nothing is chosen."""
    values: dict[str, dict[str, str]] = {}
    for chosen in keep:
        for method, metrics in chosen.items():
            values.setdefault(method, {}).update(metrics)
    if not values:
        return None
    used = {metric for metrics in values.values() for metric in metrics}
    notes: dict[str, Any] = {"names": {}, "curves": {}, "axes": {}, "turned": {}}
    if beside := sorted({name for file in group for name in file.beside}):
        notes["beside"] = beside
    rows, curves = [], []
    for file, chosen in zip(group, keep, strict=True):
        for kind, of_file in (("names", file.names), ("curves", file.curves)):
            notes[kind] |= {metric: names for metric, names in of_file.items() if metric in used}
        notes["axes"] |= file.axes
        notes["turned"] |= file.turned
        table = store.read_table(folder / file.name, store.SCHEMA)
        rows.append(reading.chosen(table, chosen, file.values, file.names, "metric"))
        if file.curve_file is not None:
            table = store.read_table(folder / file.curve_file, store.CURVES)
            curves.append(reading.chosen(table, chosen, file.values, file.curves, "curve"))
    drawn = {name for names in notes["curves"].values() for name in names}
    notes["axes"] = {name: axes for name, axes in notes["axes"].items() if name in drawn}
    frames = store.to_frame(rows, store.SCHEMA), store.to_frame(curves, store.CURVES)
    return holdings.write(folder, group[0].shard, values, *frames, notes)


def _with_names(run: Mapping[str, Any], merged: Mapping[str, RecordFile | None]) -> dict[str, Any]:
    """The manifest with the names of the merged files. merged: by the names of the files before."""

    def names(listed: Sequence[str]) -> list[str]:
        files = ((name, merged.get(name)) for name in listed)
        return list(dict.fromkeys(file.name if file else name for name, file in files if file or name not in merged))

    jobs = [{**job, "records": names(job["records"])} if "records" in job else job for job in run.get("jobs") or ()]
    before = {holdings.curve_file(name) for name in merged}
    curves = [name for name in run.get("curves") or () if name not in before]
    curves += [file.curve_file for file in merged.values() if file and file.curve_file]
    return {**run, "jobs": jobs, "records": names(run.get("records") or ()), "curves": list(dict.fromkeys(curves))}
