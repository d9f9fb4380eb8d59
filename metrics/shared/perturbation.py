"""Images perturbed according to a map, and the model's confidence in them."""

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
from axiom_bench.errors import BenchError, unknown_name
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

    A metric that takes a filling, and is decorated with `takes_fields`, has its fields as
    parameters: users set metric.NAME.params.fill.
    """

    fill: Fill = "zero"
    """The kind of replacement. "mean" is the image's own mean per channel. "zero" is 0 in
    normalised pixels, which is the data set's mean colour. "blur" is the image under a Gaussian.
    "rise" is the image under the kernel of RISE's code, 11 x 11 pixels at any image size. A colour
    is a number per channel, in normalised pixels. Black is -mean / std, for ImageNet
    [-2.118, -2.036, -1.804]."""
    blur: float = 0.05
    """The Gaussian's sigma as a share of the image's shorter side. Only "blur" reads it."""

    def pixels(self, images: Tensor) -> Tensor:
        """Return the replacement of each pixel.

        Args:
            images: The images, (B, 3, H', W').

        Returns:
            The replacements, (B, 3, H', W').

        Raises:
            BenchError: If the fill is unknown, or it needs a blur that isn't in (0, 1].
        """
        return self._values(images).expand_as(images)

    def blended(self, images: Tensor, amount: Tensor) -> Tensor:
        """Return image (1 - a) + fill a.

        Args:
            images: The images, (B, 3, H', W').
            amount: The amount a of the fill, (B, H', W') in [0, 1].

        Returns:
            The blended images, (B, 3, H', W').
        """
        amount = amount[:, None].to(images.dtype)
        return images * (1 - amount) + self.pixels(images) * amount

    def logits(
        self, explanation: Explanation, key: Hashable, amount: Tensor
    ) -> MetricGenerator[Tensor]:
        """Ask for the model's answer to the images `blended` with an amount of the fill.

        Args:
            explanation: The explanation, with its images (B, 3, H', W').
            key: A name for the amount, which distinguishes it from others.
            amount: The amount of the fill, (B, H', W') in [0, 1].

        Returns:
            The logits, (B, C).
        """
        images = explanation.required_images

        def perturbed(rows: slice, copies: slice) -> Tensor:
            return self.blended(images[rows], amount[rows])[:, None]

        scores: Tensor = (yield PerturbedImages((key, repr(self)), 1, perturbed))[:, 0]
        return scores

    def _values(self, images: Tensor) -> Tensor:
        """Return the replacement in a shape that broadcasts to the images; see `pixels`."""
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
    """A replacement for pixels, and the value that is read from the model's answer."""

    output: str = "probability"
    """The confidence that is read: "probability", "logit" or "accuracy"; see `confidence`."""

    def replacement(self, explanation: Explanation) -> Tensor:
        """Return the replacement of each pixel of the explanation's images: (B, 3, H', W')."""
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
        """Ask for the model's confidence in copies of each image in which some pixels are replaced.

        Args:
            explanation: The explanation, with its images (B, 3, H', W') and its trace.
            key: A name for the replaced pixels, which distinguishes them from others.
            count: The number of copies of each image.
            is_replaced: Returns from slices of rows and copies which pixels are replaced, bool
                (rows, copies, H', W'). It may return (1, copies, H', W') if they are the same for
                every image.
            of_image: Whether the copies depend only on the image; see `PerturbedImages`.
            same: Numbers of equal copies; see `PerturbedImages`.

        Returns:
            The request, whose answer is the confidence, (B, count).
        """
        trace = explanation.required_trace
        images = explanation.required_images
        replacement = self.replacement(explanation)

        def perturbed(rows: slice, copies: slice) -> Tensor:
            mask = is_replaced(rows, copies)[:, :, None]
            return torch.where(mask, replacement[rows, None], images[rows, None])

        # Copies with equal pixels replaced are the same only under the same fill and output.
        if same is not None:
            same = ((same[0], repr(self)), same[1])
        score = score_function(trace, self.output)
        return PerturbedImages(
            key=(key, repr(self)),
            count=count,
            perturbed=perturbed,
            score=score,
            depends_on_image_only=of_image,
            same=same,
        )


def takes_fields(metric: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a metric whose parameter is a dataclass, so that it takes the fields instead.

    Args:
        metric: The metric. Its dataclass parameter has a default, which has the defaults of the
            fields.

    Returns:
        The metric with the fields as parameters.
    """
    parameters = inspect.signature(metric, eval_str=True).parameters
    (grouped,) = (parameter for parameter in parameters.values() if is_dataclass(parameter.default))
    fields = inspect.signature(type(grouped.default), eval_str=True).parameters
    # The fields take the position of the dataclass, with the defaults that the metric gives them.
    flat_parameters = []
    for parameter in parameters.values():
        if parameter is not grouped:
            flat_parameters.append(parameter)
            continue
        for name, field in fields.items():
            flat_parameters.append(field.replace(default=getattr(grouped.default, name)))
    signature = inspect.Signature(flat_parameters)

    @wraps(metric)
    def with_fields(*arguments: object, **settings: object) -> Result:
        bound = signature.bind(*arguments, **settings).arguments
        changes = {name: bound.pop(name) for name in fields if name in bound}
        bound[grouped.name] = replace(grouped.default, **changes)
        return metric(**bound)

    setattr(with_fields, "__signature__", signature)  # noqa: B010 - mypy knows no such attribute of a function
    return with_fields


def highlighted(explanation: Explanation, mode: str = "soft", fraction: float = 0.1) -> Tensor:
    """Return how much of each pixel the map highlights.

    Args:
        explanation: The explanation, with its heatmap (B, H', W').
        mode: "soft" for the heatmap itself. "hard" for 1 at the highest pixels and 0 at all others;
            see `shared.pixel_order` for their order.
        fraction: The share of the pixels that are highest, in [0, 1]. It is the same number of
            pixels for every map, at least one.

    Returns:
        The amounts, (B, H', W') in [0, 1].

    Raises:
        BenchError: If the mode is unknown, or the fraction is outside [0, 1].
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
    """Return the softmax probability of each row's target class.

    Args:
        logits: The logits, (B, C).
        targets: The target classes, (B,).

    Returns:
        The probabilities, (B,) in float64.
    """
    return logits.double().softmax(1).gather(1, targets[:, None])[:, 0]


def confidence(logits: Tensor, targets: Tensor, output: str = "probability") -> Tensor:
    """Return the model's confidence in each row's class.

    Args:
        logits: The logits, (R, C).
        targets: The class of each row, (R,).
        output: "probability" for the softmax probability of the class, "logit" for its logit.
            "accuracy" for 1 if it is the predicted class, otherwise 0.

    Returns:
        The confidence, (R,) in float64. It is NaN if the logits are.

    Raises:
        BenchError: If the output is unknown.
    """
    if output not in OUTPUTS:
        raise unknown_name("output", str(output), OUTPUTS)
    if output == "probability":
        return probabilities(logits, targets)
    if output == "logit":
        return logits.double().gather(1, targets[:, None])[:, 0]
    is_predicted = (logits.argmax(1) == targets).double()
    return is_predicted.masked_fill(logits.isnan().any(1), torch.nan)


def confidence_in(
    trace: Trace, logits: Tensor, targets: Tensor, output: str = "probability"
) -> Tensor:
    """Return the `confidence` of logits of the trace's model.

    Args:
        trace: The trace of the model.
        logits: The logits, (R, C).
        targets: The class of each row, (R,).
        output: See `confidence`, except that "logit" is S, the score that the trace explains.

    Returns:
        The confidence, (R,) in float64.

    Raises:
        BenchError: If the output is unknown.
    """
    if output == "logit":
        logits = trace.network.explained(logits)
    return confidence(logits, targets, output)


def score_function(trace: Trace, output: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the `score` of a `PerturbedImages` request.

    Args:
        trace: The trace of the model.
        output: The confidence that is read; see `confidence_in`.

    Returns:
        A function that takes logits (n, C) and classes (n,), and returns `confidence_in` that
        output.
    """
    return lambda logits, targets: confidence_in(trace, logits, targets, output)


def kept_images(explanation: Explanation, filling: Filling) -> Tensor:
    """Return the images with only what the map highlights, image h + fill (1 - h).

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its images.
        filling: The replacement of what h hides.

    Returns:
        The kept images, (B, 3, H', W').
    """
    heatmap = widened(explanation.required_heatmap)
    return filling.blended(explanation.required_images, 1 - heatmap)


def kept_pixel_logits(explanation: Explanation, filling: Filling) -> MetricGenerator[Tensor]:
    """Ask for the model's answer to `kept_images`.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its images.
        filling: The replacement of what h hides.

    Returns:
        The logits, (B, C).
    """
    left_out = 1 - widened(explanation.required_heatmap)
    return (yield from filling.logits(explanation, "kept", left_out))


def kept_map(explanation: Explanation, filling: Filling) -> Reexplanation:
    """Ask to explain `kept_images` again.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and its trace.
        filling: The replacement of what h hides.

    Returns:
        The request, whose answer is the heatmap (B, H', W') and the logits (B, C).
    """
    trace = explanation.required_trace

    def kept_trace() -> Trace:
        return trace.again(images=kept_images(explanation, filling))

    def read_answer(kept: Explanation) -> tuple[Tensor, Tensor]:
        return kept.required_heatmap, kept.required_trace.logits

    key = ("kept map", repr(filling))
    return Reexplanation(kept_trace, read_answer, key, depends_on_map=True)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Blur images by a Gaussian cut off at three sigma, the border's pixels repeated outside."""
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    padded = functional.pad(images, (reach, reach) * len(axes(images)), "replicate")
    return convolved(padded, kernel / kernel.sum())


def _blurred_as_rise(images: Tensor) -> Tensor:
    """Blur images by gkern(11, 5) of RISE's evaluation.py."""
    # SciPy filters an impulse in 11 x 11 pixels, and reflects inwards what would lie outside.
    reach = RISE_KERNEL // 2
    impulse = np.zeros(RISE_KERNEL)
    impulse[reach] = 1
    kernel = torch.from_numpy(ndimage.gaussian_filter1d(impulse, RISE_SIGMA)).to(images)
    padded = functional.pad(images, (reach, reach) * len(axes(images)))  # zeros outside
    return convolved(padded, kernel)


def first_set_numbers(ranks: Tensor, counts: Tensor) -> Tensor:
    """Return a number for the set of pixels whose rank is below each count.

    Equal sets have equal numbers. Different sets have different numbers, except with a chance of
    one in 2^64. Each pixel has a random number of 64 bits, the same in every run, and a set has the
    sum of its pixels' numbers.

    Args:
        ranks: The rank of each pixel, int64 (B, H', W').
        counts: The counts, (B, n).

    Returns:
        The numbers, int64 (B, n).
    """
    flat = ranks.flatten(1)
    pixels = flat.shape[1]
    pixel_numbers = _random_numbers(pixels).to(flat.device).expand_as(flat)
    rank_sums = torch.zeros(len(flat), pixels + 1, dtype=torch.int64, device=flat.device)
    rank_sums.scatter_add_(1, flat + 1, pixel_numbers)
    sums = rank_sums.cumsum(1)  # entry r is the sum over all pixels of ranks below r
    limits = counts.ceil().clamp(0, pixels).long().to(flat.device)
    return sums.gather(1, limits)


def part_set_numbers(parts: Tensor, count: int) -> Tensor:
    """Return a number for the set of pixels in each part of an image; see `first_set_numbers`.

    Args:
        parts: The number of each pixel's part, int64 (B, H', W').
        count: The number of parts.

    Returns:
        The numbers, int64 (B, count).
    """
    flat = parts.flatten(1)
    pixel_numbers = _random_numbers(flat.shape[1]).to(flat.device).expand_as(flat)
    numbers = torch.zeros(len(flat), count, dtype=torch.int64, device=flat.device)
    return numbers.scatter_add_(1, flat, pixel_numbers)


@lru_cache(maxsize=4)
def _random_numbers(pixels: int) -> Tensor:
    """Return a random number for each pixel, the same in every run: (pixels,) int64."""
    generator = torch.Generator().manual_seed(pixels)
    return torch.randint(-(2**63), 2**63 - 1, (pixels,), generator=generator, dtype=torch.int64)
