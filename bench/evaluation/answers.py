"""Answers the requests of generator metrics, for all methods and metrics of a batch together.

Equal requests are answered once. Another trace that depends on no map is made once for all methods, and one such trace
is held at a time. All passes of a request have the same number of rows, which depends on nothing but the request and
the batch. A product's rounding may depend on it, and a value must not depend on which other metrics run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from inspect import isgenerator
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.passes import full_precision, in_passes, pieces
from axiom_bench.cutting.split_model import TracedNetwork
from axiom_bench.cutting.trace import Trace, rows_of_images
from axiom_bench.errors import BenchError, NoMap, measuring
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages, Reexplanation, Request
from axiom_bench.evaluation.stopwatch import PASSES, Watch, untimed
from axiom_bench.explanation.explanation import Explanation

KEPT = "kept answers"  # under this key a trace has its `KeptAnswers`
MOST_KEPT = 1024  # scores of an image in an answer that is kept: at most 20 kB of JSON
OF_IMAGE = 0x5851F42D4C957F2D  # an odd number of 63 bits: times its row, what a copy's number has of its image


class NamedFunction(Protocol):
    """The part of a Plugin that this module needs, which plugins.py imports."""

    @property
    def name(self) -> str:
        """The plug-in's name."""

    @property
    def call(self) -> Callable[..., Any]:
        """The function with its params bound."""

    def noting_errors(self) -> AbstractContextManager[None]:
        """Adds the plug-in's name to an error of its function."""


@contextmanager
def measured_by(metric: NamedFunction) -> Iterator[None]:
    """Around code of a metric: a BenchError of its own gets the metric's name, any other error a note."""
    with measuring(metric.name), full_precision(), metric.noting_errors():
        yield


@dataclass
class ScoredCopies:
    """Copies of images that have been classified, by number, and their scores as one tensor, in the same order: (n,
    most, ...), for each of the classes of `RowsOfImages`."""

    copies: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    scores: list[Tensor] = field(default_factory=list)

    def __getitem__(self, rows: slice) -> ScoredCopies:
        """Of a trace of these rows: none, since a pass of fewer images has another number of rows."""
        return ScoredCopies()


@dataclass
class KeptAnswers:
    """Scores of perturbed images that depend on no method. A later command needs them for the methods that it adds.

    scores: {metric: {name of the request and its batch: (valid images, count, ...)}}. A metric that isn't a key keeps
    none.
    """

    scores: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __getitem__(self, rows: slice) -> KeptAnswers:
        """Return no answers for some rows of a trace, since their passes have another number of rows."""
        return KeptAnswers()

    def table(
        self, metric: NamedFunction, trace: Trace, request: PerturbedImages, rows: int, compute: Callable[[], Tensor]
    ) -> Tensor:
        """Return the scores that are kept for this request, or compute them and keep them if they are few.

        rows: of each pass. The name has them, since rounding may depend on their number.
        """
        of_metric = self.scores.get(metric.name)
        if of_metric is None or not request.of_image or trace.image_ids is None:
            return compute()
        targets = trace.classes_on_cpu[0].tolist()
        facts = repr((request.key, request.count, rows, trace.num_valid, trace.image_ids, targets))
        name = hashlib.sha256(facts.encode()).hexdigest()
        if name in of_metric:
            return of_metric[name].to(trace.logits.device)
        scores = compute()
        if scores[0].numel() <= MOST_KEPT:
            of_metric[name] = scores
        return scores


@dataclass
class MetricCall:
    """A metric of one explanation. request: the request that it waits for; None once it has its `result`, or `no_map`:
    the error of a method that has no map of what the metric explains again."""

    metric: NamedFunction
    explanation: Explanation
    request: Request | None = None
    result: Any = None
    generator: MetricGenerator[Any] | None = None
    no_map: NoMap | None = None

    @staticmethod
    def start(metric: NamedFunction, explanation: Explanation) -> MetricCall:
        """Call the metric, up to its first request."""
        try:
            with measured_by(metric):
                answer = metric.call(explanation)
        except NoMap as error:
            return MetricCall(metric, explanation, no_map=error)
        if not isgenerator(answer):
            return MetricCall(metric, explanation, result=answer)
        task = MetricCall(metric, explanation, generator=cast("MetricGenerator[Any]", answer))
        task.send(None)
        return task

    def send(self, answer: Any) -> None:
        """Continue with an answer, up to the next request or the return value."""
        assert self.generator is not None
        try:
            with measured_by(self.metric):
                try:
                    self.request = self.generator.send(answer)
                except StopIteration as end:
                    self.request, self.result = None, end.value
        except NoMap as error:
            self.request, self.no_map = None, error
        if self.request is not None and not isinstance(self.request, PerturbedImages | Reexplanation):
            raise BenchError(
                f"The metric {self.metric.name!r} yielded a {type(self.request).__name__}; a metric yields "
                "PerturbedImages or Reexplanation of axiom_bench.evaluation.queries."
            )


def answer_all(tasks: Sequence[MetricCall], watch: Watch = untimed) -> None:
    """Answer the requests of all tasks until each has its result. watch: is told of the passes, and of nothing else.

    Raises BenchError with the metric's name.
    """
    while pending := [task for task in tasks if task.request is not None]:
        perturbed = [task for task in pending if isinstance(task.request, PerturbedImages)]
        for task in perturbed:
            with watch(PASSES):
                scores = _scores(task)
            task.send(scores)
        if not perturbed:
            first = pending[0]
            _reexplain([task for task in pending if task is first or _shared_key(task) == _shared_key(first)], watch)


def answer_alone(metric: NamedFunction, explanation: Explanation, generator: object) -> Any:
    """The result of one metric of one explanation. generator: what the metric's call returned. Raises NoMap."""
    task = MetricCall(metric, explanation, generator=cast("MetricGenerator[Any]", generator))
    task.send(None)
    answer_all([task])
    if task.no_map:
        raise task.no_map
    return task.result


def first_request(metric: NamedFunction, explanation: Explanation) -> Request | None:
    """A metric's first request; None where it has none."""
    return MetricCall.start(metric, explanation).request


def _shared_key(task: MetricCall) -> Hashable:
    """Tasks with equal keys wait for the same other trace; a trace that isn't shared has a unique key."""
    request = task.request
    if not isinstance(request, Reexplanation) or request.key is None:
        return id(task)
    return id(task.explanation if request.of_map else task.explanation.trace), request.key


def _reexplain(tasks: Sequence[MetricCall], watch: Watch) -> None:
    """Answer tasks that wait for the same other trace; each method explains it once. Both are passes."""
    first = tasks[0]
    assert isinstance(first.request, Reexplanation)
    with watch(PASSES), measured_by(first.metric):
        other = first.request.trace()
    for explanation in {id(task.explanation): task.explanation for task in tasks}.values():
        again: Explanation | None = None
        for task in [task for task in tasks if task.explanation is explanation]:
            assert isinstance(task.request, Reexplanation)
            try:
                with measured_by(task.metric):
                    if again is None:
                        with watch(PASSES):
                            again = explanation.on(other)
                    answer = task.request.read(again)
            except NoMap as error:
                task.request, task.no_map = None, error
            else:
                task.send(answer)


def _scores(task: MetricCall) -> Tensor:
    """The scores of perturbed images; equal requests share them."""
    request, explanation = task.request, task.explanation
    assert isinstance(request, PerturbedImages)
    holder = explanation.required_trace if request.of_image else explanation
    with measured_by(task.metric):
        return holder.once(("perturbed images", request.key), lambda: _computed(task.metric, explanation, request))


@torch.inference_mode(False)
@torch.no_grad()
def _computed(metric: NamedFunction, explanation: Explanation, request: PerturbedImages) -> Tensor:
    """Scores (B, count, ...). Each copy of a valid image that is classified counts as a forward pass."""
    trace = explanation.required_trace
    rows, same = rows_per_pass(trace, request.count), request.same
    if same is None and request.of_image and trace.images.device == torch.device("cpu"):  # to compare is to wait
        same = ("of image", request.key), torch.arange(request.count).expand(len(trace), -1)

    def computed() -> Tensor:
        if same is None:
            return _classified(trace, request, rows, trace.targets[:, None])[:, 0].unflatten(0, (-1, request.count))
        return _reused(trace, request, rows, *same)

    table = trace.once(KEPT, KeptAnswers).table(metric, trace, request, rows, computed)
    return trace.per_image(lambda row: table[row])


def _reused(trace: Trace, request: PerturbedImages, rows: int, name: Hashable, numbers: Tensor) -> Tensor:
    """Scores (valid images, count, ...) of copies that have numbers: those of an image with a new one are classified,
    for all rows that are of this image.

    Copies in passes of another number of rows are told apart, since rounding may depend on it.
    """
    scored = trace.once(("scores of equal copies", name, rows), ScoredCopies)
    of_images = rows_of_images(trace)
    places = of_images.places[: trace.num_valid, None].expand(-1, request.count).flatten()
    copies = (numbers.cpu() + of_images.numbers[:, None] * OF_IMAGE)[: trace.num_valid].flatten().numpy()
    distinct, first = np.unique(copies, return_index=True)
    wanted = np.zeros(len(copies), dtype=bool)
    wanted[first[~np.isin(distinct, scored.copies)]] = True
    if wanted.any():
        chosen = None if wanted.all() else torch.from_numpy(wanted).view(trace.num_valid, request.count)
        scored.scores = [torch.cat([*scored.scores, _classified(trace, request, rows, of_images.classes, chosen)])]
        scored.copies = np.concatenate([scored.copies, copies[wanted]])
    order = scored.copies.argsort()
    at = torch.from_numpy(order[np.searchsorted(scored.copies, copies, sorter=order)])
    (scores,) = scored.scores
    return scores[at.to(scores.device), places.to(scores.device)].unflatten(0, (trace.num_valid, request.count))


def _classified(
    trace: Trace, request: PerturbedImages, rows: int, classes: Tensor, wanted: Tensor | None = None
) -> Tensor:
    """Scores of copies for these classes (B, m), an image's all before the next's: (n, m, ...). wanted: bool (valid
    images, count); None: all.

    Rows that fill up a pass don't count as passes.
    """
    classes = classes[: trace.num_valid].repeat_interleave(request.count, 0)
    of_images = torch.arange(len(classes), device=classes.device) // request.count
    if wanted is not None:
        chosen = wanted.flatten().nonzero()[:, 0].to(classes.device)
        classes, of_images = classes[chosen], of_images[chosen]
    scores: list[Tensor] = []
    network = _network(trace, request)
    for images in in_passes(_blocks(trace, request, rows, wanted), rows):
        missing, start = rows - len(images), sum(map(len, scores))
        filled = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images
        of_rows = of_images[torch.arange(start, start + rows, device=classes.device).clamp(max=len(classes) - 1)]
        logits = network.forward_logits(filled, of_rows)[: len(images)]
        trace.passes.leave_out(missing)
        of_pass = classes[start : start + len(images)]
        scores.append(torch.stack([request.score(logits, column) for column in of_pass.unbind(1)], 1))
    return torch.cat(scores)


def _network(trace: Trace, request: PerturbedImages) -> TracedNetwork:
    """What classifies a request's copies, with the other inputs of the trace's images."""
    if request.network is None:
        return trace.network
    with bound(request.network.model, trace[:1].other_inputs):
        request.network.split(trace.images)
    return replace(trace.network, cut_model=request.network)


def rows_per_pass(trace: Trace, count: int) -> int:
    """Rows of each pass over `count` copies of a batch's images: a fixed rule of model, image size, device and memory.

    A power of two, as many as `rows_at_once` allows, but no more than there are copies.
    """
    limit = trace.cut_model.rows_at_once(trace.images[0])
    return min(2 ** (limit.bit_length() - 1), len(trace) * count)


def _blocks(trace: Trace, request: PerturbedImages, rows: int, wanted: Tensor | None) -> Iterator[Tensor]:
    """The wanted copies, an image's all before the next's, made about `rows` at a time: (n, 3, H', W').

    A block is made of some copies of one image, or all copies of several, always the same number: every image is
    treated alike, wherever it stands in its batch. Raises BenchError where the request makes another number of copies.
    """
    count = request.count
    at_once = max(
        number for number in range(1, len(trace) + 1) if len(trace) % number == 0 and number * count <= max(rows, count)
    )
    for first in range(0, trace.num_valid, at_once):
        of_block = slice(first, first + at_once)
        valid = min(at_once, trace.num_valid - first)
        for copies in pieces(count, rows):
            chosen = None if wanted is None else wanted[of_block, copies].flatten().nonzero()[:, 0]
            if chosen is not None and not len(chosen):
                continue
            block = request.perturbed(of_block, copies)
            each = copies.stop - copies.start
            if block.shape[:2] != (at_once, each):
                raise BenchError(
                    f"the request {request.key!r} has {block.shape[:2].numel()} perturbed images, not {each} of each "
                    f"of {at_once} images."
                )
            made = block[:valid].flatten(0, 1)
            yield made if chosen is None else made[chosen.to(made.device)]
