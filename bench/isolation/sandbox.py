"""Run foreign code on a copy of the network, with its own random states and without output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.model_copy import MaxPool2dByViews, shared_copy
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.passes import Passes
from axiom_bench.cutting.trace import Trace
from axiom_bench.cutting.trunk_and_head import ReshapedParts
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.isolation.global_state import isolated_code, seed_all


@dataclass(frozen=True)
class Sandbox:
    """A copy of the network, the target layer in it, and the images.

    Attributes:
        model: The module that the code explains. It contains `network` if the trace explains
            another output, and otherwise is `network`.
        network: The copy of the network.
        layer: The target layer in the copy.
        images: The images, (B, 3, H', W').
        reshape: Makes maps (B, K, H, W) of the layer's output if that has tokens, otherwise None.
    """

    model: nn.Module
    network: nn.Module
    layer: nn.Module
    images: Tensor
    reshape: Callable[[Tensor], Tensor] | None

    @property
    def options(self) -> dict[str, object]:
        """The reshape as a keyword argument of grad-cam and torchcam; empty if there is none."""
        return {} if self.reshape is None else {"reshape_transform": self.reshape}

    def with_layers(self, names: Sequence[str]) -> list[nn.Module]:
        """Return the target layer and the modules of these names.

        Args:
            names: Dotted names of modules.

        Raises:
            BenchError: If the network doesn't have a name.
        """
        modules = dict(self.network.named_modules())
        if unknown := [repr(name) for name in names if name not in modules]:
            raise BenchError(
                f"There is no layer {', '.join(unknown)}; set params.layers to names of modules."
            )
        return [self.layer, *(modules[name] for name in names if modules[name] is not self.layer)]


@contextmanager
def sandbox(trace: Trace, name: str, seed: int = 0) -> Iterator[Sandbox]:
    """Yield a copy of the network for one call of foreign code.

    Hooks, modes, gradients and replaced modules end with the copy. It shares only the weights'
    memory, which no CAM writes to. Pooling is torch's own, parameters require gradients, and passes
    are counted. All global random states are seeded, and restored at the end. Output and warnings
    are suppressed.

    Args:
        trace: The traced batch.
        name: The code's name, for messages.
        seed: The seed of the random states, of up to 64 bits.

    Raises:
        BenchError: If the code fails. So its rows are `not_applicable`, and a run continues.
    """
    with isolated_code():
        seed_all(seed)
        model = network = _copy(trace.cut_model.model)
        layer = network.get_submodule(trace.layer)
        trunk_and_head = trace.cut_model.trunk_and_head
        if trunk_and_head.scores is not None:
            model = ScoredNetwork(model, trunk_and_head.scores)
        if trunk_and_head.output is not None:
            model = nn.Sequential(model, trunk_and_head.output)
        _count(model, layer, trace.passes)
        try:
            with bound(network, trace.other_inputs):
                yield Sandbox(model, network, layer, trace.images.clone(), _reshape(trace))
        except BenchError:
            raise
        except Exception as error:
            # Memory isn't the code's fault: the caller can try again with fewer rows.
            if is_out_of_memory(error):
                raise
            raise BenchError(
                f"{name} fails on this network ({type(error).__name__}: {error})."
            ) from error


def _reshape(trace: Trace) -> Callable[[Tensor], Tensor] | None:
    """Return a function that makes maps of the layer's output, or None if it has maps."""
    parts = trace.cut_model.trunk_and_head.parts
    if not isinstance(parts, ReshapedParts):
        return None
    reshape = parts.reshape
    height_width = (trace.images.shape[-2], trace.images.shape[-1])
    return lambda output: reshape.to_maps(output, height_width)[0]


def _copy(model: nn.Module) -> nn.Module:
    """Return a copy with torch's own pooling, whose parameters require gradients."""
    copy = shared_copy(model).requires_grad_(True)
    for module in copy.modules():
        if type(module) is MaxPool2dByViews:
            module.__class__ = nn.MaxPool2d  # type: ignore[assignment]
    return copy


def _count(model: nn.Module, layer: nn.Module, passes: Passes) -> None:
    """Count forward passes, and backward passes through the head and to the first operation."""

    def forward(_: nn.Module, __: object, logits: Tensor) -> None:
        passes.trunk_forward += len(logits)
        passes.head_forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(head_backward)

    def head_backward(gradient: Tensor) -> None:
        passes.head_backward += len(gradient)

    def first_operation(_: nn.Module, __: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(trunk_backward)

    def trunk_backward(gradient: Tensor) -> None:
        passes.trunk_backward += len(gradient)

    model.register_forward_hook(forward)
    first = next(module for module in model.modules() if not list(module.children()))
    if first is not layer:
        first.register_forward_hook(first_operation)
