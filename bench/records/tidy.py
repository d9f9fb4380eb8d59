"""`axiom-bench tidy`: merges the files of each shard, and on request drops what no value of the run needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, reading, record_files, running, store
from axiom_bench.records.record_files import RecordFile, Values

MAX_NAMES = 10  # groups of unneeded values that are named


def tidy(folder: Path, drop: bool, beside: str | None = None) -> list[str]:
    """Merges the record files of each shard, and with `drop` removes what the run's manifest doesn't need. beside: the
    dotted path of a user's own method or metric: values that were computed in its company aren't needed. Returns what
    was done, in lines. Nothing is lost if it is interrupted. Raises BenchError where the folder has no manifest, no
    value in that company, and while a run is using it."""
    folder = Path(folder)
    run = artefacts.read(folder)
    with running.held(folder, wait=False):
        in_folder = record_files.read(folder)
        before = [file for files in in_folder.files.values() for file in files]
        plugins = sorted({name for file in before for name in file.beside})
        if beside is not None and beside not in plugins:
            own = "all are of the suite's own methods and metrics"
            others = f"some were beside {', '.join(plugins)}" if plugins else own
            raise BenchError(f"No value of {folder} was computed beside {beside!r}; {others}.")
        shards = {file.name: file.shard for file in before}
        wanted = {
            shards[name]: job.get("values") or {}
            for job in run.get("jobs") or () for name in job.get("records") or () if name in shards
        }  # fmt: skip
        needed = {file.name: {} if beside in file.beside else file.holds(wanted.get(file.shard, {})) for file in before}
        lines = list(_unneeded(before, needed, in_folder.damaged, "dropped" if drop else "not needed by the run"))
        if lines and not drop:
            lines.append("--drop removes what isn't needed.")
        replaced: dict[str, RecordFile | None] = {}
        for files in in_folder.files.values():
            for group in _groups(files):
                keep = [needed[file.name] if drop else file.values for file in group]
                if len(group) > 1 or keep[0] != group[0].values:
                    replaced |= dict.fromkeys((file.name for file in group), _merge(folder, group, keep))
        artefacts.write(folder, _with_names(run, replaced))
        record_files.remove(folder, [*replaced, *(in_folder.damaged if drop else ())])
    after = len(before) - len(replaced) + len({file.name for file in replaced.values() if file})
    result = f"{len(before)} record files are now {after}" if replaced else "no record files to merge"
    return [*lines, f"{folder}: {result}."]


def _unneeded(
    files: Sequence[RecordFile], needed: Mapping[str, Values], damaged: Sequence[str], word: str
) -> Iterator[str]:
    """A line for each group of values that the manifest doesn't count, and for files that can't be used."""
    counts: dict[str, dict[str, int]] = {}  # {metric: {method: shards}}
    for file in files:
        for method, metrics in record_files.without(file.values, needed[file.name]).items():
            for metric in metrics:
                of_metric = counts.setdefault(metric, {})
                of_metric[method] = of_metric.get(method, 0) + 1
    names = sorted(counts, key=lambda metric: (min(counts[metric]), metric))
    for metric in names[:MAX_NAMES]:
        methods = ", ".join(sorted(counts[metric]))
        yield f"{word}: {metric} of {methods} ({sum(counts[metric].values())} values of a shard)"
    if more := names[MAX_NAMES:]:
        yield f"{word}: {len(more)} more metrics ({', '.join(more)})"
    if damaged:
        yield f"{word}: {len(damaged)} files, damaged ({damaged[0]}{', ...' if len(damaged) > 1 else ''})"


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
    values = record_files.together(keep)
    if not values:
        return None
    used = {metric for metrics in values.values() for metric in metrics}
    notes: dict[str, Any] = {"names": {}, "curves": {}, "axes": {}, "turned": {}}
    notes["beside"] = sorted({name for file in group for name in file.beside})
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
    return record_files.write(folder, group[0].shard, values, *frames, notes)


def _with_names(run: Mapping[str, Any], replaced: Mapping[str, RecordFile | None]) -> dict[str, Any]:
    """The manifest with the names of the merged files. replaced: by the names of the files before."""

    def names(listed: Sequence[str]) -> list[str]:
        files = ((name, replaced.get(name)) for name in listed)
        return list(dict.fromkeys(file.name if file else name for name, file in files if file or name not in replaced))

    jobs = [{**job, "records": names(job["records"])} if "records" in job else job for job in run.get("jobs") or ()]
    before = {record_files.curve_file(name) for name in replaced}
    curves = [name for name in run.get("curves") or () if name not in before]
    curves += [file.curve_file for file in replaced.values() if file and file.curve_file]
    return {**run, "jobs": jobs, "records": names(run.get("records") or ()), "curves": list(dict.fromkeys(curves))}
