"""Explain networks of boxes and of masks, one object at a time.

An object's place is a second input of the network. The place of a box is the position of the dense
prediction that made it. The place of a mask is the region that counts. So scores are (B, C), a
class's logit for that object, as for any network with several inputs. A trace's activations,
gradients and drops are those of the score at a fixed place, before suppression.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from axiom_bench.cutting.model_copy import shared_copy
from axiom_bench.cutting.output import KEYS, Returned, described, reading
from axiom_bench.cutting.output_presets import intersection_over_union
from axiom_bench.cutting.passes import arithmetic, full_precision
from axiom_bench.errors import BenchError

if TYPE_CHECKING:
    from axiom_bench.cutting.joined import JoinedRows
    from axiom_bench.cutting.trace import Trace

Read = Callable[[Returned], Returned]  # from a network's return value to the explained part of it
MOST = 100  # the most objects of an image, as COCO counts them
CANDIDATES = 1000  # the most boxes among which these are searched
FEW = 100  # so few scores of an image may all be between 0 and 1 by chance
# if more than this share of boxes has a negative side, they are centres and sides instead of
# corners
TURNED = 0.25
# the columns of a place of a box, after its position
BOX = slice(1, 5)
REGION = slice(5, 9)
# If boxes of one class have a higher IoU, the one with the lower probability is suppressed, unless
# the network has another limit.
OVERLAP = 0.5


@dataclass(frozen=True)
class Found:
    """An object that a network finds, or a word that it says."""

    label: int  # the class
    probability: float  # of the class; for a region, the mean over it
    box: Tensor  # (4,), x0 y0 x1 y1 in pixels of the image
    place: Tensor  # the network's input that selects this object; see `PlacedScores`
    name: str | None = None  # the word; None: the name of the class
    # Of a word: the largest rank of its tokens in the vocabulary; 1 if each is the most probable.
    rank: int = 1


@dataclass(frozen=True)
class DecoderTokens:
    """The tokens that a decoder reads for the words of B rows, counted from its first one."""

    queries: Tensor  # the position of the token that predicts each row's word, (B,)
    image: Tensor  # the positions of the image's tokens, row by row, (M,)
    # The possible numbers of all tokens. A decoder may leave out the text's last one, since it
    # predicts nothing.
    totals: tuple[int, int]


class PlacedScores(nn.Module):
    """A network whose scores belong to one part of each image's result: an object, or a word.

    It maps images (B, C', H', W') and a place to logits (B, C). A module's `true_contributions`
    gets the place too.

    Args:
        module: The network. Its layers are named with or without `module.` before them.
    """

    of_objects = True
    of_words = False
    explained_dimensions = 2

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        truth = getattr(module, "true_contributions", None)
        if callable(truth):
            self.true_contributions = truth
            layer = getattr(module, "truth_layer", None)
            if layer is not None:
                self.truth_layer = f"module.{layer}"

    @abstractmethod
    def forward(self, images: Tensor, place: Tensor) -> Tensor:
        """Compute logits (B, C) of each class at the place."""

    @abstractmethod
    def ends(self, image: Tensor) -> Tensor:
        """Return one or two places that every image of this size has, (1 or 2, ...).

        Together they read all values that places share.
        """

    @abstractmethod
    def found(self, images: Tensor, least: float, whole: bool = False) -> list[list[Found]]:
        """Find the objects or words of each image with at least this probability."""

    @abstractmethod
    def other(self, objects: Sequence[Found], place: Tensor) -> Found | None:
        """Return another object or word of an image than that of the place; None without one.

        Args:
            objects: All that `found` returns for the image.
            place: The place of one of them.
        """

    def joined(self, images: Tensor, places: Tensor) -> list[JoinedRows]:
        """Join the neighbouring rows that share passes. Empty if each row needs passes of its own.

        Args:
            images: The images of the rows, (B, C', H', W').
            places: Their places, (B, ...).
        """
        return []

    def decoder_tokens(self, place: Tensor) -> DecoderTokens | None:
        """Return the tokens that a decoder computes the scores at places from; None without one."""
        return None


class ObjectScores(PlacedScores):
    """A network whose scores belong to one object of each image.

    Args:
        module: The network, as `PlacedScores` takes it.
        read: A function from the network's return value to the value that the class needs.
        exclusive: True if a softmax over the logits is the probability of each class; otherwise a
            sigmoid of each is.
        background: The class that is no object; -1: the last.
    """

    def __init__(
        self,
        module: nn.Module,
        read: Read | None = None,
        exclusive: bool = False,
        background: int | None = None,
    ) -> None:
        super().__init__(module)
        self.read = read
        self.exclusive = exclusive
        self.background = background

    @abstractmethod
    def nearest(self, images: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the places of the objects in boxes (B, 4), of these classes (B,).

        The images are (B, C', H', W').
        """

    def other(self, objects: Sequence[Found], place: Tensor) -> Found | None:
        """Return the most probable object that can't be the one of the place."""
        for found in objects:
            if not self.overlap(found.place.to(place), place):
                return found
        return None

    @abstractmethod
    def overlap(self, place: Tensor, other: Tensor) -> bool:
        """Return True if two places may belong to one object.

        These are boxes with an IoU above .5, or regions that share a position.
        """

    def returned(self, images: Tensor) -> Returned:
        """Return the network's result for images, as `read` returns it."""
        return self.apply_read(self.module(images))

    def apply_read(self, output: object) -> Returned:
        """Return the result of `read` for the network's return value."""
        return output if self.read is None else self.read(output)

    def _evaluated(self, images: Tensor) -> Returned:
        """Run `returned` in eval mode on images in the network's type, as in every trace."""
        network = shared_copy(self)
        assert isinstance(network, ObjectScores)
        tensors = (*network.parameters(), *network.buffers())
        first = next((tensor for tensor in tensors if tensor.is_floating_point()), images)
        output = network.module(images.to(first.device, first.dtype))
        with reading("function read", type(self.module).__name__):
            return network.apply_read(output)

    def _assert_logits(self, values: Tensor, classes: int) -> None:
        """Raise BenchError if the values can't be logits of the classes.

        The classes are their dimension `classes`.
        """
        network = type(self.module).__name__
        count = values.shape[classes]
        if self.background is not None and not -1 <= self.background < count:
            raise BenchError(
                f"{network} has no class {self.background}; background is 0 to {count - 1}, or -1."
            )
        if self.exclusive and count == 1:
            raise BenchError(
                "A softmax of one class is always 1; set exclusive=False (model.output=boxes or "
                "regions)."
            )
        if values[0].numel() > FEW and bool(((values >= 0) & (values <= 1)).all()):
            logit = ".log()" if self.exclusive else "torch.logit(p.clamp(1e-6, 1 - 1e-6))"
            raise BenchError(
                f"All scores of {network} are between 0 and 1, as probabilities; give logits of "
                f"read=, such as {logit}."
            )

    def probabilities(self, logits: Tensor, classes: int) -> Tensor:
        """Compute the probability of each class; classes are this dimension of the logits."""
        return logits.softmax(classes) if self.exclusive else logits.sigmoid()

    def extra_repr(self) -> str:
        """Return the settings for torch's description of the module."""
        return f"exclusive={self.exclusive}, background={self.background}"


class BoxScores(ObjectScores):
    """A network of boxes: it, or `read`, returns boxes (B, N, 4) and logits (B, N, C).

    They are those before suppression.

    Boxes are x0 y0 x1 y1 in pixels of the image. A place, (B, 5), is the position among N, and the
    box there. A third value of the network, (B, N, E), is appended to places.
    """

    def forward(self, images: Tensor, place: Tensor) -> Tensor:
        """Compute logits (B, C) at the position."""
        logits = self.returned(images)[1]
        return select_positions(logits, place[:, 0].long())

    def following(self, images: Tensor, place: Tensor) -> Tensor:
        """Compute logits (B, C) for changed images, at the box nearest to the place's.

        Nearest is the network's box with the highest IoU with the place's box.

        A box may move to another position (D-RISE, Petsiuk et al. 2021, arXiv:2006.03204, section
        3.2).
        """
        boxes, logits = self.returned(images)[:2]
        # all changed versions of an image share its place
        place_boxes = place[:, BOX].expand(len(boxes), -1)
        return select_positions(logits, _nearest(boxes, place_boxes))

    @torch.no_grad()
    def nearest(self, images: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the position and the box with the highest IoU with each of these boxes."""
        found, _, fixed = self._checked(images)
        positions = _nearest(found, boxes.to(found))
        rows = torch.arange(len(found))
        places = (positions[:, None].double(), found[rows, positions], fixed[rows, positions])
        return torch.cat(places, 1).to(place_dtype(found))

    def overlap(self, place: Tensor, other: Tensor) -> bool:
        """Return True if the boxes of two places have an IoU above .5."""
        return bool(intersection_over_union(place[None, BOX], other[None, BOX]) > OVERLAP)

    @torch.no_grad()
    def ends(self, image: Tensor) -> Tensor:
        """Return the first and the last position, with their boxes."""
        (boxes,), _, (fixed,) = self._checked(image)
        ends = torch.tensor([0, len(boxes) - 1], device=boxes.device)
        places = (ends[:, None].double(), boxes[ends], fixed[ends])
        return torch.cat(places, 1).to(place_dtype(boxes))

    @torch.no_grad()
    def found(self, images: Tensor, least: float, whole: bool = False) -> list[list[Found]]:
        """Find an object for each position and class.

        A more probable box of the same class with an IoU above .5 suppresses an object. A module
        may have another limit, `most_overlap`, or `has_one_class`: then each position has only its
        most probable class.
        """
        boxes, logits, fixed = self._checked(images)
        probabilities = self.probabilities(logits.double().cpu(), 2)
        if getattr(self.module, "has_one_class", False):
            best = probabilities.amax(2, keepdim=True)
            probabilities = torch.where(probabilities == best, probabilities, 0)
        if self.background is not None:
            probabilities[:, :, self.background] = 0
        rows = zip(boxes.double().cpu(), probabilities, fixed.cpu(), strict=True)
        most_overlap = getattr(self.module, "most_overlap", OVERLAP)
        return [list(islice(_unsuppressed(*row, least, most_overlap), MOST)) for row in rows]

    @full_precision()
    def _checked(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network's boxes and logits, or raise BenchError if they can't be these.

        The third value, (B, N, E), is what else a place needs; E is 0 for most networks.
        """
        returned = self._evaluated(images)
        network = type(self.module).__name__
        axes = (
            [getattr(part, "ndim", 0) for part in returned]
            if isinstance(returned, tuple | list)
            else []
        )
        pair = axes in ([3, 3], [3, 3, 3]) and all(isinstance(part, Tensor) for part in returned)
        if not pair or returned[0].shape[:2] != returned[1].shape[:2] or returned[0].shape[2] != 4:
            # torchvision's detectors return a list of dicts, after suppression
            suppressed = isinstance(returned, list) and isinstance(
                next(iter(returned), None), Mapping
            )
            others = (
                " torchvision's FCOS, RetinaNet and SSD become one by Detector(network, size) of "
                "axiom_bench.models.of_torchvision; Faster R-CNN by TwoStageDetector there and "
                "ProposalScores."
            )
            raise BenchError(
                f"{network} gives {described(returned)}, not boxes (B, N, 4) and logits (B, N, C) "
                "before suppression; give read=, a function from what it returns to these "
                f"two.{' (B, C, N) becomes (B, N, C) by .mT.' * pair}{others * suppressed}"
            )
        boxes, logits, *others = returned
        fixed = others[0] if others else boxes[..., :0]
        if self.exclusive and self.background is None:
            raise BenchError(
                f"One class of {network} is the background; set background=0 if it is the first "
                "one, or background=-1 if it is the last."
            )
        self._assert_logits(logits, 2)
        if (boxes <= 2).double().mean() == 1 and max(images.shape[2:]) > 8:
            raise BenchError(
                f"{network} gives boxes within 2 pixels of the corner; give read= pixels: x times "
                "the image's width, y times its height."
            )
        if (boxes[..., 2:] < boxes[..., :2]).any(2).double().mean() > TURNED:
            raise BenchError(
                f"{network} gives boxes with x1 < x0 or y1 < y0; give them as x0 y0 x1 y1 of "
                "read=: of centres and sides, centre - side / 2 and centre + side / 2."
            )
        return boxes, logits, fixed


class ProposalScores(BoxScores):
    """A network of two stages, such as Faster R-CNN, with the region fixed that made a box.

    It returns boxes (B, N, 4), logits (B, N, C) and the regions (B, N, 4) that it proposes for
    images, and the logits (B, C) of regions (B, 4) for images and regions. A place is (B, 9): that
    of `BoxScores`, and the region.
    """

    def forward(self, images: Tensor, place: Tensor) -> Tensor:
        """Compute logits (B, C) of the place's region."""
        logits: Tensor = self.module(images, place[:, REGION].to(images.dtype))
        return logits


class RegionScores(ObjectScores):
    """A network of masks: it, or `read`, returns maps of classes (B, C, h, w).

    The maps are returned directly or as an entry of KEYS.

    The score is the sum of a class's logits over the region. A place is a region, (B, h, w), 1
    where a position counts (Seg-Grad-CAM: Vinogradova, Dibrov and Myers, AAAI 2020).
    """

    def apply_read(self, output: object) -> Returned:
        """Return the maps, also if they are an entry of a dict."""
        output = super().apply_read(output)
        if not isinstance(output, Mapping):
            return output
        return next((output[key] for key in KEYS if key in output), output)

    def forward(self, images: Tensor, place: Tensor) -> Tensor:
        """Compute the sums (B, C)."""
        sums: Tensor = (self.returned(images) * place[:, None]).sum((2, 3))
        return sums

    @torch.no_grad()
    def nearest(self, images: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the positions in the box at which the class is the most probable.

        If there are none, return all positions in the box.
        """
        maps = self._checked(images)
        # the centre of each position, in pixels of the image
        x, y = (
            (torch.arange(side).to(maps) + 0.5) * (pixels / side)
            for side, pixels in zip(maps.shape[:1:-1], images.shape[:1:-1], strict=True)
        )
        x0, y0, x1, y1 = boxes.to(maps).T[..., None]
        is_in_columns = (x >= x0) & (x < x1)
        is_in_rows = (y >= y0) & (y < y1)
        inside = is_in_rows[:, :, None] & is_in_columns[:, None]
        has_class = inside & (maps.argmax(1) == labels.to(maps.device)[:, None, None])
        region: Tensor = has_class.where(has_class.any((1, 2), True), inside).to(maps)
        return region

    def overlap(self, place: Tensor, other: Tensor) -> bool:
        """Return True if two places share a position."""
        return bool((place * other).any())

    @torch.no_grad()
    def ends(self, image: Tensor) -> Tensor:
        """Return all positions, as one place."""
        return torch.ones_like(self._checked(image)[:, 0])

    @torch.no_grad()
    def found(self, images: Tensor, least: float, whole: bool = False) -> list[list[Found]]:
        """Find an object for each connected region in which a class is the most probable.

        With `whole`, all positions of such a class are one object.
        """
        values = self.probabilities(self._checked(images).double().cpu(), 1)
        classes = values.argmax(1)
        is_object = (
            torch.ones_like(classes, dtype=torch.bool) if self.exclusive else values.amax(1) >= 0.5
        )
        if self.background is not None:
            is_object &= classes != self.background % values.shape[1]
        sides = zip(images.shape[:1:-1], values.shape[:1:-1], strict=True)
        scale = torch.tensor([pixels / positions for pixels, positions in sides])
        rows = zip(values, classes.masked_fill(~is_object, -1), strict=True)
        return [_regions(*row, scale, least, whole) for row in rows]

    @full_precision()
    def _checked(self, images: Tensor) -> Tensor:
        """Return the network's maps of classes, or raise BenchError if they can't be these."""
        maps = self._evaluated(images)
        if not isinstance(maps, Tensor) or maps.ndim != 4:
            raise BenchError(
                f"{type(self.module).__name__} gives {described(maps)}, not maps of classes (B, "
                "C, h, w); give read=, a function from what it returns to these."
            )
        self._assert_logits(maps, 1)
        return maps


def rows_of_equal(images: Tensor) -> list[slice]:
    """Return the rows of images (B, ...) that are equal to their neighbours, as slices."""
    starts = [
        row
        for row in range(len(images))
        if row == 0 or not torch.equal(images[row], images[row - 1])
    ]
    return [slice(*ends) for ends in pairwise([*starts, len(images)])]


def place_dtype(values: Tensor) -> torch.dtype:
    """Return the type of places of a network with such values: float32, or float64.

    Half precision would round the number of a position to that of another.
    """
    return torch.promote_types(values.dtype, torch.float32)


def select_positions(logits: Tensor, position: Tensor) -> Tensor:
    """Select logits (B, N, C) at positions (B,): (B, C).

    A position outside the logits counts as the last one, since a cut asks for made-up places.
    """
    position = position.clamp(min=0, max=logits.shape[1] - 1)
    return logits.gather(1, position[:, None, None].expand(-1, 1, logits.shape[2]))[:, 0]


def _nearest(boxes: Tensor, to: Tensor) -> Tensor:
    """Return the position of the box with the highest IoU with each image's box, (B,).

    The network's boxes are (B, N, 4), those of the images (B, 4).
    """
    pairs = zip(to[:, None], boxes, strict=True)
    return torch.stack([intersection_over_union(*pair)[0].argmax() for pair in pairs])


def _unsuppressed(
    boxes: Tensor, probabilities: Tensor, fixed: Tensor, least: float, most_overlap: float
) -> Iterator[Found]:
    """Yield the detections of one image: boxes (N, 4), probabilities (N, C), fixed (N, E)."""
    positions, labels = (probabilities >= least).nonzero(as_tuple=True)
    values = probabilities[positions, labels]
    kept: list[tuple[int, Tensor]] = []
    for place in values.argsort(descending=True, stable=True)[:CANDIDATES].tolist():
        position = int(positions[place])
        label = int(labels[place])
        box = boxes[position]
        same = [other for other_label, other in kept if other_label == label]
        if same:
            overlaps = intersection_over_union(box[None], torch.stack(same))
            if bool((overlaps > most_overlap).any()):
                continue
        kept.append((label, box))
        yield Found(
            label=label,
            probability=float(values[place]),
            box=box.float(),
            place=torch.cat([box.new_tensor([position]), box, fixed[position]]).float(),
        )


def _regions(
    values: Tensor, classes: Tensor, scale: Tensor, least: float, whole: bool
) -> list[Found]:
    """Find the regions of one image.

    `values` are probabilities (C, h, w). `classes` are the class of each position, (h, w), -1 for
    none. `scale` is the width and height of a position in pixels.
    """
    regions = list[tuple[float, int, NDArray[np.bool_]]]()
    for label in classes[classes >= 0].unique().tolist():
        mask = (classes == label).numpy()
        parts, count = (mask.astype(int), 1) if whole else ndimage.label(mask)
        means = ndimage.mean(values[label].numpy(), parts, range(1, count + 1))
        chosen = np.argsort(-means, kind="stable")[:MOST]
        regions += [
            (float(means[part]), label, parts == part + 1)
            for part in chosen
            if means[part] >= least
        ]
    regions.sort(key=lambda region: -region[0])
    return [_region_object(*region, scale) for region in regions[:MOST]]


def _region_object(
    probability: float, label: int, region: NDArray[np.bool_], scale: Tensor
) -> Found:
    rows = np.flatnonzero(region.any(1))
    columns = np.flatnonzero(region.any(0))
    corners = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return Found(label, probability, corners * scale.repeat(2), torch.from_numpy(region).float())


def trace_objects(trace: Trace, boxes: Tensor) -> Trace:
    """Trace other objects of the same images and classes, those in boxes (B, 4).

    This costs one forward pass and one trace. The scores of any other network have no place, and
    stay the same.
    """
    network = trace.cut_model.model
    if not isinstance(network, ObjectScores):
        return trace.again()
    places = network.nearest(trace.images, boxes, trace.targets)
    _count(trace, len(trace))
    return trace.again(other_inputs=(places,))


@torch.no_grad()
def trace_other_object(trace: Trace) -> Trace:
    """Trace another object of each image with its own class, or another word about the image.

    It is the most probable other object, or the word that `WordScores.other` returns. If no other
    object has a probability of .05, the trace explains the same class at the first position, or for
    a network of masks on all of the image. This costs one forward pass and one trace. Raises
    BenchError for a network without objects and words.
    """
    network = trace.cut_model.model
    if not isinstance(network, PlacedScores):
        network = object_network(trace)
    least = 0.0 if network.of_words else 0.05  # a given text may be improbable
    own = trace.other_inputs[0]
    first = network.ends(trace.images[:1])[0]
    places: list[Tensor] = []
    targets: list[int] = []
    for objects, place, target in zip(
        network.found(trace.images, least), own, trace.targets.tolist(), strict=True
    ):
        other = network.other(objects, place)
        places.append(first if other is None else other.place.to(first))
        targets.append(target if other is None else other.label)
    _count(trace, len(trace))
    return trace.again(targets=torch.tensor(targets), other_inputs=(torch.stack(places),))


def object_network(trace: Trace) -> ObjectScores:
    """Return the network of boxes or masks behind the trace.

    Raises BenchError for any other network.
    """
    network = trace.cut_model.model
    if not isinstance(network, ObjectScores):
        raise BenchError(
            "This method explains one object of a network of boxes or masks, and this network is "
            "none; leave it out."
        )
    return network


def scored_boxes(trace: Trace) -> Tensor:
    """Return the box of each row's score, (B, 4) in pixels of the images.

    Raises BenchError as `object_network` does.
    """
    object_network(trace)
    return trace.other_inputs[0][:, BOX]


def scored_regions(trace: Trace) -> Tensor | None:
    """Return the region of each row's score, (B, h, w) of the network's maps.

    Return None for any other network.
    """
    return trace.other_inputs[0] if isinstance(trace.cut_model.model, RegionScores) else None


def network_results(trace: Trace, images: Tensor) -> Returned:
    """Return the result of a network of boxes or of masks for images.

    Each image counts as a pass of trunk and head.
    """
    with arithmetic(trace.cut_model.precision, trace.cut_model.device):
        returned = object_network(trace).returned(images)
    _count(trace, len(images))
    return returned


def _count(trace: Trace, passes: int) -> None:
    """Count forward passes."""
    trace.passes.trunk_forward += passes
    trace.passes.head_forward += passes
