"""Find the explained scores of a network: scores (B, n) from its return value, and functions of
them.

Such a function is a probability, for example. This is the only module that knows of networks whose
output isn't logits (B, C). They return a dict, an object with `.logits`, one number per image, maps
of classes, or anything that a user's own function reads. The functions made here have no branches
left, so that torch.fx can follow them, and a head with linear scores keeps its exact differences.
An output's module is the last step of the head. So methods, axioms and ablations need no code of
their own for it, and the network and the names of its layers don't change. Outputs with classes of
their own are in bench/models/outputs.py.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.ending import Calls, Ending
from axiom_bench.cutting.images import OtherInputs, bound
from axiom_bench.errors import BenchError, is_out_of_memory, type_name, unknown_name

# The return value of a network, in the form that its author chose: a tensor, a tuple, a mapping or
# an object. Only the user's function knows its type.
Returned = Any
# from the network's return value for B images to scores (B, n)
ScoreFunction = Callable[[Returned], Tensor]
# one of several functions from the return value towards the scores
Step = Callable[[Returned], Returned]
# the keys of the hub's classification networks, and of torchvision's segmentation networks
KEYS = (
    "logits",
    "out",
)


class Chain(nn.Module):
    """Functions that are called one after the other. nn.Sequential takes only modules."""

    def __init__(self, *functions: Step) -> None:
        super().__init__()
        self.functions = functions
        self.registered = nn.ModuleList(
            function for function in functions if isinstance(function, nn.Module)
        )

    def forward(self, output: object) -> Returned:
        for function in self.functions:
            output = function(output)
        return output


class ScoredNetwork(nn.Module):
    """A network with the scores of its return value: images (B, C, H', W') -> scores (B, n).

    Its forward takes only the images and the other inputs, if any, so that further arguments of the
    network keep their defaults when it is traced. `scores` is None if the network itself returns
    them.
    """

    def __init__(self, model: nn.Module, scores: Chain | None) -> None:
        super().__init__()
        self.model = model
        self.scores = scores
        functions = () if scores is None else scores.functions
        self.ending = next(
            (function for function in functions if isinstance(function, Ending)), None
        )

    def forward(self, images: Tensor, others: OtherInputs | None = None) -> Tensor:
        """Compute the scores. `others` are the other inputs; None: those that are bound."""
        with nullcontext() if others is None else bound(self.model, others):
            return self._scores(images)

    def _scores(self, images: Tensor) -> Tensor:
        """Run the network. An Ending sees the operations of this pass, and of no other."""
        scores: Tensor
        if self.ending is None or self.scores is None or isinstance(images, fx.Proxy):
            output = self.model(images)
            scores = output if self.scores is None else self.scores(output)
            return scores
        try:
            with Calls() as self.ending.calls:
                output = self.model(images)
            scores = self.scores(output)
            return scores
        finally:
            self.ending.calls = None


def as_column(scores: Tensor) -> Tensor:
    """Make a column of one number per image: (B,) -> (B, 1)."""
    return scores[:, None]


def mean_of_maps(maps: Tensor) -> Tensor:
    """Average maps of classes over all positions, such as a fully convolutional network's: (B, C,
    H, W) -> (B, C).
    """
    return maps.mean((2, 3))


class TensorScores(nn.Module):
    """Scores (B, n) that are computed from a tensor of the network's output.

    `read` is a function from the network's output to that tensor. If it is None, `steps_to_tensor`
    finds the tensor.
    """

    def __init__(self, read: Callable[[Returned], Tensor] | None) -> None:
        super().__init__()
        self.read = read

    def check(self, tensor: object, network: str) -> None:
        """Raise BenchError for a tensor of one image that `forward` can't take."""


def score_function(
    function: ScoreFunction | None,
    output: Returned,
    network: str,
    images: Tensor,
    ending: Ending | None = None,
) -> Chain | None:
    """Return the checked function from the network's return value to scores, or None if it returns
    the scores, (B, n).

    The function is the user's, or the rule for such an output. Raises BenchError if there is no
    rule for the output, and if the function fails or returns another shape.

    Args:
        function: The user's function; None: the rule applies.
        output: The network's return value for one image.
        network: The network's name, for errors.
        images: A module is copied to their device and type.
        ending: Removes the network's end, such as a softmax.
    """
    # An Ending comes before a TensorScores, which takes logits, and after any other function.
    end = [] if ending is None else [ending]
    if function is None:
        return _steps_by_shape(output, network, end)
    name = function_name(function)
    if isinstance(function, nn.Module):
        function = copy.deepcopy(function).to(images.device, images.dtype)
        function.eval()
    if isinstance(function, TensorScores):
        steps = [function.read] if function.read else steps_to_tensor(output, network)
        function.check(Chain(*steps)(output), network)
        steps = [*steps, *end, function]
    else:
        steps = [function, *end]
    scores = _called(Chain(*steps), output, name, network)
    return Chain(*steps) if scores.ndim == 2 else Chain(*steps, as_column)


def function_name(function: object) -> str:
    """Return the name of a function or module, such as `score`; "output" if it has none, as a
    lambda.
    """
    function = function.func if isinstance(function, partial) else function
    name = str(getattr(function, "__name__", type(function).__name__))
    return name if name.isidentifier() else "output"


def steps_to_tensor(output: Returned, network: str) -> list[Step]:
    """Return the steps from the output to its tensor: none if it is one, else a getter of one of
    KEYS.

    Raises BenchError if there is no such entry or attribute.
    """
    if isinstance(output, Tensor):
        return []
    is_dict = isinstance(output, Mapping)
    for key in KEYS:
        value = output.get(key) if is_dict else getattr(output, key, None)
        if isinstance(value, Tensor):
            return [itemgetter(key) if is_dict else attrgetter(key)]
    keys = " or ".join(map(repr, KEYS))
    description = (
        f"a dict of {list(output)} without {keys}"
        if is_dict
        else f"{type_name(output)}, not a tensor"
    )
    # The error names the first entry that may be the scores.
    entries = dict(enumerate(output)) if isinstance(output, list | tuple) else output
    has_entries = isinstance(entries, Mapping)
    values = entries if has_entries else getattr(output, "__dict__", {})
    example = ""
    for entry, value in values.items():
        if isinstance(value, Tensor) and value.ndim == 2:
            access = f"[{entry!r}]" if has_entries else f".{entry}"
            example = f", such as lambda returned: returned{access}"
            break
    raise BenchError(
        f"{network} returns {description}; give output=, a function from what it returns to "
        f"scores (B, n){example}."
    )


def _steps_by_shape(output: object, network: str, end: Sequence[Ending]) -> Chain | None:
    """Return the steps from a network's return value to scores, chosen by the shape of its
    tensor.
    """
    steps = steps_to_tensor(output, network)
    tensor = Chain(*steps)(output)
    by_shape: dict[int, list[Step]] = {1: [as_column], 2: [], 4: [mean_of_maps]}
    # one image's scores after squeeze()
    is_squeezed = tensor.ndim == 0 or (tensor.ndim == 1 and len(tensor) > 1)
    if is_squeezed:
        by_shape[tensor.ndim] = [partial(torch.reshape, shape=(-1, tensor.numel()))]
    if not tensor.is_floating_point():
        raise BenchError(
            f"{network} returns {described(tensor)}, a decision; let its forward return the "
            "scores that it is made of."
        )
    if tensor.ndim not in by_shape or not (is_squeezed or len(tensor) == 1):
        raise BenchError(
            f"{network} returns {described(tensor)} for one image, not scores (B, n), (B,) or (B, "
            "n, H, W); give output=, a function from what it returns to scores (B, n)."
        )
    for ending in end:
        ending.check(tensor, network)
    steps = [*steps, *end, *by_shape[tensor.ndim]]
    return Chain(*steps) if steps else None


def _called(function: ScoreFunction, output: object, name: str, network: str) -> Tensor:
    """Return the scores of one image, (1, n) or (1,). Raise BenchError if the function fails or has
    another shape.
    """
    with reading(f"output function {name}", network):
        scores = function(output)
    if (
        not isinstance(scores, Tensor)
        or scores.ndim not in (1, 2)
        or len(scores) != 1
        or not scores.numel()
    ):
        are_maps = isinstance(scores, Tensor) and scores.ndim == 4
        advice = ": return the mean of each map, maps.mean((2, 3))" if are_maps else ""
        raise BenchError(
            f"The output function {name} must return scores (B, n) or (B,), a row for each image; "
            f"for one image it returns {described(scores)}{advice}."
        )
    if not scores.is_floating_point():
        raise BenchError(
            f"The output function {name} must return floating-point scores, not {scores.dtype}."
        )
    return scores


@contextmanager
def reading(function: str, network: str) -> Iterator[None]:
    """Turn any error of a user's function of the network's return value into a BenchError."""
    try:
        yield
    except BenchError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BenchError(f"The {function} fails on the output of {network} ({reason}).") from error


def described(value: object) -> str:
    """Describe a value for an error: its shape, or its type and the first of its entries."""
    if isinstance(value, Mapping) and value:
        first_keys = [*value][:4]
        entries = ", ".join(f"{key}: {described(value[key])}" for key in first_keys)
        return f"{type_name(value)} of {entries}"
    if isinstance(value, tuple | list) and value:
        return f"{type_name(value)} of {', '.join(map(described, value[:4]))}"
    if not isinstance(value, Tensor):
        return type_name(value)
    kind = "" if value.is_floating_point() else f" of {value.dtype}"
    return f"shape {tuple(value.shape)}{kind}"


class OutputModule(nn.Module):
    """A module from logits (..., C) to outputs (..., C') in float64, whatever the type of the
    logits.
    """

    @abstractmethod
    def forward(self, logits: Tensor) -> Tensor:
        """Compute the outputs."""

    def difference(self, logits: Tensor, change: Tensor) -> Tensor:
        """Compute the change of the outputs, (..., C') in float64, if the logits change. The logits
        broadcast to the change.

        In float32, drops below 6e-8 of a probability near 1 would vanish, and a margin's drops in
        its logits' rounding.
        """
        exact = logits.double()
        difference: Tensor = self(exact + change) - self(exact)
        return difference


class Probability(OutputModule):
    """The softmax probability of each class."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().softmax(-1)


class ReST(OutputModule):
    """The logit z_c + the logarithm of the class's softmax probability: Cai, CAMs as Shapley
    Value-based Explainers, 2025.
    """

    def forward(self, logits: Tensor) -> Tensor:
        exact = logits.double()
        return exact + exact.log_softmax(-1)


class Margin(OutputModule):
    """The logit z_c - max over j != c of z_j: the predicted class against its runner-up, any other
    against the predicted one.
    """

    def forward(self, logits: Tensor) -> Tensor:
        exact = logits.double()
        best, second = exact.topk(2, -1).values.split(1, -1)
        return exact - torch.where(exact == best, second, best)


@dataclass(frozen=True)
class Output:
    """An output that can be explained, and the way to it from the network's return value."""

    name: str
    # From the number of logits to the module that follows them; None if the logits themselves are
    # explained.
    build: Callable[[int], OutputModule] | None = None
    # True if a softmax over the outputs is the probability of each class, as for groups of classes.
    # If False, probabilities and the predicted class are those of the network's own logits.
    are_logits: bool = False
    # a name for each output; None if the outputs are the network's own classes
    classes: tuple[str, ...] | None = None
    # From the network's return value to logits (B, n), a column for each thing that can be
    # explained; None: the rule of `score_function`.
    function: ScoreFunction | None = None
    # True if a softmax over the logits is a probability. If False, metrics that need one have the
    # status `no_probability`.
    softmax: bool = True
    # The kind of the network's return value, a key of `ending.UNDONE`; None if it is to be
    # recognised.
    returns: str | None = None

    def model_name(self, model: str) -> str:
        """Return the name of a model with this output: `resnet18`, `resnet18+margin`."""
        return model if self.name == LOGITS.name else f"{model}+{self.name}"

    def module(self, classes: int) -> OutputModule | None:
        """Return the module that follows a network of that many classes. Raises BenchError for too
        few classes.
        """
        return None if self.build is None else self.build(classes)


def _probability(_: int) -> OutputModule:
    return Probability()


def _rest(_: int) -> OutputModule:
    return ReST()


def _margin(classes: int) -> OutputModule:
    if classes < 2:
        raise BenchError(
            "A margin needs at least two classes; this network has one: explain its logits."
        )
    return Margin()


RECOGNISED = Output("logits", are_logits=True)
LOGITS = replace(RECOGNISED, returns="logits")
OUTPUTS = {
    "logits": LOGITS,
    "probabilities": replace(RECOGNISED, returns="probabilities"),
    "log_probabilities": replace(RECOGNISED, returns="log_probabilities"),
    "probability": Output("probability", _probability),
    "margin": Output("margin", _margin),
    "rest": Output("rest", _rest),
}
AnyOutput = str | Output | ScoreFunction  # the values that `output=` takes


def check_output(output: AnyOutput | None) -> Output:
    """Return the output itself, or the output of a name or of a user's function. Raises BenchError
    for anything else.

    None stands for the logits, wherever the network has them.
    """
    if output is None:
        return RECOGNISED
    if isinstance(output, Output):
        return output
    if isinstance(output, type) or not (isinstance(output, str) or callable(output)):
        raise BenchError(
            f"output is one of {', '.join(OUTPUTS)}, or a function from what the network returns "
            "to scores (B, n), not "
            f"{'a class' if isinstance(output, type) else type_name(output)}."
        )
    if not isinstance(output, str):
        return Output(function_name(output), are_logits=True, function=output)
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    return OUTPUTS[output]


def append_output(head: fx.GraphModule, output: OutputModule) -> fx.GraphModule:
    """Append the module as the last operation to a head's graph, (activations, *sides) ->
    logits.
    """
    graph = fx.Graph()
    logits = graph.graph_copy(head.graph, {})
    returned = graph.output(logits)
    longer = fx.GraphModule(head, graph, "Head")
    longer.add_module("output", output)
    with graph.inserting_before(returned):
        returned.args = (graph.call_module("output", (logits,)),)
    longer.recompile()
    return longer
