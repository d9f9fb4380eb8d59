"""Answers the requests of generator metrics, for all methods and metrics of a batch together.

The passes that metrics ask for are most of a run's time, so equal requests are answered once.
Another trace that depends on no map is made once for all methods, and only one such trace is in
memory at a time. All passes of a request have the same number of rows, which depends only on the
request and the batch. The rounding of a product may depend on this number, and a value must not
depend on which other metrics run.
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
from axiom_bench.errors import BenchError, NoMap, name_metric_in_errors, plural
from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages, Reexplanation, Request
from axiom_bench.evaluation.stopwatch import PASSES, Watch, untimed
from axiom_bench.explanation.explanation import Explanation

KEPT = "kept answers"  # the key under which a trace has its `KeptAnswers`
MOST_KEPT = 1024  # the most scores of an image in an answer that is kept: at most 20 kB of JSON
# an odd number of 63 bits; times the image's number, it is added to a copy's number
OF_IMAGE = 0x5851F42D4C957F2D


class NamedFunction(Protocol):
    """The part of a Plugin that this module needs, which plugins.py imports."""

    @property
    def name(self) -> str:
        """The plug-in's name."""

    @property
    def call(self) -> Callable[..., object]:
        """The function with its params bound."""

    def noting_errors(self) -> AbstractContextManager[None]:
        """Add the plug-in's name to an error of its function."""


@contextmanager
def metric_errors(metric: NamedFunction) -> Iterator[None]:
    """Run code of a metric: add the metric's name to its BenchErrors, and a note to any other
    error.
    """
    with name_metric_in_errors(metric.name), full_precision(), metric.noting_errors():
        yield


@dataclass
class ScoredCopies:
    """The copies of images that have been classified, and their scores."""

    copies: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The numbers of the n copies."""
    scores: list[Tensor] = field(default_factory=list)
    """At most one tensor: the scores of the copies in the same order, (n, most, ...), for each of
    the classes of `RowsOfImages`."""

    def __getitem__(self, rows: slice) -> ScoredCopies:
        """Return no copies for some rows of a trace, since a pass of fewer images has another
        number of rows.
        """
        return ScoredCopies()


@dataclass
class KeptAnswers:
    """The scores of perturbed images that depend on no method. A later command needs them for
    methods that it adds.
    """

    scores: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """{metric: {name of the request and its batch: (valid images, count, ...)}}. Other metrics keep
    no scores."""

    def __getitem__(self, rows: slice) -> KeptAnswers:
        """Return no answers for some rows of a trace, since their passes have another number of
        rows.
        """
        return KeptAnswers()

    def table(
        self,
        metric: NamedFunction,
        trace: Trace,
        request: PerturbedImages,
        rows: int,
        compute: Callable[[], Tensor],
    ) -> Tensor:
        """Return the scores of this request: kept ones, or computed ones, which are then kept if an
        image has few of them.

        rows: the number of rows of each pass. It is part of the name, since rounding may depend on
        it.
        """
        # an answer for other images, or for maps of one method, would never be asked for again
        scores_by_name = self.scores.get(metric.name)
        if scores_by_name is None or not request.depends_on_image_only or trace.image_ids is None:
            return compute()
        targets = trace.classes_on_cpu[0].tolist()
        facts = repr((request.key, request.count, rows, trace.num_valid, trace.image_ids, targets))
        name = hashlib.sha256(facts.encode()).hexdigest()
        if name in scores_by_name:
            return scores_by_name[name].to(trace.logits.device)
        scores = compute()
        if scores[0].numel() <= MOST_KEPT:
            scores_by_name[name] = scores
        return scores


@dataclass
class MetricCall:
    """A metric of one explanation. It has ended when it waits for no request."""

    metric: NamedFunction
    explanation: Explanation
    request: Request | None = None
    """The request that the metric waits for. None: it has its `result`, or `no_map`."""
    result: object = None
    generator: MetricGenerator[object] | None = None
    """The generator that the metric's function returned, if it is a generator."""
    no_map: NoMap | None = None
    """The error of a method that has no map of the trace that the metric explains again."""

    @staticmethod
    def start(metric: NamedFunction, explanation: Explanation) -> MetricCall:
        """Call the metric and run it up to its first request."""
        try:
            with metric_errors(metric):
                answer = metric.call(explanation)
        except NoMap as error:
            return MetricCall(metric, explanation, no_map=error)
        if not isgenerator(answer):
            return MetricCall(metric, explanation, result=answer)
        task = MetricCall(metric, explanation, generator=cast("MetricGenerator[object]", answer))
        task.send(None)
        return task

    def send(self, answer: object) -> None:
        """Continue with an answer, up to the next request or the return value."""
        assert self.generator is not None
        try:
            with metric_errors(self.metric):
                try:
                    self.request = self.generator.send(answer)
                except StopIteration as end:
                    self.request = None
                    self.result = end.value
        except NoMap as error:
            self.request = None
            self.no_map = error
        if self.request is not None and not isinstance(
            self.request, PerturbedImages | Reexplanation
        ):
            raise BenchError(
                f"The metric {self.metric.name!r} yielded a {type(self.request).__name__}; a "
                "metric yields PerturbedImages or Reexplanation of axiom_bench.evaluation.queries."
            )


def answer_all(tasks: Sequence[MetricCall], watch: Watch = untimed) -> None:
    """Answer the requests of all tasks until each has its result. Only the passes are timed by
    `watch`.

    Raises:
        BenchError: with the metric's name.
    """
    while pending := [task for task in tasks if task.request is not None]:
        perturbed = [task for task in pending if isinstance(task.request, PerturbedImages)]
        for task in perturbed:
            with watch(PASSES):
                scores = _scores(task)
            task.send(scores)
        if not perturbed:
            first = pending[0]
            _answer_reexplanations(
                [task for task in pending if _shared_key(task) == _shared_key(first)], watch
            )


def answer_alone(metric: NamedFunction, explanation: Explanation, generator: object) -> Any:
    """Return the result of one metric of one explanation. `generator` is the result of the metric's
    call.

    Raises:
        NoMap: if the method has no map of a trace that the metric explains again.
    """
    task = MetricCall(metric, explanation, generator=cast("MetricGenerator[object]", generator))
    task.send(None)
    answer_all([task])
    if task.no_map:
        raise task.no_map
    return task.result


def first_request(metric: NamedFunction, explanation: Explanation) -> Request | None:
    """Return a metric's first request, or None if it has none."""
    return MetricCall.start(metric, explanation).request


def _shared_key(task: MetricCall) -> Hashable:
    """Return a key that is equal for tasks that wait for the same other trace, and unique if the
    trace isn't shared.
    """
    request = task.request
    if not isinstance(request, Reexplanation) or request.key is None:
        return id(task)
    sharer = task.explanation if request.depends_on_map else task.explanation.trace
    return id(sharer), request.key


def _answer_reexplanations(tasks: Sequence[MetricCall], watch: Watch) -> None:
    """Answer tasks that wait for the same other trace; each method explains it once. Both are timed
    as passes.
    """
    first = tasks[0]
    assert isinstance(first.request, Reexplanation)
    with watch(PASSES), metric_errors(first.metric):
        other = first.request.trace()
    explanations = {id(task.explanation): task.explanation for task in tasks}
    for explanation in explanations.values():
        reexplanation: Explanation | None = None
        for task in [task for task in tasks if task.explanation is explanation]:
            assert isinstance(task.request, Reexplanation)
            try:
                with metric_errors(task.metric):
                    if reexplanation is None:
                        with watch(PASSES):
                            reexplanation = explanation.on(other)
                    answer = task.request.read_answer(reexplanation)
            except NoMap as error:
                task.request = None
                task.no_map = error
            else:
                task.send(answer)


def _scores(task: MetricCall) -> Tensor:
    """Return the scores of perturbed images; equal requests share them."""
    request = task.request
    explanation = task.explanation
    assert isinstance(request, PerturbedImages)
    holder = explanation.required_trace if request.depends_on_image_only else explanation
    with metric_errors(task.metric):
        return holder.once(
            ("perturbed images", request.key), lambda: _computed(task.metric, explanation, request)
        )


@torch.inference_mode(False)
@torch.no_grad()
def _computed(metric: NamedFunction, explanation: Explanation, request: PerturbedImages) -> Tensor:
    """Return scores (B, count, ...). Each copy of a valid image that is classified counts as a
    forward pass.
    """
    trace = explanation.required_trace
    rows = rows_per_pass(trace, request.count)
    same = request.same
    is_on_cpu = trace.images.device == torch.device("cpu")
    # on a GPU, comparing the images would wait for it
    if same is None and request.depends_on_image_only and is_on_cpu:
        same = ("of image", request.key), torch.arange(request.count).expand(len(trace), -1)

    def computed() -> Tensor:
        if same is None:
            scores = _classified(trace, request, rows, trace.targets[:, None])
            kept_parts: Tensor = scores[:, 0].unflatten(0, (-1, request.count))
            return kept_parts
        name, numbers = same
        return _reused(trace, request, rows, name, numbers)

    kept_answers = trace.once(KEPT, KeptAnswers)
    table = kept_answers.table(metric, trace, request, rows, computed)
    return trace.per_image(lambda row: table[row])


def _reused(
    trace: Trace, request: PerturbedImages, rows: int, name: Hashable, numbers: Tensor
) -> Tensor:
    """Return scores (valid images, count, ...) of copies that have numbers; classify only copies
    with a new number.

    A copy is classified for all rows that show its image. Copies in passes with another number of
    rows are kept apart, since rounding may depend on it.
    """
    scored = trace.once(("scores of equal copies", name, rows), ScoredCopies)
    images = rows_of_images(trace)
    # an image explained for several classes has several rows, which share its copies
    places = images.places[: trace.num_valid, None].expand(-1, request.count).flatten()
    numbers_with_image = numbers.cpu() + images.numbers[:, None] * OF_IMAGE
    copies = numbers_with_image[: trace.num_valid].flatten().numpy()
    distinct, first_indices = np.unique(copies, return_index=True)
    is_new = np.zeros(len(copies), dtype=bool)
    is_new[first_indices[~np.isin(distinct, scored.copies)]] = True
    if is_new.any():
        wanted = (
            None if is_new.all() else torch.from_numpy(is_new).view(trace.num_valid, request.count)
        )
        new_scores = _classified(trace, request, rows, images.classes, wanted)
        scored.scores = [torch.cat([*scored.scores, new_scores])]
        scored.copies = np.concatenate([scored.copies, copies[is_new]])
    order = scored.copies.argsort()
    indices = torch.from_numpy(order[np.searchsorted(scored.copies, copies, sorter=order)])
    (scores,) = scored.scores
    scores_of_copies = scores[indices.to(scores.device), places.to(scores.device)]
    answers: Tensor = scores_of_copies.unflatten(0, (trace.num_valid, request.count))
    return answers


def _classified(
    trace: Trace, request: PerturbedImages, rows: int, classes: Tensor, wanted: Tensor | None = None
) -> Tensor:
    """Return scores of copies for these classes (B, m), all copies of an image before the next
    image's: (n, m, ...).

    wanted: the copies to classify, bool (valid images, count); None: all. Rows that only fill up a
    pass don't count as forward passes.
    """
    classes = classes[: trace.num_valid].repeat_interleave(request.count, 0)
    image_rows = torch.arange(len(classes), device=classes.device) // request.count
    if wanted is not None:
        chosen = wanted.flatten().nonzero()[:, 0].to(classes.device)
        classes = classes[chosen]
        image_rows = image_rows[chosen]
    scores: list[Tensor] = []
    network = _network(trace, request)
    for images in in_passes(_blocks(trace, request, rows, wanted), rows):
        # a pass that isn't full is filled by its last copy, since rounding depends on its size
        missing = rows - len(images)
        start = sum(map(len, scores))
        filled = images
        if missing:
            filled = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
        positions = torch.arange(start, start + rows, device=classes.device)
        positions = positions.clamp(max=len(classes) - 1)
        logits = network.forward_logits(filled, image_rows[positions])[: len(images)]
        trace.passes.leave_out(missing)
        pass_classes = classes[start : start + len(images)]
        scores_by_class = [request.score(logits, column) for column in pass_classes.unbind(1)]
        scores.append(torch.stack(scores_by_class, 1))
    return torch.cat(scores)


def _network(trace: Trace, request: PerturbedImages) -> TracedNetwork:
    """Return the network that classifies a request's copies, with the other inputs of the trace's
    images.
    """
    if request.network is None:
        return trace.network
    with bound(request.network.model, trace[:1].other_inputs):
        request.network.split(trace.images)
    return replace(trace.network, cut_model=request.network)


def rows_per_pass(trace: Trace, count: int) -> int:
    """Return the number of rows of each pass over `count` copies of a batch's images.

    It is the largest power of two that `rows_at_once` allows, but at most the number of copies. So
    it depends only on model, image size, device and memory.
    """
    limit = trace.cut_model.rows_at_once(trace.images[0])
    largest_power = 2 ** (limit.bit_length() - 1)
    limited_rows: int = min(largest_power, len(trace) * count)
    return limited_rows


def _blocks(
    trace: Trace, request: PerturbedImages, rows: int, wanted: Tensor | None
) -> Iterator[Tensor]:
    """Yield the wanted copies, all copies of an image before the next image's, about `rows` at a
    time: (n, 3, H', W').

    A block is made of some copies of one image, or of all copies of several images. The number of
    images is the same for all blocks, so that an image is treated alike wherever it is in its
    batch. Raise BenchError if the request makes another number of copies.
    """
    count = request.count
    fitting_sizes = [size for size in range(1, len(trace) + 1) if size * count <= max(rows, count)]
    num_images = max(size for size in fitting_sizes if len(trace) % size == 0)
    for first in range(0, trace.num_valid, num_images):
        block_rows = slice(first, first + num_images)
        num_valid = min(num_images, trace.num_valid - first)
        for copies in pieces(count, rows):
            chosen = None
            if wanted is not None:
                chosen = wanted[block_rows, copies].flatten().nonzero()[:, 0]
            # making copies costs time, too, so a block of which none is wanted isn't made
            if chosen is not None and not len(chosen):
                continue
            block = request.perturbed(block_rows, copies)
            num_copies = copies.stop - copies.start
            if block.shape[:2] != (num_images, num_copies):
                raise BenchError(
                    f"the request {request.key!r} has {block.shape[:2].numel()} perturbed images, "
                    f"not {num_copies} of each of {plural(num_images, 'image')}."
                )
            images = block[:num_valid].flatten(0, 1)
            yield images if chosen is None else images[chosen.to(images.device)]
