"""Finds users' own plug-ins that change tensors or state that others read.

A user's own plug-in runs after this project's own, so its changes reach none of their values of the
same batch. For some batches, and for one image at the end of a shard, the suite's own values are
computed again after it. They must be the same, bit by bit; otherwise an error names the plug-in.
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
from axiom_bench.evaluation.plugins import AnyPlugin
from axiom_bench.explanation.explanation import Explanation

WATCHED_RATE = 16  # at most one batch in 16 is watched
WATCHED_BATCHES = 5  # of many batches, about 5 are watched
WITNESS = "this project's own values before foreign code ran"  # the key of a cut model's witness


class Interference(BenchError):
    """A plug-in changed data that others read: their values of this trace, or of later ones, can't
    be trusted.
    """

    is_tainted = True


class Witness:
    """The tensors and arrays that a function returned before code of others ran, to compare with
    later ones.
    """

    def __init__(self, device: torch.device, read: Callable[[], Iterable[object]]) -> None:
        self.device = device
        self.read = read
        self.before = list(map(_copy, read()))

    def check(self, plugins: Sequence[AnyPlugin]) -> None:
        """Raise Interference about these plug-ins if the function now returns anything else, or
        raises.
        """
        try:
            is_same = self._is_same()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise Interference(
                f"{_interference_message(plugins)} ({type(error).__name__}: {error})."
            ) from error
        if not is_same:
            raise Interference(f"{_interference_message(plugins)}.")

    def _is_same(self) -> bool:
        now = list(self.read())
        if len(now) == len(self.before) and all(map(_equal, now, self.before)):
            return True
        if self.device.type == "cpu":
            return False
        # A GPU's sums may have other bits each time. If they do, a difference proves nothing.
        again = list(map(_copy, self.read()))
        is_reproducible = all(map(_equal, self.read(), again))
        return not is_reproducible


def public_tensors(shared: Trace | Explanation) -> list[Tensor]:
    """Return the tensors in the public fields of a trace or an explanation."""
    values = [
        getattr(shared, field.name) for field in fields(shared) if not field.name.startswith("_")
    ]
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def foreign(plugins: Iterable[AnyPlugin]) -> list[AnyPlugin]:
    """Return the plug-ins that aren't this project's own."""
    return [plugin for plugin in plugins if plugin.is_foreign]


def watched_rate(batches: int) -> int:
    """Return the number of a job's batches of which one is watched.

    About as many batches are watched in any large job, so a plug-in that is wrong in a share of its
    calls is found with the same probability.
    """
    return max(WATCHED_RATE, batches // WATCHED_BATCHES)


def is_watched(image_ids: Iterable[str], rate: int) -> bool:
    """Return True if values are computed again after this batch, which holds for one batch in
    `rate`.

    The choice depends only on the batch's images: not on the order of batches, and not on other
    plug-ins.
    """
    digest = hashlib.sha256("\n".join(image_ids).encode()).digest()
    return int.from_bytes(digest[:8]) % rate == 0


def _interference_message(plugins: Sequence[AnyPlugin]) -> str:
    """Return the message about plug-ins of which one interferes, without its end."""
    names = ", ".join(f"{plugin.name!r} ({plugin.target})" for plugin in plugins)
    subject = "One of the plug-ins" if len(plugins) > 1 else "The plug-in"
    return (
        f"{subject} {names} changes what others read: after it axiom-bench's own values are no "
        "longer the same. Change copies of tensors, made by .clone(), and restore every change of "
        "the network, of torch or of other modules"
    )


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else np.copy(value)


def _equal(now: Any, before: Any) -> bool:
    if not isinstance(now, Tensor):
        return np.array_equal(now, before, equal_nan=now.dtype.kind == "f")
    if now.shape != before.shape or now.dtype != before.dtype:
        return False
    if torch.equal(now, before):
        return True
    both_nan = (now != now) & (before != before)
    return bool(((now == before) | both_nan).all())
