"""A job's images as batches, and the cache of decoded images on disk (data.cache=FOLDER).

Every step of a run that needs images calls `rows`.

Runs with equal preprocessing share the cache. It has one file per image, named by the key of
everything that decides its content: a checksum, then safetensors' format. Files aren't synced,
since that would take longer than decoding. If a power cut damages a file, its checksum doesn't
match, and the image is decoded again.
"""

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
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.evaluation.plugins import required
from axiom_bench.records import files
from axiom_bench.records.record_files import key
from axiom_bench.records.sources import Sources
from axiom_bench.run.job import OBJECT_RULES, Job

SUFFIX = ".image"
SMALL = torch.int16  # the type of stored masks: data sets have at most some thousand classes
BESIDE_PIXELS = 1024  # bytes of a file in addition to pixels and mask, roughly
MAX_TRIED = 16  # if so many images can't be read one after another, the size of an entry is unknown
CHECKSUM = 4  # bytes: a CRC-32 guards against accidents, and SHA-256 would take longer than reading


@dataclass(frozen=True)
class ImageCache:
    """The decoded images of a job on disk."""

    folder: Path
    """The folder of the cache, which other jobs may share."""
    common: str
    """The key of everything that decides all entries of the job."""
    contents: Mapping[int, str] = field(repr=False)
    """{position in the data set: text that identifies the image's content}, for the images of the
    job."""

    def path(self, index: int) -> Path | None:
        """Return the file of an image, or None if the image belongs to another job or can't be
        read.
        """
        content = self.contents.get(index)
        if content is None or UNREADABLE in content:
            return None
        name = key(common=self.common, content=content)
        return self.folder / name[:2] / f"{name}{SUFFIX}"

    def read(self, index: int) -> Decoded | None:
        """Return the image, or None if the cache lacks it. Raise DamagedEntry if its file is
        damaged.
        """
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
        """Store an image. Raise BenchError if the folder can't be written."""
        path = self.path(index)
        if path is None:
            return
        content = save(_tensors(image))
        try:
            files.replace(path, _checksum(path.stem, content) + content, sync=False)
        except OSError as error:
            raise BenchError(
                f"Can't write to data.cache={self.folder}: "
                f"{(error.strerror or str(error)).lower()}; allow writing there, free some space, "
                "choose another folder, or set data.cache=null."
            ) from error


def image_cache(job: Job) -> ImageCache | None:
    """Return the job's cache of images, or None if data.cache isn't set. Its keys don't cover how
    values are scaled.
    """
    if job.cache is None:
        return None
    sources = tuple(sorted({source.module for source in job.data.sources}))
    common = common_key(job.model.preprocessing, job.data.classes, sources)
    return ImageCache(Path(job.cache), common, job.contents)


def common_key(
    preprocessing: Preprocessing, classes: Sequence[str], sources: tuple[str, ...]
) -> str:
    """Return the key of everything that decides all entries of a job.

    Args:
        preprocessing: The preprocessing of the model.
        classes: The classes of the data set.
        sources: The modules of the job's data sets.
    """
    pixel_fields = (
        "resize",
        "crop",
        "interpolation",
        "scaled_decoding",
        "channels",
        "letterbox",
    )
    facts = [getattr(preprocessing, name) for name in pixel_fields]
    return key(preprocessing=facts, classes=list(classes), code=_code(sources))


@lru_cache(maxsize=16)
def _code(sources: tuple[str, ...]) -> object:
    """Hash the code that decodes images. It is cached, since it takes a third of a second and each
    shard needs it.
    """
    code = Sources().code_of([batches.__module__, *sources])
    return code.sha256, code.versions


def announce(job: Job) -> None:
    """Print how much space the cache will take, before it is written. Raise BenchError if the disk
    has less space.
    """
    cache = image_cache(job)
    if cache is None:
        return
    # an image that can't be read has no path, since it is never stored
    paths = {index: path for index in job.indices if (path := cache.path(index)) is not None}
    missing = [index for index, path in paths.items() if not os.path.exists(path)]
    num_cached = len(paths) - len(missing)
    sentence = (
        f"{job.name}: {num_cached:,} of {plural(len(paths), 'image')} "
        f"{verb(num_cached, 'is', 'are')} in "
        f"data.cache={cache.folder}"
    )
    size = len(missing) * _entry_bytes(job, missing)
    if size:
        files.sweep(cache.folder)
        free = free_bytes(cache.folder)
        if size > free:
            raise BenchError(
                f"{sentence}; the others would take about {size_text(size)}, and "
                f"{size_text(free)} are free there. Free some space, choose another folder, or "
                "set data.cache=null."
            )
        sentence += (
            f"; the others will take about {size_text(size)}, and {size_text(free)} are free"
        )
    Console().print(sentence, highlight=False, soft_wrap=True, markup=False)


def _entry_bytes(job: Job, indices: Sequence[int]) -> int:
    """Return the size of the entry of the first readable image, or 0 if none of the first MAX_TRIED
    can be read.
    """
    for index in indices[:MAX_TRIED]:
        (item,) = batches(
            job.data,
            [index],
            job.model.preprocessing,
            target_rule="predicted",
            batch_size=1,
            workers=job.sample_workers,
            notes=job.notes,
        )
        if isinstance(item, Batch):
            mask = item.annotations[0].mask
            pixel_bytes = item.images.numel() if job.data.shape is None else item.images.nbytes
            mask_bytes = 0 if mask is None else mask.numel() * SMALL.itemsize
            return pixel_bytes + mask_bytes + BESIDE_PIXELS
    return 0


def _tensors(image: Decoded) -> dict[str, Tensor]:
    """Return the arrays of an entry. The array "about" has all plain values, as JSON."""
    annotation = image.annotation
    about: dict[str, object] = {
        "size": image.size,
        "label": image.label,
        "problems": image.problems,
        "turned": image.turned,
        "classes": annotation.classes,
        "stored_pixel": annotation.stored_pixel,
        "cells": annotation.cells,
    }
    text = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
    tensors = {
        "pixels": image.pixels,
        "labels": annotation.labels,
        "boxes": annotation.boxes,
        "about": text,
    }
    if annotation.mask is not None:
        small = annotation.mask.to(SMALL)
        tensors["mask"] = small if torch.equal(small.long(), annotation.mask) else annotation.mask
    return tensors


def _read(path: Path) -> Decoded:
    """Read an entry.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError, SafetensorError, ValueError, KeyError, TypeError: If the file is damaged.
    """
    content = files.read(path)
    checksum = content[:CHECKSUM]
    content = content[CHECKSUM:]
    if checksum != _checksum(path.stem, content):
        raise ValueError("its checksum doesn't match")
    tensors = load(content)
    about = json.loads(tensors["about"].numpy().tobytes())
    # `_tensors` has shortened the mask's type, and JSON has made lists of tuples
    mask = tensors.get("mask")
    classes = about["classes"]
    annotation = Annotation(
        tensors["labels"],
        tensors["boxes"],
        None if mask is None else mask.long(),
        None if classes is None else tuple(classes),
        tuple(about["stored_pixel"]),
        about["cells"],
    )
    return Decoded(
        tensors["pixels"],
        tuple(about["size"]),
        about["label"],
        annotation,
        tuple(about["problems"]),
        about["turned"],
    )


def _checksum(name: str, content: bytes) -> bytes:
    """Return the checksum of an entry's name and content."""
    return zlib.crc32(content, zlib.crc32(name.encode())).to_bytes(CHECKSUM, "big")


def rows(
    job: Job,
    indices: Sequence[int],
    extras: Collection[str] = (),
    size: int | None = None,
    workers: int | None = None,
    turned: dict[str, bool] | None = None,
) -> Iterator[Batch | BadImage]:
    """Yield batches of the job's images on the job's device, with the network's further inputs.

    Batches have no annotations if these name other classes than the model's.

    Args:
        job: The job.
        indices: Positions of the images in the job's data set.
        extras: The data to load in addition to the images, as `loading.batches` takes them.
        size: The number of rows in a batch; None: the job's.
        workers: The number of processes that decode images meanwhile; None: the job's.
        turned: Receives {id: whether it is turned upright} of images with an EXIF orientation.
    """
    stamps = job.hashes.stamps_of(job.data, indices)
    if "other_images" in extras:  # any image of the data set may be read as another image
        stamps = stamps | job.hashes.stamps
    # an object's class is its row's label
    target_rule = "label" if job.target in OBJECT_RULES else job.target
    loaded = batches(
        job.data,
        indices,
        job.model.preprocessing,
        target_rule=target_rule,
        batch_size=size or job.batch_size,
        workers=job.workers if workers is None else workers,
        extras=extras,
        device=job.device.device,
        cache=image_cache(job),
        stamps=stamps,
        turned=turned,
        notes=job.notes,
    )
    for batch in loaded:
        if isinstance(batch, BadImage):
            yield batch
        else:
            # a word has its own class of the data, if it names one
            if not job.shares_classes and not job.model.says_words:
                batch = replace(batch, annotations=(), interventions=None)
            yield job.with_inputs(batch)


def first_batch(
    job: Job, indices: Sequence[int], size: int, extras: Collection[str]
) -> Batch | None:
    """Return up to `size` rows of the first readable images on the job's device.

    Checks before a run, and samples of its images, look at them. The batch has fewer rows if an
    image of another size comes earlier. It is None if no image can be read.
    """
    readable = rows(job, indices, extras, size, job.sample_workers)
    return next((batch for batch in readable if isinstance(batch, Batch)), None)


def first_row(job: Job) -> Batch | None:
    """Return the first row of a readable image, or None if no image can be read."""
    return first_batch(job, job.indices, 1, required((*job.methods, *job.metrics)))
