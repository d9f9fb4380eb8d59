"""Passes through a model: in a precision, counted in images, as large as memory allows, halved where they don't fit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from axiom_bench.errors import BenchError, is_out_of_memory, unknown
from axiom_bench.notes import WARNINGS, MachineNote, Notes

PRECISIONS = ("fp32", "tf32", "bf16")
HALF = {torch.float16, torch.bfloat16}
RELATIVE_TOLERANCE = 1e-4  # of the largest value: float32, over sums of some thousand terms of both signs
# Memory of a forward pass for an image, in tensors of the model's widest output: a layer's input and output, and one
# that waits to be added.
LIVE_OUTPUTS = 3
# Images of a pass at most: 32 was the best measured on a CPU (docs/studies/performance.md); on a GPU none was.
MAX_IMAGES = {"cpu": 32, "cuda": 256}
# A pass through the head alone: its memory for a row of its input, in tensors of the row's size, and on a CPU the bytes
# of all rows, as caches hold them.
HEAD_TENSORS = 64
MAX_CPU_INPUT = 5 * 2**19
LEAST_MEMORY = 2**20  # bytes: with fewer, every extra pass has one row already
MAX_REASON = 160  # characters: torch goes on with advice for its developers


def pieces(count: int, at_once: int) -> Iterator[slice]:
    """Slices of range(count), equal but for one row, of at most `at_once`."""
    number = -(-count // at_once)
    bounds = [count * piece // number for piece in range(number + 1)] if number else []
    return (slice(*pair) for pair in pairwise(bounds))


def in_passes(blocks: Iterable[Tensor], rows: int) -> Iterator[Tensor]:
    """The rows of all blocks, `rows` at a time, fewer at the end."""
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

    def count(gradient: Tensor) -> None:
        setattr(passes, name, getattr(passes, name) + len(gradient))

    if tensor.requires_grad:
        tensor.register_hook(count)


@dataclass
class OutputSizes:
    """Of the tensors that operations return for an image, how many times its own size they have.

    widest: the largest. total: all together, which a gradient of the whole model keeps. work: multiplications and
    elements of results, which tell what a pass costs. half: the type of those in half precision, if there are any.
    image: the number of the image's elements.
    """

    widest: float = 1.0
    total: float = 1.0
    work: float = field(default=0.0, compare=False)  # of a model that decides by its image, it may differ
    half: torch.dtype | None = None
    image: int = 0

    def bytes_inside(self, element_size: int) -> int:
        """Return the bytes that a row takes inside a pass at once."""
        return int(LIVE_OUTPUTS * self.widest * self.image) * element_size


@contextmanager
def measured_outputs(image: Tensor) -> Iterator[OutputSizes]:
    """Of a pass of one image, (1, 3, H', W'), in this block.

    Tensors without a row for each image, such as a detector's regions, aren't counted: their number depends on what
    the image shows, and no row of a value may depend on that. Nor are views, and results written in place.
    """
    with _Outputs(image.numel()) as outputs:
        yield outputs.sizes


class _Outputs(TorchDispatchMode):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.sizes = size, OutputSizes(image=size)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's own hook: True, its default, imports torch._dynamo at the first call, which takes a second."""
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*arguments, **(options or {}))
        tensors = list(_strided((arguments, options)))
        inputs = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        multiplications = flop_registry.get(operation.overloadpacket)
        if multiplications is not None:
            self.sizes.work += multiplications(*arguments, **(options or {}), out_val=result) / 2
        is_rounded = any(tensor.is_floating_point() for tensor in tensors)  # constants and masks of bool are exact
        for tensor in _strided(result):
            if tensor.dtype in HALF and is_rounded:
                self.sizes.half = tensor.dtype
            self.sizes.work += tensor.numel()
            if tensor.shape[:1] == (1,) and tensor.untyped_storage().data_ptr() not in inputs:
                times = tensor.numel() / self.size
                self.sizes.widest = max(self.sizes.widest, times)
                self.sizes.total += times
        return result


def _strided(values: Any) -> Iterator[Tensor]:
    """The tensors of any nest of values that lie in memory element by element, as sparse ones and MKL-DNN's don't."""
    return (value for value in tree_leaves(values) if isinstance(value, Tensor) and value.layout is torch.strided)


@dataclass
class Limits:
    """What one pass may hold, shared by all cuts of a model. Once halved, a limit stays so for the process.

    memory: bytes that ablations and extra passes, as of perturbed images, may take beside the trace. rows: of a batch;
    None: as many as a batch has.
    """

    memory: int
    rows: int | None = None

    def of(self, rows: int) -> int:
        """The rows of a pass over a batch of so many."""
        return rows if self.rows is None else min(rows, self.rows)

    def rows_at_once(self, image: Tensor, sizes: OutputSizes, with_gradient: bool = False) -> int:
        """The images of an extra pass: as many as the memory holds and the device has use for, at least 1.

        image: one of the pass, (3, H', W'). sizes: of the model's outputs. with_gradient: which keeps all of them.
        """
        outputs = sizes.total if with_gradient else LIVE_OUTPUTS * sizes.widest
        fitting = int(self.memory / (outputs * image.numel() * image.element_size()))
        return max(1, min(fitting, MAX_IMAGES.get(image.device.type, MAX_IMAGES["cuda"])))

    def head_rows_at_once(self, maps: Tensor) -> int:
        """As `rows_at_once`, of a pass through the head alone. maps: of one row, (K, H, W)."""
        size = maps.numel() * maps.element_size()
        at_once = self.memory // (HEAD_TENSORS * size)
        if maps.device.type == "cpu":
            at_once = min(at_once, MAX_CPU_INPUT // size)
        return max(1, at_once)

    def halve(self, rows: int) -> str | None:
        """Half of the rows, of which so many were too many; of one row a quarter of the memory that its extra passes
        take. A sentence about it; None where nothing is left to take away."""
        if rows > 1:
            self.rows = rows // 2
            return f"out of memory with {rows} rows in a batch: going on with {self.rows}"
        if self.memory > LEAST_MEMORY:
            self.memory = max(LEAST_MEMORY, self.memory // 4)
            return f"out of memory with one row: its extra passes go on with {self.memory / 2**20:.3g} MiB"
        return None


class Sliceable(Protocol):
    """Rows, such as a Batch."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, rows: slice, /) -> Self:
        """Some of the rows."""


Rows = TypeVar("Rows", bound=Sliceable)
Answer = TypeVar("Answer")


def by_halves(
    batch: Rows,
    size: int,
    limits: Limits,
    compute: Callable[[Rows, int], Answer],
    notes: Notes = WARNINGS,
) -> Iterator[Answer]:
    """Yield compute(batch, size), or compute(part, smaller size) of each part if that doesn't fit into memory.

    Args:
        batch: The rows.
        size: The rows of a pass, with the padded ones.
        limits: What a pass may hold; a limit that was too high is halved.
        compute: A function that has no effect if it raises.
        notes: Gets a sentence about each halving.

    Raises:
        BenchError: If one row alone doesn't fit.
    """
    start = 0
    while start < len(batch):
        rows = limits.of(size)
        part = batch if not start and len(batch) <= rows else batch[start : start + rows]
        try:
            answer = compute(part, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = (str(error).strip().split("\n")[0] or type(error).__name__)[:MAX_REASON]
        else:
            yield answer
            start += len(part)
            continue
        free()  # out of the handler, which holds the tensors of the failed pass
        sentence = limits.halve(rows)
        if sentence is None:
            raise BenchError(
                f"One image alone doesn't fit into the memory ({reason}); free some memory, choose a machine with "
                "more, a smaller model.resize, or fewer methods and metrics. What was computed is kept."
            )
        notes.add(MachineNote(f"{sentence} ({reason})"))


def free() -> None:
    """Gives up what nothing refers to any more, also the blocks that torch keeps of a GPU's memory."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def check_precision(precision: str) -> str:
    """The name itself. Raises BenchError for one that isn't in PRECISIONS."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return precision


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Runs what is inside in that precision, and leaves the process's settings as they were.

    fp32 turns TF32 off, which torch leaves on for CUDA convolutions; tf32 turns it on for convolutions and products
    (on a CPU both are plain float32); bf16 is autocast. A float64 model stays float64 in all but bf16.
    """
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
    with _tf32(precision == "tf32"), autocast, users_device():
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Turns off TF32 and an autocast that stands around a call, both of which would round gradients, and makes tensors
    on the CPU where no device is said, whatever `torch.set_default_device` was told.

    A backward pass has the settings of the time when it runs, and not those of its forward pass: gradients are in full
    precision where the trunk's passes are in TF32, too.
    """
    with _tf32(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), _on_cpu():
        yield


# A user's, where it isn't the CPU.
_default_device: ContextVar[torch.device | None] = ContextVar("default_device", default=None)


@contextmanager
def _on_cpu() -> Iterator[None]:
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
    """Runs what is inside with the default device that stood around the call: networks and plug-ins of users."""
    return _default_device.get() or nullcontext()


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed, allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def equal_up_to_rounding(values: Tensor, expected: Tensor) -> bool:
    """Equal up to the rounding of the largest finite value; NaN equals NaN.

    A value that is nearly 0 among large ones is a difference of large terms, and as far off as they are.
    """
    largest = expected.detach().nan_to_num(0, 0, 0).abs().amax() if expected.numel() else 0
    return torch.allclose(values, expected, rtol=0, atol=RELATIVE_TOLERANCE * float(largest), equal_nan=True)
