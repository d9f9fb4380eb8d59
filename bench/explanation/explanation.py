"""An Explanation: the result of one method on a batch; and a metric's Curve.

An Explanation has everything that a metric reads, and checks what a user puts into it.

Annotations come through protocols, which the classes Annotation and Batch of data.batch satisfy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from axiom_bench.cutting.numerics import SPACES, axes, over_space, resized
from axiom_bench.cutting.output import described
from axiom_bench.cutting.split_model import CachesResults, SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, plural, unknown_name

NORMALISATIONS = ("maximum", "minmax", "maximum_at_layer", "minmax_at_layer")


@dataclass(frozen=True)
class Map:
    """The result of a method that doesn't weight the layer's activations.

    It has no contributions, so the axioms don't apply to it.

    Attributes:
        raw: (B, h, w), signed, any h and w; of signals (B, l), of volumes (B, d, h, w).
        missing: (B,) bool on the CPU, the rows without a map, whose values have the status
            "no_map". None: every row has a map.
    """

    raw: Tensor
    missing: Tensor | None = None

    def __getitem__(self, rows: slice) -> Map:
        return Map(self.raw[rows], None if self.missing is None else self.missing[rows])


def heatmap(raw_map: Tensor, size: Sequence[int], normalise: str = "maximum") -> Tensor:
    """Turn a raw map into a heatmap: ReLU, bilinear resize and scaling to [0, 1].

    The resize has align_corners=False.

    Maps of signals and volumes are resized linearly or trilinearly. A map without a positive value
    stays all zero. NaN stays NaN.

    Args:
        raw_map: (B, h, w), (B, l) or (B, d, h, w), floating point.
        size: (H', W') in pixels, (L',) or (D', H', W').
        normalise: "maximum" divides by the map's maximum; "minmax" subtracts the minimum first
            (what pytorch-grad-cam does). "maximum_at_layer" and "minmax_at_layer" scale the map in
            its own size and then resize it (what torch-cam does), so that its largest value may be
            below 1.

    Returns:
        The heatmap, (B, H', W'), (B, L') or (B, D', H', W').

    Raises:
        BenchError: for another `normalise`, a wrong size, or a map for which `is_map` is False.
    """
    check_normalise(normalise)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    dimensions = raw_map.ndim - 1 if isinstance(raw_map, Tensor) else 0
    if not max(1, dimensions) <= len(sides) <= 3 or not all(
        isinstance(side, Integral) and side > 0 for side in sides
    ):
        raise BenchError(
            "The size of a heatmap is (H', W') in whole pixels, a side for each axis, not "
            f"{size!r}."
        )
    if not is_map(raw_map, len(sides)):
        if not isinstance(raw_map, Tensor):
            hint = "torch.as_tensor(map)"
        elif dimensions == len(sides) - 1:
            hint = "map[None]"
        else:
            hint = "map.abs() or map.float()"
        raise BenchError(
            f"A map is a floating-point tensor (B, {SPACES[len(sides)].lower()}) of at least one "
            f"pixel, not {described(raw_map)}; {hint} may be one."
        )
    maps = raw_map.clamp(min=0)
    if normalise.endswith("_at_layer"):
        # interpolated ones may be rounded above 1
        return resized(_scaled(maps, normalise), sides).clamp(0, 1)
    return _scaled(resized(maps, sides), normalise)


def _scaled(maps: Tensor, normalise: str) -> Tensor:
    """Divide non-negative maps by their maximum.

    Subtract their minimum first if `normalise` says so.
    """
    space = axes(maps, 1)
    if normalise.startswith("minmax"):
        maps = maps - maps.amin(space, keepdim=True)
    maximum = maps.amax(space, keepdim=True)
    return maps / torch.where(maximum == 0, torch.ones_like(maximum), maximum)


def is_map(raw_map: object, dimensions: int) -> bool:
    """Return True if a heatmap can be made of it.

    It is floating point, (B, h, w) for images, and has at least one pixel.
    """
    if not isinstance(raw_map, Tensor) or raw_map.ndim != dimensions + 1:
        return False
    return raw_map.is_floating_point() and 0 not in raw_map.shape[1:]


def weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """Return the contributions w F in the activations' shape (B, K, *space).

    weights: (B, K), or any shape that broadcasts to the activations.
    """
    factors = over_space(weights, activations) if weights.ndim == 2 else weights
    return factors * activations


def check_heatmap(heatmap: object, finite: bool, images: Tensor | None) -> None:
    """Raise BenchError unless a heatmap is a valid tensor (B, H', W').

    It is floating point, in [0, 1] and of the images' size.

    finite: True if NaN and infinity are refused as well.
    """
    ndim = 3 if images is None else images.ndim - 1
    maps = heatmap if isinstance(heatmap, Tensor) and heatmap.ndim == ndim else None
    is_valid = maps is not None and maps.is_floating_point() and _is_in_range(maps)
    if maps is not None and maps.is_floating_point() and not finite and not is_valid:
        # NaN is in no range; the status of its row reports it
        is_valid = _is_in_range(maps[maps.isfinite()])
    if maps is None or not is_valid:
        raise BenchError(
            "A heatmap is a floating-point tensor (B, H', W') with values in [0, 1]; pass "
            "ab.heatmap(map, (H', W')), which makes one of any map (B, h, w), and of signals and "
            "volumes images= too."
        )
    if images is not None and maps.shape[1:] != images.shape[2:]:
        raise BenchError(
            f"The heatmap is {described(maps)}, and images are {described(images)}; pass "
            f"ab.heatmap(map, {tuple(images.shape[2:])}), which resizes the map."
        )


def check_objects(boxes: Sequence[object] | None, masks: object, heatmap: Tensor) -> None:
    """Raise BenchError unless boxes and masks are valid.

    Boxes are pixels inside the image, and masks are bool and of the heatmap's shape.

    Boxes are (n, 4) for each image, (n, 2) for a signal, and (n, 6) for a volume. A box has its
    starts and then its ends, each with the last axis first.
    """
    sides = heatmap.shape[:0:-1]  # the last axis first, as in a box
    # metrics would count pixels of a wrong box without an error, so the form is checked here
    corners = {1: "(n, 2) for each signal, x0 x1", 3: "(n, 6) for each volume, x0 y0 z0 x1 y1 z1"}
    expected = corners.get(len(sides), "(n, 4) for each image, x0 y0 x1 y1")
    image_boxes = () if boxes is None else boxes
    are_tables = [
        isinstance(table, Tensor) and table.ndim == 2 and table.shape[1] == 2 * len(sides)
        for table in image_boxes
    ]
    if boxes is not None and not (len(boxes) == len(heatmap) and all(are_tables)):
        raise BenchError(
            f"Boxes are a tensor {expected}, in pixels; give boxes=(of_first_image, ...)."
        )
    for table in image_boxes:
        _check_boxes(table, sides)  # type: ignore[arg-type]
    is_mask = (
        isinstance(masks, Tensor) and masks.dtype == torch.bool and masks.shape == heatmap.shape
    )
    if masks is not None and not is_mask:
        raise BenchError(
            f"Masks are bool, as masks > 0, of {described(heatmap)} as heatmaps, not "
            f"{described(masks)}."
        )


def _check_boxes(boxes: Tensor, sides: Sequence[int]) -> None:
    """Raise BenchError unless boxes (n, 2 * axes) have an area and are pixels.

    The pixels are those of an image with these sides.

    Warn if a box reaches more than a pixel beyond the image.
    """
    starts, ends = boxes.chunk(2, 1)
    limits = boxes.new_tensor(sides)
    has_area = (ends > starts).all(1)
    is_outside = (starts >= limits).any(1) | (ends <= 0).any(1)
    is_beyond = (starts < -1).any(1) | (ends > limits + 1).any(1)
    size = f"torch.tensor({[*sides, *sides]})"
    corners = "torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)".replace(
        "2", str(len(sides))
    )
    if not has_area.all():
        raise BenchError(
            f"The box {boxes[~has_area][0].tolist()} is empty or isn't x0 y0 x1 y1; leave out "
            f"empty boxes. If yours are x, y, width and height, give {corners}."
        )
    if len(boxes) and min(sides) >= 16 and boxes.max() <= 1:
        raise BenchError(
            f"Boxes are pixels, and these are shares of the image's sides; give boxes * {size}."
        )
    pixels = " x ".join(map(str, sides))
    ways = (
        f"If the image was resized, give boxes * {size} / torch.tensor(...) of its original sides "
        f"in the same order; if it was cropped, boxes.clamp(min=0).minimum({size})."
    )
    if is_outside.any():
        raise BenchError(
            "Boxes are pixels of the image as the network sees it, and "
            f"{boxes[is_outside][0].tolist()} lies outside its {pixels} pixels. {ways}"
        )
    # the text has no numbers of a box, so that Python shows the same warning once
    if is_beyond.any():
        warnings.warn(f"Some boxes reach beyond the image's {pixels} pixels. {ways}", stacklevel=2)


def _is_in_range(values: Tensor) -> bool:
    """Return True if all values are in [0, 1], which NaN isn't.

    This takes one pass over the values.
    """
    if values.numel() == 0:
        return True
    low, high = values.aminmax()
    return bool((low >= 0) & (high <= 1))


def check_normalise(name: str) -> str:
    """Return the name itself. Raise BenchError if it isn't in NORMALISATIONS."""
    if name not in NORMALISATIONS:
        raise unknown_name("normalisation of heatmaps", name, NORMALISATIONS)
    return name


Method = Callable[[Trace], Tensor | Map]
Field = TypeVar("Field")
# The fields of an Explanation that `on` keeps.
ANNOTATIONS = (
    "boxes",
    "cells",
    "masks",
    "ignored",
    "stored_pixels",
    "wrong_class",
    "others",
    "same_class",
)


class AnnotatedObjects(Protocol):
    """The objects of one image, of several classes.

    Coordinates are pixels of the preprocessed image.
    """

    @property
    def labels(self) -> Tensor:
        """The class index of each object, (n,)."""

    @property
    def boxes(self) -> Tensor:
        """The box of each object, (n, 4): x0 y0 x1 y1, x1 and y1 exclusive."""

    @property
    def mask(self) -> Tensor | None:
        """The class index of each pixel, (H', W'); None if there is no mask.

        An index is negative for no class.
        """

    def boxes_of(self, target: int) -> Tensor:
        """Return the boxes of one class, (n, 4)."""


class AnnotatedRows(Protocol):
    """The annotations of the rows of a trace."""

    def annotations_of(self, targets: Tensor, classes: int) -> Mapping[str, Any]:
        """Return the annotations of the explained classes.

        The keys are names in ANNOTATIONS; a value is the Explanation's field of that name.

        targets: the explained classes, (B,). classes: the number of the model's classes.
        """


@dataclass(frozen=True)
class Explanation(CachesResults):
    """The result of one method on a batch, with the data that metrics read.

    A metric reads only some of the fields: `Explanation(heatmap=h, boxes=b)` is enough for one that
    needs no more. Shapes are given for images. Signals have one spatial axis and volumes three, as
    in a Trace. Boxes and masks are those of the explained class only.

    Raises:
        BenchError: if the heatmap is outside of [0, 1], or isn't finite and there is no raw map.
    """

    trace: Trace | None = None
    """The trace that was explained."""
    contributions: Tensor | None = None
    """The contributions M = w F, signed, (B, K, H, W); None for a `Map`."""
    raw_map: Tensor | None = None
    """The signed map before ReLU, resize and scaling, (B, h, w)."""
    heatmap: Tensor | None = None
    """The heatmap in [0, 1], (B, H', W')."""
    images: Tensor | None = None
    """The images, (B, 3, H', W')."""
    boxes: tuple[Tensor, ...] | None = None
    """The boxes of each row, (n, 4): x0 y0 x1 y1 in pixels, x1 and y1 exclusive."""
    masks: Tensor | None = None
    """The pixels of the explained class, (B, H', W') bool."""
    ignored: Tensor | None = None
    """The pixels that masks leave open, neither object nor background, (B, H', W') bool."""
    stored_pixels: tuple[tuple[float, ...], ...] | None = None
    """The width and height of a stored image's pixel in pixels of `images`, for each row; None: 1
    and 1."""
    wrong_class: Tensor | None = None
    """True if the image shows objects of other classes and none of the explained one, (B,) bool."""
    others: tuple[AnnotatedObjects, ...] | None = None
    """The objects of the image's other classes, as far as the model has these classes, for each
    row."""
    same_class: tuple[Tensor, ...] | None = None
    """The boxes of other objects of the same class, if one object is explained, (n, 4) for each
    row."""
    cells: tuple[Tensor, ...] | None = None
    """The cells of a mosaic that show the explained class, (n, 4) for each row, in the form of
    boxes."""
    missing: Tensor | None = None
    """The rows for which a Map has no map, (B,) bool; None: no row."""
    method: Method | None = None
    """The method, which `again` calls again."""
    normalise: str = "maximum"
    """The normalisation, see `heatmap`."""
    made: Tensor | None = field(default=None, repr=False, compare=False)
    """A heatmap that the function `heatmap` made. Its range isn't checked, since the check would
    wait for a GPU."""
    _results: dict[Hashable, object] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.heatmap is not None and self.heatmap is not self.made:
            # If a raw map isn't finite, a status says so. A heatmap without a raw map has no such
            # status.
            images = getattr(self.trace, "images", None) if self.images is None else self.images
            check_heatmap(self.heatmap, self.raw_map is None, images)
            check_objects(self.boxes, self.masks, self.heatmap)

    @staticmethod
    def of(
        trace: Trace,
        answer: Tensor | Map,
        batch: AnnotatedRows | Mapping[str, Any] | None = None,
        method: Method | None = None,
        normalise: str = "maximum",
    ) -> Explanation:
        """Return the explanation that a method's result gives.

        Args:
            trace: The explained trace.
            answer: Weights (B, K), weights that broadcast to the activations, or a Map.
            batch: The trace's batch, for its annotations, or the annotations of the trace's
                targets.
            method: The method.
            normalise: See `heatmap`.
        """
        if isinstance(answer, Map):
            contributions = None
            raw_map = answer.raw
        else:
            contributions = weighted(answer, trace.activations)
            raw_map = contributions.sum(1)
        if batch is not None and not isinstance(batch, Mapping):
            batch = batch.annotations_of(trace.classes_on_cpu[0], trace.logits.shape[1])
        # Passed twice: the range of a heatmap that is this very tensor needs no check.
        made = heatmap(raw_map, trace.images.shape[2:], normalise)
        return Explanation(
            trace=trace,
            contributions=contributions,
            raw_map=raw_map,
            heatmap=made,
            images=trace.images,
            missing=answer.missing if isinstance(answer, Map) else None,
            method=method,
            normalise=normalise,
            made=made,
            **(batch or {}),
        )

    def __repr__(self) -> str:
        names = ("contributions", "raw_map", "heatmap", "images", "masks")
        tensors = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        parts = [f"{name} {tuple(value.shape)}" for name, value in tensors.items()]
        if self.boxes is not None:
            parts.append(f"boxes of {plural(len(self.boxes), 'image')}")
        if self.method is not None:
            function_name = getattr(self.method, "__name__", type(self.method).__name__)
            parts.append(f"method {getattr(self.method, 'name', function_name)!r}")
        return f"Explanation({', '.join(parts)})"

    def __len__(self) -> int:
        fields = (self.heatmap, self.raw_map, self.contributions, self.images, self.trace)
        return len(next(field for field in fields if field is not None))

    @cached_property
    def finite(self) -> Tensor:
        """True if raw map, heatmap and score have neither NaN nor infinity, (B,) bool.

        Every metric needs this.
        """
        fields = (self.raw_map, self.heatmap, None if self.trace is None else self.trace.scores)
        # A number times 0 is NaN unless it is finite; summing is ten times as fast as checking each
        # number.
        rows = [
            field.reshape(len(field), -1).mul(0).sum(1).isfinite()
            for field in fields
            if field is not None
        ]
        return torch.stack(rows).all(0) if rows else torch.ones(len(self), dtype=torch.bool)

    @cached_property
    def channel_totals(self) -> Tensor:
        """The sum of each channel's contributions over space, (B, K): m_k = sum_xy M_k."""
        if self.contributions is None:
            raise BenchError("This explanation is a Map, which has no contributions per channel.")
        return self.contributions.sum(axes(self.contributions))

    @property
    def required_trace(self) -> Trace:
        """The trace. Raises BenchError if the explanation has none."""
        return required_field(self.trace, "trace")

    @property
    def of_words(self) -> bool:
        """True if each row explains one word of a text about its image."""
        return self.trace is not None and getattr(self.trace.cut_model.model, "of_words", False)

    @property
    def required_raw_map(self) -> Tensor:
        """The raw map. Raises BenchError if the explanation has none."""
        return required_field(self.raw_map, "raw_map")

    @property
    def required_heatmap(self) -> Tensor:
        """The heatmap. Raises BenchError if the explanation has none."""
        return required_field(self.heatmap, "heatmap")

    @property
    def required_images(self) -> Tensor:
        """The images. Raises BenchError if the explanation has none."""
        return required_field(self.images, "images")

    @property
    def required_boxes(self) -> tuple[Tensor, ...]:
        """The boxes. Raises BenchError if the explanation has none."""
        return required_field(self.boxes, "boxes")

    @property
    def required_masks(self) -> Tensor:
        """The masks. Raises BenchError if the explanation has none."""
        return required_field(self.masks, "masks")

    @property
    def dimensions(self) -> int:
        """The number of spatial axes: 1 for signals, 2 for images, 3 for volumes."""
        maps = self.heatmap if self.heatmap is not None else self.raw_map
        if maps is not None:
            return maps.ndim - 1
        return 2 if self.trace is None else self.trace.dimensions

    def again(
        self,
        images: Tensor | None = None,
        targets: Tensor | None = None,
        model: nn.Module | SplitModel | None = None,
    ) -> Explanation:
        """Explain other images, classes or another model by the same method.

        Annotations stay.

        Args:
            images: Other images, (B, 3, H', W'). None keeps this explanation's.
            targets: Other class indices, (B,). None keeps this explanation's.
            model: Another model, explained at the same layer, or a cut model of it. None keeps this
                explanation's.

        Returns:
            The other explanation.

        Raises:
            BenchError: if this explanation has no trace or no method.
        """
        if self.trace is None:
            raise _not_repeatable()
        return self.on(self.trace.again(images=images, targets=targets, model=model))

    def on(self, trace: Trace) -> Explanation:
        """Explain another trace by the same method; annotations stay.

        Raises:
            BenchError: if this explanation has no method.
        """
        if self.method is None:
            raise _not_repeatable()
        fresh = Explanation.of(
            trace, self.method(trace), method=self.method, normalise=self.normalise
        )
        return replace(fresh, **{name: getattr(self, name) for name in ANNOTATIONS})


def _not_repeatable() -> BenchError:
    """Return the error for an explanation that lacks what computes it again."""
    return BenchError(
        "This explanation has no trace or no method, so it can't be computed again; make it with "
        "Explanation.of(trace, method(trace), method=method)."
    )


def required_field(field: Field | None, name: str) -> Field:
    """Return a field that a metric requires. Raise BenchError if it is None."""
    if field is None:
        raise BenchError(
            f"This metric needs an explanation with {name}; pass Explanation({name}=...)."
        )
    return field


@dataclass(frozen=True, eq=False)
class Curve:
    """A metric's curve for each image of a batch, and the labels of its figure."""

    points: Tensor
    """The curves, (B, n)."""
    x: Sequence[float] | None = None
    """The positions of the n points, the same for all images. None: the curve is stored but not
    drawn."""
    title: str = ""
    x_label: str = ""
    y_label: str = ""

    def axes(self, better: str = "none") -> dict[str, object] | None:
        """Return how to draw the curve, {at, x, y, title, better}; None without x."""
        if self.x is None:
            return None
        positions = [float(position) for position in self.x]
        return {
            "at": positions,
            "x": self.x_label,
            "y": self.y_label,
            "title": self.title,
            "better": better,
        }
