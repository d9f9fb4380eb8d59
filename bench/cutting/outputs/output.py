"""What is explained of a network: its logits, or a function of them, such as a probability or a margin.

The module is the head's last step, so that methods, axioms and ablations need nothing of their own, and the network and
the names of its layers stay as they are. Where the network doesn't return logits, `scores` makes them. An
output with classes of its own is in bench/models/outputs.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.outputs.scores import ScoreFunction, name_of
from axiom_bench.errors import BenchError, type_name, unknown


class OutputModule(nn.Module):
    """Logits (..., C) -> outputs (..., C') in float64, whatever the logits are in."""

    @abstractmethod
    def forward(self, logits: Tensor) -> Tensor:
        """The outputs."""

    def difference(self, logits: Tensor, change: Tensor) -> Tensor:
        """How the outputs change with the logits: (..., C') in float64. The logits broadcast to the change.

        In float32 the drops of a probability near 1 would vanish below 6e-8, those of a margin in its logits' rounding.
        """
        exact = logits.double()
        return self(exact + change) - self(exact)


class Probability(OutputModule):
    """The softmax probability of each class."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().softmax(-1)


class Margin(OutputModule):
    """z_c - max over j != c of z_j: the predicted class against its runner-up, any other against the predicted one."""

    def forward(self, logits: Tensor) -> Tensor:
        exact = logits.double()
        best, second = exact.topk(2, -1).values.split(1, -1)
        return exact - torch.where(exact == best, second, best)


@dataclass(frozen=True)
class Output:
    """function: from what the network returns to logits (B, n), a column for each thing that can be explained; None for
    the rule of `scores`. build: from the number of logits to the module behind them; None for the logits as
    they are.

    are_logits: whether a softmax over the outputs is the probability of each class, as for groups of classes; where it
    isn't, probabilities and the predicted class are those of the network's own logits. classes: a name for each of the
    outputs, None where they are the network's own. softmax: whether a softmax over the logits is a probability; where
    it isn't, metrics that need one have the status `no_probability`.
    """

    name: str
    build: Callable[[int], OutputModule] | None = None
    are_logits: bool = False
    classes: tuple[str, ...] | None = None
    function: ScoreFunction | None = None
    softmax: bool = True

    def name_of(self, model: str) -> str:
        """The name of a model with this output: `resnet18`, `resnet18+margin`."""
        return model if self.name == LOGITS.name else f"{model}+{self.name}"

    def module(self, classes: int) -> OutputModule | None:
        """The module behind a network of that many classes. Raises BenchError for too few classes."""
        return None if self.build is None else self.build(classes)


def _probability(_: int) -> OutputModule:
    return Probability()


def _margin(classes: int) -> OutputModule:
    if classes < 2:
        raise BenchError("A margin needs at least two classes; this network has one: explain its logits.")
    return Margin()


LOGITS = Output("logits", are_logits=True)
OUTPUTS = {output.name: output for output in (LOGITS, Output("probability", _probability), Output("margin", _margin))}
AnyOutput = str | Output | ScoreFunction  # what `output=` takes


def check_output(output: AnyOutput) -> Output:
    """The output itself, or that of a name or of a user's function. Raises BenchError for anything else."""
    if isinstance(output, Output):
        return output
    if isinstance(output, type) or not (isinstance(output, str) or callable(output)):
        raise BenchError(
            f"output is one of {', '.join(OUTPUTS)}, or a function from what the network returns to scores (B, n), "
            f"not {'a class' if isinstance(output, type) else type_name(output)}."
        )
    if not isinstance(output, str):
        return Output(name_of(output), are_logits=True, function=output)
    if output not in OUTPUTS:
        raise unknown("output", output, OUTPUTS)
    return OUTPUTS[output]


class WithOutput(nn.Module):
    """A network, images to logits (B, C), followed by an output module, as one network: (B, C')."""

    def __init__(self, network: nn.Module, output: OutputModule) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.network(images))


def graph_with(head: fx.GraphModule, output: OutputModule) -> fx.GraphModule:
    """A head's graph, (activations, *sides) -> logits, with the module as its last operation."""
    graph = fx.Graph()
    logits = graph.graph_copy(head.graph, {})
    returned = graph.output(logits)
    longer = fx.GraphModule(head, graph, "Head")
    longer.add_module("output", output)
    with graph.inserting_before(returned):
        returned.args = (graph.call_module("output", (logits,)),)
    longer.recompile()
    return longer
