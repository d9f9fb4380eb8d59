"""Images perturbed according to a map, and the confidence that the model has in them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import lru_cache, wraps
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as functional
from scipy import ndimage
from torch import Tensor

from axiom_bench.cutting.numerics import axes, convolved, over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.metrics.shared.rounding import widened

OUTPUTS = ("probability", "logit", "accuracy")
RISE_KERNEL, RISE_SIGMA = 11, 5  # pixels
Fill = str | Sequence[float]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Filling:
    """A replacement for pixels of an image.

    A metric that takes one, and is decorated with `takes_fields`, has its fields as parameters:
    users set metric.NAME.params.fill.
    """

    fill: Fill = "zero"
    """"mean": the image's own mean per channel. "zero": 0 in normalised pixels, which is the data
    set's mean colour. "blur": the image under a Gaussian. "rise": under the kernel of RISE's code,
    11 x 11 pixels at any image size. Or a colour: a number per channel, in normalised pixels; black
    is -mean / std, for ImageNet [-2.118, -2.036, -1.804]."""
    blur: float = 0.05
    """The Gaussian's sigma as a share of the image's shorter side; only "blur" reads it."""

    def pixels(self, images: Tensor) -> Tensor:
        """Return the replacement of each pixel: (B, 3, H', W') -> the same.

        Raises BenchError for another fill, and for a blur that is needed and not in (0, 1].
        """
        return self._values(images).expand_as(images)

    def blended(self, images: Tensor, amount: Tensor) -> Tensor:
        """Return image (1 - a) + fill a: images (B, 3, H', W'), a (B, H', W') in [0, 1] -> (B, 3,
        H', W').
        """
        amount = amount[:, None].to(images.dtype)
        return images * (1 - amount) + self.pixels(images) * amount

    def logits(
        self, explanation: Explanation, key: Hashable, amount: Tensor
    ) -> MetricGenerator[Tensor]:
        """Ask for the model's answer to the images `blended` with an amount that the key names: (B,
        C).
        """
        images = explanation.required_images

        def perturbed(rows: slice, copies: slice) -> Tensor:
            return self.blended(images[rows], amount[rows])[:, None]

        return (yield PerturbedImages((key, repr(self)), 1, perturbed))[:, 0]

    def _values(self, images: Tensor) -> Tensor:
        """As `pixels`, in a shape that broadcasts to the images."""
        if self.fill == "mean":
            return images.mean(axes(images), keepdim=True)
        if self.fill == "zero":
            return images.new_zeros(())
        if self.fill == "blur":
            if not 0 < self.blur <= 1:
                raise BenchError(
                    "The blur, a share of the image's shorter side, lies above 0 and up to 1; it "
                    f"is {self.blur}."
                )
            return _blurred(images, self.blur * min(images.shape[2:]))
        if self.fill == "rise":
            return _blurred_as_rise(images)
        if not isinstance(self.fill, str) and len(self.fill) == images.shape[1]:
            return over_space(images.new_tensor(list(self.fill)), images)
        raise BenchError(
            f"A perturbation's fill is 'mean', 'zero', 'blur', 'rise' or {images.shape[1]} "
            f"numbers, not {self.fill!r}."
        )


@dataclass(frozen=True)
class Perturbation(Filling):
    """A replacement for pixels, and what is read of the model's answer to the changed image."""

    output: str = "probability"
    """See `confidence`."""

    def replacement(self, explanation: Explanation) -> Tensor:
        """Return what the pixels of the explanation's images become: (B, 3, H', W')."""
        return self.pixels(explanation.required_images)

    def image_confidence(self, explanation: Explanation) -> Tensor:
        """Return the model's confidence in the images themselves: (B, 1)."""
        trace = explanation.required_trace
        return confidence_in(trace, trace.logits, trace.targets, self.output)[:, None]

    def request(
        self,
        explanation: Explanation,
        key: Hashable,
        count: int,
        is_replaced: Callable[[slice, slice], Tensor],
        of_image: bool = False,
        same: tuple[Hashable, Tensor] | None = None,
    ) -> PerturbedImages:
        """Ask for the model's confidence in copies of each image in which some pixels are replaced:
        (B, count).

        is_replaced(rows, copies): where, bool (rows, copies, H', W'), or (1, copies, H', W') for
        every image alike; the key names it. of_image, same: see `PerturbedImages`.
        """
        trace = explanation.required_trace
        images = explanation.required_images
        replacement = self.replacement(explanation)

        def perturbed(rows: slice, copies: slice) -> Tensor:
            return torch.where(
                is_replaced(rows, copies)[:, :, None], replacement[rows, None], images[rows, None]
            )

        if same is not None:
            same = ((same[0], repr(self)), same[1])
        return PerturbedImages(
            key=(key, repr(self)),
            count=count,
            perturbed=perturbed,
            score=scoring(trace, self.output),
            of_image=of_image,
            same=same,
        )


def takes_fields(metric: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a metric whose parameter is a dataclass, so that it takes the fields as parameters
    instead.

    The parameter's default has the defaults of the fields.
    """
    parameters = inspect.signature(metric, eval_str=True).parameters
    (grouped,) = (parameter for parameter in parameters.values() if is_dataclass(parameter.default))
    fields = inspect.signature(type(grouped.default), eval_str=True).parameters
    flat_parameters = []
    for parameter in parameters.values():
        if parameter is grouped:
            flat_parameters += [
                field.replace(default=getattr(grouped.default, name))
                for name, field in fields.items()
            ]
        else:
            flat_parameters.append(parameter)
    signature = inspect.Signature(flat_parameters)

    @wraps(metric)
    def with_fields(*arguments: object, **settings: object) -> Result:
        bound = signature.bind(*arguments, **settings).arguments
        changes = {name: bound.pop(name) for name in fields if name in bound}
        return metric(**bound, **{grouped.name: replace(grouped.default, **changes)})

    setattr(with_fields, "__signature__", signature)  # noqa: B010 - mypy knows no such attribute of a function
    return with_fields


def highlighted(explanation: Explanation, mode: str = "soft", fraction: float = 0.1) -> Tensor:
    """How much of each pixel the map highlights, in [0, 1]: (B, H', W').

    mode "soft": the heatmap. mode "hard": 1 for the highest `fraction` of the pixels, the same
    number for every map, at least one (see `shared.pixel_order` for their order), 0 for all others.
    Raises BenchError for another mode, and for a fraction outside [0, 1].
    """
    heatmap = explanation.required_heatmap
    if mode == "soft":
        return heatmap
    if mode != "hard":
        raise BenchError(f"A perturbation's mode is 'soft' or 'hard', not {mode!r}.")
    if not 0 <= fraction <= 1:
        raise BenchError(f"A perturbation's fraction of pixels lies in [0, 1]; it is {fraction}.")
    count = max(1, round(fraction * heatmap[0].numel()))
    return (pixel_ranks(explanation) < count).to(heatmap)


def probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """The softmax probability of each row's target class, in float64: (B, C), (B,) -> (B,)."""
    return logits.double().softmax(1).gather(1, targets[:, None])[:, 0]


def confidence(logits: Tensor, targets: Tensor, output: str = "probability") -> Tensor:
    """The model's confidence in each row's class: (R, C), (R,) -> (R,), float64.

    output "probability": the softmax probability of each row's class. "logit": its logit.
    "accuracy": 1 where it is the predicted class, else 0. NaN where the logits are. Raises
    BenchError for another output.
    """
    if output not in OUTPUTS:
        raise unknown("output", str(output), OUTPUTS)
    if output == "probability":
        return probabilities(logits, targets)
    if output == "logit":
        return logits.double().gather(1, targets[:, None])[:, 0]
    return (logits.argmax(1) == targets).double().masked_fill(logits.isnan().any(1), torch.nan)


def confidence_in(
    trace: Trace, logits: Tensor, targets: Tensor, output: str = "probability"
) -> Tensor:
    """`confidence` of logits of the trace's model; "logit" is S, the score that it explains: (R, C)
    -> (R,).
    """
    return confidence(
        trace.network.explained(logits) if output == "logit" else logits, targets, output
    )


def scoring(trace: Trace, output: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The `score` of a PerturbedImages request: logits (n, C) and classes (n,) -> `confidence_in`
    that output.
    """
    return lambda logits, targets: confidence_in(trace, logits, targets, output)


def kept_images(explanation: Explanation, filling: Filling) -> Tensor:
    """The images with only what the map highlights: image h + fill (1 - h), (B, 3, H', W')."""
    heatmap = widened(explanation.required_heatmap)
    return filling.blended(explanation.required_images, 1 - heatmap)


def logits_of_kept(explanation: Explanation, filling: Filling) -> MetricGenerator[Tensor]:
    """The model's answer to `kept_images`: (B, C)."""
    left_out = 1 - widened(explanation.required_heatmap)
    return (yield from filling.logits(explanation, "kept", left_out))


def kept_map(explanation: Explanation, filling: Filling) -> Reexplanation:
    """Explain `kept_images` again; the answer is (heatmap (B, H', W'), logits (B, C))."""
    trace = explanation.required_trace
    return Reexplanation(
        trace=lambda: trace.again(images=kept_images(explanation, filling)),
        read=lambda kept: (kept.required_heatmap, kept.required_trace.logits),
        key=("kept map", repr(filling)),
        of_map=True,
    )


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian cut off at three sigma, in pixels, with the border's pixels repeated outside."""
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    return convolved(
        functional.pad(images, (reach, reach) * len(axes(images)), "replicate"),
        kernel / kernel.sum(),
    )


def _blurred_as_rise(images: Tensor) -> Tensor:
    """gkern(11, 5) of RISE's evaluation.py: scipy's Gaussian of sigma 5 on an impulse in 11 x 11
    pixels, where what would lie outside is reflected inwards; zeros outside of the image.
    """
    impulse = np.zeros(RISE_KERNEL)
    impulse[RISE_KERNEL // 2] = 1
    kernel = torch.from_numpy(ndimage.gaussian_filter1d(impulse, RISE_SIGMA)).to(images)
    return convolved(functional.pad(images, (RISE_KERNEL // 2,) * 2 * len(axes(images))), kernel)


def numbers_of_first(ranks: Tensor, counts: Tensor) -> Tensor:
    """A number for the set of pixels whose rank is below each count: (B, H', W') int64 and (B, n)
    -> int64 (B, n).

    Equal sets have equal numbers; different ones differ, but for one chance in 2^64. Each pixel has
    a random number of 64 bits, the same in every run, and a set has the sum of its pixels'.
    """
    flat = ranks.flatten(1)
    of_rank = torch.zeros(len(flat), flat.shape[1] + 1, dtype=torch.int64, device=flat.device)
    of_rank.scatter_add_(1, flat + 1, _of_pixels(flat.shape[1]).to(flat.device).expand_as(flat))
    sums = of_rank.cumsum(1)  # entry r: of all pixels of ranks below r
    limits = counts.ceil().clamp(0, flat.shape[1]).long().to(flat.device)
    return sums.gather(1, limits)


def numbers_of_parts(parts: Tensor, count: int) -> Tensor:
    """A number for the set of pixels in each of `count` parts of an image: (B, H', W') int64 ->
    int64 (B, count).
    """
    flat = parts.flatten(1)
    numbers = torch.zeros(len(flat), count, dtype=torch.int64, device=flat.device)
    return numbers.scatter_add_(1, flat, _of_pixels(flat.shape[1]).to(flat.device).expand_as(flat))


@lru_cache(maxsize=4)
def _of_pixels(pixels: int) -> Tensor:
    """A random number for each pixel: (pixels,) int64."""
    generator = torch.Generator().manual_seed(pixels)
    return torch.randint(-(2**63), 2**63 - 1, (pixels,), generator=generator, dtype=torch.int64)
