"""Run passes through a model: in a precision, counted in images, and as large as memory allows.

`halve_until_it_fits` halves the rows of a pass that doesn't fit into memory.

All passes of traces, methods and metrics use these settings, so that their values agree.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from axiom_bench.errors import BenchError, is_out_of_memory, unknown_name
from axiom_bench.notes import WARNINGS, MachineNote, Notes

PRECISIONS = ("fp32", "tf32", "bf16")
HALF = {torch.float16, torch.bfloat16}
# of the largest value: float32, over sums of some thousand terms of both signs
RELATIVE_TOLERANCE = 1e-4
# The memory of a forward pass per image, in tensors of the model's widest output: a layer's input
# and output, and one that waits to be added.
LIVE_OUTPUTS = 3
# The most images of a pass. On a CPU 32 was the best measured (docs/studies/performance.md). On a
# GPU none was best.
MAX_IMAGES = {"cpu": 32, "cuda": 256}
# The memory of a pass through the head only, per row of its input, in tensors of the row's size.
HEAD_TENSORS = 64
# The most bytes of all rows of such a pass on a CPU, so that they fit into its caches.
MAX_CPU_INPUT = 5 * 2**19
LEAST_MEMORY = 2**20  # bytes: with fewer, every extra pass has one row already
MAX_REASON = 160  # characters; the rest of torch's message is advice for its developers


def pieces(count: int, at_once: int) -> Iterator[slice]:
    """Divide range(count) into slices of at most `at_once`, whose lengths differ by at most one.

    Equal pieces waste no pass on a few last rows.
    """
    number = -(-count // at_once)
    bounds = [count * piece // number for piece in range(number + 1)] if number else []
    return (slice(start, stop) for start, stop in pairwise(bounds))


def in_passes(blocks: Iterable[Tensor], rows: int) -> Iterator[Tensor]:
    """Yield the rows of all blocks, `rows` at a time. The last block may have fewer.

    The rows of several images share a pass, so that all passes except the last are full.
    """
    waiting: list[Tensor] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= rows:
            *full, rest = torch.cat(waiting).split(rows)
            waiting = [rest] if len(rest) < rows else []
            yield from full if waiting else (*full, rest)
    if waiting:
        yield torch.cat(waiting)


@dataclass
class Passes:
    """The counts of passes, in images (rows of a batch).

    Reports give a method's cost in passes, since seconds differ between machines.
    """

    trunk_forward: int = 0
    trunk_backward: int = 0
    head_forward: int = 0
    head_backward: int = 0

    def leave_out(self, rows: int) -> None:
        """Subtract the forward passes of padded rows."""
        self.trunk_forward -= rows
        self.head_forward -= rows


def count_backward(tensor: Tensor, passes: Passes, name: str) -> None:
    """Add the tensor's rows to passes.<name> whenever a gradient flows through it.

    A backward pass runs long after the forward pass that counts it, or never.
    """

    def count(gradient: Tensor) -> None:
        setattr(passes, name, getattr(passes, name) + len(gradient))

    if tensor.requires_grad:
        tensor.register_hook(count)


@dataclass
class OutputSizes:
    """The sizes of the tensors that operations return for an image, as multiples of the image's own
    size.
    """

    widest: float = 1.0  # the largest tensor
    total: float = 1.0  # all tensors together, which a gradient of the whole model keeps
    # Multiplications and elements of results, which predict the cost of a pass. It isn't compared,
    # since it may differ for a model whose operations depend on the image.
    work: float = field(default=0.0, compare=False)
    half: torch.dtype | None = None  # the type of tensors in half precision, if there are any
    image: int = 0  # the number of the image's elements

    def bytes_inside(self, element_size: int) -> int:
        """Return the bytes that a row takes inside a pass at one time.

        Ablations of a head that isn't a graph are as many at once as fit into memory.
        """
        return int(LIVE_OUTPUTS * self.widest * self.image) * element_size


@contextmanager
def measured_outputs(image: Tensor) -> Iterator[OutputSizes]:
    """Measure the pass of one image, (1, 3, H', W'), in this block.

    Tensors without a row for each image, such as a detector's regions, aren't counted. Their number
    depends on the content of the image, and the number of rows in a pass must not depend on that.
    Views and results written in place aren't counted either.
    """
    with _Outputs(image.numel()) as outputs:
        yield outputs.sizes


class _Outputs(TorchDispatchMode):
    """The mode of `measured_outputs`. It sees each operation below autograd and autocast."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.sizes = OutputSizes(image=size)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Answer torch's own hook: True, its default, imports torch._dynamo at the first call,
        which takes a second.
        """
        return False

    def __torch_dispatch__(
        self,
        operation: OpOverload,
        types: Sequence[type],
        arguments: tuple[object, ...] = (),
        options: dict[str, object] | None = None,
    ) -> object:
        result = operation(*arguments, **(options or {}))
        tensors = list(_strided((arguments, options)))
        inputs = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        multiplications = flop_registry.get(operation.overloadpacket)
        if multiplications is not None:
            self.sizes.work += multiplications(*arguments, **(options or {}), out_val=result) / 2
        # constants and masks of bool are exact
        is_rounded = any(tensor.is_floating_point() for tensor in tensors)
        for tensor in _strided(result):
            if tensor.dtype in HALF and is_rounded:
                self.sizes.half = tensor.dtype
            self.sizes.work += tensor.numel()
            if tensor.shape[:1] == (1,) and tensor.untyped_storage().data_ptr() not in inputs:
                times = tensor.numel() / self.size
                self.sizes.widest = max(self.sizes.widest, times)
                self.sizes.total += times
        return result


def _strided(values: object) -> Iterator[Tensor]:
    """Return the tensors in nested values that lie in memory element by element, as sparse and
    MKL-DNN ones don't.
    """
    return (
        value
        for value in tree_leaves(values)
        if isinstance(value, Tensor) and value.layout is torch.strided
    )


@dataclass
class Limits:
    """The limits of one pass, shared by all cuts of a model. Once halved, a limit stays halved for
    the process, so that the same memory doesn't run out again.
    """

    # bytes that ablations and extra passes (such as of perturbed images) may take in addition to
    # the trace
    memory: int
    rows: int | None = None  # of a batch; None: as many as a batch has

    def rows_per_pass(self, rows: int) -> int:
        """Return the number of rows of a pass over a batch of `rows`."""
        return rows if self.rows is None else min(rows, self.rows)

    def rows_at_once(self, image: Tensor, sizes: OutputSizes, with_gradient: bool = False) -> int:
        """Return the number of images of an extra pass: as many as fit into memory and use the
        device well, at least 1.

        Args:
            image: One image of the pass, (3, H', W').
            sizes: The sizes of the model's outputs.
            with_gradient: True if the pass computes a gradient, which keeps all outputs.
        """
        outputs = sizes.total if with_gradient else LIVE_OUTPUTS * sizes.widest
        fitting = int(self.memory / (outputs * image.numel() * image.element_size()))
        return max(1, min(fitting, MAX_IMAGES.get(image.device.type, MAX_IMAGES["cuda"])))

    def head_rows_at_once(self, maps: Tensor) -> int:
        """Return the number of rows of a pass through the head only, at least 1. `maps` are those
        of one row, (K, H, W).
        """
        size = maps.numel() * maps.element_size()
        at_once = self.memory // (HEAD_TENSORS * size)
        if maps.device.type == "cpu":
            at_once = min(at_once, MAX_CPU_INPUT // size)
        return max(1, at_once)

    def halve(self, rows: int) -> str | None:
        """Halve the rows of a pass, of which `rows` were too many. For one row, quarter the memory
        of its extra passes.

        Returns a sentence about the new limit, or None if nothing is left to reduce.
        """
        if rows > 1:
            self.rows = rows // 2
            return f"out of memory with {rows} rows in a batch: continuing with {self.rows}"
        if self.memory > LEAST_MEMORY:
            self.memory = max(LEAST_MEMORY, self.memory // 4)
            return (
                "out of memory with one row: its extra passes continue with "
                f"{self.memory / 2**20:.3g} MiB"
            )
        return None


class Sliceable(Protocol):
    """An object that has rows, such as a Batch.

    `halve_until_it_fits` divides it.
    """

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, rows: slice, /) -> Self:
        """Return some of the rows."""


Rows = TypeVar("Rows", bound=Sliceable)
Answer = TypeVar("Answer")


def halve_until_it_fits(
    batch: Rows,
    size: int,
    limits: Limits,
    compute: Callable[[Rows, int], Answer],
    notes: Notes = WARNINGS,
) -> Iterator[Answer]:
    """Yield compute(batch, size). If it doesn't fit into memory, yield compute(part, smaller size)
    for each part.

    Args:
        batch: The rows.
        size: The rows of a pass, including the padded ones.
        limits: The limits of a pass; a limit that was too high is halved.
        compute: A function that has no effect if it raises.
        notes: Get a sentence about each halving.

    Raises:
        BenchError: If one row alone doesn't fit.
    """
    start = 0
    while start < len(batch):
        rows = limits.rows_per_pass(size)
        part = batch if not start and len(batch) <= rows else batch[start : start + rows]
        try:
            answer = compute(part, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            first_line = str(error).strip().split("\n")[0]
            reason = (first_line or type(error).__name__)[:MAX_REASON]
        else:
            yield answer
            start += len(part)
            continue
        free()  # outside the handler, since the error keeps the tensors of the failed pass
        sentence = limits.halve(rows)
        if sentence is None:
            raise BenchError(
                f"A single image doesn't fit into the memory ({reason}); free some memory, "
                "choose a machine with more, a smaller model.resize, or fewer methods and "
                "metrics. What was computed is kept."
            )
        notes.add(MachineNote(f"{sentence} ({reason})"))


def free() -> None:
    """Free the memory that nothing refers to any more, including the blocks that torch keeps of a
    GPU's memory.
    """
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def check_precision(precision: str) -> str:
    """Return the name itself, or raise BenchError if it isn't in PRECISIONS."""
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return precision


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Run the block in that precision, and restore the process's settings afterwards.

    fp32 turns TF32 off, which torch leaves on for CUDA convolutions. tf32 turns it on for
    convolutions and products. On a CPU both are plain float32. bf16 is autocast. A float64 model
    stays float64 in fp32 and tf32.
    """
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
    with _tf32(precision == "tf32"), autocast, users_device():
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn off TF32 and any autocast around the call, since both would round gradients.

    Tensors without an explicit device are made on the CPU, whatever device
    `torch.set_default_device` has set. A backward pass uses the settings at the time when it runs,
    not those of its forward pass. So gradients are in full precision even if the trunk's passes are
    in TF32.
    """
    with (
        _tf32(False),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        _on_cpu(),
    ):
        yield


# The user's default device, if it isn't the CPU.
_default_device: ContextVar[torch.device | None] = ContextVar("default_device", default=None)


@contextmanager
def _on_cpu() -> Iterator[None]:
    """Make tensors on the CPU in this block, and remember the user's device for `users_device`."""
    default = torch.get_default_device()
    if default.type == "cpu":
        yield
        return
    before = _default_device.set(default)
    try:
        with torch.device("cpu"):
            yield
    finally:
        _default_device.reset(before)


def users_device() -> AbstractContextManager[object]:
    """Run the block with the default device that was set around the call, as networks and plug-ins
    of users expect.
    """
    return _default_device.get() or nullcontext()


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    matmul_before = torch.backends.cuda.matmul.allow_tf32
    cudnn_before = torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul_before
        torch.backends.cudnn.allow_tf32 = cudnn_before


def equal_up_to_rounding(values: Tensor, expected: Tensor) -> bool:
    """Return True if the values are equal up to the rounding of the largest finite value; NaN
    equals NaN.

    A value near 0 among large ones is a difference of large terms, so its rounding error is as
    large as theirs.
    """
    largest = expected.detach().nan_to_num(0, 0, 0).abs().amax() if expected.numel() else 0
    return torch.allclose(
        values, expected, rtol=0, atol=RELATIVE_TOLERANCE * float(largest), equal_nan=True
    )
