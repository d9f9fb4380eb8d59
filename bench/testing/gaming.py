"""Can a map that explains nothing win a metric? Maps made from the metric's values alone, on an
embedded network.

- optimised: the best that a search finds on half of the images, the same for all of them.
- one sample: of the methods' own maps of single images of this half the best for all of them.
- per image: the best that a search finds on each image of the other half. It counts for nothing,
  since a metric's maximum is no blind map: it says how far the metric can be driven.

A metric of contributions has no value of a map alone. It is asked by shares of the score that say
nothing of the channels (`methods.equal_shares`): equal, by activation, random, the best of them on
the first half.

All are compared on the other half with the method that is the best on the first, as in
`judging.tests`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import log
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
import torch

from axiom_bench.cutting.trace import Trace, cut
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded.networks import LAYERS, MEAN, STD, load
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.measurement import Metric, measure
from axiom_bench.evaluation.specs import EXTRAS
from axiom_bench.explanation.explanation import Explanation, Map
from axiom_bench.judging.agreement import ImageValues
from axiom_bench.judging.tests import Row, best_of, gaming_row
from axiom_bench.methods.equal_shares import equal_shares
from axiom_bench.records.entries import Manifest
from axiom_bench.run.manifest import values_of
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import Metadata, Value, number
from axiom_bench.statistics.paired_tests import centre, rounding_of

NETWORK, IMAGES = "scenes_vgg", 64  # two halves
EVALUATIONS, PER_IMAGE = 150, 100  # of a map for all images, of one for each
SECONDS = 100.0  # of processor time for one metric
ALONE = 1 / 3  # of the evaluations, the first ones, try a spot alone
WIDTHS = (
    0.03,
    0.5,
)  # of a spot: its standard deviation as a share of the side; the least is one cell of 12
OPTIMISED, SAMPLE, EACH = "optimised", "one sample", "per image"
SHARES = get_args(get_type_hints(equal_shares)["shares"])  # "equal", by activation, drawn


class Half(NamedTuple):
    """Images with the methods' explanations. annotations: an Explanation's fields. scaled: the
    methods that are on the score's scale.
    """

    trace: Trace
    annotations: Mapping[str, Any]
    methods: Mapping[str, Explanation]
    scaled: frozenset[str]

    def raw_maps(self) -> Floats:
        """(methods, images, h, w)."""
        return np.stack([each.required_raw_map.double().numpy() for each in self.methods.values()])

    def of_maps(self, metric: Metric, name: str, maps: Floats) -> Floats:
        """Of maps (images, h, w), or of one for all, (1, h, w), this value of the metric:
        (images,), NaN without.
        """
        answer = Map(torch.from_numpy(maps).to(self.trace.images).expand(len(self.trace), -1, -1))
        return _values(
            metric, name, Explanation.of(self.trace, answer, self.annotations, lambda _: answer)
        )

    def of_shares(self, metric: Metric, name: str) -> Floats:
        """Of each of SHARES, (images, 3), NaN without."""
        methods = [partial(equal_shares, shares=shares) for shares in SHARES]
        explained = [
            Explanation.of(self.trace, each(self.trace), self.annotations, each) for each in methods
        ]
        return np.column_stack([_values(metric, name, each, True) for each in explained])

    def of_methods(self, metric: Metric, value: Value) -> ImageValues:
        """NaN without a value."""
        values = np.column_stack(
            [
                _values(metric, value.name, each, name in self.scaled)
                for name, each in self.methods.items()
            ]
        )
        rounding = rounding_of(values, value)
        return ImageValues(
            value.name, tuple(self.methods), values, value.lead, value.better, rounding
        )


def _values(metric: Metric, name: str, explanation: Explanation, is_scaled: bool = False) -> Floats:
    return measure(metric, explanation, is_scaled)[name][
        0
    ].numpy()  # a map alone isn't on the score's scale


def halves() -> list[Half]:
    """Every second image, and the others, with the methods of experiment=blind that are no
    controls.
    """
    (chosen, *_) = read_yaml(conf_folder() / "experiment" / "blind.yaml")["defaults"]
    methods = [plugins.load("method", name) for name in chosen["override /method"]]
    cut_model, ready, made = (
        cut(load(NETWORK), LAYERS[NETWORK]),
        Preprocessing(None, None, MEAN, STD),
        [],
    )
    scenes = load_dataset({"kind": "scenes", "size": IMAGES})
    for first in range(2):
        (batch,) = batches(scenes, range(first, IMAGES, 2), ready, batch_size=IMAGES, extras=EXTRAS)
        assert isinstance(batch, Batch)
        trace = trace_of_batch(cut_model, batch)
        about = batch.annotations_of(trace.classes_on_cpu[0], trace.logits.shape[1])
        explained = {each.name: Explanation.of(trace, each(trace), about, each) for each in methods
                     if not each.spec.control}  # fmt: skip
        scaled = frozenset(each.name for each in methods if each.spec.on_score_scale)
        made.append(Half(trace, about, explained, scaled))
    return made


def gaming(metric: Metric, names: Collection[str]) -> list[Row]:
    """Rows of these values of the metric. Raises BenchError where neither a map alone nor shares of
    the score have a value, or the search would cost more than SECONDS.
    """
    fitting, held_out = halves()
    maps, metadata = fitting.raw_maps()[0], Metadata(Manifest(metrics=values_of(metric)))
    evaluations = len(names) * (EVALUATIONS + PER_IMAGE + len(fitting.methods) * (len(maps) + 2))
    searched_for, rows = list[str](), list[Row]()
    for name in names:
        fitting.of_maps(metric, name, maps)  # what all maps share is computed here
        start = time.process_time()
        has_values = np.isfinite(fitting.of_maps(metric, name, maps)).any()
        seconds = time.process_time() - start
        if not has_values:
            rows += _shares(metric, metadata.value(name), fitting, held_out)
            continue
        searched_for.append(name)
        if seconds * evaluations > SECONDS:
            raise BenchError(
                f"{name}: no map is made to win it (gaming): {evaluations} evaluations of "
                f"{seconds:.2g} s take more than {SECONDS:g} s of processor time."
            )
    return rows + [
        row
        for name in searched_for
        for row in _rows(metric, metadata.value(name), fitting, held_out)
    ]


def _shares(metric: Metric, value: Value, fitting: Half, held_out: Half) -> Iterator[Row]:
    """The row of the best of SHARES. Raises BenchError where none has a value."""
    honest, shares = fitting.of_methods(metric, value), fitting.of_shares(metric, value.name)
    if not np.isfinite(shares).any():
        raise BenchError(
            f"{value.name}: no map is made to win it (gaming), since neither a map alone nor "
            "shares of the score have a value."
        )
    kind = best_of(replace(honest, methods=SHARES, values=shares))
    blind = held_out.of_shares(metric, value.name)[:, SHARES.index(kind)]
    yield from _row(
        value, f"{kind} shares", blind, best_of(honest), held_out.of_methods(metric, value)
    )


def _row(value: Value, kind: str, blind: Floats, best: str, others: ImageValues) -> Iterator[Row]:
    """Of blind values on the other half against the best method; none where no image has both."""
    pair = np.column_stack([blind, others.of([best]).values])
    row = gaming_row(replace(others, methods=(kind, best), values=pair), value, kind, best)
    if row is not None:
        title = plugins.load("method", best).spec.title
        about = "{} against {} of {}".format(*map(number, centre(pair, value.lead)), title)
        passes = None if kind == EACH else row.passes
        yield row._replace(network=NETWORK, truth=kind, passes=passes, about=about)


def _rows(metric: Metric, value: Value, fitting: Half, held_out: Half) -> Iterator[Row]:
    honest, others = fitting.of_methods(metric, value), held_out.of_methods(metric, value)
    best, has = best_of(honest), np.isfinite(honest.values).any(axis=1)
    _, count, height, width = fitting.raw_maps().shape

    def of_all(maps: Floats) -> Floats:
        """NaN where an image has no value that has one with a method: leaving images out must not
        win.
        """
        measured = fitting.of_maps(metric, value.name, maps)[has]
        return (
            honest.sign * centre(measured[:, None], value.lead)
            if np.isfinite(measured).all()
            else np.full(1, np.nan)
        )

    def of_each(maps: Floats) -> Floats:
        return others.sign * held_out.of_maps(metric, value.name, maps)

    samples = fitting.raw_maps().reshape(-1, 1, height, width)
    made = {
        OPTIMISED: searched(of_all, (1, height, width), EVALUATIONS),
        SAMPLE: max(samples, key=lambda maps: float(np.nan_to_num(of_all(maps)[0], nan=-np.inf))),
        EACH: searched(of_each, (count, height, width), PER_IMAGE),
    }
    for kind, maps in made.items():
        yield from _row(value, kind, held_out.of_maps(metric, value.name, maps), best, others)


def searched(
    values: Callable[[Floats], Floats], shape: tuple[int, int, int], evaluations: int, seed: int = 0
) -> Floats:
    """For each of n rows the best map of a random search: (n, h, w) in [0, 1], from so many
    evaluations.

    values: of maps (n, h, w), a row's by its map alone -> (n,), more is better, NaN for a map that
    doesn't count. First spots (Gaussians) of random place and width; then a spot is added to the
    row's best map or taken away, and what isn't worse is kept.
    """
    generator = np.random.default_rng(seed)
    count, height, width = shape
    rows, columns = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    best, reached = np.ones(shape), np.full(count, -np.inf)
    for step in range(evaluations):
        y, x, amount = generator.uniform(size=(3, count, 1, 1))
        sigma = np.exp(generator.uniform(log(WIDTHS[0]), log(WIDTHS[1]), (count, 1, 1)))
        tried = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
        if step >= ALONE * evaluations:
            tried = (best + (2 * amount - 1) * tried).clip(min=0)  # a maximum of 1 stays above 0
        tried /= tried.max((1, 2), keepdims=True)
        value = np.nan_to_num(values(tried), nan=-np.inf)
        is_kept = value >= reached
        best[is_kept], reached[is_kept] = tried[is_kept], value[is_kept]
    return best
