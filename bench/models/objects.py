"""Networks that find objects (model.output=boxes, exclusive_boxes, regions or exclusive_regions),
in runs: which object each row is of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from axiom_bench.cutting.images import OtherInputs, SeveralInputs, taken_apart
from axiom_bench.cutting.model_copy import shared_copy
from axiom_bench.cutting.objects import BoxScores, ObjectScores, RegionScores
from axiom_bench.cutting.output import LOGITS, Output
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.models import layers
from axiom_bench.models.spec import ModelSpec
from axiom_bench.models.user_code import import_function

# By model.output: the class, and whether classes exclude each other.
KINDS: Mapping[str, tuple[type[ObjectScores], bool]] = {
    "boxes": (BoxScores, False),
    "exclusive_boxes": (BoxScores, True),
    "regions": (RegionScores, False),
    "exclusive_regions": (RegionScores, True),
}


def of_objects(
    spec: ModelSpec, module: nn.Module, image: Tensor
) -> tuple[ObjectScores, Output, Objects]:
    """The network as one of objects, its output, and what it takes beside the images. image: one,
    (1, C, *space). Raises BenchError where it returns something else.
    """
    kind, exclusive = KINDS[str(spec.output)]
    expected = (
        "give module:function or path/to/file.py:function, from what the network returns to "
        f"{spec.output}"
    )
    read = None if spec.read is None else import_function(spec.read, "model.read", expected)
    network = kind(module, read, exclusive, spec.background).eval()
    output = replace(LOGITS, softmax=exclusive and kind is BoxScores)
    return network, output, Objects.of(network, image, spec.min_probability)


@dataclass(frozen=True)
class ObjectOfRow:
    """place: as the network takes it. explained: the object's place in the annotation; None for all
    of its class. detected: the annotation that the network's own objects make; None for the data's.
    """

    place: Tensor
    explained: int | None
    detected: Annotation | None = None


@dataclass(frozen=True)
class Objects:
    """What such a network takes beside the images, in place of an `InputsFile`. takes: how. ends:
    as `ObjectScores` has them. least: the probability that an object must have. of_rows: of each
    row of a job, by its id.
    """

    takes: SeveralInputs = field(compare=False, repr=False)
    ends: Tensor = field(compare=False, repr=False)
    least: float
    of_rows: Mapping[str, ObjectOfRow] = field(default_factory=dict, compare=False, repr=False)
    name: str = "model.output"

    @staticmethod
    def of(network: ObjectScores, image: Tensor, least: float) -> Objects:
        """image: one, (1, C, *space). Raises BenchError where the network returns something
        else.
        """
        ends = network.ends(image)
        takes, _, _ = taken_apart(network, (image, ends[:1]), 0)
        return Objects(takes, ends, least)

    @property
    def first(self) -> OtherInputs:
        """A place of any image, for a first pass."""
        return (self.ends[:1],)

    def shared(
        self, network: nn.Module, sides: tuple[int, ...], channels: int
    ) -> tuple[layers.Call, ...]:
        """The calls of the network's modules up to the last map that the scores of all places
        depend on, and its own: those among which its default layer is.
        """
        used: list[set[str]] = []
        for end in self.ends.split(1):
            self.takes.give(asked := shared_copy(network), (end,))
            *calls, last = layers.record(asked, sides, None, channels)
            maps = {
                call.name: call.output
                for call in calls
                if call.is_map and isinstance(call.output, Tensor)
            }
            assert isinstance(last.output, Tensor)
            gradients = torch.autograd.grad(last.output.sum(), [*maps.values()], allow_unused=True)
            used.append(
                {
                    name
                    for name, each in zip(maps, gradients, strict=True)
                    if each is not None and each.any()
                }
            )
        reached = set.intersection(*used)
        count = max(
            (place + 1 for place, call in enumerate(calls) if call.name in reached),
            default=len(calls),
        )
        return (*calls[:count], replace(last, edge=None))  # the graph is that of one place

    @property
    def description(self) -> str:
        """A sentence on what the network is given."""
        return "Its scores are those of one object of each image (model.output)."

    def of_images(self, images: Sequence[str], chosen: Sequence[str]) -> Objects:
        """The same: which objects there are is found when the job has its images."""
        return self

    def beside(self, batch: Batch) -> Batch:
        """The batch with each row's object."""
        rows = [self.of_rows[name] for name in batch.image_ids]
        of_data = batch.annotations or [Annotation.none()] * len(rows)
        annotations = tuple(map(partial(_of_row, batch.images.shape[2:]), rows, of_data))
        return replace(
            batch, annotations=annotations, other_inputs=(torch.stack([row.place for row in rows]),)
        )

    def sha256(self, image: str) -> str:
        """Of a row's object; "" of an image whose objects haven't been found."""
        if image not in self.of_rows:
            return ""
        row = self.of_rows[image]
        boxes = None if row.detected is None else row.detected.boxes.tolist()
        content = row.place.numpy().tobytes() + repr((row.explained, boxes)).encode()
        return hashlib.sha256(content).hexdigest()


def _of_row(size: Sequence[int], row: ObjectOfRow, of_data: Annotation) -> Annotation:
    """The annotation of a row's image of this size, with the object that is explained."""
    if (found := row.detected) is None:
        return replace(of_data, explained=row.explained)
    mask = found.mask
    if mask is not None:
        mask = interpolate(mask[None, None].float(), tuple(size), mode="nearest-exact")[0, 0].long()
    return replace(found, mask=mask, explained=row.explained, stored_pixel=of_data.stored_pixel)
