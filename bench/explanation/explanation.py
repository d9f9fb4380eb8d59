"""An Explanation: the result of one method on a batch, with everything that a metric reads; and a metric's Curve.

Annotations come by protocols that data.batch's Annotation and Batch satisfy.
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
from axiom_bench.errors import BenchError, unknown

NORMALISATIONS = ("maximum", "minmax", "maximum_at_layer", "minmax_at_layer")


@dataclass(frozen=True)
class Map:
    """The result of a method that doesn't weight the layer's activations.

    It has no contributions, so the axioms don't apply to it.

    Attributes:
        raw: (B, h, w), signed, any h and w; of signals (B, l), of volumes (B, d, h, w).
        missing: (B,) bool on the CPU, the rows without a map, whose values have the status "no_map"; None: none.
    """

    raw: Tensor
    missing: Tensor | None = None

    def __getitem__(self, rows: slice) -> Map:
        return Map(self.raw[rows], None if self.missing is None else self.missing[rows])


def heatmap(raw_map: Tensor, size: Sequence[int], normalise: str = "maximum") -> Tensor:
    """ReLU, bilinear resize (align_corners=False), scaling: (B, h, w) -> (B, H', W') in [0, 1].

    Of signals and volumes the resize is linear or trilinear. A map without a positive value stays all zero. NaN stays
    NaN.

    Args:
        raw_map: (B, h, w), (B, l) or (B, d, h, w), floating point.
        size: (H', W') in pixels, (L',) or (D', H', W').
        normalise: "maximum" divides by the map's maximum; "minmax" subtracts the minimum first (what pytorch-grad-cam
            does). "maximum_at_layer" and "minmax_at_layer" scale the map in its own size and resize it then (what
            torch-cam does), so that its values may end below 1.

    Raises:
        BenchError: for another normalise, and for what `is_map` says is none.
    """
    check_normalise(normalise)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    dimensions = raw_map.ndim - 1 if isinstance(raw_map, Tensor) else 0
    if not max(1, dimensions) <= len(sides) <= 3 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise BenchError(f"The size of a heatmap is (H', W') in whole pixels, a side for each axis, not {size!r}.")
    if not is_map(raw_map, len(sides)):
        of_tensor = "map[None]" if dimensions == len(sides) - 1 else "map.abs() or map.float()"
        mended = of_tensor if isinstance(raw_map, Tensor) else "torch.as_tensor(map)"
        raise BenchError(
            f"A map is a floating-point tensor (B, {SPACES[len(sides)].lower()}) of at least one pixel, not "
            f"{described(raw_map)}; {mended} may be one."
        )
    maps = raw_map.clamp(min=0)
    if normalise.endswith("_at_layer"):
        return resized(_scaled(maps, normalise), sides).clamp(0, 1)  # interpolating ones may round to above 1
    return _scaled(resized(maps, sides), normalise)


def _scaled(maps: Tensor, normalise: str) -> Tensor:
    """Divide non-negative maps by their maximum, and subtract their minimum first if `normalise` says so."""
    space = axes(maps, 1)
    if normalise.startswith("minmax"):
        maps = maps - maps.amin(space, keepdim=True)
    maximum = maps.amax(space, keepdim=True)
    return maps / torch.where(maximum == 0, torch.ones_like(maximum), maximum)


def is_map(raw_map: object, dimensions: int) -> bool:
    """Whether a heatmap can be made of it: floating point, (B, h, w) of images, at least one pixel."""
    if not isinstance(raw_map, Tensor) or raw_map.ndim != dimensions + 1:
        return False
    return raw_map.is_floating_point() and 0 not in raw_map.shape[1:]


def weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """Contributions w F, of the activations' shape (B, K, *space): weights (B, K), or that broadcast to them."""
    return (over_space(weights, activations) if weights.ndim == 2 else weights) * activations


def check_heatmap(heatmap: object, finite: bool, images: Tensor | None) -> None:
    """Raises BenchError unless it is a floating-point tensor (B, H', W') in [0, 1], of the axes and sides of images.

    finite: whether NaN and infinity are refused too.
    """
    ndim = 3 if images is None else images.ndim - 1
    maps = heatmap if isinstance(heatmap, Tensor) and heatmap.ndim == ndim and heatmap.is_floating_point() else None
    if maps is None or not (_in_range(maps) or (not finite and _in_range(maps[maps.isfinite()]))):
        raise BenchError(
            "A heatmap is a floating-point tensor (B, H', W') with values in [0, 1]; pass ab.heatmap(map, (H', W')), "
            "which makes one of any map (B, h, w), and of signals and volumes images= too."
        )
    if images is not None and maps.shape[1:] != images.shape[2:]:
        raise BenchError(
            f"The heatmap is {described(maps)}, and images are {described(images)}; pass "
            f"ab.heatmap(map, {tuple(images.shape[2:])}), which resizes the map."
        )


def check_objects(boxes: Sequence[object] | None, masks: object, heatmap: Tensor) -> None:
    """Raises BenchError unless boxes are pixels inside the image, (n, 4) for each, and masks bool, of the heatmap's
    shape.

    A box has its starts and then its ends, each with the last axis first: (n, 2) of signals, (n, 6) of volumes.
    """
    sides = heatmap.shape[:0:-1]
    corners = {1: "(n, 2) for each signal, x0 x1", 3: "(n, 6) for each volume, x0 y0 z0 x1 y1 z1"}
    of_each = corners.get(len(sides), "(n, 4) for each image, x0 y0 x1 y1")
    tables = () if boxes is None else boxes
    are_tables = [
        isinstance(of_image, Tensor) and of_image.ndim == 2 and of_image.shape[1] == 2 * len(sides)
        for of_image in tables
    ]
    if boxes is not None and not (len(boxes) == len(heatmap) and all(are_tables)):
        raise BenchError(f"Boxes are a tensor {of_each} in its pixels; give boxes=(of_image, ...).")
    for of_image in tables:
        _check_boxes(of_image, sides)  # type: ignore[arg-type]
    is_mask = isinstance(masks, Tensor) and masks.dtype == torch.bool and masks.shape == heatmap.shape
    if masks is not None and not is_mask:
        raise BenchError(f"Masks are bool, as masks > 0, of {described(heatmap)} as heatmaps, not {described(masks)}.")


def _check_boxes(boxes: Tensor, sides: Sequence[int]) -> None:
    """Raises BenchError unless boxes (n, 2 * axes) have an area and are pixels of an image with these sides, and warns
    of one that reaches more than a pixel beyond it."""
    starts, ends = boxes.chunk(2, 1)
    limits = boxes.new_tensor(sides)
    has_area = (ends > starts).all(1)
    is_outside = (starts >= limits).any(1) | (ends <= 0).any(1)
    is_beyond = (starts < -1).any(1) | (ends > limits + 1).any(1)
    size = f"torch.tensor({[*sides, *sides]})"
    corners = "torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)".replace("2", str(len(sides)))
    if not has_area.all():
        raise BenchError(
            f"Boxes are x0 y0 x1 y1, and {boxes[~has_area][0].tolist()} doesn't end behind its start; leave out empty "
            f"boxes. {corners} makes them of x, y, width and height."
        )
    if len(boxes) and min(sides) >= 16 and boxes.max() <= 1:
        raise BenchError(f"Boxes are pixels, and these are shares of the image's sides; give boxes * {size}.")
    pixels = " x ".join(map(str, sides))
    ways = (
        f"If the image was resized, give boxes * {size} / torch.tensor(...) of its original sides in the same order; "
        f"if it was cropped, boxes.clamp(min=0).minimum({size})."
    )
    if is_outside.any():
        raise BenchError(
            f"Boxes are pixels of the image as the network sees it, and {boxes[is_outside][0].tolist()} lies outside "
            f"its {pixels} pixels. {ways}"
        )
    if is_beyond.any():  # without numbers of a box, so that Python shows the same warning once
        warnings.warn(f"Some boxes reach beyond the image's {pixels} pixels. {ways}", stacklevel=2)


def _in_range(values: Tensor) -> bool:
    """Whether all are in [0, 1]; NaN isn't. One pass over values that all are, as of nearly every map."""
    if values.numel() == 0:
        return True
    low, high = values.aminmax()
    return bool((low >= 0) & (high <= 1))


def check_normalise(name: str) -> str:
    """The name itself. Raises BenchError for one that isn't in NORMALISATIONS."""
    if name not in NORMALISATIONS:
        raise unknown("normalisation of heatmaps", name, NORMALISATIONS)
    return name


Method = Callable[[Trace], Tensor | Map]
Field = TypeVar("Field")
# which `on` keeps
ANNOTATIONS = ("boxes", "cells", "masks", "ignored", "stored_pixels", "wrong_class", "others", "same_class")


class AnnotatedObjects(Protocol):
    """Objects of one image, of several classes; coordinates are pixels of the preprocessed image."""

    @property
    def labels(self) -> Tensor:
        """(n,) class indices."""

    @property
    def boxes(self) -> Tensor:
        """(n, 4), x0 y0 x1 y1, x1 and y1 exclusive; one row per label."""

    @property
    def mask(self) -> Tensor | None:
        """(H', W') class index per pixel, negative for none; None where there is no mask."""

    def boxes_of(self, target: int) -> Tensor:
        """The boxes of one class: (n, 4)."""


class AnnotatedRows(Protocol):
    """Annotations of the rows of a trace."""

    def annotations_of(self, targets: Tensor, classes: int) -> Mapping[str, Any]:
        """What they say of the explained classes (B,) of a model of so many: {name in ANNOTATIONS: an Explanation's
        field of that name}."""


@dataclass(frozen=True)
class Explanation(CachesResults):
    """A metric reads some of these fields; `Explanation(heatmap=h, boxes=b)` is enough for one that needs no more.

    Shapes are those of images; signals have one axis of space and volumes three, as in a Trace. Boxes and masks are of
    the explained class only. A heatmap outside of [0, 1] raises BenchError, and so does one that
    isn't finite and has no raw map.
    """

    trace: Trace | None = None
    """What was explained."""
    contributions: Tensor | None = None
    """(B, K, H, W), M = w F, signed; None for a `Map`."""
    raw_map: Tensor | None = None
    """(B, h, w), signed."""
    heatmap: Tensor | None = None
    """(B, H', W') in [0, 1]."""
    images: Tensor | None = None
    """(B, 3, H', W')."""
    boxes: tuple[Tensor, ...] | None = None
    """Per row (n, 4), x0 y0 x1 y1 in pixels, x1 and y1 exclusive."""
    masks: Tensor | None = None
    """(B, H', W') bool."""
    ignored: Tensor | None = None
    """(B, H', W') bool, pixels that masks leave open, neither object nor background."""
    stored_pixels: tuple[tuple[float, ...], ...] | None = None
    """Per row the width and height of a stored image's pixel in pixels of `images`; None: 1 and 1."""
    wrong_class: Tensor | None = None
    """(B,) bool, where the image shows objects of other classes and none of the explained one."""
    others: tuple[AnnotatedObjects, ...] | None = None
    """Per row the objects of the image's other classes, of those that the model has."""
    same_class: tuple[Tensor, ...] | None = None
    """Where one object is explained, per row the boxes of the others of its class, (n, 4)."""
    cells: tuple[Tensor, ...] | None = None
    """Per row the cells of a mosaic that show the explained class, (n, 4) as boxes are."""
    missing: Tensor | None = None
    """(B,) bool, rows of a Map that has none of their images; None: none."""
    method: Method | None = None
    """What was asked for the answer, for `again`."""
    normalise: str = "maximum"
    """As `heatmap` has it."""
    made: Tensor | None = field(default=None, repr=False, compare=False)
    """A heatmap of `explanation.heatmap`, whose range needs no check, for which a GPU would be waited for."""
    _results: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.heatmap is not None and self.heatmap is not self.made:
            # Where a raw map isn't finite, a status says so; a heatmap alone has none.
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
        """From a method's result: weights (B, K), or that broadcast to the activations, or a Map.

        batch: the trace's, for its annotations, or what they say of the trace's targets.
        """
        contributions = None if isinstance(answer, Map) else weighted(answer, trace.activations)
        raw_map = answer.raw if isinstance(answer, Map) else contributions.sum(1)  # type: ignore[union-attr]
        if batch is not None and not isinstance(batch, Mapping):
            batch = batch.annotations_of(trace.classes_on_cpu[0], trace.logits.shape[1])
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
        parts += [] if self.boxes is None else [f"boxes of {len(self.boxes)} images"]
        method = getattr(self.method, "name", getattr(self.method, "__name__", type(self.method).__name__))
        parts += [] if self.method is None else [f"method {method!r}"]
        return f"Explanation({', '.join(parts)})"

    def __len__(self) -> int:
        fields = (self.heatmap, self.raw_map, self.contributions, self.images, self.trace)
        return len(next(field for field in fields if field is not None))

    @cached_property
    def finite(self) -> Tensor:
        """(B,) bool: where raw map, heatmap and score have neither NaN nor infinity. Every metric needs it."""
        fields = (self.raw_map, self.heatmap, None if self.trace is None else self.trace.scores)
        # A number times 0 is NaN unless it is finite; summing is ten times as fast as checking each number.
        rows = [field.reshape(len(field), -1).mul(0).sum(1).isfinite() for field in fields if field is not None]
        return torch.stack(rows).all(0) if rows else torch.ones(len(self), dtype=torch.bool)

    @cached_property
    def channel_totals(self) -> Tensor:
        """m_k = sum over x, y of M_k: (B, K)."""
        if self.contributions is None:
            raise BenchError("This explanation is a Map, which has no contributions per channel.")
        return self.contributions.sum(axes(self.contributions))

    @property
    def required_trace(self) -> Trace:
        """The trace. Raises BenchError for an explanation without."""
        return given(self.trace, "trace")

    @property
    def required_raw_map(self) -> Tensor:
        """The raw map. Raises BenchError for an explanation without."""
        return given(self.raw_map, "raw_map")

    @property
    def required_heatmap(self) -> Tensor:
        """The heatmap. Raises BenchError for an explanation without."""
        return given(self.heatmap, "heatmap")

    @property
    def required_images(self) -> Tensor:
        """The images. Raises BenchError for an explanation without."""
        return given(self.images, "images")

    @property
    def required_boxes(self) -> tuple[Tensor, ...]:
        """The boxes. Raises BenchError for an explanation without."""
        return given(self.boxes, "boxes")

    @property
    def required_masks(self) -> Tensor:
        """The masks. Raises BenchError for an explanation without."""
        return given(self.masks, "masks")

    @property
    def dimensions(self) -> int:
        """How many axes of space it has: 1 of signals, 2 of images, 3 of volumes."""
        maps = self.heatmap if self.heatmap is not None else self.raw_map
        return maps.ndim - 1 if maps is not None else 2 if self.trace is None else self.trace.dimensions

    def again(
        self, images: Tensor | None = None, targets: Tensor | None = None, model: nn.Module | SplitModel | None = None
    ) -> Explanation:
        """The same method on other images, classes or another model at the same layer; annotations stay.

        model: another model, or a cut model of it. None keeps this explanation's.
        Raises BenchError without a trace and a method.
        """
        if self.trace is None:
            raise BenchError("Only an explanation with a trace and a method can be computed again.")
        return self.on(self.trace.again(images=images, targets=targets, model=model))

    def on(self, trace: Trace) -> Explanation:
        """The same method on another trace; annotations stay. Raises BenchError without a method."""
        if self.method is None:
            raise BenchError("Only an explanation with a trace and a method can be computed again.")
        fresh = Explanation.of(trace, self.method(trace), method=self.method, normalise=self.normalise)
        return replace(fresh, **{name: getattr(self, name) for name in ANNOTATIONS})


def given(field: Field | None, name: str) -> Field:
    """The field itself, for a metric that requires it. Raises BenchError where it is None."""
    if field is None:
        raise BenchError(f"This metric needs an explanation with {name}; pass Explanation({name}=...).")
    return field


@dataclass(frozen=True, eq=False)
class Curve:
    """points: (B, n), a curve for each image. x: positions of the n points, the same for all images; None for a curve
    that is stored but not drawn. title, x_label, y_label: of its figure.
    """

    points: Tensor
    x: Sequence[float] | None = None
    title: str = ""
    x_label: str = ""
    y_label: str = ""

    def axes(self, better: str = "none") -> dict[str, Any] | None:
        """How to draw it, as plain data: {at, x, y, title, better}; None without x."""
        if self.x is None:
            return None
        at = [float(position) for position in self.x]
        return {"at": at, "x": self.x_label, "y": self.y_label, "title": self.title, "better": better}
