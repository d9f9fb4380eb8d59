"""`axiom-bench choose`: which method and which layer to use for a model, measured on the user's
images.

The steps: load the model and the images, examine them, choose the layers, measure the methods on
more and more images until the race is decided, and write an ordinary report. What is measured is a
run, so a stopped command continues.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from axiom_bench.cli.model_options import model_overrides
from axiom_bench.cli.racing.looks import Look, last_look
from axiom_bench.cli.terminal import say
from axiom_bench.errors import BenchError, plural
from axiom_bench.records import files
from axiom_bench.run.composing.composition import LAYER, composed
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.progress import progress
from axiom_bench.statistics.choice import Contest, decided, without_race
from axiom_bench.statistics.chosen import CHOICE_FILE, Choice
from axiom_bench.statistics.race import LEAST_IMAGES, Candidate

if TYPE_CHECKING:
    from axiom_bench.cli.racing.criteria import Criteria
    from axiom_bench.cutting.trace import Trace
    from axiom_bench.run.manifest import KeptManifest
    from axiom_bench.run.result import JobResult

PAGE = "report.html"
ALL_LAYERS = "all"
DEFAULT_LAYER = "default"
EARLIER_LAYERS = 2  # finer resolutions that race in addition to the default layer
MOST_LAYERS = 100
MOST_IMAGES = 200  # images that race unless data.size says otherwise
SIZE = "data.size="
MODEL = ("model=", "model.")
RESHAPE = "model.reshape="
HEADLINE = "report.headline="
TOKENS = f"{RESHAPE}tokens"


@dataclass(frozen=True)
class Start:
    """The model and the images, as they are before anything is measured."""

    layers: tuple[str, ...]
    """The layers that race."""
    images: int
    """The number of images that race."""
    reasons: dict[str, str]
    """{layer: the reason why methods draw the same map there}."""
    has_tokens: bool
    """True if the model's layers give tokens."""
    photograph: Path | None
    """The file of the first image; None if it isn't a photograph."""
    default_layer: str
    """The model's default layer, at which metrics of contributions race."""
    criteria: Criteria
    """The metrics that race."""
    algebra: str
    """The methods that draw the same map at the default layer, whatever the images are."""
    image_seconds: float
    """The seconds that an image takes at all layers, estimated before anything is measured."""
    notes: tuple[str, ...] = ()
    """Sentences on how the network was made, as a run prints them."""


@dataclass(frozen=True)
class MeasuredRun:
    """The run after a look."""

    settings: Settings
    """The settings of the command that measured it."""
    results: Sequence[JobResult]
    """The results of its jobs."""
    words: list[str]
    """Its words KEY=VALUE."""
    kept: KeptManifest
    """Its manifest and folder."""


def run(options: Namespace) -> int:
    """Choose and print the answer.

    Args:
        options: The options of the command line.

    Returns:
        The exit code, 0.

    Raises:
        BenchError: As `choose` does.
    """
    model = model_overrides(options)
    overrides = [*options.overrides, *model]
    if len(options.images) > 1:
        raise BenchError(
            f"choose takes one folder, not {len(options.images)}; put the photographs into one."
        )
    for folder in options.images:
        overrides += ["data=folder", f"data.root={folder}", f"data.name={_data_name(folder)}"]
    if options.methods:
        overrides.append(f"method=[{options.methods}]")
    named_layers = options.layers or options.layer
    layers = named_layers.split(",") if named_layers else None
    # only the answer goes to stdout, if a program reads it
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        choice = choose(overrides, options.config_dir, layers, options.budget)
    if options.json:
        say([json.dumps(asdict(choice), indent=2)])
    else:
        say(str(choice).splitlines())
    return 0


def _data_name(folder: Path) -> str:
    """Return the name of a folder of photographs in records and tables."""
    return re.sub(r"\W+", "_", folder.resolve().name).strip("_") or "photographs"


def choose(
    overrides: Sequence[str],
    config_folder: Path | None = None,
    layers: Sequence[str] | None = None,
    budget: float = math.inf,
) -> Choice:
    """Race methods and layers on the images of a command line.

    Args:
        overrides: The words KEY=VALUE, which choose the model and the data.
        config_folder: A user's own folder of YAML files, used in addition to conf/.
        layers: The layers that race; ["all"] for the last layer of each resolution. None: the
            model's default layer, and the last layers of the two next finer resolutions.
        budget: The seconds that the race should take: it takes fewer images if they would take
            longer, and begins no look after this time.

    Raises:
        BenchError: If the examination stops, or the command line can't be composed.
    """
    start_time = time.monotonic()
    words = ["experiment=choose", *overrides]
    with progress("Examining the model and the images"):
        start = _start(words, config_folder, layers)
    if start.notes:
        say(start.notes)
    if start.images < LEAST_IMAGES:
        return without_race(start.images, start.criteria.names[0], start.algebra)
    words = [word for word in words if not word.startswith(f"{LAYER}=")]
    if not any(word.startswith(HEADLINE) for word in words):
        words.append(f"{HEADLINE}[{','.join(start.criteria.names)}]")
    if start.has_tokens and not any(word.startswith(RESHAPE) for word in words):
        words.append(TOKENS)  # it is recognised by itself only at the default layer
    say([start.criteria.sentence])
    images = images_within(start.images, start.image_seconds, budget)
    if images < start.images:
        say(
            [
                f"The race takes {images} of {plural(start.images, 'image')}, since all would take "
                f"longer than {budget / 60:.3g} min; a longer --budget, such as 1h, takes more."
            ]
        )
    run: MeasuredRun | None = None

    def measure(size: int, before: Look | None) -> Contest:
        """Measure the first images, which continues the same run."""
        nonlocal run
        run = _measured_run([*words, f"{SIZE}{size}"], config_folder, start, before)
        return _contest(run, start.default_layer, before)

    look = last_look(images, measure, start_time + budget)
    assert run is not None  # the last look has measured it
    choice = decided(look.contest, look.races, start.reasons)
    folder = run.kept.folder
    choice = replace(choice, use=_use(choice, start, words), report=str(folder / PAGE))
    files.write_json(folder / CHOICE_FILE, asdict(choice), indent=1)

    from axiom_bench.cli.finish import finish  # it imports torch

    finish(run.settings, run.results, run.words)
    return choice


def images_within(images: int, image_seconds: float, budget: float) -> int:
    """Return the number of images of which a race ends within a budget: all, half of them, a
    quarter, ..., but at least `LEAST_IMAGES`.

    Args:
        images: The number of images at hand, at least `LEAST_IMAGES`.
        image_seconds: The seconds that an image takes.
        budget: The seconds of the race.

    >>> images_within(36, 30.0, 600.0), images_within(36, 300.0, 600.0), images_within(36, 1.0, 60)
    (18, 9, 36)
    """
    while images * image_seconds > budget and images >= 2 * LEAST_IMAGES:
        images = (images + 1) // 2
    return images


def _measured_run(
    look_words: Sequence[str],
    config_folder: Path | None,
    start: Start,
    before: Look | None,
) -> MeasuredRun:
    """Measure what is still in the race on a number of images.

    Args:
        look_words: The words of the command line, without layers.
        config_folder: See `choose`.
        start: The model, the layers and the criteria.
        before: The look before.

    Raises:
        BenchError: If all jobs fail.
    """
    from axiom_bench.cli.benchmark import run_jobs
    from axiom_bench.cli.finish import failure_lines
    from axiom_bench.run import manifest

    settings = None
    results: list[JobResult] = []
    for layers, left_out in _parts(start, before).items():
        part_words = [*look_words, f"{LAYER}={','.join(layers)}", *left_out]
        # a later look reuses the values of users' own methods
        part_settings, part_results = run_jobs(part_words, config_folder, before is not None)
        settings = settings or part_settings
        results += part_results
    assert settings is not None  # some layer is in the race
    words = [*look_words, f"{LAYER}={','.join(start.layers)}"]
    kept = manifest.keep(settings, results, words)
    if kept is None or not any(result.failure is None for result in results):
        raise BenchError(" ".join(failure_lines(results)))
    return MeasuredRun(settings, results, words, kept)


def _contest(run: MeasuredRun, default_layer: str, before: Look | None) -> Contest:
    """Return the values of a run that race."""
    from axiom_bench.report.shown import read_run

    measured = read_run(run.kept.folder, manifest=run.kept.content)
    headline = run.settings.report["headline"]
    return Contest.of(
        measured.records.rows(headline),
        measured.metadata,
        headline,
        default_layer,
        None if before is None else before.contest,
    )


def _parts(start: Start, before: Look | None) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return {layers: words that leave out what isn't measured at them}, in the order of layers.

    A method at a layer that can't win any more is left out, and so is a layer without methods.
    """
    layers_by_words: dict[tuple[str, ...], list[str]] = {}
    racing = None if before is None else before.still_racing
    for layer in start.layers:
        left_out = [f"~metric.{name}" for name in start.criteria.unmeasured]
        if layer != start.default_layer:
            left_out += [f"~metric.{name}" for name in start.criteria.at_default_layer]
        if before is not None and racing is not None:
            methods = before.contest.titles
            dropped = [name for name in methods if Candidate(layer, name) not in racing]
            if len(dropped) == len(methods):
                continue
            left_out += [f"~method.{name}" for name in dropped]
        layers_by_words.setdefault(tuple(left_out), []).append(layer)
    return {tuple(layers): words for words, layers in layers_by_words.items()}


def _start(words: Sequence[str], config_folder: Path | None, layers: Sequence[str] | None) -> Start:
    """Load and examine the model and the images, and choose the layers.

    Raises:
        BenchError: If the examination stops, with its reasons, or if the values of the model mean
            nothing.
    """
    from axiom_bench.cli.doctor import with_objects
    from axiom_bench.cli.racing.criteria import criteria_of, has_regions
    from axiom_bench.data.formats.decoding import image_suffixes
    from axiom_bench.evaluation.batch import traced
    from axiom_bench.evaluation.specs import pass_count
    from axiom_bench.examination.examine import AT_CHANCE, SAME_MAPS, what_follows
    from axiom_bench.run import examining, images, spine, worker

    with composed(words, config_folder) as composition:
        count = len(composition.jobs)
        if count > 1:
            raise BenchError(
                f"choose takes one model and one data set, not {count}; run it once for each."
            )
        spine.checked(composition.plain())
        job = worker.loaded(composition.job_settings(0))
        if job.model.random_weights:
            raise BenchError(
                f"{job.model.name} has random weights, so no method explains anything; give its "
                "checkpoint by --weights FILE."
            )
        examined_job = with_objects(job)
        algebra = ""
        for answer in examining.examination(examined_job):
            if answer.question == SAME_MAPS:
                algebra = answer.sentence
            if answer.level == "stop" or AT_CHANCE in answer.sentence:
                raise BenchError(f"{answer.sentence}.")
        batch = images.first_row(examined_job)
        if batch is None:
            raise BenchError("No image can be read; see axiom-bench doctor.")
        pass_start = time.monotonic()
        trace = traced(job.cut_model, batch)
        pass_seconds = time.monotonic() - pass_start
        size = len(job.indices)
        if not any(word.startswith(SIZE) for word in words):
            size = min(size, MOST_IMAGES)
        racing_layers = layers_of(trace, layers)
        headline = job.settings.report["headline"]
        criteria = criteria_of(job.metrics, headline, trace, racing_layers, has_regions(batch))
        num_passes = len(racing_layers)  # the traces
        channels = trace.activations.shape[1]
        for metric in job.metrics:  # layers share the passes of metrics
            num_passes += pass_count(metric.spec.passes or 0, channels)
        for method in job.methods:
            num_passes += len(racing_layers) * pass_count(method.spec.passes or 0, channels)
        photograph = next(iter(job.data.files(job.indices[0])), None)
        if photograph is not None and photograph.suffix.lower() not in image_suffixes():
            photograph = None  # it holds an array, or many images
        # records name a layer as it is inside the wrapper that finds objects or words
        wrapper = trace.layer.removesuffix(job.model.layer)
        return Start(
            layers=tuple(layer.removeprefix(wrapper) for layer in racing_layers),
            images=size,
            reasons={job.model.layer: what_follows(trace)},
            has_tokens=trace.cut_model.reshape is not None,
            photograph=photograph,
            default_layer=job.model.layer,
            criteria=criteria,
            algebra=algebra,
            image_seconds=pass_seconds * num_passes,
            notes=job.model.lines,
        )


def layers_of(trace: Trace, layers: Sequence[str] | None) -> tuple[str, ...]:
    """Return the layers that race.

    Args:
        trace: A trace at the default layer.
        layers: See `choose`.

    Raises:
        BenchError: If a named layer is unknown, or has no maps.
    """
    from axiom_bench.cutting.finer_layers import finer_layers
    from axiom_bench.cutting.images import bound

    if layers is None:
        return (trace.layer, *finer_layers(trace, EARLIER_LAYERS))
    if list(layers) == [ALL_LAYERS]:
        return (trace.layer, *finer_layers(trace, MOST_LAYERS))
    names = [trace.layer if layer == DEFAULT_LAYER else layer for layer in layers]
    first = trace[:1]
    cut_models = [trace.cut_model.at(name) for name in names]
    for cut_model in cut_models:
        with bound(cut_model.model, first.other_inputs):
            cut_model.split(first.images)
    return tuple(cut_model.layer for cut_model in cut_models)


def _use(choice: Choice, start: Start, words: Sequence[str]) -> str:
    """Return the command that draws the chosen map of the first photograph, or for other data the
    call in Python; "" without a choice.
    """
    if choice.layer is None:
        return ""
    if start.photograph is None:
        return python_call(choice, start.has_tokens)
    model = [word for word in words if word.startswith(MODEL) and not word.startswith(f"{LAYER}=")]
    photograph = str(start.photograph)
    command = ["axiom-bench", "explain", photograph, *model, f"{LAYER}={choice.layer}"]
    return shlex.join([*command, "--methods", choice.methods[0]])


def python_call(choice: Choice, has_tokens: bool) -> str:
    """Return the call of `axiom_bench.explain` that draws the chosen map.

    Args:
        choice: The choice, which has a layer.
        has_tokens: True if the layer gives tokens.
    """
    reshape = ', reshape="tokens"' if has_tokens else ""
    return f'ab.explain(model, "{choice.layer}", images, methods=["{choice.methods[0]}"]{reshape})'
