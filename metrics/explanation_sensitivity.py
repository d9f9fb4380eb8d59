"""Max- and average-sensitivity: Yeh et al., On the (In)fidelity and Sensitivity of Explanations,
NeurIPS 2019.

And the local Lipschitz estimate: Alvarez-Melis and Jaakkola, On the Robustness of Interpretability
Methods, 2018. And relative stability: Agarwal et al., Rethinking Stability for Attribution-based
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

LEAST_MOVE = 1e-6  # of what is divided by, as in section 3 of Agarwal et al.


@dataclass(frozen=True)
class Nearby:
    """Random images near an image, the parameters of the metrics of this file."""

    radius: float = 0.2
    """How far a value of the image moves at most, as the network takes it."""
    samples: int = 10
    """How many are drawn."""
    seed: int = 0
    """They are drawn from the seed and the image."""

    def answers(
        self, explanation: Explanation, read: Callable[[Explanation, Explanation], Tensor]
    ) -> MetricGenerator[Tensor]:
        """Ask for read(explanation, its method's explanation of a nearby image), (B, ...), of each:
        (B, samples, ...).

        Raises BenchError for less than one sample, and for a radius that is negative or infinite.
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
        answers = []
        for sample in range(self.samples):
            noisy_trace = partial(self._trace, explanation.required_trace, sample)
            key = ("nearby", self.radius, self.seed, sample)
            answers.append((yield Reexplanation(noisy_trace, partial(read, explanation), key)))
        return torch.stack(answers, dim=1)

    def images(self, trace: Trace, sample: int) -> Tensor:
        """Return the trace's images plus noise, uniform in [-radius, radius], an image's its own:
        (B, 3, H', W').
        """
        generators = trace.generators(f"{self.seed} nearby {sample}")
        shape = trace.images.shape[1:]
        noise = torch.stack(
            [torch.rand(shape, generator=each, dtype=torch.float64) for each in generators]
        )
        return trace.images + self.radius * (2 * noise.to(trace.images) - 1)

    def _trace(self, trace: Trace, sample: int) -> Trace:
        return trace.again(images=self.images(trace, sample))


@takes_fields
def explanation_sensitivity(
    explanation: Explanation, nearby: Nearby = Nearby(samples=50)
) -> MetricGenerator[dict[str, Tensor]]:
    """How far the raw map moves when the image moves a little -> two values (B,), >= 0, lower is
    better.

    max_sensitivity: max over y of ||Phi(y) - Phi(x)|| / ||Phi(x)||; avg_sensitivity: the mean over
    the same y. Phi is the signed raw map of the same class, norms are Euclidean over its pixels.
    The y are `samples` draws, uniform in |y - x| <= radius for each value of the image as the
    network takes it, seeded by the image and `seed`. The division is that of the authors' code; the
    mean is the average sensitivity of Bhatt et al., arXiv:2005.00631. A raw map of zeros gives NaN.
    Costs a trace, for all methods, and the method for each sample. Raises BenchError for less than
    one sample, and for a radius that is negative or infinite.
    """
    relative = yield from _relative_changes(explanation, nearby)
    return {"max_sensitivity": relative.amax(1), "avg_sensitivity": relative.mean(1)}


def _relative_changes(explanation: Explanation, nearby: Nearby) -> MetricGenerator[Tensor]:
    """||Phi(y) - Phi(x)|| / ||Phi(x)|| of each sample: (B, samples)."""
    distances = yield from nearby.answers(explanation, _distance)
    norm = explanation.required_raw_map.double().flatten(1).norm(dim=1)
    return distances / norm.masked_fill(norm == 0, torch.nan)[:, None]


@takes_fields
def explanation_sensitivity_captum(
    explanation: Explanation, nearby: Nearby = Nearby(radius=0.02)
) -> MetricGenerator[dict[str, Tensor]]:
    """`explanation_sensitivity` at the defaults of captum's sensitivity_max -> two values (B,), >=
    0, lower is better.

    {max_sensitivity_captum, avg_sensitivity_captum}: of a tenth of the radius, at a fifth of the
    cost.
    """
    relative = yield from _relative_changes(explanation, nearby)
    return {"max_sensitivity_captum": relative.amax(1), "avg_sensitivity_captum": relative.mean(1)}


@takes_fields
def local_lipschitz(explanation: Explanation, nearby: Nearby = Nearby()) -> MetricGenerator[Tensor]:
    """max over y of ||Phi(y) - Phi(x)|| / (||Phi(x)|| ||y - x||) -> (B,), >= 0, lower is better.

    Of the `samples` first y of `explanation_sensitivity`, whose traces and maps it shares; see
    there for Phi, and for the errors. Norms are Euclidean, ||y - x|| over all values of the
    network's input. Raises BenchError for a radius of 0, too.
    """
    if nearby.radius == 0:
        raise BenchError(
            "local_lipschitz needs a radius above 0: it divides by the distance from the image."
        )
    relative = yield from _relative_changes(explanation, nearby)
    trace = explanation.required_trace
    moved = [nearby.images(trace, sample) - trace.images for sample in range(nearby.samples)]
    return (
        relative / torch.stack([step.double().flatten(1).norm(dim=1) for step in moved], dim=1)
    ).amax(1)


@takes_fields
def relative_stability(
    explanation: Explanation, smallest: float = 0.01, nearby: Nearby = Nearby()
) -> MetricGenerator[dict[str, Tensor]]:
    """max over y of r(Phi(x), Phi(y)) / (what the network's values move) -> three values (B,), >=
    0, lower is better.

    r(a, b) = ||(b - a) / a||, value by value, where an |a| below `smallest` x max |a| is raised to
    that. They move by r(x, y) in relative_input_stability; by r(F(x), F(y)), F the layer's
    activations, in relative_representation_stability; and by ||logits(y) - logits(x)|| in
    relative_output_stability; by 1e-6 at least. The y are those of `local_lipschitz`, whose traces
    and maps it shares; see there for Phi, and for the errors. A raw map of zeros gives NaN. Raises
    BenchError for a `smallest` not in (0, 1], too.
    """
    if not 0 < smallest <= 1:
        raise BenchError(
            f"relative_stability needs a smallest above 0 and up to 1, not smallest={smallest}."
        )
    moves = yield from nearby.answers(explanation, partial(_moves, smallest))
    ratios = moves[..., :1] / moves[..., 1:].clamp(min=LEAST_MOVE)
    is_zero = (explanation.required_raw_map == 0).flatten(1).all(1)
    # Infinite where an answer isn't finite, since NaN means a map of zeros.
    values = (
        ratios.nan_to_num(torch.inf, torch.inf).amax(1).masked_fill(is_zero[:, None], torch.nan)
    )
    return {
        f"relative_{name}_stability": values[:, at]
        for at, name in enumerate(("input", "representation", "output"))
    }


def _moves(smallest: float, original: Explanation, noisy: Explanation) -> Tensor:
    """How far raw map, image, activations and logits move: (B, 4), NaN where one isn't finite."""
    (raw_map, before), (noisy_map, after) = (
        (each.required_raw_map, each.required_trace) for each in (original, noisy)
    )
    pairs = (
        (raw_map, noisy_map),
        (before.images, after.images),
        (before.activations, after.activations),
    )
    relative = [_relative_move(first, second, smallest) for first, second in pairs]
    moves = torch.stack([*relative, (after.logits - before.logits).double().norm(dim=1)], dim=1)
    return moves.masked_fill(~moves.isfinite(), torch.nan)


def _relative_move(first: Tensor, second: Tensor, smallest: float) -> Tensor:
    """r(first, second) of `relative_stability`: (B, ...) twice -> (B,)."""
    a, b = (values.double().flatten(1) for values in (first, second))
    sizes = a.abs()
    return ((b - a) / sizes.maximum(smallest * sizes.amax(1, keepdim=True))).norm(dim=1)


def _distance(original: Explanation, noisy: Explanation) -> Tensor:
    """||Phi(y) - Phi(x)|| of two raw maps: (B,); infinite where a map isn't finite, since NaN means
    a map of zeros.
    """
    x, y = (each.required_raw_map.double().flatten(1) for each in (original, noisy))
    return (y - x).norm(dim=1).nan_to_num(torch.inf, torch.inf)
