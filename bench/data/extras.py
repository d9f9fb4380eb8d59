"""What is read beside an image where a method or metric asks for it: interventions, and another image."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from axiom_bench.cutting.interventions import Part, Parts
from axiom_bench.data.base import BadImage, DataSet, Sample
from axiom_bench.data.preprocessing import Preprocessing, transforms

Arrays = tuple[tuple[str, int | None, NDArray[np.bool_], NDArray[np.float32]], ...]  # of Parts


@dataclass(frozen=True)
class Extras:
    """Of one image, as a worker sends it: in numpy, since each tensor would cost a file descriptor.

    parts: its interventions; () where the data set has none for this image. Both are None where nothing asks for
    them, and where the data set has none at all.
    """

    parts: Arrays | None = None
    other_image: NDArray[np.float32] | None = None

    @staticmethod
    def read(
        dataset: DataSet,
        index: int,
        sample: Sample,
        preprocessing: Preprocessing,
        names: Collection[str],
        image: Tensor,
    ) -> Extras:
        """names: which of "interventions" and "other_images". image: the sample's, preprocessed."""
        parts = other = None
        if "interventions" in names:
            stored = dataset.interventions(index)
            listed = preprocessing.parts(sample, stored) if stored else ()
            arrays = tuple((part.name, part.label, part.region.numpy(), part.images.numpy()) for part in listed)
            parts = None if stored is None else arrays
        if "other_images" in names:
            other = _other_image(dataset, index, preprocessing, image)
        return Extras(parts, None if other is None else other.numpy())

    def tensors(self) -> tuple[Parts | None, Tensor | None]:
        """(the parts, the other image (3, H', W'))."""
        parts = None if self.parts is None else tuple(
            Part(name, label, torch.from_numpy(region), torch.from_numpy(images))
            for name, label, region, images in self.parts
        )  # fmt: skip
        return parts, None if self.other_image is None else torch.from_numpy(self.other_image)


def others(dataset: DataSet, index: int) -> Iterator[int]:
    """The places in `ids` that may give the other image of this one: first one by the hash of the image's id, after it
    in order, each once and never the image itself."""
    count = len(dataset) - 1
    start = int.from_bytes(hashlib.sha256(dataset.ids[index].encode()).digest()[:8], "big")
    for step in range(count):
        place = (start + step) % count
        yield place + (place >= index)


def _other_image(dataset: DataSet, index: int, preprocessing: Preprocessing, image: Tensor) -> Tensor | None:
    """The first other image that can be read, preprocessed and in the size of `image`; None where there is none."""
    for place in others(dataset, index):
        try:
            other = preprocessing.tensor(dataset.read(place).image, dataset.ids[place])
        except BadImage:
            continue
        if other.shape != image.shape:
            other = transforms().resize(other, list(image.shape[-2:]), antialias=True)
        return other
    return None
