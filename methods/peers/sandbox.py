"""Where another library may work: a copy of the network, its own random state, and nothing that reaches the user."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.counting import Passes
from axiom_bench.cutting.max_pool import MaxPool2dByViews
from axiom_bench.cutting.output import WithOutput
from axiom_bench.cutting.reshaped import ReshapedParts
from axiom_bench.cutting.shared_copy import shared_copy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError


def missing(distribution: str, error: ImportError) -> BenchError:
    """What a user reads whose environment lacks the library."""
    return BenchError(f"{distribution} can't be imported ({error}): pip install 'axiom-bench[peers]'.")


@dataclass(frozen=True)
class Loan:
    """The network as its user would hand it to a library, the target layer in it, and the images (B, 3, H', W').

    reshape: what makes maps (B, K, H, W) of the layer's output where that holds tokens; None where it holds maps.
    """

    model: nn.Module
    layer: nn.Module
    images: Tensor
    reshape: Callable[[Tensor], Tensor] | None

    @property
    def options(self) -> dict[str, Any]:
        """What grad-cam and torchcam call the reshape, where there is one."""
        return {} if self.reshape is None else {"reshape_transform": self.reshape}


@contextmanager
def sandbox(trace: Trace, library: str) -> Iterator[Loan]:
    """What a library may work on for one call.

    The copy is made for one call: hooks, modes, gradients and replaced modules end with it; only the memory of the
    weights is shared, which no CAM writes to. Its pooling is torch's own, its parameters require gradients, its passes
    are counted. Random draws start from seed 0; what is printed and warned is dropped. An error of the library becomes
    a BenchError, so that its rows are `not_applicable` and a run goes on.
    """
    devices = [trace.images.device] if trace.images.is_cuda else []
    quiet = io.StringIO()
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices),
        redirect_stdout(quiet),
        redirect_stderr(quiet),
        warnings.catch_warnings(action="ignore"),
    ):
        torch.manual_seed(0)
        model = _copy(trace.cut_model.model)
        layer = model.get_submodule(trace.layer)
        if (output := trace.cut_model.halves.output) is not None:
            model = WithOutput(model, output)
        _count(model, layer, trace.passes)
        try:
            yield Loan(model, layer, trace.images.clone(), _reshape(trace))
        except BenchError:
            raise
        except Exception as error:
            raise BenchError(f"{library} fails on this network ({type(error).__name__}: {error}).") from error


def _reshape(trace: Trace) -> Callable[[Tensor], Tensor] | None:
    parts, height_width = trace.cut_model.halves.parts, (trace.images.shape[-2], trace.images.shape[-1])
    return (lambda output: parts.reshape.to_maps(output, height_width)[0]) if isinstance(parts, ReshapedParts) else None


def _copy(model: nn.Module) -> nn.Module:
    own = shared_copy(model).requires_grad_(True)
    for module in own.modules():
        if type(module) is MaxPool2dByViews:
            module.__class__ = nn.MaxPool2d  # type: ignore[assignment]
    return own


def _count(model: nn.Module, layer: nn.Module, passes: Passes) -> None:
    """Counts whole forward passes, and backward passes through the head and down to the network's first operation."""

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
