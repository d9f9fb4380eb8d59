"""`axiom-bench game RUN`: write the page of the game "What do you see?" from a finished run.

The maps are computed again. The command therefore refuses a run whose weights or images have
changed, and a configuration of somebody else that names code.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from axiom_bench.cli.trust import trusted_settings
from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.data.mosaic import MosaicImages
from axiom_bench.environment import add_current_folder
from axiom_bench.errors import BenchError, plural, unknown_name, verb
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import explained, trace_of_batch
from axiom_bench.explanation.explanation import required_field
from axiom_bench.notes import MethodLeftOut, Notes
from axiom_bench.records import files, reading, running
from axiom_bench.records.entries import DataEntry, Manifest, ModelEntry
from axiom_bench.report.game_page import CHECKS, Class, Game, Picture, page
from axiom_bench.run.job import OBJECT_RULES, Job, cut_at_layer, read_hashes

# images of a game if no number is asked for: about five minutes of a player's time
MAX_DEFAULT = 40
MORE_CLASSES = 16  # rows that one image may have, one per class


def game(options: Namespace) -> list[str]:
    """Write the page and return the lines to print.

    Args:
        options: The options of the command line.

    Raises:
        BenchError: For a wrong option, and for a run of which no game can be made.
    """
    if options.count is not None and options.count < 1:
        raise BenchError(f"--images {options.count}: give 1 or more.")
    if options.seed < 0:
        raise BenchError(f"--seed {options.seed}: give 0 or more.")
    output = options.output or options.run_folder / "game.html"
    files.check_output(output)
    manifest = reading.read_manifest(options.run_folder)
    running.check_ended(options.run_folder, manifest)
    methods = options.methods.split(",") if options.methods else None
    # a run stores the maps of a few images only, so the game computes its maps again
    job, weights = _job(manifest, options, methods)
    trials = _images_of_two_classes(job, options.count, options.seed)
    checks = _whole_images(job, trials, options.seed)
    job.device.prepare()
    cut_model = cut_at_layer(job.model, job.device, job.notes)
    images, sentences = _images_with_maps(job, cut_model, trials)
    names = list(images[0].heatmaps)
    if methods is not None and len(names) < len(methods):
        raise BenchError(sentences[0])
    titles = {}
    for method in job.methods:
        if method.name in names:
            titles[method.name] = method.spec.title or method.name
    setting = {
        "model": job.model.name,
        "layer": job.model.layer,
        "data": job.data.name,
        "weights": weights,
    }
    text = page(Game(images, checks, titles, setting, options.seed))
    files.write(output, text.encode())
    return [
        f"{plural(len(images), 'picture')} of two classes and {CHECKS} checks, from {job.name}",
        f"methods: {', '.join(titles.values())}, and the centred blob",
        f"players: number them in turn (game.html#player=1, ...); {2 * (len(titles) + 1)} of them "
        "see every picture in every way",
        f"game: {output}",
    ]


def _job(manifest: Manifest, options: Namespace, methods: Sequence[str] | None) -> tuple[Job, str]:
    """Return the first job that the options ask for, with these methods, and the start of its
    weights' hash.

    Raise BenchError, with the jobs of the run, if there is none.
    """
    jobs = [entry for entry in manifest.jobs if not entry.config.is_empty]
    if not jobs:
        raise BenchError(f"The run in {options.run_folder} has no finished job to make a game of.")
    for entry in jobs:
        model, _, rest = entry.job.partition(" at ")
        if options.model in (None, model) and options.layer in (None, rest.partition(" on ")[0]):
            break
    else:
        wanted = " at ".join(filter(None, (options.model or "any model", options.layer)))
        raise unknown_name("job", wanted, [entry.job for entry in jobs], place="in this run")
    settings = trusted_settings(entry.config.model_dump(), options.trust)
    if options.trust:
        add_current_folder()
    if methods is not None:
        methods = [
            name if name in settings.method else plugins.matching("method", name)
            for name in methods
        ]
        for name in methods:
            if name not in settings.method:
                raise unknown_name("method", name, settings.method)
        entries = {name: settings.method[name] for name in methods}
        settings = settings.model_copy(update={"method": entries})
    try:
        job = replace(Job.of(settings), hashes=read_hashes(options.run_folder))
    except BenchError as error:
        hint = (
            "The maps of a game are computed as the run's configuration says: start it where the "
            "run was started."
        )
        raise BenchError(f"{error} {hint}") from error
    explains_objects = job.target in OBJECT_RULES
    if isinstance(job.data, MosaicImages) or explains_objects:
        kind = "single objects" if explains_objects else "mosaics of several classes"
        raise BenchError(
            f"The images of {job.data.name!r} are {kind}, and a game asks about images of exactly "
            "two classes: play a run that has some: axiom-bench (the embedded scenes), or "
            "axiom-bench experiment=voc."
        )
    model_entry = manifest.models.get(job.model.name, ModelEntry())
    data_entry = manifest.data.get(job.data.name, DataEntry())
    weights = str(model_entry.weights_sha256)
    fingerprint = str(data_entry.fingerprint)
    for label, present, recorded in (
        (f"weights of {job.model.name}", str(job.model.weights_sha256), weights),
        (f"images of {job.data.name!r}", job.data_fingerprint, fingerprint),
    ):
        if present != recorded:
            raise BenchError(
                f"The {label} have changed since the run ({present[:12]}, not {recorded[:12]}); "
                "first run the benchmark again with the same command."
            )
    left_out = set(entry.left_out)  # data.only_correct leaves them out
    kept = tuple(index for index in job.indices if job.data.ids[index] not in left_out)
    return replace(job, indices=kept, target="each_label"), weights[:12]


def _images_of_two_classes(job: Job, count: int | None, seed: int) -> list[Batch]:
    """Return a batch of two rows, one per class, for each image with exactly two classes inside the
    crop.

    There are `count` of them; `None` returns at most MAX_DEFAULT. Raise BenchError if the run's
    data set has fewer.
    """
    if not job.shares_classes:
        raise BenchError(
            f"The labels of {job.data.name!r} aren't classes of {job.model.name}, so no question "
            "can be asked about them; play a run whose model knows them, such as axiom-bench "
            "experiment=voc."
        )
    indices = _shuffled(job, seed, lambda labels: labels == 2)
    # An image may lose a class by the crop, so its batch is checked, too.
    pairs = (batch for batch in _batches(job, indices) if len(batch) == 2)
    loaded = list(islice(pairs, count or MAX_DEFAULT))
    if not loaded:
        raise BenchError(
            f"No image of {job.data.name!r} in this run shows exactly two classes; play a run "
            "that has some: axiom-bench (the embedded scenes), or axiom-bench experiment=voc."
        )
    if count is not None and len(loaded) < count:
        raise BenchError(
            f"Of {plural(len(job.indices), 'image')} of {job.data.name!r} in this run only "
            f"{len(loaded)} {verb(len(loaded), 'shows', 'show')} exactly two classes: choose "
            f"--images {len(loaded)}, or a run of more images, such as data.size={4 * count}."
        )
    return loaded


def _whole_images(job: Job, trials: Sequence[Batch], seed: int) -> list[Picture]:
    """Return CHECKS images to show whole, which aren't in `trials`. Images of one class come first.

    The wrong choice is a class that the image isn't labelled with, among those that the trials ask
    about. Raise BenchError if there are too few images.
    """
    trial_ids: set[str] = set()
    trial_targets: set[int] = set()
    for batch in trials:
        trial_ids.update(batch.image_ids)
        trial_targets.update(_targets(batch))
    # Sorted, so that the choice below depends only on the seed.
    asked = sorted(trial_targets)
    generator = np.random.default_rng([seed, 1])
    order = _shuffled(job, seed, lambda labels: labels == 1)
    order += _shuffled(job, seed, lambda labels: labels > 1)
    unused = [index for index in order if job.data.ids[index] not in trial_ids]
    checks = []
    for batch in islice(_batches(job, unused), CHECKS):
        shown = _targets(batch)[0]
        index = job.data.ids.index(batch.image_ids[0])
        present = {*job.data.labels(index), *_targets(batch)}
        others = [target for target in asked if target not in present]
        if not others:
            others = [*set(range(len(job.data.classes))) - present]
        other = int(generator.choice(others))
        pixels = job.model.preprocessing.denormalise(batch.images[:1])[0]
        choices = (_class(job, shown), _class(job, other))
        checks.append(Picture(batch.image_ids[0], choices, pixels))
    if len(checks) < CHECKS:
        count = len(trials) + len(checks) - CHECKS
        fewer = f"choose --images {count}, or " if count > 0 else ""
        raise BenchError(
            f"A game shows {CHECKS} whole pictures as attention checks, and this run has only "
            f"{plural(len(checks), 'image')} in addition to the {len(trials)} of the game: "
            f"{fewer}run the benchmark with a larger data.size."
        )
    return checks


def _images_with_maps(
    job: Job, cut_model: CutModel, trials: Sequence[Batch]
) -> tuple[list[Picture], list[str]]:
    """Return each image with the maps of all methods that apply to the model, and sentences about
    the other methods.
    """
    images: list[Picture] = []
    notes = Notes()
    for batch in trials:
        on_device = batch.to(job.device.device)
        trace = trace_of_batch(cut_model, on_device)
        maps = {}
        for method in job.methods:
            explanation = explained(trace, on_device, method, job.normalise, notes)
            if explanation is not None:
                maps[method.name] = explanation.required_heatmap.float().cpu().numpy()
        first, second = (_class(job, target) for target in _targets(batch))
        pixels = job.model.preprocessing.denormalise(batch.images[:1])[0]
        images.append(Picture(batch.image_ids[0], (first, second), pixels, maps))
    return images, notes.sentences(MethodLeftOut)


def _shuffled(job: Job, seed: int, is_wanted: Callable[[int], bool]) -> list[int]:
    """Return the job's images whose number of labels `is_wanted` accepts, in an order that depends
    on the seed.
    """
    chosen = [index for index in job.indices if is_wanted(len(job.labels[index]))]
    order = np.random.default_rng(seed).permutation(len(chosen))
    return [chosen[position] for position in order]


def _batches(job: Job, indices: Sequence[int]) -> Iterator[Batch]:
    """Yield a batch for each image that can be read, with a row for each class inside the crop."""
    for index in indices:
        # The first batch has all classes of the image, or is a note that it can't be read.
        loaded = next(
            batches(
                job.data,
                [index],
                job.model.preprocessing,
                job.target,
                MORE_CLASSES,
                notes=job.notes,
            )
        )
        if isinstance(loaded, Batch):
            yield job.with_inputs(loaded)


def _targets(batch: Batch) -> list[int]:
    return [int(target) for target in required_field(batch.targets, "targets").tolist()]


def _class(job: Job, target: int) -> Class:
    return target, job.class_names[target]
