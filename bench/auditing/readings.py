"""The readings of a formula: the switches that implementations of the same paper set differently.

A `Reading` has a field for each step from the network to the map. Its value is the name of a
switch in the step's table, and the empty name is the usual way. A method's function is never
changed: it gets a changed trace, and its map passes through changed steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from axiom_bench.auditing.case import Case
from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.split_model import CachesResults, TracedNetwork
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, weighted

Change = Callable[[Tensor], Tensor]
Params = tuple[tuple[str, object], ...]  # names and values of a method's parameters


@dataclass(frozen=True)
class Reading:
    """A choice for each step; an empty name is the usual one, and all others are changes."""

    params: Params = ()
    """The method's parameters that aren't those of its YAML file."""
    target: str = ""
    """The explained class, a key of TARGETS."""
    score: str = ""
    """The explained score, a key of SCORES."""
    gradients: str = ""
    """A change of the gradients, a key of GRADIENTS."""
    activations: str = ""
    """A change of the activations, a key of ACTIVATIONS."""
    alpha: str = ""
    """A change of the alpha by which a method weights positions, a key of ALPHAS."""
    weights: str = ""
    """A change of the method's weights, a key of WEIGHTS."""
    channels: str = ""
    """The way in which the channels become one map, a key of CHANNELS."""
    bias: str = ""
    """A constant that is added to the map, a key of BIASES."""
    sides: str = ""
    """The order of the map's axes, a key of SIDES."""
    rectified: str = ""
    """The treatment of negative values, a key of RECTIFIED."""
    interpolation: str = ""
    """The interpolation to the image's size, a key of INTERPOLATIONS."""
    summed: str = ""
    """SUMMED for a map that is the number of positions times as large, which only an epsilon in its
    normalisation shows."""
    place: str = ""
    """When the map is normalised, a key of PLACES."""
    normalisation: str = ""
    """The normalisation, a key of NORMALISATIONS or of SCALES."""
    epsilon: float = 0.0
    """What is added to the denominator of the normalisation."""

    @property
    def changes(self) -> tuple[str, ...]:
        """The names of all switches that aren't the usual ones."""
        names = [param_text(key, value) for key, value in self.params]
        names += [str(getattr(self, field.name)) for field in fields(self)[1:-1]]
        if self.epsilon:
            names.append(f"epsilon {self.epsilon:.0e} in the normalisation")
        return tuple(name for name in names if name)

    @property
    def trace_part(self) -> Reading:
        """The switches that act before the method's function, the others as usual."""
        return Reading(
            params=self.params,
            target=self.target,
            score=self.score,
            gradients=self.gradients,
            activations=self.activations,
            alpha=self.alpha,
        )


def param_text(key: str, value: object) -> str:
    """Return a parameter with its value in words.

    >>> param_text("gamma", 0.5), param_text("channel_softmax", False)
    ('gamma 0.5', 'channel softmax False')
    """
    return f"{key.replace('_', ' ')} {value}"


USUAL = Reading()


def _same(values: Tensor) -> Tensor:
    return values


def _batch_mean(values: Tensor) -> Tensor:
    return values.mean(0, keepdim=True).expand_as(values)


# --- before the method's function ---

TARGETS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "": lambda logits, targets: targets,
    "the predicted class": lambda logits, targets: logits.argmax(1),
    "the first image's class": lambda logits, targets: targets[:1].expand_as(targets),
}

# From logits (B, C) to the scores of all classes (B, C).
SCORES: Mapping[str, Change] = {
    "": _same,
    "softmax score": lambda logits: logits.softmax(1),
    "log-softmax score": lambda logits: logits.log_softmax(1),
    "cross-entropy loss": lambda logits: -logits.log_softmax(1),
    "negative logit": torch.neg,
    "sigmoid score": torch.sigmoid,
    # of the probabilities from 1 for the class and 0 for all others, without a constant
    "squared error": lambda logits: (
        logits.softmax(1).square().sum(1, keepdim=True) - 2 * logits.softmax(1)
    ),
    "sum of all logits": lambda logits: logits.sum(1, keepdim=True).expand_as(logits),
}


def _largest(gradients: Tensor) -> Tensor:
    return gradients.amax(axes(gradients), keepdim=True).expand_as(gradients)


GUIDED = "guided gradients"  # positive gradients of positive activations
AS_GRADIENTS = "activations instead of gradients"
AS_ACTIVATIONS = "gradients instead of activations"
GRADIENTS: Mapping[str, Change] = {
    "": _same,
    "ReLU of the gradients": torch.relu,
    GUIDED: torch.relu,
    AS_GRADIENTS: _same,
    "absolute gradients": torch.abs,
    "gradients averaged over the batch": _batch_mean,
    "score averaged over the batch": lambda gradients: gradients / len(gradients),
    "largest gradient of each channel": _largest,
    "gradients of norm 1": lambda gradients: functional.normalize(
        gradients.flatten(1), dim=1
    ).view_as(gradients),
}


def _changed_gradients(name: str, trace: Trace) -> Tensor:
    if name == AS_GRADIENTS:
        return trace.activations
    gradients = GRADIENTS[name](trace.gradients)
    return gradients * (trace.activations > 0) if name == GUIDED else gradients


# Small numbers that implementations add to the sum of a channel.
EPSILONS = (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5)
INPUT = "the layer's input"


def _sum_epsilon(epsilon: float) -> str:
    return f"epsilon {epsilon:.0e} in the sum of a channel"


SUM_EPSILONS = {_sum_epsilon(epsilon): epsilon for epsilon in EPSILONS}
ACTIVATIONS: Mapping[str, Change] = {
    "": _same,
    "ReLU of the activations": torch.relu,
    "absolute activations": torch.abs,
    "activations averaged over the batch": _batch_mean,
    INPUT: _same,
    AS_ACTIVATIONS: _same,
    **dict.fromkeys(SUM_EPSILONS, _same),
}


# --- in the place of the method's function ---


def alpha_weights(F: Tensor, g: Tensor, are_products: bool = False, epsilon: float = 0.0) -> Tensor:
    """Return sum(alpha relu(g_k)), alpha = g_k^2 / (2 g_k^2 + g_k^3 sum(F_k) + epsilon).

    Args:
        F: The activations, (B, K, H, W).
        g: The gradients, (B, K, H, W).
        are_products: True if the denominator has sum(g_k^3 F_k) instead of g_k^3 sum(F_k).
        epsilon: The number that is added to the denominator.

    Returns:
        The weights, (B, K, 1, 1). alpha is 0 for 0/0.
    """
    thirds = g**3
    if are_products:
        last = (thirds * F).sum(axes(F), keepdim=True)
    else:
        last = thirds * F.sum(axes(F), keepdim=True)
    denominator = 2 * g**2 + last + epsilon
    is_zero = (denominator == 0) | (g == 0)
    alpha = torch.where(is_zero, 0, g**2 / torch.where(is_zero, 1, denominator))
    return (alpha * g.relu()).sum(axes(F), keepdim=True)


def _undivided(F: Tensor, g: Tensor) -> Tensor:
    return (g**2 * g.relu()).sum(axes(g), keepdim=True)


def _normalised_weights(F: Tensor, g: Tensor) -> Tensor:
    """Return sum(alpha relu(g_k)), alpha = 1 / sum(relu(g_k)): 1, or 0 without a positive g_k."""
    return (g > 0).any(-1, keepdim=True).any(-2, keepdim=True).to(g)


PRODUCTS = "products summed in alpha"
# From activations and gradients to weights; the first is what the method itself computes.
ALPHAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "": alpha_weights,
    "alpha without its division": _undivided,
    "alpha divided by the sum of positive gradients": _normalised_weights,
    PRODUCTS: partial(alpha_weights, are_products=True),
}
for _epsilon in EPSILONS:
    _name = f"epsilon {_epsilon:.0e} in alpha"
    ALPHAS[_name] = partial(alpha_weights, epsilon=_epsilon)
    ALPHAS[f"{PRODUCTS}, {_name}"] = partial(alpha_weights, are_products=True, epsilon=_epsilon)


# --- from the method's answer to the raw map ---

WEIGHTS: Mapping[str, Change] = {
    "": _same,
    "ReLU of the weights": torch.relu,
    "absolute weights": torch.abs,
    "weights averaged over the batch": _batch_mean,
}
CHANNELS: Mapping[str, Change] = {
    "": lambda contributions: contributions.sum(1),
    "ReLU before the sum over channels": lambda contributions: contributions.relu().sum(1),
    "absolute values before the sum over channels": lambda contributions: contributions.abs().sum(
        1
    ),
    "largest instead of sum over channels": lambda contributions: contributions.amax(1),
}


def _sum_with_bias(maps: Tensor, bias: Tensor) -> Tensor:
    num_positions = maps[0].numel()
    return maps * num_positions + bias


ONE = "1 added to the map"  # of code that begins its sum with ones
# From raw maps and the bias of each image's class, both (B, ...), to raw maps.
BIASES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "": lambda maps, bias: maps,
    "bias of the head added": torch.add,
    "bias of the head added to the sum over positions": _sum_with_bias,
    ONE: lambda maps, bias: maps + 1,
}


# --- from the raw map to the map ---

SIDES: Mapping[str, Change] = {"": _same, "transposed axes": lambda maps: maps.mT}
# Functions before and after the resizing.
RECTIFIED: Mapping[str, tuple[Change, Change]] = {
    "": (torch.relu, _same),
    "no ReLU": (_same, _same),
    "absolute value": (torch.abs, _same),
    "ReLU after resizing": (_same, torch.relu),
    "absolute value after resizing": (_same, torch.abs),
}


def _interpolated(mode: str, aligned: bool | None) -> Callable[[Tensor, Sequence[int]], Tensor]:
    """Return a function that resizes maps (B, h, w) to a size."""

    def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
        larger: Tensor = functional.interpolate(
            maps[:, None], tuple(size), mode=mode, align_corners=aligned
        )
        return larger[:, 0]

    return resize


INTERPOLATIONS: Mapping[str, Callable[[Tensor, Sequence[int]], Tensor]] = {
    "": _interpolated("bilinear", False),
    "nearest interpolation": _interpolated("nearest", None),
    "nearest-exact interpolation": _interpolated("nearest-exact", None),
    "align_corners=True": _interpolated("bilinear", True),
    "bicubic interpolation": _interpolated("bicubic", False),
    "bicubic interpolation with align_corners=True": _interpolated("bicubic", True),
}
# Whether a map is normalised before and after the resizing.
PLACES = {
    "": (False, True),
    "normalised before resizing": (True, False),
    "normalised before and after resizing": (True, True),
}


@dataclass(frozen=True)
class Normalisation:
    """The two numbers of a normalisation: (map - offset) / divisor, each (B, 1, 1)."""

    offset: Change
    divisor: Change


def _over_image(reduce: Callable[..., Tensor]) -> Change:
    return lambda maps: reduce(maps, (1, 2), keepdim=True)


def _zero(maps: Tensor) -> Tensor:
    return maps.new_zeros(len(maps), 1, 1)


def _batch_min(maps: Tensor) -> Tensor:
    return maps.amin().expand(len(maps), 1, 1)


def _batch_max(maps: Tensor) -> Tensor:
    return maps.amax().expand(len(maps), 1, 1)


NORMALISATIONS: Mapping[str, Normalisation] = {
    "": Normalisation(_zero, _over_image(torch.amax)),
    "min-max": Normalisation(_over_image(torch.amin), _over_image(torch.amax)),
    # 1 - x of a min-max, since the largest value becomes 0 and the divisor is negative
    "min-max, reversed": Normalisation(_over_image(torch.amax), _over_image(torch.amin)),
    "divided by the largest absolute value": Normalisation(
        _zero, lambda maps: maps.abs().amax((1, 2), keepdim=True)
    ),
    "divided by the sum": Normalisation(_zero, _over_image(torch.sum)),
    "divided by the Euclidean norm": Normalisation(
        _zero, lambda maps: maps.square().sum((1, 2), keepdim=True).sqrt()
    ),
    "divided by the batch's maximum": Normalisation(_zero, _batch_max),
    "min-max over the batch": Normalisation(_batch_min, _batch_max),
    "standardised": Normalisation(
        _over_image(torch.mean), lambda maps: maps.std((1, 2), keepdim=True)
    ),
}
SUMMED = "sum instead of mean over positions"
NOT_NORMALISED = "not normalised"
# The factors of maps that aren't normalised, of the images, channels and positions of the layer.
SCALES: Mapping[str, Callable[[int, int, int], float]] = {
    NOT_NORMALISED: lambda images, channels, positions: 1.0,
    f"{NOT_NORMALISED}, {SUMMED}": lambda images, channels, positions: positions,
    "not normalised, mean instead of sum over positions": lambda images, channels, positions: (
        1 / positions
    ),
    "not normalised, mean over channels": lambda images, channels, positions: 1 / channels,
    "not normalised, score averaged over the batch": lambda images, channels, positions: 1 / images,
}


class Traces(CachesResults):
    """The changed traces of one case, each computed once."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.usual = cut(case.model, case.layer, output="logits").trace(case.images, case.targets)
        self._results = {("trace", USUAL): self.usual}
        bias = _last_bias(case.model)
        self.bias = torch.zeros_like(self.usual.logits[0]) if bias is None else bias
        self._latest_tensors: tuple[Reading, tuple[Trace, Trace] | None] | None = None

    def trace(self, reading: Reading) -> Trace | None:
        """Return the trace of a reading's score, class and layer, or None if the network has no
        such layer.

        It has the model's own score functions, so that methods with further passes use them, too.
        """
        return self.once(("trace", reading), lambda: self._traced(reading))

    def _traced(self, reading: Reading) -> Trace | None:
        layer = input_layer(self.case) if reading.activations == INPUT else self.case.layer
        if layer is None:
            return None
        output = SCORES[reading.score] if reading.score else "logits"
        cut_model = cut(self.case.model, layer, output=output)
        return cut_model.trace(self.case.images, self._targets(reading))

    def _targets(self, reading: Reading) -> Tensor:
        return TARGETS[reading.target](self.usual.logits, self.usual.targets)

    def tensors(self, reading: Reading) -> tuple[Trace, Trace] | None:
        """Return the trace of a reading, and its tensors alone as a method gets them; None if the
        network has no such trace.

        It costs no cut of the network, since only gradients and scores differ. The result of the
        latest reading is kept, so that methods share what they compute on it.
        """
        if self._latest_tensors is None or self._latest_tensors[0] != reading:
            self._latest_tensors = reading, self._tensors(reading)
        return self._latest_tensors[1]

    def _tensors(self, reading: Reading) -> tuple[Trace, Trace] | None:
        layer = INPUT if reading.activations == INPUT else ""
        scored = replace(reading, gradients="", activations=layer)
        trace = self.once(("scored", scored), lambda: self._scored(scored))
        if trace is None:
            return None
        activations = ACTIVATIONS[reading.activations](trace.activations)
        if reading.activations == AS_ACTIVATIONS:
            activations = trace.gradients
        gradients = _changed_gradients(reading.gradients, trace)
        changed = replace(trace, gradients=gradients, activations=activations)
        return changed, without_network(padded(changed, reading))

    def _scored(self, reading: Reading) -> Trace | None:
        """Return the trace of another score or class, which keeps the usual network."""
        usual = self.trace(Reading(activations=reading.activations))
        if usual is None:
            return None
        targets = self._targets(reading)
        score = partial(_class_scores, SCORES[reading.score], targets)
        return replace(
            usual,
            targets=targets,
            gradients=usual.gradient_of(score),
            scores=score(usual.logits),
        )


def without_network(trace: Trace) -> Trace:
    """Return a trace that has only its tensors, so that nothing can run the network."""
    return replace(trace, network=cast(TracedNetwork, None))


def _class_scores(change: Change, targets: Tensor, logits: Tensor) -> Tensor:
    return change(logits).gather(1, targets[:, None])[:, 0]


def padded(trace: Trace, reading: Reading) -> Trace:
    """Return the trace whose sums over positions have the epsilon of a reading.

    A row of positions is added that has the epsilon at one position, and no gradient.
    """
    epsilon = SUM_EPSILONS.get(reading.activations)
    if epsilon is None:
        return trace
    activations = functional.pad(trace.activations, (0, 0, 0, 1))
    activations[:, :, -1, 0] = epsilon
    return replace(
        trace,
        activations=activations,
        gradients=functional.pad(trace.gradients, (0, 0, 0, 1)),
    )


def raw_map(trace: Trace, answer: Tensor | Map, reading: Reading, bias: Tensor) -> Tensor | None:
    """Return the raw map (B, h, w) of a method's answer, or None if the reading can't apply.

    Args:
        trace: The trace that the reading changes.
        answer: The method's weights or its Map for this trace.
        reading: The reading.
        bias: The bias of each class, (C,).
    """
    if isinstance(answer, Map):
        if reading.weights or reading.channels:
            return None
        raw = answer.raw
    else:
        weights = WEIGHTS[reading.weights](answer)
        raw = CHANNELS[reading.channels](weighted(weights, trace.activations))
    return BIASES[reading.bias](raw, bias[trace.targets][:, None, None]) if reading.bias else raw


def _resized(maps: Tensor, size: Sequence[int], reading: Reading) -> Tensor:
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return INTERPOLATIONS[reading.interpolation](maps, size)


def finished(raw: Tensor, size: Sequence[int], reading: Reading, channels: int) -> Tensor:
    """Return the maps (B, H', W') of a reading.

    Args:
        raw: The raw maps, (B, h, w).
        size: The size of the maps.
        reading: The reading.
        channels: The number of channels of the layer.
    """
    before, after = RECTIFIED[reading.rectified]
    is_first, is_last = PLACES[reading.place]
    num_positions = raw[0].numel()
    if reading.summed:
        raw = raw * num_positions
    maps = before(SIDES[reading.sides](raw))
    if is_first:
        maps = normalised(maps, reading)
    maps = after(_resized(maps, size, reading))
    if reading.normalisation in SCALES:
        return SCALES[reading.normalisation](len(raw), channels, num_positions) * maps
    return normalised(maps, reading) if is_last else maps


def normalised(maps: Tensor, reading: Reading) -> Tensor:
    """Return normalised maps (B, h, w); a map whose divisor is 0 stays as it is."""
    normalisation = NORMALISATIONS[reading.normalisation]
    maps = maps - normalisation.offset(maps)
    divisor = normalisation.divisor(maps)
    return maps / torch.where(divisor == 0, 1, divisor + reading.epsilon)


def _last_bias(model: nn.Module) -> Tensor | None:
    """Return the bias (C,) of the last linear layer, or None if it has none."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return layers[-1].bias.detach() if layers and layers[-1].bias is not None else None


def input_layer(case: Case) -> str | None:
    """Return the name of the module whose output is the target layer's input, or None."""
    outputs: dict[str, object] = {}
    inputs: list[object] = []
    handles = []
    for name, module in case.model.named_modules():
        if name == case.layer:
            handles.append(
                module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
            )
        elif name:

            def keep(_: nn.Module, __: object, output: object, name: str = name) -> None:
                outputs[name] = output

            handles.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            case.model(case.images[:1])
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, output in outputs.items() if inputs and output is inputs[0]]
    return names[0] if names else None
