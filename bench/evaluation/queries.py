"""What metrics ask the model beyond the trace: what it says of perturbed copies, and a method's map of another trace.

A metric's YAML may name a function as `queries`: an explanation and those of the metric's parameters that it takes ->
a query, or several. The loop asks the queries of all methods and metrics of a batch together: copies share passes, and
another trace, which knows no map, is made once for all methods. Each answer is kept where the metric then finds it. A
metric that is called by itself asks for itself, and has the same answer bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from axiom_bench.cutting.passes import pieces, rows_at_once
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, measuring
from axiom_bench.explanation.explanation import Explanation

MOST_ROWS = {"cpu": 64, "cuda": 256}  # of a pass of small images, which bounds what fills the last one up


@dataclass(frozen=True, eq=False)
class Copies:
    """Perturbed copies of a trace's images, which the model is to judge. The answer is (B, count, ...).

    trace: whose images they are. holder: who keeps the answer, the explanation whose map the copies follow, or the
    trace itself where they follow none, so that all methods have one answer. key: names the answer and all parameters
    that it depends on. count: of copies of each image. blocks(rows): the copies of the distinct images, an image's all
    before the next's, (n, 3, H', W') at a time, as many as `rows` or about; see `in_blocks`.
    score: logits (n, C) and classes (n,) -> what is kept of them, (n, ...).
    """

    trace: Trace
    holder: Explanation | Trace
    key: Hashable
    count: int
    blocks: Callable[[int], Iterator[Tensor]]
    score: Callable[[Tensor, Tensor], Tensor]

    def answer(self) -> Tensor:
        """Asked for now where it isn't kept. Each copy is one counted forward pass."""
        return self.holder.once(self.key, lambda: _scores(self.trace, [("", self)])[0])


@dataclass(frozen=True, eq=False)
class Again:
    """The same method's map of another trace: of changed images, other classes or another model.

    The answer is (B, ...). holder: whose method it is, and who keeps the answer. change: names the other trace, which
    knows no map: queries of equal `change` get the same one. other(): makes it. key: names the answer and all
    parameters that it depends on. read: what is kept of the explanation of the other trace.
    """

    holder: Explanation
    change: Hashable
    other: Callable[[], Trace]
    key: Hashable
    read: Callable[[Explanation], Tensor]

    def answer(self) -> Tensor:
        """Asked for now where it isn't kept. Costs a trace and the method."""
        return self.holder.once(self.key, lambda: self.read(self.holder.on(self.other())))


Query = Copies | Again


def ask(asked: Iterable[tuple[str, Query]]) -> None:
    """Answers queries, each with the name of the metric that asks, all together; whoever holds an answer keeps it.

    One other trace is held at a time, and of the copies what makes a pass.
    Raises BenchError, with the metric's name, where a query does.
    """
    waiting: dict[Hashable, tuple[str, Query]] = {}
    for metric, query in asked:
        if not query.holder.holds(query.key):
            waiting.setdefault((id(query.holder), query.key), (metric, query))
    again: dict[Hashable, list[tuple[str, Again]]] = {}
    copies: dict[int, list[tuple[str, Copies]]] = {}
    for metric, query in waiting.values():
        if isinstance(query, Again):
            again.setdefault((id(query.holder.trace), query.change), []).append((metric, query))
        else:
            copies.setdefault(id(query.trace), []).append((metric, query))
    for same in again.values():
        _explain_again(same)
    for some in copies.values():
        for (_, query), scores in zip(some, _scores(some[0][1].trace, some), strict=True):
            _keep(query, scores)


def in_blocks(
    trace: Trace, count: int, perturbed: Callable[[slice, slice], Tensor]
) -> Callable[[int], Iterator[Tensor]]:
    """The `blocks` of Copies from perturbed(images, copies): those copies of those images, (images, copies, 3, H', W').

    A block holds some copies of one image, or all copies of several, always the same number: every image is treated
    alike, wherever it stands in its batch.
    """

    def blocks(rows: int) -> Iterator[Tensor]:
        at_once = max(
            each for each in range(1, len(trace) + 1) if len(trace) % each == 0 and each * count <= max(rows, count)
        )
        for first in range(0, trace.distinct, at_once):
            for copies in pieces(count, rows):
                yield perturbed(slice(first, first + at_once), copies).flatten(0, 1)

    return blocks


def _explain_again(same: Sequence[tuple[str, Again]]) -> None:
    """Answers queries of equal `change`."""
    metric, first = same[0]
    with measuring(metric):
        other = first.other()
    for metric, query in same:
        with measuring(metric):
            _keep(query, query.read(query.holder.on(other)))


def _keep(query: Query, answer: Tensor) -> None:
    query.holder.once(query.key, lambda: answer)


@torch.inference_mode(False)
@torch.no_grad()
def _scores(trace: Trace, asked: Sequence[tuple[str, Copies]]) -> list[Tensor]:
    """The answers to queries of one trace.

    All passes have the same number of rows, the last is filled up: a product's rounding may depend on it, and an answer
    must not depend on what else is asked. Rows that fill up aren't counted.
    """
    size = min(rows_at_once(trace, trace.images[0]), MOST_ROWS.get(trace.images.device.type, MOST_ROWS["cuda"]))
    classes = [trace.targets[: trace.distinct].repeat_interleave(query.count) for _, query in asked]
    found: list[list[Tensor]] = [[] for _ in asked]
    for images, owners in _passes(_blocks(trace, asked, size), size):
        if missing := size - len(images):
            images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        logits = trace.forward_logits(images)
        trace.passes.leave_out(missing)
        first = 0
        for place, group in groupby(owners):
            rows, done, (metric, query) = len(list(group)), sum(map(len, found[place])), asked[place]
            with measuring(metric):
                found[place].append(query.score(logits[first : first + rows], classes[place][done : done + rows]))
            first += rows
    return [
        trace.with_repeats(torch.cat(parts).unflatten(0, (trace.distinct, query.count)))
        for parts, (_, query) in zip(found, asked, strict=True)
    ]


def _blocks(trace: Trace, asked: Sequence[tuple[str, Copies]], size: int) -> Iterator[tuple[int, Tensor]]:
    """The copies of all queries, each block with its query's place, without copies of repeats.

    Raises BenchError where a query gives fewer than it says.
    """
    for place, (metric, query) in enumerate(asked):
        left = trace.distinct * query.count
        with measuring(metric):
            for block in query.blocks(size):
                yield place, block[:left]
                left -= len(block[:left])
            if left:
                raise BenchError(
                    f"{query.key!r} gives {left} copies less than {query.count} of {trace.distinct} images."
                )


def _passes(blocks: Iterable[tuple[int, Tensor]], size: int) -> Iterator[tuple[Tensor, list[int]]]:
    """The rows of all blocks, `size` at a time, fewer at the end; and of each row, its query's place."""
    held: list[Tensor] = []
    owners: list[int] = []
    for place, block in blocks:
        while len(block):
            room = size - len(owners)
            held.append(block[:room])
            owners += [place] * len(block[:room])
            block = block[room:]
            if len(owners) == size:
                yield torch.cat(held), owners
                held, owners = [], []
    if owners:
        yield torch.cat(held), owners
