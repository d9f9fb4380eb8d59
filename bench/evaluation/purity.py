"""A user's own plug-in that changes what others read is found by its effect, and named.

It runs after the suite's own, so what it changes reaches none of their values of the same batch. Of some batches, and
of one image at the end of a shard, their values are computed again after it: they are the same, bit by bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, is_out_of_memory
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import Explanation

WATCHED_RATE, WATCHED_BATCHES = 16, 5  # one batch in so many, and of many batches about so many
WITNESS = "the suite's own values before foreign code ran"  # the key of a cut model's witness


class Interference(BenchError):
    """A plug-in changed what others read: their values of this trace, or of later ones, can't be trusted."""

    is_tainted = True


class Witness:
    """What a function gives, tensors and arrays, before code of others runs; again and again the same after it."""

    def __init__(self, device: torch.device, read: Callable[[], Iterable[Any]]) -> None:
        self.device, self.read, self.before = device, read, list(map(_copy, read()))

    def check(self, plugins: Sequence[Plugin]) -> None:
        """Raises Interference, about these plug-ins, where the function gives something else now, or raises."""
        try:
            is_same = self._is_same()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise Interference(f"{_named(plugins)} ({type(error).__name__}: {error}).") from error
        if not is_same:
            raise Interference(f"{_named(plugins)}.")

    def _is_same(self) -> bool:
        now = list(self.read())
        if len(now) == len(self.before) and all(map(_equal, now, self.before)):
            return True
        if self.device.type == "cpu":
            return False
        again = list(map(_copy, self.read()))  # a GPU's sums may have other bits each time, which tells nothing
        return not all(map(_equal, self.read(), again))


def tensors_of(shared: Trace | Explanation) -> list[Tensor]:
    """The tensors in the fields of a trace or an explanation."""
    values = [getattr(shared, each.name) for each in fields(shared) if not each.name.startswith("_")]
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def foreign(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Those that aren't the suite's own."""
    return [plugin for plugin in plugins if plugin.is_foreign]


def watched_rate(batches: int) -> int:
    """In how many of a job's batches one is watched. Of a plug-in that is wrong on a share of its calls, as many
    batches show as much in any job."""
    return max(WATCHED_RATE, batches // WATCHED_BATCHES)


def is_watched(image_ids: Iterable[str], rate: int) -> bool:
    """Whether this batch is one of those in `rate` after which values are computed again: by its images, so that it
    doesn't depend on their order or on other plug-ins."""
    digest = hashlib.sha256("\n".join(image_ids).encode()).digest()
    return int.from_bytes(digest[:8]) % rate == 0


def _named(plugins: Sequence[Plugin]) -> str:
    names = ", ".join(f"{plugin.name!r} ({plugin.target})" for plugin in plugins)
    return (
        f"{'One of the plug-ins' if len(plugins) > 1 else 'The plug-in'} {names} changes what others read: after it "
        "the suite's own values aren't the same again. Change copies of tensors, as with .clone(), and restore what it "
        "changes of the network, of torch or of other modules"
    )


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else np.copy(value)


def _equal(now: Any, before: Any) -> bool:
    if not isinstance(now, Tensor):
        return np.array_equal(now, before, equal_nan=now.dtype.kind == "f")
    if now.shape != before.shape or now.dtype != before.dtype:
        return False
    return torch.equal(now, before) or bool(((now == before) | ((now != now) & (before != before))).all())  # or NaN
