"""Max- and average-sensitivity: Yeh et al., NeurIPS 2019, arXiv:1901.09392.

The paper is "On the (In)fidelity and Sensitivity of Explanations". The module also has the local
Lipschitz estimate of Alvarez-Melis and Jaakkola, On the Robustness of Interpretability Methods,
2018. Relative stability is that of Agarwal et al., Rethinking Stability for Attribution-based
Explanations, 2022, arXiv:2203.06877.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import takes_fields

LEAST_MOVE = 1e-6  # the smallest divisor, as in section 3 of Agarwal et al.


@dataclass(frozen=True)
class Nearby:
    """Random images near an image; its fields are parameters of the metrics of this file."""

    radius: float = 0.2
    """The largest change of a value of the image, in the network's input."""
    samples: int = 10
    """The number of nearby images."""
    seed: int = 0
    """The nearby images are drawn from the seed and the image."""

    def answers(
        self, explanation: Explanation, read: Callable[[Explanation, Explanation], Tensor]
    ) -> MetricGenerator[Tensor]:
        """Ask for read(explanation, its method's explanation of a nearby image) for each sample.

        Args:
            explanation: The explanation of the images themselves.
            read: Computes values (B, ...) from the explanation and that of nearby images.

        Returns:
            The values, (B, samples, ...).

        Raises:
            BenchError: If there is less than one sample, or the radius is negative or infinite.
        """
        if self.samples < 1:
            raise BenchError(
                "an explanation's sensitivity needs at least one sample, not "
                f"samples={self.samples}."
            )
        if not 0 <= self.radius < math.inf:
            raise BenchError(
                "an explanation's sensitivity needs a radius of 0 or more, not "
                f"radius={self.radius}."
            )
        # The key names what decides a nearby image, so all methods and metrics share its trace.
        answers = []
        for sample in range(self.samples):
            noisy_trace = partial(self._trace, explanation.required_trace, sample)
            key = ("nearby", self.radius, self.seed, sample)
            answer = yield Reexplanation(noisy_trace, partial(read, explanation), key)
            answers.append(answer)
        return torch.stack(answers, dim=1)

    def images(self, trace: Trace, sample: int) -> Tensor:
        """Return the trace's images plus noise, uniform in [-radius, radius].

        Args:
            trace: The trace of the images. Each image has noise of its own.
            sample: The number of the sample.

        Returns:
            The nearby images, (B, 3, H', W').
        """
        generators = trace.generators(f"{self.seed} nearby {sample}")
        shape = trace.images.shape[1:]
        draws = [
            torch.rand(shape, generator=generator, dtype=torch.float64) for generator in generators
        ]
        noise = torch.stack(draws).to(trace.images)
        return trace.images + self.radius * (2 * noise - 1)

    def _trace(self, trace: Trace, sample: int) -> Trace:
        return trace.again(images=self.images(trace, sample))


@takes_fields
def explanation_sensitivity(
    explanation: Explanation, nearby: Nearby = Nearby(samples=50)
) -> MetricGenerator[dict[str, Tensor]]:
    """Compute how far the raw map moves when the image moves a little.

    max_sensitivity is the maximum over y of ||Phi(y) - Phi(x)|| / ||Phi(x)||. avg_sensitivity is
    the mean over the same y. Phi is the signed raw map of the same class, and norms are Euclidean
    over its pixels. Each y is a draw, uniform in |y - x| <= radius for each value of the network's
    input, seeded by the image and `seed`. The division is that of the authors' code. The mean is
    the average sensitivity of Bhatt et al., arXiv:2005.00631. Each sample costs a trace, shared by
    all methods, and one run of the method.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        nearby: The radius, samples and seed of the nearby images; see `Nearby`.

    Returns:
        max_sensitivity and avg_sensitivity, each (B,), 0 or more; lower is better. A raw map of
        zeros gives NaN.

    Raises:
        BenchError: If there is less than one sample, or the radius is negative or infinite.
    """
    relative = yield from _relative_changes(explanation, nearby)
    return {"max_sensitivity": relative.amax(1), "avg_sensitivity": relative.mean(1)}


def _relative_changes(explanation: Explanation, nearby: Nearby) -> MetricGenerator[Tensor]:
    """Compute ||Phi(y) - Phi(x)|| / ||Phi(x)|| of each sample: (B, samples)."""
    distances = yield from nearby.answers(explanation, _distance)
    norm = explanation.required_raw_map.double().flatten(1).norm(dim=1)
    relative: Tensor = distances / norm.masked_fill(norm == 0, torch.nan)[:, None]
    return relative


@takes_fields
def explanation_sensitivity_captum(
    explanation: Explanation, nearby: Nearby = Nearby(radius=0.02)
) -> MetricGenerator[dict[str, Tensor]]:
    """Compute `explanation_sensitivity` at the defaults of captum's sensitivity_max.

    The radius is a tenth of that of `explanation_sensitivity`, and the cost a fifth.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        nearby: The radius, samples and seed of the nearby images; see `Nearby`.

    Returns:
        max_sensitivity_captum and avg_sensitivity_captum, each (B,), 0 or more; lower is better.

    Raises:
        BenchError: If there is less than one sample, or the radius is negative or infinite.
    """
    relative = yield from _relative_changes(explanation, nearby)
    return {"max_sensitivity_captum": relative.amax(1), "avg_sensitivity_captum": relative.mean(1)}


@takes_fields
def local_lipschitz(explanation: Explanation, nearby: Nearby = Nearby()) -> MetricGenerator[Tensor]:
    """Compute max over y of ||Phi(y) - Phi(x)|| / (||Phi(x)|| ||y - x||).

    The y are the first samples of `explanation_sensitivity`, which shares its traces and maps. Phi
    is defined there, too. Norms are Euclidean; that of y - x is over all values of the network's
    input.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        nearby: The radius, samples and seed of the nearby images; see `Nearby`.

    Returns:
        The estimates, (B,), 0 or more; lower is better. A raw map of zeros gives NaN.

    Raises:
        BenchError: If the radius isn't positive and finite, or there is less than one sample.
    """
    if nearby.radius == 0:
        raise BenchError(
            "local_lipschitz needs a radius above 0: it divides by the distance from the image."
        )
    relative = yield from _relative_changes(explanation, nearby)
    trace = explanation.required_trace
    # An answer holds no images, so they are drawn once more, from the same seeds.
    moves = [nearby.images(trace, sample) - trace.images for sample in range(nearby.samples)]
    distances = [move.double().flatten(1).norm(dim=1) for move in moves]
    return (relative / torch.stack(distances, dim=1)).amax(1)


@takes_fields
def relative_stability(
    explanation: Explanation, smallest: float = 0.01, nearby: Nearby = Nearby()
) -> MetricGenerator[dict[str, Tensor]]:
    """Compute max over y of r(Phi(x), Phi(y)) / how far the network's values move.

    r(a, b) = ||(b - a) / a||, value by value. If an |a| is below `smallest` x max |a|, it is raised
    to that. In relative_input_stability the values move by r(x, y). In
    relative_representation_stability they move by r(F(x), F(y)), where F are the layer's
    activations. In relative_output_stability they move by ||logits(y) - logits(x)||. Each divisor
    is at least 1e-6. The y are those of `local_lipschitz`, which shares its traces and maps.

    Args:
        explanation: The explanation, with its raw map Phi (B, h, w) and its trace.
        smallest: The smallest divisor in r, as a share of the largest magnitude; above 0 and at
            most 1.
        nearby: The radius, samples and seed of the nearby images; see `Nearby`.

    Returns:
        relative_input_stability, relative_representation_stability and relative_output_stability,
        each (B,), 0 or more; lower is better. A raw map of zeros gives NaN.

    Raises:
        BenchError: If `smallest` isn't in (0, 1], there is less than one sample, or the radius is
            negative or infinite.
    """
    if not 0 < smallest <= 1:
        raise BenchError(
            f"relative_stability needs a smallest above 0 and up to 1, not smallest={smallest}."
        )
    moves = yield from nearby.answers(explanation, partial(_moves, smallest))
    ratios = moves[..., :1] / moves[..., 1:].clamp(min=LEAST_MOVE)
    is_zero = (explanation.required_raw_map == 0).flatten(1).all(1)
    # Infinite if an answer isn't finite, since NaN means a map of zeros.
    largest = ratios.nan_to_num(torch.inf, torch.inf).amax(1)
    values = largest.masked_fill(is_zero[:, None], torch.nan)
    return {
        "relative_input_stability": values[:, 0],
        "relative_representation_stability": values[:, 1],
        "relative_output_stability": values[:, 2],
    }


def _moves(smallest: float, original: Explanation, noisy: Explanation) -> Tensor:
    """Compute how far raw map, image, activations and logits move: (B, 4), NaN if not finite."""
    before = original.required_trace
    after = noisy.required_trace
    map_move = _relative_move(original.required_raw_map, noisy.required_raw_map, smallest)
    image_move = _relative_move(before.images, after.images, smallest)
    activation_move = _relative_move(before.activations, after.activations, smallest)
    logit_move = (after.logits - before.logits).double().norm(dim=1)
    moves = torch.stack([map_move, image_move, activation_move, logit_move], dim=1)
    return moves.masked_fill(~moves.isfinite(), torch.nan)


def _relative_move(first: Tensor, second: Tensor, smallest: float) -> Tensor:
    """Compute r(first, second) of `relative_stability` from two (B, ...): (B,)."""
    a = first.double().flatten(1)
    b = second.double().flatten(1)
    sizes = a.abs()
    divisors = sizes.maximum(smallest * sizes.amax(1, keepdim=True))
    distance: Tensor = ((b - a) / divisors).norm(dim=1)
    return distance


def _distance(original: Explanation, noisy: Explanation) -> Tensor:
    """Compute ||Phi(y) - Phi(x)|| of two raw maps: (B,)."""
    x = original.required_raw_map.double().flatten(1)
    y = noisy.required_raw_map.double().flatten(1)
    # Infinite if a map isn't finite, since NaN means a map of zeros.
    distance: Tensor = (y - x).norm(dim=1).nan_to_num(torch.inf, torch.inf)
    return distance
