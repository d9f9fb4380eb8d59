"""The images of a game: those of a run's data set with exactly two classes, and the maps of both."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import MethodLeftOut, explained
from axiom_bench.explanation.explanation import given
from axiom_bench.report.game_page import Class, TwoClassImage, WholeImage
from axiom_bench.run.jobs.job import Job

MAX_DEFAULT = 40  # images of a game where no number is asked for: about five minutes of a player's time
MORE_CLASSES = 16  # rows that one image may have, one a class


def with_two_classes(job: Job, count: int | None, seed: int) -> list[Batch]:
    """One batch of two rows, one for each class, for each image with exactly two classes inside the crop.

    count: how many, None for at most MAX_DEFAULT. Raises BenchError where the run's data set has fewer.
    """
    if not job.shares_classes:
        raise BenchError(
            f"The labels of {job.data.name!r} aren't classes of {job.model.name}, so no question can be asked about "
            "them; play a run whose model knows them, such as axiom-bench experiment=voc."
        )
    found = list(_first(_batches(job, _shuffled(job, seed, lambda labels: labels == 2)), count or MAX_DEFAULT, rows=2))
    if not found:
        raise BenchError(
            f"No image of {job.data.name!r} in this run shows exactly two classes; play a run that has some: "
            "axiom-bench (the embedded scenes), or axiom-bench experiment=voc."
        )
    if count is not None and len(found) < count:
        raise BenchError(
            f"Of the {len(job.indices)} images of {job.data.name!r} in this run only {len(found)} show exactly two "
            f"classes: choose --images {len(found)}, or a run of more images, such as data.size={4 * count}."
        )
    return found


def whole_images(job: Job, count: int, trials: Sequence[Batch], seed: int) -> list[WholeImage]:
    """So many images to show whole, of those that aren't in `trials`.

    Images of one class come first. The wrong choice is a class that the image isn't labelled with, of those that the
    trials ask about. Raises BenchError where there are too few.
    """
    taken = {image_id for batch in trials for image_id in batch.image_ids}
    asked = sorted({target for batch in trials for target in _targets(batch)})
    generator = np.random.default_rng([seed, 1])
    order = [*_shuffled(job, seed, lambda labels: labels == 1), *_shuffled(job, seed, lambda labels: labels > 1)]
    free = [index for index in order if job.data.ids[index] not in taken]
    checks = []
    for batch in _first(_batches(job, free), count):
        shown = _targets(batch)[0]
        present = {*job.data.labels(job.data.ids.index(batch.image_ids[0])), *_targets(batch)}
        others = [target for target in asked if target not in present] or [*set(range(len(job.data.classes))) - present]
        other = int(generator.choice(others))
        pixels = job.model.preprocessing.denormalise(batch.images[:1])[0]
        checks.append(WholeImage(batch.image_ids[0], _class(job, shown), _class(job, other), pixels))
    if len(checks) < count:
        raise BenchError(
            f"A game shows {count} whole pictures as attention checks, and this run has only {len(checks)} images "
            f"beside the {len(trials)} of the game: choose a smaller --images, or a run with a larger data.size."
        )
    return checks


def images_with_maps(job: Job, cut_model: CutModel, rows: Sequence[Batch]) -> tuple[list[TwoClassImage], list[str]]:
    """(each image with the maps of all methods that apply to the model, sentences about those that don't)."""
    images: list[TwoClassImage] = []
    with warnings.catch_warnings(record=True, action="always") as caught:
        for batch in rows:
            on_device = batch.to(job.device.device)
            trace = cut_model.trace(on_device.images, on_device.targets)
            explanations = {method.name: explained(trace, on_device, method, job.normalise) for method in job.methods}
            maps = {
                name: given(explanation.heatmap, "heatmap").float().cpu().numpy()
                for name, explanation in explanations.items()
                if explanation is not None
            }
            first, second = _targets(batch)
            pixels = job.model.preprocessing.denormalise(batch.images[:1])[0]
            images.append(TwoClassImage(batch.image_ids[0], (_class(job, first), _class(job, second)), pixels, maps))
    sentences = (str(warning.message) for warning in caught if issubclass(warning.category, MethodLeftOut))
    return images, list(dict.fromkeys(sentences))


def without_left_out(job: Job, image_ids: Sequence[str]) -> Job:
    """The job without the images that data.only_correct left out, each image with a row for each of its classes."""
    gone = set(image_ids)
    kept = tuple(index for index in job.indices if job.data.ids[index] not in gone)
    return replace(job, indices=kept, target="each_label")


def _shuffled(job: Job, seed: int, wanted: Callable[[int], bool]) -> list[int]:
    """Images of the job whose number of labels is wanted, in an order that the seed decides."""
    chosen = [index for index in job.indices if wanted(len(job.labels[index]))]
    return [chosen[place] for place in np.random.default_rng(seed).permutation(len(chosen))]


def _batches(job: Job, indices: Sequence[int]) -> Iterator[Batch]:
    """One batch for each image that can be read, with a row for each class inside the crop."""
    for index in indices:
        loaded = next(iter(batches(job.data, [index], job.model.preprocessing, job.target, MORE_CLASSES)))
        if isinstance(loaded, Batch):
            yield loaded


def _first(loaded: Iterator[Batch], count: int, rows: int | None = None) -> Iterator[Batch]:
    """The first `count` of them, of those with so many rows."""
    found = 0
    while found < count and (batch := next(loaded, None)) is not None:
        if rows in (None, len(batch)):
            found += 1
            yield batch


def _targets(batch: Batch) -> list[int]:
    return [int(target) for target in given(batch.targets, "targets").tolist()]


def _class(job: Job, target: int) -> Class:
    return target, str(job.data.class_names[target])
