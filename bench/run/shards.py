"""The shards of a job: find those that lack values, compute them, and read and write the files that
hold the values.

`run.worker` calls these steps. A shard is some images of the job; its files are the unit in which a
stopped run continues. `show_method` shows the passes of the method that explains an image, also for
`axiom-bench explain`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from axiom_bench.columns import LAYER
from axiom_bench.cutting.passes import halve_until_it_fits
from axiom_bench.cutting.trace import Trace, rows_of_images
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation.answers import KeptAnswers
from axiom_bench.evaluation.batch import (
    Columns,
    curve_frame,
    frame,
    holds_values,
    note_silence,
    traced,
)
from axiom_bench.evaluation.plugins import (
    NEEDS_DROPS,
    AnyPlugin,
    Method,
    Metric,
    precondition_names,
    required,
    value_names,
)
from axiom_bench.evaluation.proof import proved
from axiom_bench.evaluation.purity import watched_rate
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.evaluation.specs import pass_count
from axiom_bench.evaluation.stopwatch import Stopwatch, Watch
from axiom_bench.notes import DamagedFile, Notes
from axiom_bench.records import files, record_files
from axiom_bench.records.record_files import RecordFile, Values
from axiom_bench.run.images import first_batch, first_row, rows
from axiom_bench.run.job import Job, Shard
from axiom_bench.run.keys import Keys
from axiom_bench.run.progress import Step, show_step
from axiom_bench.run.result import ShardResult

ANSWERS = "answers"  # the folder of the scores that the model has returned to metrics
MARKS = ("unstable", "on_score_scale")  # the fields of a plug-in's spec that a proof decides
DTYPES = {"float32": torch.float32, "float64": torch.float64}  # scores of other types aren't kept
MAX_NAMES = 5  # a sentence names at most this many methods or metrics
MOST_PASSES = 20  # if the drops of an image take more forward passes, a sentence says so
MOST_METHOD_PASSES = 1000  # the same for the passes of a method
Advance = Callable[[int], None]
"""A function that is called with the number of images that are done since its last call."""


def decided(job: Job, command: str = "") -> Job:
    """Return the job with its users' own plug-ins proved on the first batch, and the scale of every
    method known.

    If no value is missing, the results of an earlier proof are read from the run folder.

    Args:
        job: A job on the images to explain.
        command: The id of the command, see `Keys`.
    """
    plugins: tuple[AnyPlugin, ...] = (*job.methods, *job.metrics)
    is_scale_known = all(method.spec.on_score_scale is not None for method in job.methods)
    if is_scale_known and not any(plugin.is_foreign for plugin in plugins):
        return job
    keys = Keys(job, command)
    folder = job.settings.run_folder
    path = folder / f"examination/{keys.step('proof', keys.values)}.json"
    marks = files.read_json_or_none(path, job.notes)
    if marks is not None:
        marked = replace(
            job,
            methods=_marked(job.methods, marks["methods"]),
            metrics=_marked(job.metrics, marks["metrics"]),
        )
        if not missing(keys.with_proved_plugins(marked), folder)[0]:
            return marked
    batches = rows(job, job.indices, required(plugins))
    first = next((batch for batch in batches if isinstance(batch, Batch)), None)
    if first is None:  # no image can be read, so no method will be called
        return job

    notes = Notes()

    def proof(part: Batch, _: int) -> tuple[list[AnyPlugin], list[AnyPlugin]]:
        return proved(job.methods, job.metrics, traced(job.cut_model, part), part, notes)

    methods, metrics = next(
        halve_until_it_fits(first, len(first), job.cut_model.limits, proof, notes)
    )
    for note in notes:
        job.notes.add(note)
    # otherwise the next command proves the plug-ins again, and prints the notes again
    if not notes:
        files.write_json(path, {"methods": _marks(methods), "metrics": _marks(metrics)})
    return replace(job, methods=tuple(methods), metrics=tuple(metrics))


def _marks(plugins: Sequence[AnyPlugin]) -> dict[str, dict[str, object]]:
    """Return {name of a plug-in: {field of its spec: value that a proof has decided}}."""
    marks = {}
    for plugin in plugins:
        spec = vars(plugin.spec)
        marks[plugin.name] = {mark: spec[mark] for mark in MARKS if mark in spec}
    return marks


def _marked(
    plugins: Sequence[AnyPlugin], marks: Mapping[str, Mapping[str, object]]
) -> tuple[AnyPlugin, ...]:
    """Return the plug-ins with the fields that `_marks` has returned."""
    return tuple(
        replace(plugin, spec=replace(plugin.spec, **marks[plugin.name])) for plugin in plugins
    )


def missing(keys: Keys, folder: Path) -> tuple[dict[str, Shard], tuple[str, ...]]:
    """Return {key: shard} of the shards that lack values, and the names of damaged record files.

    Everything else is cached: only these shards become tasks of the executor.
    """
    shards = {keys.shard(shard): shard for shard in keys.job.shards}
    record = record_files.read(folder, shards)
    for name in record.damaged:
        keys.job.notes.add(DamagedFile(str(folder / name)))
    missing_shards = {
        key: shard for key, shard in shards.items() if record.missing_values(key, keys.values)
    }
    return missing_shards, record.damaged


def compute_shard(
    keys: Keys, key: str, shard: Shard, folder: Path, advance: Advance
) -> ShardResult:
    """Compute the missing values of a shard, and write them. If no value is missing by now, compute
    nothing.

    Args:
        keys: The keys of the job.
        key: The key of the shard.
        shard: The images of the shard.
        folder: The run folder.
        advance: Called with the number of images that are done since the last call.

    Raises:
        Interference: If a plug-in changes data that other plug-ins read. In this case nothing is
            written.
    """
    # an engine that runs a task again may have written the file already
    missing = record_files.read(folder, {key}).missing_values(key, keys.values)
    if not missing:
        return ShardResult()
    job = keys.job
    watch = Stopwatch.for_device(job.device.device)
    passes_before = asdict(job.cut_model.passes)
    processor = time.process_time()
    file = compute(keys, shard, key, missing, folder, watch.measure, advance)
    passes = {}
    for name, count in asdict(job.cut_model.passes).items():
        passes[name] = count - passes_before[name]
    return ShardResult(
        shards=1,
        images=len(shard),
        written=(file.name,),
        seconds=watch.seconds(),
        processor=time.process_time() - processor,
        passes=passes,
    )


def stored(keys: Keys, folder: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """Return the files of the job's values, and which images with an EXIF orientation were turned.

    Args:
        keys: The keys of the job.
        folder: The run folder.

    Returns:
        The files, as `RecordFiles.listed` returns them, and {id of an image with an EXIF
        orientation: whether the orientation was applied}.

    Raises:
        BenchError: If files have vanished since they were written. Later steps rely on the records
            of all images.
    """
    shards = [keys.shard(shard) for shard in keys.job.shards]
    record = record_files.read(folder, set(shards))
    # another program may clean the folder while the run lasts
    gone = sum(bool(record.missing_values(key, keys.values)) for key in shards)
    if gone:
        raise BenchError(
            f"{gone} of {len(shards)} shards that were computed are gone from {folder}, or "
            "damaged, before the run has ended; run the same command again, and let nothing "
            "delete its files."
        )
    turned: dict[str, bool] = {}
    for key in shards:
        for file in record.files_for(key, keys.values):
            turned.update(file.turned)
    return record.manifest_entries(shards, keys.values), turned


def announced(keys: Keys, missing: Mapping[str, Shard], folder: Path) -> tuple[str, ...]:
    """Return sentences on the cost of these shards before their first batch, if their drops or
    their methods are costly.
    """
    record = record_files.read(folder, set(missing))
    method_names: set[str] = set()
    metric_names: set[str] = set()
    for key in missing:
        for method_name, missing_metrics in record.missing_values(key, keys.values).items():
            method_names.add(method_name)
            metric_names.update(missing_metrics)
    methods = [method for method in keys.job.methods if method.name in method_names]
    metrics = [metric for metric in keys.job.metrics if metric.name in metric_names]
    job = replace(keys.job, methods=tuple(methods), metrics=tuple(metrics))
    batch = first_row(job)
    if batch is None:
        return ()
    trace = traced(job.cut_model, batch)
    if not trace.has_gradients:
        several = first_batch(job, job.indices, job.batch_size, ())
        if several is not None:
            note_silence(traced(job.cut_model, several), job.notes)
    images = sum(map(len, missing.values()))
    drops = costly_drops(trace, needing_drops(methods, metrics))
    costs = [costly_method(method, trace, images) for method in methods]
    return tuple(filter(None, [drops, *costs]))


def needing_drops(methods: Sequence[Method], metrics: Sequence[Metric]) -> list[str]:
    """Return the settings that leave out the methods and metrics that need ablation drops."""
    names = [f"~method.{method.name}" for method in methods if method.spec.needs_drops]
    return names + [
        f"~metric.{metric.name}" for metric in metrics if NEEDS_DROPS in precondition_names(metric)
    ]


def costly_drops(trace: Trace, settings: Sequence[str]) -> str | None:
    """Return a sentence if the drops of an image cost more than MOST_PASSES forward passes.

    Args:
        trace: A trace of one row.
        settings: The settings that leave out the methods and metrics that need drops; empty if none
            does.
    """
    if not settings or trace.drops_cost <= MOST_PASSES:
        return None
    cost = f"ablation drops cost about {trace.drops_cost:,.0f} forward passes for each image"
    leaving_out = f"leave out what needs them ({first_names(settings, MAX_NAMES)})"
    fewer = "ablate fewer channels (device.ablation_channels=64)"
    if trace.joined is not None:  # each later layer still has the decoder behind it
        return f"{cost}, whose words share them ({trace.capture}); {leaving_out}, or {fewer}"
    return (
        f"{cost} ({trace.capture}); {leaving_out}, {fewer}, or set model.layer to one nearer "
        "to the output"
    )


def costly_method(method: Method, trace: Trace, images: int) -> str | None:
    """Return a sentence if a method takes more than MOST_METHOD_PASSES passes for an image.

    Args:
        method: The method.
        trace: A trace of one row.
        images: The number of images that the method will explain.
    """
    passes = expected_passes(method, trace)
    if passes is None or passes <= MOST_METHOD_PASSES:
        return None
    fewer = ""
    for name, value in method.params.items():
        if value == method.spec.passes:  # the parameter that is the number of passes
            fewer = f"set method.{method.name}.params.{name}={MOST_METHOD_PASSES}, "
    return (
        f"{method.spec.title or method.name} takes {passes:,} passes for each image, "
        f"{passes * images:,} for {images}; to save time, {fewer}leave it out "
        f"(~method.{method.name}) or explain fewer images (data.size=N); with shard_size=1 Ctrl-C "
        "keeps each finished image"
    )


def compute(
    keys: Keys,
    shard: Shard,
    key: str,
    missing: Values,
    folder: Path,
    watch: Watch,
    advance: Advance,
) -> RecordFile:
    """Compute the missing values of one shard and write them as one file, with a second file for
    their curves.

    Args:
        keys: The keys of the job.
        shard: The images of the shard.
        key: The key of the shard.
        missing: The missing values.
        folder: The run folder.
        watch: Called with the name of a part of the evaluation; the context manager that it returns
            times the part.
        advance: Called with the number of images that are done since the last call.

    Raises:
        Interference: If a plug-in changes data that other plug-ins read. In this case nothing is
            written.
    """
    job = keys.job
    values: dict[str, list[Columns]] = {method: [] for method in missing}
    curves: dict[str, list[Columns]] = {method: [] for method in missing}
    wanted = requests(job, missing)
    metrics = [metric for request in wanted for metric in request.metrics]
    methods = [method for request in wanted for method in request.methods]
    plugins: list[AnyPlugin] = [*metrics, *methods]
    turned: dict[str, bool] = {}
    batches = counted(rows(job, shard, required(plugins), turned=turned), len(shard), advance)
    paths = answer_files(keys, key, shard, metrics, folder)
    kept = read_answers(paths, job.notes)
    known_scores = {metric: len(scores) for metric, scores in kept.scores.items()}
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
        show_method=show_method,
    )
    for part in parts:
        if len(part["method"]):
            parts_by_method = values if holds_values(part) else curves
            parts_by_method[part["method"][0]].append(part)
    # the rows of a method follow each other in the file
    value_parts = list(chain.from_iterable(values.values()))
    curve_parts = list(chain.from_iterable(curves.values()))
    axes: dict[str, object] = {}
    for part in curve_parts:
        axes.update(part["axes"])
    notes: dict[str, object] = {"turned": turned} if turned else {}
    notes["names"] = {metric.name: list(value_names(metric)) for metric in metrics}
    notes["curves"] = {
        metric.name: list(metric.spec.curves) for metric in metrics if metric.spec.curves
    }
    notes["axes"] = axes
    table = frame(value_parts).assign(**job.columns)
    file = record_files.write(folder, key, missing, table, curve_frame(curve_parts), notes)
    is_our_code = not any(plugin.is_foreign for plugin in plugins)
    for metric, path in paths.items():
        if is_our_code and len(kept.scores[metric]) > known_scores[metric]:
            write_answers(path, kept.scores[metric])
    return file


def answer_files(
    keys: Keys, key: str, shard: Shard, metrics: Sequence[Metric], folder: Path
) -> dict[str, Path]:
    """Return {metric: the file of the scores that the model has returned to this metric} for one
    shard.

    Users' own metrics have no such file. A command that calls users' own code reads these files and
    writes none, so that no score in them depends on that code.

    Args:
        keys: The keys of the job.
        key: The key of the shard.
        shard: The images of the shard.
        metrics: The metrics that are computed.
        folder: The run folder.
    """
    paths = {}
    for metric in metrics:
        if not metric.is_foreign:
            paths[metric.name] = folder / ANSWERS / f"{key}-{keys.scores(shard, metric)}.json"
    return paths


def read_answers(paths: Mapping[str, Path], notes: Notes) -> KeptAnswers:
    """Read the kept scores of a shard per metric, of this job or of a job at another layer. A
    metric whose file is missing or damaged has no scores yet.
    """
    scores: dict[str, dict[str, torch.Tensor]] = {}
    for metric, own_path in paths.items():
        scores[metric] = {}
        path = own_path
        if not own_path.exists():
            key_of_scores = own_path.stem.rpartition("-")[2]
            others = sorted(own_path.parent.glob(f"*-{key_of_scores}.json"))
            path = others[0] if others else own_path
        content = files.read_json_or_none(path, notes) or {}
        for dtype, answers in content.items():
            for name, values in answers.items():
                scores[metric][name] = torch.tensor(values, dtype=DTYPES[dtype])
    return KeptAnswers(scores)


def write_answers(path: Path, scores: Mapping[str, torch.Tensor]) -> None:
    """Write the scores of a metric and a shard, grouped by their type. JSON keeps every bit of a
    float.
    """
    content: dict[str, dict[str, object]] = {name: {} for name in DTYPES}
    for name, values in scores.items():
        dtype = str(values.dtype).removeprefix("torch.")
        if dtype in content:
            content[dtype][name] = values.tolist()
    files.write_json(path, content)


def counted(
    batches: Iterator[Batch | BadImage], images: int, advance: Advance
) -> Iterator[Batch | BadImage]:
    """Yield the batches, and report their images as done when the next batch is requested.

    Args:
        batches: The batches of a shard.
        images: The number of images in the shard. At the end, all of them are reported.
        advance: Called with the number of images that are done since the last call.
    """
    done: set[str] = set()
    for batch in batches:
        yield batch
        batch_images = {batch.image_id} if isinstance(batch, BadImage) else set(batch.image_ids)
        advance(len(batch_images - done))
        done |= batch_images
    advance(images - len(done))


def requests(job: Job, missing: Values) -> list[MethodsByMetrics]:
    """Return the missing values in as few groups as possible. Methods that lack the same metrics
    share a group.
    """
    method_by_name = {method.name: method for method in job.methods}
    methods_by_metrics: dict[tuple[str, ...], list[AnyPlugin]] = {}
    for name, metric_names in missing.items():
        group = methods_by_metrics.setdefault(tuple(metric_names), [])
        if name != LAYER:  # the values of the layer need no method
            group.append(method_by_name[name])
    groups = []
    for names, methods in methods_by_metrics.items():
        metrics = tuple(metric for metric in job.metrics if metric.name in names)
        groups.append(MethodsByMetrics(tuple(methods), metrics))
    return groups


@contextmanager
def show_method(method: Method, trace: Trace) -> Iterator[None]:
    """Show a method as the step of an image while the block runs.

    Args:
        method: The method.
        trace: The trace that it explains.
    """
    passes = trace.passes

    def count() -> int:
        return passes.trunk_forward + passes.trunk_backward

    show_step(Step(method.spec.title or method.name, count, expected_passes(method, trace)))
    try:
        yield
    finally:
        show_step(None)


def expected_passes(method: Method, trace: Trace) -> int | None:
    """Return the number of passes of the whole network that a method takes for a trace, or None if
    its YAML file doesn't say how many.
    """
    if method.spec.passes is None:
        return None
    rows = trace.num_valid
    if method.spec.shares_passes:
        rows = int(rows_of_images(trace).numbers.max()) + 1
    return rows * pass_count(method.spec.passes, trace.activations.shape[1])
