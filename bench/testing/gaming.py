"""Maps that are made only from a metric's values on an embedded network, to win the metric.

If a map that explains nothing wins a metric, the metric can be gamed. There are three kinds of
maps:

- optimised: the best map that a search finds on half of the images, the same for all of them.
- one sample: the methods' own map of a single image of this half that is the best for all of them.
- per image: the best map that a search finds on each image of the other half. It doesn't count,
  since a metric's maximum is no blind map. It shows how far the metric can be driven.

A metric of contributions has no value of only a map. It is asked with shares of the score that tell
nothing about the channels (`methods.equal_shares`): equal, by activation, and random. The best of
them on the first half is taken.

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

from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded.networks import LAYERS, MEAN, STD, load
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import trace_of_batch
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Metric
from axiom_bench.evaluation.specs import EXTRAS
from axiom_bench.explanation.explanation import Explanation, Map
from axiom_bench.judging.agreement import ImageValues
from axiom_bench.judging.tests import Row, best_of, gaming_row
from axiom_bench.methods.equal_shares import equal_shares
from axiom_bench.records.entries import Manifest
from axiom_bench.run.manifest import value_entries
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.labels import Metadata, Value, number
from axiom_bench.statistics.paired_tests import centre, rounding_of

NETWORK = "scenes_vgg"
IMAGES = 64  # in two halves
EVALUATIONS = 150  # of the search for one map for all images
PER_IMAGE = 100  # evaluations of the search for a map for each image
SECONDS = 100.0  # of processor time for one metric
ALONE = 1 / 3  # the share of the evaluations, the first ones, that try a single spot
# The standard deviation of a spot as a share of the side. The least is one cell of 12.
WIDTHS = (0.03, 0.5)
OPTIMISED = "optimised"
SAMPLE = "one sample"
EACH = "per image"
SHARES = get_args(get_type_hints(equal_shares)["shares"])  # equal, by activation, random


class Half(NamedTuple):
    """Half of the images with the methods' explanations."""

    trace: Trace
    """The trace of this half's images."""
    annotations: Mapping[str, Any]
    """The annotations as an Explanation's fields."""
    methods: Mapping[str, Explanation]
    """The explanation by each method."""
    scaled: frozenset[str]
    """The names of the methods that are on the score's scale."""

    def raw_maps(self) -> Floats:
        """Return the methods' raw maps: (methods, images, h, w)."""
        raw_maps = [
            explanation.required_raw_map.double().numpy() for explanation in self.methods.values()
        ]
        return np.stack(raw_maps)

    def values_of_maps(self, metric: Metric, name: str, maps: Floats) -> Floats:
        """Return this value of the metric for maps: (images,), NaN without a value.

        There is a map per image, (images, h, w), or one for all, (1, h, w).
        """
        answer = Map(torch.from_numpy(maps).to(self.trace.images).expand(len(self.trace), -1, -1))
        explanation = Explanation.of(self.trace, answer, self.annotations, lambda _: answer)
        return _values(metric, name, explanation)

    def values_of_shares(self, metric: Metric, name: str) -> Floats:
        """Return this value of the metric for each of SHARES: (images, 3), NaN without a value."""
        columns = []
        for shares in SHARES:
            method = partial(equal_shares, shares=shares)
            explanation = Explanation.of(self.trace, method(self.trace), self.annotations, method)
            columns.append(_values(metric, name, explanation, is_scaled=True))
        return np.column_stack(columns)

    def values_of_methods(self, metric: Metric, value: Value) -> ImageValues:
        """Return this value of the metric for each method, NaN without a value."""
        columns = []
        for name, explanation in self.methods.items():
            is_scaled = name in self.scaled
            columns.append(_values(metric, value.name, explanation, is_scaled))
        values = np.column_stack(columns)
        rounding = rounding_of(values, value)
        return ImageValues(
            value.name, tuple(self.methods), values, value.lead, value.better, rounding
        )


def _values(metric: Metric, name: str, explanation: Explanation, is_scaled: bool = False) -> Floats:
    """Return one value of a metric; only a map isn't on the score's scale."""
    values, _ = measure(metric, explanation, is_scaled)[name]
    return values.numpy()


def halves() -> list[Half]:
    """Explain every second image, and the others, by the methods of experiment=blind.

    Controls are left out.
    """
    # A map is made to win on one half and compared on the other, so that it can't fit the images.
    (chosen, *_) = read_yaml(conf_folder() / "experiment" / "blind.yaml")["defaults"]
    methods = [plugins.load("method", name) for name in chosen["override /method"]]
    scaled = frozenset(method.name for method in methods if method.spec.on_score_scale)
    cut_model = cut(load(NETWORK), LAYERS[NETWORK])
    preprocessing = Preprocessing(None, None, MEAN, STD)
    scenes = load_dataset({"kind": "scenes", "size": IMAGES})
    both_halves = []
    for first in range(2):
        (batch,) = batches(
            scenes,
            range(first, IMAGES, 2),
            preprocessing,
            batch_size=IMAGES,
            extras=EXTRAS,
        )
        assert isinstance(batch, Batch)
        trace = trace_of_batch(cut_model, batch)
        annotations = batch.annotations_of(trace.classes_on_cpu[0], trace.logits.shape[1])
        explanations = {}
        for method in methods:
            if not method.spec.control:
                explanations[method.name] = Explanation.of(
                    trace, method(trace), annotations, method
                )
        both_halves.append(Half(trace, annotations, explanations, scaled))
    return both_halves


def gaming(metric: Metric, names: Collection[str]) -> list[Row]:
    """Return the rows of these values of the metric.

    Args:
        metric: The metric.
        names: The names of its values.

    Returns:
        The rows of the scorecard.

    Raises:
        BenchError: If neither a map nor shares of the score have a value, or the search would take
            more than SECONDS.
    """
    fitting, held_out = halves()
    maps = fitting.raw_maps()[0]
    metadata = Metadata(Manifest(metrics=value_entries(metric)))
    evaluations_per_name = EVALUATIONS + PER_IMAGE + len(fitting.methods) * (len(maps) + 2)
    evaluations = len(names) * evaluations_per_name
    searched_names = list[str]()
    rows = list[Row]()
    for name in names:
        # The first call computes what all maps share, so that the second one's time is a map's.
        fitting.values_of_maps(metric, name, maps)
        start = time.process_time()
        has_values = np.isfinite(fitting.values_of_maps(metric, name, maps)).any()
        seconds = time.process_time() - start
        if not has_values:
            rows += _rows_of_shares(metric, metadata.value(name), fitting, held_out)
            continue
        searched_names.append(name)
        if seconds * evaluations > SECONDS:
            raise BenchError(
                f"{name}: no map is made to win it (gaming): {evaluations} evaluations of "
                f"{seconds:.2g} s take more than {SECONDS:g} s of processor time."
            )
    for name in searched_names:
        rows += _rows_of_maps(metric, metadata.value(name), fitting, held_out)
    return rows


def _rows_of_shares(metric: Metric, value: Value, fitting: Half, held_out: Half) -> Iterator[Row]:
    """Yield the row of the best of SHARES, and raise BenchError if none has a value."""
    method_values = fitting.values_of_methods(metric, value)
    share_values = fitting.values_of_shares(metric, value.name)
    if not np.isfinite(share_values).any():
        raise BenchError(
            f"{value.name}: no map is made to win it (gaming), since neither a map alone nor "
            "shares of the score have a value."
        )
    kind = best_of(replace(method_values, methods=SHARES, values=share_values))
    yield from _row(
        value,
        kind=f"{kind} shares",
        blind=held_out.values_of_shares(metric, value.name)[:, SHARES.index(kind)],
        best=best_of(method_values),
        method_values=held_out.values_of_methods(metric, value),
    )


def _row(
    value: Value, kind: str, blind: Floats, best: str, method_values: ImageValues
) -> Iterator[Row]:
    """Yield the row of blind values on the other half against the best method.

    There is no row if no image has both values.
    """
    pair = np.column_stack([blind, method_values.of([best]).values])
    pair_values = replace(method_values, methods=(kind, best), values=pair)
    row = gaming_row(pair_values, value, kind, best)
    if row is not None:
        title = plugins.load("method", best).spec.title
        blind_centre, best_centre = centre(pair, value.lead)
        about = f"{number(blind_centre)} against {number(best_centre)} of {title}"
        passes = None if kind == EACH else row.passes
        yield row._replace(network=NETWORK, truth=kind, passes=passes, about=about)


def _rows_of_maps(metric: Metric, value: Value, fitting: Half, held_out: Half) -> Iterator[Row]:
    """Yield the rows of the three kinds of maps."""
    fitted_values = fitting.values_of_methods(metric, value)
    method_values = held_out.values_of_methods(metric, value)
    has_value = np.isfinite(fitted_values.values).any(axis=1)
    _, count, height, width = fitting.raw_maps().shape

    def value_of_all(maps: Floats) -> Floats:
        """Return the value of one map for all images of the first half, more is better."""
        measured = fitting.values_of_maps(metric, value.name, maps)[has_value]
        # NaN if an image has no value that has one with a method: leaving images out must not win.
        if not np.isfinite(measured).all():
            return np.full(1, np.nan)
        return fitted_values.sign * centre(measured[:, None], value.lead)

    def values_of_each(maps: Floats) -> Floats:
        """Return the value of each image's own map of the other half, more is better."""
        return method_values.sign * held_out.values_of_maps(metric, value.name, maps)

    def sample_value(maps: Floats) -> float:
        """Return the value of a sample for all images; one without a value is the worst."""
        return float(np.nan_to_num(value_of_all(maps)[0], nan=-np.inf))

    samples = fitting.raw_maps().reshape(-1, 1, height, width)
    maps_by_kind = {
        OPTIMISED: search_maps(value_of_all, (1, height, width), EVALUATIONS),
        SAMPLE: max(samples, key=sample_value),
        EACH: search_maps(values_of_each, (count, height, width), PER_IMAGE),
    }
    for kind, maps in maps_by_kind.items():
        yield from _row(
            value,
            kind=kind,
            blind=held_out.values_of_maps(metric, value.name, maps),
            best=best_of(fitted_values),
            method_values=method_values,
        )


def search_maps(
    values: Callable[[Floats], Floats], shape: tuple[int, int, int], evaluations: int, seed: int = 0
) -> Floats:
    """Search the best map for each of n rows at random.

    A map that isn't worse than the row's best map is kept.

    Args:
        values: Returns the values (n,) of maps (n, h, w), each row's only from its own map. More is
            better, and NaN is a map that doesn't count.
        shape: n, h and w.
        evaluations: The number of calls of `values`.
        seed: The seed of the spots (Gaussians) of which maps are made.

    Returns:
        The maps, (n, h, w) in [0, 1].
    """
    generator = np.random.default_rng(seed)
    count, height, width = shape
    rows = (np.arange(height)[:, None] + 0.5) / height
    columns = (np.arange(width) + 0.5) / width
    best_maps = np.ones(shape)
    best_values = np.full(count, -np.inf)
    for step in range(evaluations):
        # First spots of random place and width are tried by themselves. Then a spot is added to
        # the row's best map, or subtracted from it.
        y, x, amount = generator.uniform(size=(3, count, 1, 1))
        sigma = np.exp(generator.uniform(log(WIDTHS[0]), log(WIDTHS[1]), (count, 1, 1)))
        spots = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
        maps = spots
        if step >= ALONE * evaluations:
            # The best map's maximum of 1 stays above 0.
            maps = (best_maps + (2 * amount - 1) * spots).clip(min=0)
        maps /= maps.max((1, 2), keepdims=True)
        map_values = np.nan_to_num(values(maps), nan=-np.inf)
        is_kept = map_values >= best_values
        best_maps[is_kept] = maps[is_kept]
        best_values[is_kept] = map_values[is_kept]
    return best_maps
