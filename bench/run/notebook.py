"""The functions for Python: `axiom_bench.load_model`, `explain`, `evaluate`, `check` and `overlay`.

They take photographs in any form. They compute values as a run does, but write no records.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from os import PathLike
from types import EllipsisType
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from axiom_bench.columns import LAYER, RECORD_COLUMNS
from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.cutting.images import PixelsGiven, SeveralInputs, are_several, check_tensor
from axiom_bench.cutting.objects import PlacedScores
from axiom_bench.cutting.output import AnyOutput
from axiom_bench.cutting.passes import full_precision, halve_until_it_fits
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trace import Inputs
from axiom_bench.data.batch import Batch
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError, type_name
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import (
    Columns,
    curve_frame,
    frame,
    holds_values,
    note_silence,
    trace_of_batch,
)
from axiom_bench.evaluation.loop import columns_by_method
from axiom_bench.evaluation.measurement import check_names
from axiom_bench.evaluation.plugins import AnyPlugin, Metric
from axiom_bench.evaluation.proof import proved
from axiom_bench.evaluation.whole_set import aggregating, whole_set_columns
from axiom_bench.examination.examine import Answer, examine
from axiom_bench.explanation.explanation import check_objects
from axiom_bench.explanation.heatmaps import Heatmaps
from axiom_bench.explanation.overlay import COLOURS, OPACITY, Pixels, as_picture, drawn_over
from axiom_bench.models import load
from axiom_bench.models.load import LoadedModel
from axiom_bench.models.objects import Objects
from axiom_bench.models.spec import in_python, named_settings
from axiom_bench.models.words import WordScores
from axiom_bench.notes import MethodLeftOut, ZeroMaps
from axiom_bench.run.explaining import explained_trace
from axiom_bench.run.found_rows import FoundRows, Wanted, find_rows
from axiom_bench.run.network_cut import CutArguments, cut_network, with_explained_images
from axiom_bench.run.photographs import Photograph, photograph, prepared
from axiom_bench.run.progress import only_interactive, progress


@contextmanager
def python_words() -> Iterator[None]:
    """Translate the settings in a BenchError's message from the command line's form to Python's."""
    try:
        yield
    except BenchError as error:
        error.args = (in_python(str(error)),)
        raise


@python_words()
def load_model(
    name: str, weights: str | PathLike[str] | EllipsisType | None = ..., **settings: object
) -> nn.Module:
    """Load a network by its name, in eval mode, on the CPU.

    `model.loaded` has what is known about the network: preprocessing, classes and layer. `explain`
    uses it.

    Args:
        name: A name that `axiom-bench list models` prints.
        weights: "default", the name of a published set, a .safetensors, .pth or .pt file, or None
            for random weights. If left out, the weights that `model=NAME` takes on the command
            line.
        settings: Further settings of conf/model/user.yaml, such as classes=["cat", "dog"].

    Raises:
        BenchError: If a name or setting is unknown, or if the weights are missing or don't fit.
    """
    # None means random weights, so that ... stands for an argument that is left out
    if weights is not ...:
        settings["weights"] = weights
    # a setting is a text, as in YAML
    paths = {
        key: os.fspath(value) for key, value in settings.items() if isinstance(value, PathLike)
    }
    loaded = load.load_model(named_settings(name, settings | paths))
    for sentence in filter(None, [*loaded.lines, loaded.recognition_note]):
        warnings.warn(in_python(sentence), stacklevel=3)
    vars(loaded.module)["loaded"] = loaded
    return loaded.module


@full_precision()
def evaluate(
    model: nn.Module | CutModel | str,
    layer: str | None,
    batches: Iterable[Batch | tuple[Inputs, Tensor | None]],
    methods: Sequence[str | Callable[..., object]],
    metrics: Sequence[str | Callable[..., object]],
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    explained: int | str | None = None,
) -> pd.DataFrame:
    """Measure methods on a model: one row per image x method x metric.

    The columns are those of the records.

    A value of the layer, such as that of `zeta`, belongs to no method and has the method "-".
    Metrics with values of the whole data set have further rows at the end, with the image id "*".

    Args:
        model: Any nn.Module, which isn't changed, or a name that `load_model` takes. Each call
            checks the network once, which takes about as long as a forward pass of six images. A
            model of `axiom_bench.cut` is only checked by its first call.
        layer: The dotted name of the target layer; None: the last spatial layer.
        batches: (images (B, 3, H', W'), targets (B,) or None for the predicted class), or
            `axiom_bench.Batch`es with image ids, boxes and masks. Signals (B, C, L'), volumes (B,
            C, D', H', W') and several inputs may take the place of images; see `axiom_bench.trace`.
        methods: Names or callables.
        metrics: Names or callables.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: The output that is explained; see `CutModel`.
        explained: The input that is explained if there are several; see `axiom_bench.trace`.

    Returns:
        The values, with their unit and a status that says why a value is NaN. The values of a
        method that doesn't apply
            to the model have the status "not_applicable".

    Raises:
        BenchError: If a name or layer is unknown, or if batches, methods or metrics have another
            form.
    """
    method_plugins = chosen("method", methods)
    metric_plugins = chosen("metric", metrics)
    check_names(metric_plugins)
    network, loaded = _network(model)
    arguments = CutArguments(layer, reshape, output, explained)
    parts: list[Columns] = []
    forms: list[SeveralInputs] = []
    is_proved = False
    # The first batch decides where the network is cut. A generator can be read only once, so that
    # its first batch is put back.
    stream = _as_batches(batches, partial(with_explained_images, network, explained, forms))
    listed = list(stream) if isinstance(batches, list | tuple) else None
    first = next(stream if listed is None else iter(listed), None)
    stream = stream if first is None else chain([first], stream)
    like = first or Batch(torch.zeros(1, 3, 224, 224), ("",))
    cut_model = cut_network(model, network, loaded, like, forms, arguments)

    def columns(part: Batch, _: int) -> list[Columns]:
        nonlocal method_plugins, metric_plugins, is_proved
        for form in forms:
            cut_model.take(form)
        trace = trace_of_batch(cut_model, part)
        if not is_proved:
            note_silence(trace)
            method_plugins, metric_plugins = proved(method_plugins, metric_plugins, trace, part)
            is_proved = True
        return list(columns_by_method(trace, part, method_plugins, metric_plugins))

    total = None if listed is None else sum(map(len, listed))
    with only_interactive(), progress("Computing maps and metrics", total) as display:
        for batch in stream if listed is None else listed:
            for new_parts in halve_until_it_fits(batch, len(batch), cut_model.limits, columns):
                parts += new_parts
            display.advance(len(batch))
    rows = [*filter(holds_values, parts), *_whole_set_columns(metric_plugins, parts)]
    name = loaded.name if loaded else cut_model.output.model_name(type(network).__name__)
    facts = {"experiment": "-", "model": name, "layer": cut_model.layer, "data": "-"}
    return frame(rows).assign(**facts)[list(RECORD_COLUMNS)]


@full_precision()
def explain(
    model: nn.Module | CutModel | str,
    layer: str | None = None,
    images: Inputs | Photograph | Sequence[Photograph] | None = None,
    methods: Sequence[str | Callable[..., object]] = (),
    targets: Tensor | int | str | Sequence[int | str] | None = None,
    size: tuple[int, int] | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None = None,
    explained: int | str | None = None,
    metrics: Sequence[str | Callable[..., object]] = (),
    words: Sequence[str] | None = None,
) -> Heatmaps:
    """Compute the heatmaps of several methods from one forward pass.

    A network of boxes or masks gets a row for each of the three most probable objects in an image,
    and a network of words one for each word, unless their places are given, too.

    A method that doesn't apply to the model is left out with a MethodLeftOut warning. If all
    gradients at the layer are zero, a ZeroMaps warning names another layer.

    Args:
        model: Any nn.Module, which isn't changed, a name that `load_model` takes, or a cut model;
            see `evaluate`.
        layer: The dotted name of the target layer; None: the last spatial layer, which the result
            names.
        images: Photographs: a path, a PIL image, an array (H, W, 3) of 0 to 255 or of floats in [0,
            1], bytes (3, H, W), or a list of these. Or a tensor as the network takes it, (B, 3, H',
            W') or (3, H', W'), in floating point, which isn't preprocessed. Several inputs are a
            dict, or a tuple of tensors of which one in floating point is a batch. A list, and any
            other tuple, is photographs.
        methods: Names or callables. If left out, the methods of `axiom-bench explain`.
        targets: (B,), or one class for all images, each an index or a name of the network's
            classes; None for the predicted class.
        size: (H', W') of the heatmaps in pixels; None: the images' size.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: The output that is explained; see `CutModel`.
        preprocessing: The preprocessing of photographs, a function from a PIL image to a tensor (3,
            H', W') such as torchvision's `weights.transforms()`; None: the network's own. If the
            network's preprocessing is unknown, a warning reports which one is used.
        explained: The input that is explained if there are several; see `axiom_bench.trace`.
        metrics: Names or callables to measure on each map, such as "sensitivity_error" and
            "conservation_error".
        words: The explained words of the text that the network says; None for all of them.

    Returns:
        A dict {name as it was given: heatmaps (B, H', W') in [0, 1]}. A notebook shows it as
            pictures, `maps.save("maps.png")` draws it into a file, and `maps.show()` opens it.
            `maps.top` has the most probable classes, `maps.errors` the values of the metrics, and
            `maps.notes` the warnings.

    Raises:
        BenchError: For the same reasons as `evaluate`, and if a photograph can't be read.
    """
    if images is None:
        raise BenchError("Give images by name: ab.explain(model, images='photo.jpg').")
    by_default = methods == ()
    if by_default:  # the default methods of a run
        defaults = read_yaml(conf_folder() / "config.yaml")["defaults"]
        methods = next(default["method"] for default in defaults if "method" in default)
    metric_plugins = chosen("metric", metrics)
    check_names(metric_plugins)
    method_plugins = []
    for entry, method in zip(methods, chosen("method", methods), strict=True):
        # the result has the name as the user wrote it, such as "GradCAM"
        method_plugins.append(replace(method, name=entry) if isinstance(entry, str) else method)
    arguments = CutArguments(layer, reshape, output, explained)
    found, found_pictures = _found_rows(model, images, targets, words, preprocessing)
    if found is not None:
        images = (found.batch.images, *found.batch.other_inputs)
        targets = found.batch.targets
    cut_model, loaded, batch, pictures = cut_and_batch(model, images, arguments, preprocessing)
    indices = target_indices(targets, loaded, len(batch))
    trace = cut_model.trace(batch.images, indices, other_inputs=batch.other_inputs)
    has_names = loaded is not None and len(loaded.classes or ()) == trace.logits.shape[1]
    explained_maps = explained_trace(
        trace,
        method_plugins,
        metric_plugins,
        size=size,
        classes=loaded.classes if loaded and has_names else None,
        pictures=pictures if found is None else found_pictures,
        scores=found.scores if found else (),
        top=found.top if found else (),
    )
    if found is not None:
        explained_maps.names = list(found.batch.image_ids)
        explained_maps.texts = found.texts
        explained_maps.notes += found.notes
    not_finite = (~trace.logits.isfinite().all(1)).nonzero()[:, 0].tolist()
    if not_finite:
        sentence = (
            f"The scores of the images {not_finite} aren't finite, and their maps are NaN; check "
            "these images."
        )
        explained_maps.notes.append(ZeroMaps(sentence))
    if by_default:  # the user hasn't chosen the methods that don't apply
        explained_maps.notes = [
            note for note in explained_maps.notes if not isinstance(note, MethodLeftOut)
        ]
    for note in explained_maps.notes:
        warnings.warn(note, stacklevel=3)
    return explained_maps


@full_precision()
def check(
    model: nn.Module | CutModel | str,
    layer: str | None = None,
    images: Inputs | Photograph | Sequence[Photograph] | None = None,
    targets: Tensor | int | str | Sequence[int | str] | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    explained: int | str | None = None,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None = None,
) -> tuple[Answer, ...]:
    """Examine a network and its images before anything is computed.

    It takes at most four passes of the batch, and two more if many labels don't fit. The questions
    are: Are the scores of an image the same in each call, and in each batch? What does the network
    return? Is the layer spatial, and do the scores depend on it? Are the values that enter the
    network plausible? With targets: Does the network predict them, and would it predict clearly
    more of them with another range of values?

    Args:
        model: Any nn.Module, which isn't changed, a name that `load_model` takes, or a cut model;
            see `evaluate`.
        layer: The dotted name of the target layer; None: the last spatial layer.
        images: Photographs, a tensor or several inputs, as `explain` takes them. A few of each
            class are best.
        targets: (B,), the labels, each an index or a name of the network's classes; None if they
            aren't known.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: The output that is explained; see `CutModel`.
        explained: The input that is explained if there are several; see `axiom_bench.trace`.
        preprocessing: The preprocessing of photographs; see `explain`.

    Returns:
        The answers. Printing one prints its line: the question, ok, note or stop, and a sentence.

    Raises:
        BenchError: If the layer is unknown, or if images or targets have another form.
    """
    if images is None:
        raise BenchError("Give images by name: ab.check(model, images='photo.jpg').")
    with warnings.catch_warnings(action="ignore", category=PixelsGiven):  # an answer reports it
        arguments = CutArguments(layer, reshape, output, explained)
        cut_model, loaded, batch, _ = cut_and_batch(model, images, arguments, preprocessing)
        labels = target_indices(targets, loaded, len(batch))
        traced = partial(cut_model.trace, batch.images, labels, other_inputs=batch.other_inputs)
        return examine(traced, targets is not None)


def overlay(
    image: Tensor | Photograph,
    heatmap: Tensor | NDArray[Any],
    colours: str = COLOURS,
    opacity: float = OPACITY,
) -> Image.Image:
    """Draw the heatmap in colour over the grey image. The picture has the image's size.

    Args:
        image: A path, a PIL image, a tensor (3, H, W), or an array (H, W, 3); integers from 0 to
            255, or floats in [0, 1]. Floats outside of this range, such as preprocessed images, are
            scaled to their own minimum and maximum.
        heatmap: (H, W) or (1, H, W) in [0, 1]; NaN is drawn as no heat.
        colours: A colour map of matplotlib, such as "viridis" or "jet".
        opacity: The opacity of the colours, 0 to 1.

    Returns:
        The picture.

    Raises:
        BenchError: If an argument has another type, shape or range.
    """
    image = photograph(image) if isinstance(image, str | PathLike | Image.Image) else image
    return drawn_over(as_picture(image), heatmap, colours, opacity)


def _network(model: nn.Module | CutModel | str) -> tuple[nn.Module, LoadedModel | None]:
    """Return the network, and what is known about it if `load_model` has loaded it.

    Raise BenchError if it is none.
    """
    if isinstance(model, str):
        model = load_model(model)
    network = model.model if isinstance(model, CutModel) else model
    if not isinstance(network, nn.Module):
        raise BenchError(
            f"Invalid model: expected a torch.nn.Module or a model's name, not {type_name(model)}."
        )
    loaded = getattr(network, "loaded", None)
    return network, loaded if isinstance(loaded, LoadedModel) else None


def _found_rows(
    model: nn.Module | CutModel | str,
    images: Any,
    targets: Any,
    words: Sequence[str] | None,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None,
) -> tuple[FoundRows | None, Pixels | None]:
    """Return the objects or words that the network finds in the images, and the rows' pictures.

    Return None if the network has neither, or if the images come with places.

    Args:
        model: See `explain`.
        images: See `explain`.
        targets: The classes of the objects; see `explain`.
        words: See `explain`.
        preprocessing: See `explain`.
    """
    network, loaded = _network(model)
    if words is not None and not isinstance(network, WordScores):
        raise BenchError(
            f"{type(network).__name__} says no text, so it has no words=; choose classes by "
            "targets=."
        )
    if not isinstance(network, PlacedScores) or are_several(images, network):
        return None, None
    if targets is not None and isinstance(network, WordScores):
        raise BenchError(
            "This network explains words of a text; choose them by words=, without targets."
        )
    with python_words():
        tensor, pictures = prepared(
            images, network, preprocessing or (loaded.preprocessing if loaded else None)
        )
        names = tuple(f"image {number}" for number in range(len(tensor)))
        classes = () if targets is None else target_indices(targets, loaded, 1)
        wanted = Wanted(torch.as_tensor(classes).flatten().tolist(), words=words)
        if loaded is not None and isinstance(loaded.inputs, Objects):
            wanted = replace(wanted, least=loaded.inputs.least)
        found = find_rows(network, Batch(tensor, names), wanted, loaded.classes if loaded else None)
    return found, None if pictures is None else pictures[found.images]


def cut_and_batch(
    model: nn.Module | CutModel | str,
    images: Any,  # of any type, since a user may pass anything
    arguments: CutArguments,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None,
) -> tuple[CutModel, LoadedModel | None, Batch, Pixels | None]:
    """Return the cut network, what is known about it, and the images as it takes them.

    The last value is the images' pictures, if they are known.

    Args:
        model: See `explain`.
        images: See `explain`.
        arguments: How the network is cut.
        preprocessing: See `explain`.
    """
    network, loaded = _network(model)
    forms: list[SeveralInputs] = []
    batch = with_explained_images(network, arguments.explained, forms, Batch(images, ()))
    with python_words():
        tensor, pictures = prepared(
            batch.images, network, preprocessing or (loaded.preprocessing if loaded else None)
        )
    batch = replace(batch, images=tensor)
    cut_model = cut_network(model, network, loaded, batch, forms, arguments)
    if pictures is not None and cut_model is not model:
        # the images are normalised, so the trace needn't compare their range
        cut_model.normalisation = None
    for form in forms:
        cut_model.take(form)
    return cut_model, loaded, batch, pictures


def target_indices(targets: object, loaded: LoadedModel | None, count: int) -> Any:
    """Return the targets with names of classes replaced by their indices.

    Args:
        targets: See `explain`.
        loaded: What is known about the network.
        count: The number of images.

    Raises:
        BenchError: If a name is unknown.
    """
    listed = [targets] * count if isinstance(targets, int | str) else targets
    if not isinstance(listed, list | tuple):
        return listed
    if not any(isinstance(target, str) for target in listed):
        return listed
    if loaded is None:
        raise BenchError(
            "The classes of this network have no names here; give indices, or a network of "
            "ab.load_model."
        )
    return [loaded.class_index(target) if isinstance(target, str) else target for target in listed]


def chosen(kind: str, entries: Sequence[str | Callable[..., object]]) -> list[AnyPlugin]:
    """Return the plug-ins of a list of names or callables. kind: "method" or "metric".

    Raise BenchError if `entries` is no list, or if two entries have the same name.
    """
    if isinstance(entries, str) or not isinstance(entries, Iterable):
        hint = f"{kind}s=[{entries!r}]" if isinstance(entries, str) else f"{kind}s=[...]"
        received = repr(entries) if isinstance(entries, str) else type_name(entries)
        raise BenchError(f"{kind}s is a list of names or callables, not {received}; pass {hint}.")
    listed = [plugins.plugin_for(kind, entry) for entry in entries]
    for index, entry in enumerate(listed):
        if entry.name in [other.name for other in listed[:index]]:
            raise BenchError(f"There are two {kind}s named {entry.name!r}; list each of them once.")
    return listed


def _as_batches(batches: Iterable[object], apart: Callable[[Batch], Batch]) -> Iterator[Batch]:
    """Yield batches with image ids.

    The images of pairs (images, targets) are numbered in their order.

    Raise BenchError if a batch has another form. apart: see `_separate_inputs`.
    """
    if isinstance(batches, Batch | Tensor | dict | str) or not isinstance(batches, Iterable):
        raise BenchError(
            "batches is an iterable of (images, targets) or of axiom_bench.Batch, not a "
            f"{type(batches).__name__}; pass a list, such as [(images, targets)]."
        )
    first = 0  # the number of images so far, which numbers those without ids
    for entry in batches:
        batch = apart(entry if isinstance(entry, Batch) else _as_batch(entry))
        check_tensor(batch.images)
        if batch.annotations:
            boxes = [annotation.boxes for annotation in batch.annotations]
            check_objects(boxes, None, batch.images[:, 0])
            size = batch.images.shape[2:]
            if not all(annotation.is_of(size) for annotation in batch.annotations):
                raise BenchError(
                    "An Annotation has labels, a tensor (n,) of class indices, one for each box, "
                    "and as its mask None or a tensor of class indices "
                    f"{tuple(size)}, as the image has pixels."
                )
        if not isinstance(entry, Batch):
            batch = replace(batch, image_ids=tuple(str(first + row) for row in range(len(batch))))
        first += len(batch)
        yield batch
    if not first:
        warnings.warn(
            "There is no image in batches; a generator that was read before is empty.", stacklevel=4
        )


def _as_batch(entry: object) -> Batch:
    """Return a pair (images, targets) as a batch without image ids."""
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        raise BenchError(
            f"A batch is (images, targets) or an axiom_bench.Batch, not a {type(entry).__name__}; "
            "pass images (B, 3, H, W) with targets (B,), or with None for the predicted class."
        )
    images, targets = entry
    return Batch(images, (), targets)


def _whole_set_columns(metrics: Sequence[Metric], parts: Iterable[Columns]) -> Iterator[Columns]:
    """Yield the columns of the values of the whole data set, method by method.

    They are computed from the curves among the parts.
    """
    aggregating_metrics = aggregating(metrics)
    if not aggregating_metrics:
        return
    curves_by_method: dict[str, list[Columns]] = {}
    for part in parts:
        if len(part["method"]):
            # a method without curves has values, too
            curves = curves_by_method.setdefault(part["method"][0], [])
            if not holds_values(part):
                curves.append(part)
    for method, curves in curves_by_method.items():
        method_metrics = [
            metric
            for metric in aggregating_metrics
            if (metric.spec.of == "layer") == (method == LAYER)
        ]
        yield whole_set_columns(method_metrics, method, curve_frame(curves))
