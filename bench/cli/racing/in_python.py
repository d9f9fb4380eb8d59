"""`axiom_bench.choose`: the race of `axiom-bench choose` for a network and images in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from axiom_bench.cli.racing.command import layers_of, python_call
from axiom_bench.cli.racing.criteria import Criteria, criteria_of
from axiom_bench.cli.racing.looks import Look, last_look
from axiom_bench.cutting.output import AnyOutput
from axiom_bench.cutting.passes import full_precision
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trace import Inputs
from axiom_bench.data.batch import Batch
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import AnyPlugin
from axiom_bench.examination.examine import SAME_MAPS, examine, what_follows
from axiom_bench.records.entries import Manifest, MetricEntry
from axiom_bench.run.manifest import method_entry, value_entries
from axiom_bench.run.network_cut import CutArguments
from axiom_bench.run.notebook import (
    chosen,
    cut_and_batch,
    evaluate,
    load_model,
    target_indices,
)
from axiom_bench.run.photographs import Photograph
from axiom_bench.statistics.choice import Contest, decided, without_race
from axiom_bench.statistics.chosen import Choice
from axiom_bench.statistics.labels import Metadata
from axiom_bench.statistics.race import LEAST_IMAGES, Candidate

Method = str | Callable[..., object]
ROWS = 32  # images of a batch


@full_precision()
def choose(
    model: nn.Module | str,
    images: Inputs | Photograph | Sequence[Photograph],
    targets: Tensor | int | str | Sequence[int | str] | None = None,
    layers: Sequence[str] | None = None,
    methods: Sequence[Method] | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None = None,
) -> Choice:
    """Choose a method and a layer for a network by a race on images, as `axiom-bench choose` does.

    The race is by single deletion. It is wrong with a probability of at most 5 %.

    Args:
        model: Any nn.Module, which isn't changed, or a name that `load_model` takes.
        images: Photographs or a tensor, as `explain` takes them, at least eight.
        targets: (B,), the classes to explain, each an index or a name; None: the predicted ones.
        layers: Dotted names of the layers that race. None: the default layer, and the last layers
            of the two next finer resolutions. ["all"]: the last layers of all resolutions.
        methods: Names or callables that race, with the controls to beat among them. None: methods
            without passes of their own, and three controls.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: The output that is explained; see `CutModel`.
        preprocessing: The preprocessing of photographs; see `explain`.

    Returns:
        The answer, which prints itself.

    Raises:
        BenchError: If a name or layer is unknown, if the examination of the network stops, or if no
            method has values.
    """
    if isinstance(layers, str):
        raise BenchError(f"layers is a list of names, not {layers!r}; pass layers=[{layers!r}].")
    network = load_model(model) if isinstance(model, str) else model
    arguments = CutArguments(None, reshape, output, None)
    cut_model, loaded, batch, _ = cut_and_batch(network, images, arguments, preprocessing)
    if batch.other_inputs:
        raise BenchError("choose takes networks of one input; use evaluate for several inputs.")
    if loaded is not None and loaded.random_weights:
        raise BenchError(f"{loaded.name} has random weights, so no method explains anything.")
    labels = target_indices(targets, loaded, len(batch))
    traced = partial(cut_model.trace, batch.images[:ROWS])
    algebra = ""
    for answer in examine(traced, has_labels=False):
        if answer.question == SAME_MAPS:
            algebra = answer.sentence
        if answer.level == "stop":
            raise BenchError(f"{answer.sentence}.")
    trace = traced()
    has_tokens = cut_model.reshape is not None
    if has_tokens and reshape is None:
        reshape = "tokens"  # it is recognised by itself only at the default layer

    default_methods, headline = _defaults()
    plugins = chosen("method", default_methods if methods is None else methods)
    racing_layers = layers_of(trace, layers)
    criteria = criteria_of(chosen("metric", headline), headline, trace, racing_layers, False)
    if len(batch) < LEAST_IMAGES:
        return without_race(len(batch), criteria.names[0], algebra)
    entries = _Entries(
        network=network,
        batch=batch,
        labels=labels,
        methods=plugins,
        layers=racing_layers,
        criteria=criteria,
        default_layer=trace.layer,
        reshape=reshape,
        output=output,
    )
    look = last_look(len(batch), entries.contest)
    choice = decided(look.contest, look.races, {trace.layer: what_follows(trace)})
    return replace(choice, use=python_call(choice, has_tokens) if choice.layer else "")


def _defaults() -> tuple[Sequence[Method], list[str]]:
    """Return the methods that race unless the caller names others, and the metrics that decide."""
    settings = read_yaml(conf_folder() / "experiment/choose.yaml")
    groups: dict[str, list[str]] = {}
    for default in settings["defaults"]:
        groups.update(default)
    return groups["override /method"], settings["report"]["headline"]


@dataclass(frozen=True)
class _Entries:
    """The methods and layers that race on images."""

    network: nn.Module
    batch: Batch
    """All images."""
    labels: Sequence[int] | None
    """The classes to explain; None for the predicted ones."""
    methods: Sequence[AnyPlugin]
    """The methods, with the controls."""
    layers: Sequence[str]
    criteria: Criteria
    """The metrics that race."""
    default_layer: str
    """The model's default layer, at which metrics of contributions race."""
    reshape: AnyReshape | None
    output: AnyOutput | None

    def contest(self, size: int, before: Look | None) -> Contest:
        """Measure what is still in the race on the images that a look adds.

        Args:
            size: The number of images of the look.
            before: The look before.

        Returns:
            The values of all its images.
        """
        first = 0
        earlier = None
        rows_by_candidate = {}
        if before is not None:
            first = before.images
            earlier = before.contest
            still_racing = before.still_racing
            rows_by_candidate = _rows_by_candidate(earlier.records)
        batches = _batches(self.batch, self.labels, first, size)
        parts = []
        for layer in self.layers:
            racing = [
                method
                for method in self.methods
                if before is None or Candidate(layer, method.name) in still_racing
            ]
            if not racing:
                continue
            metrics = self.criteria.at(layer, self.default_layer)
            measured = evaluate(
                self.network, layer, batches, racing, metrics, self.reshape, self.output
            )
            added = _rows_by_candidate(measured)
            for method in racing:
                candidate = Candidate(layer, method.name)
                for rows in (rows_by_candidate, added):
                    if candidate in rows:
                        parts.append(rows[candidate])
        return Contest.of(
            pd.concat(parts, ignore_index=True),
            self._metadata(),
            self.criteria.names,
            self.default_layer,
            earlier,
        )

    def _metadata(self) -> Metadata:
        """Return the metadata of methods and metrics, as a run's manifest has them."""
        values: dict[str, MetricEntry] = {}
        for metric in chosen("metric", self.criteria.names):
            values.update(value_entries(metric))
        entries = {method.name: method_entry(method) for method in self.methods}
        return Metadata(Manifest(methods=entries, metrics=values))


def _rows_by_candidate(records: pd.DataFrame) -> dict[Candidate, pd.DataFrame]:
    """Return {candidate: its rows}, among them the rows of a layer under the method "-"."""
    rows_by_candidate = {}
    for (layer, method), rows in records.groupby(["layer", "method"], observed=True):
        rows_by_candidate[Candidate(str(layer), str(method))] = rows
    return rows_by_candidate


def _batches(batch: Batch, labels: Sequence[int] | None, first: int, last: int) -> list[Batch]:
    """Return the images that a look adds, in an order that is the same in all looks.

    Args:
        batch: All images.
        labels: The classes to explain; None for the predicted ones.
        first: The number of images of the look before.
        last: The number of images of the look.
    """
    order = np.random.default_rng(0).permutation(len(batch)).tolist()
    batches = []
    for start in range(first, last, ROWS):
        rows = order[start : min(start + ROWS, last)]
        ids = tuple(map(str, rows))
        part_labels = None if labels is None else torch.as_tensor(labels)[rows]
        batches.append(Batch(batch.images[rows], ids, part_labels))
    return batches
