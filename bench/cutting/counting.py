"""Passes through a model, counted in images: what a method or metric costs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Passes:
    """Counted passes, in images (rows of a batch)."""

    trunk_forward: int = 0
    trunk_backward: int = 0
    head_forward: int = 0
    head_backward: int = 0

    def leave_out(self, rows: int) -> None:
        """Subtracts the forward passes of padded rows."""
        self.trunk_forward -= rows
        self.head_forward -= rows


def count_backward(tensor: Tensor, passes: Passes, name: str) -> None:
    """Adds the tensor's rows to passes.<name> whenever a gradient flows through it."""
    if tensor.requires_grad:
        tensor.register_hook(_BackwardCounter(passes, name, len(tensor)))


@dataclass(frozen=True)
class _BackwardCounter:
    """A gradient hook that counts a backward pass and changes nothing."""

    passes: Passes
    name: str
    rows: int

    def __call__(self, gradient: Tensor) -> None:
        setattr(self.passes, self.name, getattr(self.passes, self.name) + self.rows)
