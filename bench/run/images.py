"""A job's images as batches, and the decoded ones on disk (data.cache=FOLDER), shared by runs of equal preprocessing.
One file an image, a checksum before safetensors' format, named by the key of all that decides it. Files aren't synced,
which would take longer than decoding: what a power cut damages fails its checksum, and is read anew."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from axiom_bench.data.base import UNREADABLE, BadImage
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.formats.urls import free_bytes, size_text
from axiom_bench.data.loading import DamagedEntry, Decoded, batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import required
from axiom_bench.records import files
from axiom_bench.records.record_files import key
from axiom_bench.records.sources import Sources
from axiom_bench.run.job import OBJECT_RULES, Job

SUFFIX = ".image"
SMALL = torch.int16  # of masks, whose classes are counted in thousands at most
BESIDE_PIXELS = 1024  # bytes of a file, about
MAX_TRIED = 16  # images that can't be read, one after another
CHECKSUM = 4  # bytes: it is against accidents, and SHA-256 takes longer than reading


@dataclass(frozen=True)
class ImageCache:
    """common: key of what decides all entries. contents: of each image of the job, by its place in the data set."""

    folder: Path
    common: str
    contents: Mapping[int, str] = field(repr=False)

    def path(self, index: int) -> Path | None:
        """The file of an image; None for one that isn't kept: of another job, or with a file that can't be read."""
        content = self.contents.get(index)
        if content is None or UNREADABLE in content:
            return None
        name = key(common=self.common, content=content)
        return self.folder / name[:2] / f"{name}{SUFFIX}"

    def read(self, index: int) -> Decoded | None:
        """The image; None where it isn't there. Raises DamagedEntry where something else is."""
        path = self.path(index)
        if path is None:
            return None
        try:
            return _read(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DamagedEntry(str(path)) from error

    def write(self, index: int, image: Decoded) -> None:
        """Keeps the image. Raises BenchError where the folder can't be written."""
        path = self.path(index)
        if path is None:
            return
        content = save(_tensors_of(image))
        try:
            files.replace(path, _checksum(path.stem, content) + content, sync=False)
        except OSError as error:
            raise BenchError(
                f"Can't write to data.cache={self.folder}: {(error.strerror or str(error)).lower()}; allow writing "
                "there, free some space, choose another folder, or set data.cache=null."
            ) from error


def of_job(job: Job) -> ImageCache | None:
    """The job's cache of images; None where it has none. The scaling of values is no part of its key."""
    if job.cache is None:
        return None
    sources = tuple(sorted({source.module for source in job.data.sources}))
    return ImageCache(Path(job.cache), common_key(job.model.preprocessing, job.data.classes, sources), job.contents)


def common_key(preprocessing: Preprocessing, classes: Sequence[str], sources: tuple[str, ...]) -> str:
    """Key of what decides all entries of a job. sources: the modules of its data sets."""
    of_pixels = ("resize", "crop", "interpolation", "scaled_decoding", "channels")
    facts = [getattr(preprocessing, name) for name in of_pixels]
    return key(preprocessing=facts, classes=list(classes), code=_code(sources))


@lru_cache(maxsize=16)
def _code(sources: tuple[str, ...]) -> object:
    """It takes a third of a second, and is asked for by each shard."""
    code = Sources().of([batches.__module__, *sources])
    return code.sha256, code.versions


def announce(job: Job) -> None:
    """Says what the cache will take, before it is written. Raises BenchError where there is less space than that."""
    cache = of_job(job)
    if cache is None:
        return
    paths = {index: path for index in job.indices if (path := cache.path(index)) is not None}
    missing = [index for index, path in paths.items() if not os.path.exists(path)]
    of_images = f"{job.name}: {len(paths) - len(missing):,} of {len(paths):,} images are in data.cache={cache.folder}"
    if missing and (size := len(missing) * _entry_bytes(job, missing)):
        files.sweep(cache.folder)
        free = free_bytes(cache.folder)
        if size > free:
            raise BenchError(
                f"{of_images}; the others would take about {size_text(size)}, and {size_text(free)} are free there. "
                "Free some space, choose another folder, or set data.cache=null."
            )
        of_images += f"; the others will take about {size_text(size)}, and {size_text(free)} are free"
    Console().print(of_images, highlight=False, soft_wrap=True, markup=False)


def _entry_bytes(job: Job, indices: Sequence[int]) -> int:
    """Of the first of these images that can be read; 0 where that is none of the first few."""
    for index in indices[:MAX_TRIED]:
        workers = job.one_worker
        (item,) = batches(job.data, [index], job.model.preprocessing, "predicted", 1, workers, notes=job.notes)
        if isinstance(item, Batch):
            mask = item.annotations[0].mask
            of_images = item.images.numel() if job.data.shape is None else item.images.nbytes
            return of_images + (0 if mask is None else mask.numel() * SMALL.itemsize) + BESIDE_PIXELS
    return 0


def _tensors_of(image: Decoded) -> dict[str, Tensor]:
    """An entry's arrays, one of them all else as JSON."""
    note = image.annotation
    about: dict[str, object] = {
        **{"size": image.size, "label": image.label, "problems": image.problems, "turned": image.turned},
        **{"classes": note.classes, "stored_pixel": note.stored_pixel, "cells": note.cells},
    }
    text = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
    tensors = {"pixels": image.pixels, "labels": note.labels, "boxes": note.boxes, "about": text}
    if note.mask is not None:
        small = note.mask.to(SMALL)
        tensors["mask"] = small if torch.equal(small.long(), note.mask) else note.mask
    return tensors


def _read(path: Path) -> Decoded:
    """Raises FileNotFoundError where there is none; OSError, SafetensorError, ValueError, KeyError or TypeError for a
    damaged one."""
    content = files.read(path)
    checksum, content = content[:CHECKSUM], content[CHECKSUM:]
    if checksum != _checksum(path.stem, content):
        raise ValueError("its checksum doesn't match")
    tensors = load(content)
    about, mask = json.loads(tensors["about"].numpy().tobytes()), tensors.get("mask")
    masks = None if mask is None else mask.long()
    classes = None if about["classes"] is None else tuple(about["classes"])
    size, pixel, problems = (tuple(about[name]) for name in ("size", "stored_pixel", "problems"))
    annotation = Annotation(tensors["labels"], tensors["boxes"], masks, classes, pixel, about["cells"])
    return Decoded(tensors["pixels"], size, about["label"], annotation, problems, about["turned"])


def _checksum(name: str, content: bytes) -> bytes:
    """Over an entry's name and content."""
    return zlib.crc32(content, zlib.crc32(name.encode())).to_bytes(CHECKSUM, "big")


def rows(
    job: Job,
    indices: Sequence[int],
    extras: Collection[str] = (),
    size: int | None = None,
    workers: int | None = None,
    turned: dict[str, bool] | None = None,
) -> Iterator[Batch | BadImage]:
    """Batches on the job's device, with what the network takes beside images, and without annotations if these name
    other classes than the model's. extras: what is loaded beside the images, as `loading.batches` takes it. size,
    workers: None for the job's; these processes decode meanwhile. turned: gets {id: whether it is turned upright} of
    images with an EXIF orientation."""
    numbers = size or job.batch_size, job.workers if workers is None else workers
    others = job.hashes.stamps if "other_images" in extras else {}  # of images that others stand for
    stamps = job.hashes.stamps_of(job.data, indices) | others
    place = job.device.device, of_job(job)
    rule = "label" if job.target in OBJECT_RULES else job.target  # an object's class is its row's label
    of_job_data = job.data, indices, job.model.preprocessing, rule
    for batch in batches(*of_job_data, *numbers, extras, *place, stamps=stamps, turned=turned, notes=job.notes):
        if isinstance(batch, BadImage):
            yield batch
        else:
            of_model = batch if job.shares_classes else replace(batch, annotations=(), interventions=None)
            yield job.with_inputs(of_model)


def first_batch(job: Job, indices: Sequence[int], size: int, extras: Collection[str]) -> Batch | None:
    """The first `size` rows of images that can be read, on the job's device; None where there are none."""
    readable = rows(job, indices, extras, size, job.one_worker)
    return next((batch for batch in readable if isinstance(batch, Batch)), None)


def first_row(job: Job) -> Batch | None:
    """The first row of an image that can be read; None where there is none."""
    return first_batch(job, job.indices, 1, required((*job.methods, *job.metrics)))
