"""The shards of a job: which lack values, their computation, and the files that hold their values."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from axiom_bench.columns import LAYER
from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation.answers import KeptAnswers
from axiom_bench.evaluation.batch import Columns, curve_frame, frame, holds_values, note_silence, traced
from axiom_bench.evaluation.plugins import NEEDS_DROPS, Plugin, needs_of, required, value_names
from axiom_bench.evaluation.proof import proved
from axiom_bench.evaluation.purity import watched_rate
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.evaluation.stopwatch import Stopwatch, Watch
from axiom_bench.notes import DamagedFile, Notes
from axiom_bench.records import files, record_files
from axiom_bench.records.record_files import RecordFile, Values
from axiom_bench.run.images import first_batch, first_row, rows
from axiom_bench.run.job import Job, Shard
from axiom_bench.run.keys import Keys
from axiom_bench.run.result import ShardResult

ANSWERS = "answers"  # a folder: of the model, when metrics asked
MARKS = ("unstable", "on_score_scale")
DTYPES = {"float32": torch.float32, "float64": torch.float64}  # of the model's answers that are kept
MAX_NAMES = 5  # methods and metrics that a sentence names
MOST_PASSES = 20  # for the drops of an image, without a sentence about it
Advance = Callable[[int], None]  # is told how many more images are done


def decided(job: Job, command: str = "") -> Job:
    """The job with its users' own plug-ins proved, and every method's scale known, on the first batch. Where no value
    is missing, that is read from the run folder. command: see `Keys`."""
    plugins = (*job.methods, *job.metrics)
    if all(method.spec.on_score_scale is not None for method in job.methods) and not any(p.is_foreign for p in plugins):
        return job
    keys, folder = Keys(job, command), job.settings.run_folder
    path = folder / f"examination/{keys.step('proof', keys.values)}.json"
    if (kept := files.read_json_or_none(path, job.notes)) is not None:
        marked = replace(
            job, methods=_marked(job.methods, kept["methods"]), metrics=_marked(job.metrics, kept["metrics"])
        )
        if not missing(keys.with_plugins_of(marked), folder)[0]:
            return marked
    first = next((batch for batch in rows(job, job.indices, required(plugins)) if isinstance(batch, Batch)), None)
    if first is None:  # no image can be read, so no method will be called
        return job

    notes = Notes()

    def proof(part: Batch, _: int) -> tuple[list[Plugin], list[Plugin]]:
        return proved(job.methods, job.metrics, traced(job.cut_model, part), part, notes)

    methods, metrics = next(by_halves(first, len(first), job.cut_model.limits, proof, notes))
    for note in notes:
        job.notes.add(note)
    if not notes:  # otherwise the next command proves the plug-ins again, and prints the notes again
        files.write_json(path, {"methods": _marks(methods), "metrics": _marks(metrics)})
    return replace(job, methods=tuple(methods), metrics=tuple(metrics))


def _marks(plugins: Sequence[Plugin]) -> dict[str, dict[str, Any]]:
    """{name: what a proof says of it}."""
    specs = {each.name: vars(each.spec) for each in plugins}
    return {name: {mark: spec[mark] for mark in MARKS if mark in spec} for name, spec in specs.items()}


def _marked(plugins: Sequence[Plugin], marks: Mapping[str, Mapping[str, Any]]) -> tuple[Plugin, ...]:
    return tuple(replace(each, spec=replace(each.spec, **marks[each.name])) for each in plugins)


def missing(keys: Keys, folder: Path) -> tuple[dict[str, Shard], tuple[str, ...]]:
    """({key: shard} of the job's shards that lack values, names of files that are damaged)."""
    shards = {keys.shard(shard): shard for shard in keys.job.shards}
    held = record_files.read(folder, shards)
    for name in held.damaged:
        keys.job.notes.add(DamagedFile(str(folder / name)))
    return {key: shard for key, shard in shards.items() if held.missing(key, keys.values)}, held.damaged


def compute_shard(keys: Keys, key: str, shard: Shard, folder: Path, advance: Advance) -> ShardResult:
    """Compute what is missing of a shard, and write it. If nothing is missing by now, nothing is computed.

    Args:
        key: The shard's.
        advance: Called with the number of images that were done since the last call.

    Raises:
        Interference: If a plug-in changes what others read. Then nothing is written.
    """
    missing = record_files.read(folder, {key}).missing(key, keys.values)
    if not missing:
        return ShardResult()
    job = keys.job
    watch = Stopwatch.on(job.device.device)
    before = asdict(job.cut_model.passes)
    processor = time.process_time()
    file = compute(keys, shard, key, missing, folder, watch.part, advance)
    return ShardResult(
        shards=1,
        images=len(shard),
        written=(file.name,),
        seconds=watch.seconds(),
        processor=time.process_time() - processor,
        passes={name: count - before[name] for name, count in asdict(job.cut_model.passes).items()},
    )


def stored(keys: Keys, folder: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """(the files of the job's values, as `RecordFiles.listed` has them; {id of an image with an EXIF orientation:
    whether it was applied}). Raises BenchError where some have vanished meanwhile: what follows takes the records for
    those of all images."""
    shards = [keys.shard(shard) for shard in keys.job.shards]
    held = record_files.read(folder, set(shards))
    if gone := sum(bool(held.missing(key, keys.values)) for key in shards):
        raise BenchError(
            f"{gone} of {len(shards)} shards that were computed are gone from {folder}, or damaged, before the run "
            "has ended; run the same command again, and let nothing delete its files."
        )
    needed = [file for key in shards for file in held.needed(key, keys.values)]
    turned = {image: is_upright for file in needed for image, is_upright in file.turned.items()}
    return held.listed(shards, keys.values), turned


def announced(keys: Keys, missing: Collection[str], folder: Path) -> str | None:
    """Return what is known of the cost of these shards before their first batch: a sentence if drops are costly."""
    held = record_files.read(folder, set(missing))
    wanted = [held.missing(key, keys.values) for key in missing]
    names = {*chain(*wanted)}
    metric_names = {name for each in wanted for name in chain(*each.values())}
    methods = [method for method in keys.job.methods if method.name in names]
    metrics = [metric for metric in keys.job.metrics if metric.name in metric_names]
    job = replace(keys.job, methods=tuple(methods), metrics=tuple(metrics))
    batch = first_row(job)
    if batch is None:
        return None
    trace = traced(job.cut_model, batch)
    if not trace.has_gradients and (several := first_batch(job, job.indices, job.batch_size, ())) is not None:
        note_silence(traced(job.cut_model, several), job.notes)
    return costly_drops(trace, needing_drops(methods, metrics))


def needing_drops(methods: Sequence[Plugin], metrics: Sequence[Plugin]) -> list[str]:
    """Return the settings that leave out the methods and metrics that need ablation drops."""
    names = [f"~method.{method.name}" for method in methods if method.spec.needs_drops]
    return names + [f"~metric.{metric.name}" for metric in metrics if NEEDS_DROPS in needs_of(metric)]


def costly_drops(trace: Trace, settings: Sequence[str]) -> str | None:
    """Return a sentence if drops that are needed cost more than MOST_PASSES. settings: leave out what needs them."""
    if not settings or trace.drops_cost <= MOST_PASSES:
        return None
    return (
        f"ablation drops cost about {trace.drops_cost:,.0f} forward passes for each image ({trace.capture}); leave out "
        f"what needs them ({first_names(settings, MAX_NAMES)}), ablate fewer channels (device.ablation_channels=64), "
        "or choose a layer nearer to the output"
    )


def compute(
    keys: Keys, shard: Shard, key: str, missing: Values, folder: Path, watch: Watch, advance: Advance
) -> RecordFile:
    """Computes the missing values of one shard and writes them as one file, with their curves beside it. watch: is told
    of the parts of the evaluation. Writes nothing, and raises Interference where a plug-in changes what others read."""
    job = keys.job
    values: dict[str, list[Columns]] = {method: [] for method in missing}
    curves: dict[str, list[Columns]] = {method: [] for method in missing}
    wanted = requests(job, missing)
    metrics = [metric for request in wanted for metric in request.metrics]
    plugins = [*metrics, *(method for request in wanted for method in request.methods)]
    turned: dict[str, bool] = {}
    batches = counted(rows(job, shard, required(plugins), turned=turned), len(shard), advance)
    paths = answer_files(keys, key, metrics, folder)
    kept = read_answers(paths, job.notes)
    known = {metric: len(answers) for metric, answers in kept.scores.items()}
    parts = shard_rows(
        job.cut_model,
        batches,
        wanted,
        batch_rows=job.batch_rows,
        normalise=job.normalise,
        watch=watch,
        watched_rate=watched_rate(job.num_batches),
        kept=kept,
        notes=job.notes,
    )
    for part in parts:
        if len(part["method"]):
            (values if holds_values(part) else curves)[part["method"][0]].append(part)
    notes = {
        **({"turned": turned} if turned else {}),
        "names": {metric.name: list(value_names(metric)) for metric in metrics},
        "curves": {metric.name: list(metric.spec.curves) for metric in metrics if metric.spec.curves},
        "axes": {name: axes for parts in curves.values() for part in parts for name, axes in part["axes"].items()},
    }
    of_values, of_curves = (list(chain.from_iterable(parts.values())) for parts in (values, curves))
    table = frame(of_values).assign(**job.columns)
    file = record_files.write(folder, key, missing, table, curve_frame(of_curves), notes)
    is_our_code = not any(plugin.is_foreign for plugin in plugins)
    for metric, path in paths.items():
        if is_our_code and len(kept.scores[metric]) > known[metric]:
            write_answers(path, kept.scores[metric])
    return file


def answer_files(keys: Keys, shard: str, metrics: Sequence[Plugin], folder: Path) -> dict[str, Path]:
    """Return {metric: the file of the model's answers that the metric asked for}, of one shard.

    Users' own metrics have none. Commands that call users' own code read these files and write none, so that no answer
    depends on that code.
    """
    own = [metric for metric in metrics if not metric.is_foreign]
    names = {metric.name: record_files.key(shard=shard, metric=keys.of_metric(metric)) for metric in own}
    return {metric: folder / ANSWERS / f"{shard}-{name}.json" for metric, name in names.items()}


def read_answers(paths: Mapping[str, Path], notes: Notes) -> KeptAnswers:
    """Read the answers of a shard by metric. A metric without a file, or with a damaged one, has none yet."""
    scores: dict[str, dict[str, torch.Tensor]] = {}
    for metric, path in paths.items():
        content = files.read_json_or_none(path, notes) or {}
        scores[metric] = {
            name: torch.tensor(values, dtype=DTYPES[dtype])
            for dtype, answers in content.items()
            for name, values in answers.items()
        }
    return KeptAnswers(scores)


def write_answers(path: Path, scores: Mapping[str, torch.Tensor]) -> None:
    """Write a metric's answers of a shard, each under its type. JSON keeps every bit of a float."""
    content: dict[str, dict[str, Any]] = {name: {} for name in DTYPES}
    for name, values in scores.items():
        of_type = str(values.dtype).removeprefix("torch.")
        if of_type in content:
            content[of_type][name] = values.tolist()
    files.write_json(path, content)


def counted(batches: Iterator[Batch | BadImage], images: int, advance: Advance) -> Iterator[Batch | BadImage]:
    """The batches. When the next one is asked for, the images of the last are done; at the end, so are all."""
    done: set[str] = set()
    for batch in batches:
        yield batch
        of_batch = {batch.image_id} if isinstance(batch, BadImage) else set(batch.image_ids)
        advance(len(of_batch - done))
        done |= of_batch
    advance(images - len(done))


def requests(job: Job, missing: Values) -> list[MethodsByMetrics]:
    """The missing values in as few groups as can be: methods that lack the same metrics share one."""
    methods: dict[tuple[str, ...], list[Plugin]] = {}
    by_name = {method.name: method for method in job.methods}
    for name, metrics in missing.items():
        methods.setdefault(tuple(metrics), []).extend([by_name[name]] if name != LAYER else [])
    return [
        MethodsByMetrics(tuple(group), tuple(metric for metric in job.metrics if metric.name in metrics))
        for metrics, group in methods.items()
    ]
