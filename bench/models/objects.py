"""Prepare networks that find objects for runs, and keep the object of each row.

Their model.output is boxes, exclusive_boxes, regions or exclusive_regions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from axiom_bench.cutting.images import OtherInputs, SeveralInputs, separate_inputs
from axiom_bench.cutting.interventions import Parts
from axiom_bench.cutting.model_copy import shared_copy
from axiom_bench.cutting.objects import (
    BoxScores,
    ObjectScores,
    PlacedScores,
    ProposalScores,
    RegionScores,
)
from axiom_bench.cutting.output import LOGITS, Output
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.errors import BenchError
from axiom_bench.models import layers
from axiom_bench.models.spec import WORD_OUTPUTS, ModelSpec
from axiom_bench.models.user_code import import_function
from axiom_bench.models.words import WordScores

# By model.output: the class of the network, and whether the classes exclude each other.
KINDS: Mapping[str, tuple[type[ObjectScores], bool]] = {
    "boxes": (BoxScores, False),
    "exclusive_boxes": (BoxScores, True),
    "regions": (RegionScores, False),
    "exclusive_regions": (RegionScores, True),
}


def wrap_object_network(
    spec: ModelSpec, module: nn.Module, image: Tensor
) -> tuple[PlacedScores, Output, Objects]:
    """Wrap a network that finds objects.

    Args:
        spec: The model's settings.
        module: The network.
        image: One image, (1, C, *space).

    Returns:
        The network whose scores are those of an object, its output, and its inputs in addition to
        the images.

    Raises:
        BenchError: if the network returns something else.
    """
    if spec.output in WORD_OUTPUTS:
        words = _word_network(spec, module)
        return words, LOGITS, Objects.of(words, image, 0.0)
    kind, exclusive = KINDS[str(spec.output)]
    if getattr(module, "has_two_stages", False):
        kind = ProposalScores
    expected = (
        "give module:function or path/to/file.py:function, from what the network returns to "
        f"{spec.output}"
    )
    read = None if spec.read is None else import_function(spec.read, "model.read", expected)
    network = kind(module, read, exclusive, spec.background).eval()
    # A region's score is a sum of logits, whose softmax is no probability.
    output = replace(LOGITS, softmax=exclusive and issubclass(kind, BoxScores))
    return network, output, Objects.of(network, image, spec.min_probability)


def _word_network(spec: ModelSpec, module: nn.Module) -> WordScores:
    """Return the network of words with the score that model.output names.

    Raises:
        BenchError: if the network says no text.
    """
    if not isinstance(module, WordScores) and hasattr(module, "answer"):
        module = WordScores(module).eval()
    if not isinstance(module, WordScores):
        raise BenchError(
            f"{spec.name} says no text about an image, which model.output={spec.output} is about. "
            "Give a network of transformers by model=huggingface, or a function that returns an "
            "ab.WordScores."
        )
    module.output = WORD_OUTPUTS[str(spec.output)]
    return module


@dataclass(frozen=True)
class RowObject:
    """The object that one row explains.

    An image of three objects has three rows, and each needs another place and another annotation.
    """

    place: Tensor  # the object's place, as the network takes it
    explained: int | None  # the object's index in the annotation; None for all of its class
    # The annotation of the objects that the network itself found; None for the data's annotation.
    detected: Annotation | None = None
    name: str | None = None  # the word that is explained; None for an object of a class
    # Of a word: its token, and the data's class that it names or a number that no class has. These
    # change places in the annotation, so that the word's class is the data's.
    swapped: tuple[int, int] | None = None


@dataclass(frozen=True)
class Objects:
    """The objects to explain, which such a network takes in addition to the images.

    It has the methods of an `InputsFile`.
    """

    takes: SeveralInputs = field(compare=False, repr=False)  # how the network takes its inputs
    ends: Tensor = field(compare=False, repr=False)  # as `PlacedScores` has them
    least: float  # the lowest probability of an object that is explained
    # The object of each row of a job, by the row's id.
    object_by_row: Mapping[str, RowObject] = field(default_factory=dict, compare=False, repr=False)
    name: str = "model.output"

    @staticmethod
    def of(network: PlacedScores, image: Tensor, least: float) -> Objects:
        """Return the objects of a network, none of which is found yet.

        Args:
            network: The network.
            image: One image, (1, C, *space).
            least: The lowest probability of an object that is explained.

        Raises:
            BenchError: if the network returns something else than objects.
        """
        ends = network.ends(image)
        takes, _, _ = separate_inputs(network, (image, ends[:1]), 0)
        return Objects(takes, ends, least)

    @property
    def first(self) -> OtherInputs:
        """A place in any image, for a first forward pass."""
        return (self.ends[:1],)

    def shared(
        self, network: nn.Module, sides: tuple[int, ...], channels: int
    ) -> tuple[layers.Call, ...]:
        """Return the calls among which the default layer is.

        They are the calls up to the last map on which the scores of all places depend, and that of
        the network itself.
        """
        used_maps: list[set[str]] = []
        for end in self.ends.split(1):
            network_copy = shared_copy(network)
            self.takes.give(network_copy, (end,))
            *calls, last = layers.record_calls(network_copy, sides, None, channels)
            maps = {}
            for call in calls:
                # The network's own maps are its result, and a map such as an embedding of positions
                # doesn't depend on the image.
                is_layer = call.is_map and call.name != "module"
                if is_layer and isinstance(call.output, Tensor) and call.output.requires_grad:
                    maps[call.name] = call.output
            assert isinstance(last.output, Tensor)
            gradients = torch.autograd.grad(last.output.sum(), [*maps.values()], allow_unused=True)
            used = set()
            for name, gradient in zip(maps, gradients, strict=True):
                if gradient is not None and gradient.any():
                    used.add(name)
            used_maps.append(used)
        common_maps = set.intersection(*used_maps)
        count = max(
            (index + 1 for index, call in enumerate(calls) if call.name in common_maps),
            default=len(calls),
        )
        # The graph of the last pass is that of one place only, so it decides nothing.
        return (*calls[:count], replace(last, edge=None))

    @property
    def description(self) -> str:
        """A sentence on the network's inputs."""
        return "Its scores are those of one object of each image (model.output)."

    def for_images(self, images: Sequence[str], chosen: Sequence[str]) -> Objects:
        """Return this object unchanged: the objects are found when the job has its images."""
        return self

    def add_to_batch(self, batch: Batch) -> Batch:
        """Return the batch with each row's object."""
        rows = [self.object_by_row[name] for name in batch.image_ids]
        size = batch.images.shape[2:]
        data_annotations = batch.annotations or [Annotation.none()] * len(rows)
        annotations = tuple(
            _row_annotation(size, row, annotation)
            for row, annotation in zip(rows, data_annotations, strict=False)
        )
        places = torch.stack([row.place for row in rows])
        interventions = batch.interventions
        if interventions is not None:
            interventions = tuple(
                _swapped_parts(row, parts) for row, parts in zip(rows, interventions, strict=True)
            )
        return replace(
            batch, annotations=annotations, interventions=interventions, other_inputs=(places,)
        )

    def row_name(self, row: str) -> str | None:
        """Return the word that a row explains, or None for an object of a class."""
        return self.object_by_row[row].name if row in self.object_by_row else None

    def sha256(self, image: str) -> str:
        """Return the SHA-256 of a row's object, or "" if the image's objects aren't found yet.

        It is part of the key of every value of the row.
        """
        if image not in self.object_by_row:
            return ""
        row = self.object_by_row[image]
        boxes = None if row.detected is None else row.detected.boxes.tolist()
        facts = repr((row.explained, boxes))
        if row.swapped is not None:
            facts += repr(row.swapped)
        content = row.place.numpy().tobytes() + facts.encode()
        return hashlib.sha256(content).hexdigest()


def _row_annotation(size: Sequence[int], row: RowObject, data_annotation: Annotation) -> Annotation:
    """Return the annotation of a row's image of this size, with the object that is explained."""
    detected = row.detected
    if detected is None and row.swapped is not None:
        return data_annotation.swapped(*row.swapped)
    if detected is None:
        return replace(data_annotation, explained=row.explained)
    mask = detected.mask
    if mask is not None:
        mask = interpolate(mask[None, None].float(), tuple(size), mode="nearest-exact")[0, 0].long()
    return replace(
        detected,
        mask=mask,
        explained=row.explained,
        stored_pixel=data_annotation.stored_pixel,
    )


def _swapped_parts(row: RowObject, parts: Parts) -> Parts:
    """Return the parts of a row's image, in which the object that a word names has its class."""
    if row.swapped is None:
        return parts
    first, second = row.swapped
    labels = {first: second, second: first}
    return tuple(
        part if part.label is None else replace(part, label=labels.get(part.label, part.label))
        for part in parts
    )
