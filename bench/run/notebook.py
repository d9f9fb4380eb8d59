"""Python's front door: `axiom_bench.load_model`, `explain`, `evaluate`, `check` and `overlay`; photographs in any form.
The loop is that of a run, without records."""

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
from axiom_bench.cutting.images import (
    PixelsGiven,
    SeveralInputs,
    are_several,
    check_tensor,
    checked_images,
    failures_of,
    taken_apart,
)
from axiom_bench.cutting.model_copy import own_state, shared_copy
from axiom_bench.cutting.output import AnyOutput, check_output
from axiom_bench.cutting.passes import by_halves, full_precision, users_device
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trace import CutModel, Inputs, cut
from axiom_bench.data.batch import Batch
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError, type_name
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import Columns, curve_frame, frame, holds_values, note_silence, trace_of_batch
from axiom_bench.evaluation.loop import rows_of
from axiom_bench.evaluation.measurement import Metric, check_names
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.proof import proved
from axiom_bench.evaluation.whole_set import aggregating, whole_set
from axiom_bench.examination.examine import Answer, examine
from axiom_bench.explanation.explanation import check_objects
from axiom_bench.explanation.heatmaps import Heatmaps
from axiom_bench.explanation.overlay import COLOURS, OPACITY, Pixels, drawn_over, picture_of
from axiom_bench.models import layers, load
from axiom_bench.models.load import LoadedModel
from axiom_bench.models.spec import in_python, named_settings
from axiom_bench.notes import MethodLeftOut, ZeroMaps
from axiom_bench.run.explaining import explained_trace
from axiom_bench.run.photographs import Photograph, photograph, prepared
from axiom_bench.run.progress import progress, where_seen


@contextmanager
def python_words() -> Iterator[None]:
    """Name settings in a BenchError's message as Python does."""
    try:
        yield
    except BenchError as error:
        error.args = (in_python(str(error)),)
        raise


@python_words()
def load_model(name: str, weights: str | PathLike[str] | EllipsisType | None = ..., **settings: Any) -> nn.Module:
    """A network by its name, in eval mode, on the CPU.

    `model.loaded` says what is known of it: preprocessing, classes, layer, which `explain` uses.

    Args:
        name: one of `axiom-bench list models`.
        weights: "default", the name of a published set, a .safetensors, .pth or .pt file, or None: random ones. If
            left out, those that `model=NAME` takes on the command line.
        settings: others of conf/model/user.yaml, as classes=["cat", "dog"].

    Raises:
        BenchError: for an unknown name or setting, and for weights that aren't there or don't fit.
    """
    if weights is not ...:
        settings["weights"] = weights
    paths = {key: os.fspath(value) for key, value in settings.items() if isinstance(value, PathLike)}
    loaded = load.load_model(named_settings(name, settings | paths))
    for sentence in filter(None, [*loaded.lines, loaded.recognised]):
        warnings.warn(in_python(sentence), stacklevel=3)
    vars(loaded.module)["loaded"] = loaded
    return loaded.module


@full_precision()
def evaluate(
    model: nn.Module | CutModel | str,
    layer: str | None,
    batches: Iterable[Batch | tuple[Inputs, Tensor | None]],
    methods: Sequence[str | Callable],
    metrics: Sequence[str | Callable],
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    explained: int | str | None = None,
) -> pd.DataFrame:
    """Measure methods on a model: one row per image x method x metric, in the columns of the records. At the end come
    rows with image id "*" for metrics with values of the whole data set.

    Args:
        model: any nn.Module, which isn't changed, or a name that `load_model` takes. Each call checks a network once,
            which takes about as long as a forward pass of six images. Or a model of `axiom_bench.cut`, which only its
            first call checks.
        layer: dotted name of the target layer; None: the last spatial one.
        batches: (images (B, 3, H', W'), targets (B,) or None for the predicted class), or `axiom_bench.Batch`es with
            image ids, boxes and masks. Signals (B, C, L') and volumes (B, C, D', H', W') stand as images do, and so do
            several inputs; see `axiom_bench.trace`.
        methods: names or callables.
        metrics: names or callables.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: what is explained; see `CutModel`.
        explained: which of several inputs is explained; see `axiom_bench.trace`.

    Returns:
        The values, with their unit and a status that says why a value is NaN; a method that doesn't apply to the model
            has "not_applicable".

    Raises:
        BenchError: for an unknown name or layer, and for batches, methods or metrics of another form.
    """
    method_plugins, metric_plugins = chosen("method", methods), chosen("metric", metrics)
    check_names(metric_plugins)
    network, loaded = _network(model)
    parts: list[Columns] = []
    forms: list[SeveralInputs] = []
    is_proved, stream = False, _as_batches(batches, partial(_apart, network, explained, forms))
    listed = list(stream) if isinstance(batches, list | tuple) else None
    first = next(stream if listed is None else iter(listed), None)
    stream = stream if first is None else chain([first], stream)
    like = first or Batch(torch.zeros(1, 3, 224, 224), ("",))
    cut_model = _cut_of(model, network, loaded, like, forms, layer, reshape, output)

    def columns(part: Batch, _: int) -> list[Columns]:
        nonlocal method_plugins, metric_plugins, is_proved
        for form in forms:
            cut_model.take(form)
        trace = trace_of_batch(cut_model, part)
        if not is_proved:
            note_silence(trace)
            method_plugins, metric_plugins = proved(method_plugins, metric_plugins, trace, part)
            is_proved = True
        return list(rows_of(trace, part, method_plugins, metric_plugins))

    with where_seen(), progress("evaluate", None if listed is None else sum(map(len, listed))) as shown:
        for batch in stream if listed is None else listed:
            for of_part in by_halves(batch, len(batch), cut_model.limits, columns):
                parts += of_part
            shown.advance(len(batch))
    rows = [*filter(holds_values, parts), *_of_whole_set(metric_plugins, parts)]
    name = loaded.name if loaded else cut_model.output.name_of(type(network).__name__)
    facts = {"experiment": "-", "model": name, "layer": cut_model.layer, "data": "-"}
    return frame(rows).assign(**facts)[list(RECORD_COLUMNS)]


@full_precision()
def explain(
    model: nn.Module | CutModel | str,
    layer: str | None = None,
    images: Inputs | Photograph | Sequence[Photograph] | None = None,
    methods: Sequence[str | Callable] = (),
    targets: Tensor | int | str | Sequence[int | str] | None = None,
    size: tuple[int, int] | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None = None,
    explained: int | str | None = None,
    metrics: Sequence[str | Callable] = (),
) -> Heatmaps:
    """Heatmaps of several methods from one pass: {name: (B, H', W') in [0, 1]}, at the images' size or at `size`.

    A method that doesn't apply to the model is left out, with a MethodLeftOut warning; a layer where all gradients are
    zero gets a ZeroMaps warning, which names another.

    Args:
        model: any nn.Module, which isn't changed, a name that `load_model` takes, or a cut model; see `evaluate`.
        layer: dotted name of the target layer; None: the last spatial one, which the result names.
        images: photographs: a path, a PIL image, an array (H, W, 3) of 0 to 255 or of floats in [0, 1], bytes (3, H,
            W), or a list of these. Or a tensor as the network takes it, (B, 3, H', W') or (3, H', W'), in floating
            point, which isn't preprocessed. Several inputs are a dict, or a tuple of tensors of which one in floating
            point is a batch; a list, and any other tuple, is photographs.
        methods: names or callables; left out: those of `axiom-bench explain`.
        targets: (B,), or one class for all images, each an index or a name of the network's classes; None for the
            predicted class.
        size: (H', W') of the heatmaps in pixels.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: what is explained; see `CutModel`.
        preprocessing: of photographs, a function from a PIL image to a tensor (3, H', W'), as `weights.transforms()`
            of torchvision; None: the network's own. Where nobody knows it a warning says what is taken for it.
        explained: which of several inputs is explained; see `axiom_bench.trace`.
        metrics: names or callables to measure on each map, such as "sensitivity_error" and "conservation_error".

    Returns:
        A dict, which a notebook shows as pictures, `maps.save("maps.png")` draws into a file, and `maps.show()` opens;
            its keys are names as they were given. `maps.top` has the most probable classes, `maps.errors` the values
            of the metrics, and `maps.notes` the warnings.

    Raises:
        BenchError: as `evaluate` does, and for a photograph that can't be read.
    """
    if images is None:
        raise BenchError("Give images by name: ab.explain(model, images='photo.jpg').")
    by_default = methods == ()
    if by_default:  # those of a run
        defaults = read_yaml(conf_folder() / "config.yaml")["defaults"]
        methods = next(each["method"] for each in defaults if "method" in each)
    metric_plugins = chosen("metric", metrics)
    check_names(metric_plugins)
    method_plugins = [
        replace(method, name=entry) if isinstance(entry, str) else method  # as the user wrote it, such as "GradCAM"
        for entry, method in zip(methods, chosen("method", methods), strict=True)
    ]
    cut_model, loaded, batch, pictures = _cut_and_batch(
        model,
        layer,
        images,
        reshape,
        output,
        explained,
        preprocessing,
    )
    trace = cut_model.trace(batch.images, _indices(targets, loaded, len(batch)), other_inputs=batch.other_inputs)
    explained_maps = explained_trace(
        trace,
        method_plugins,
        metric_plugins,
        size=size,
        classes=loaded.classes if loaded and len(loaded.classes or ()) == trace.logits.shape[1] else None,
        pictures=pictures,
    )
    if wrong := (~trace.logits.isfinite().all(1)).nonzero()[:, 0].tolist():
        sentence = f"The scores of the images {wrong} aren't finite, and their maps are NaN; check these images."
        explained_maps.notes.append(ZeroMaps(sentence))
    if by_default:  # nobody named the methods that don't apply
        explained_maps.notes = [note for note in explained_maps.notes if not isinstance(note, MethodLeftOut)]
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
    """Examine a network and its images before anything is computed, in at most four passes of the batch, and two more
    if many labels don't fit.

    Questions: are its scores of an image the same at each call, and in each batch? What does it return? Is the layer
    spatial, and do the scores depend on it? Are the values that enter it plausible? With targets: does it name
    them, and would it name clearly more with another range of values?

    Args:
        model: any nn.Module, which isn't changed, a name that `load_model` takes, or a cut model; see `evaluate`.
        layer: dotted name of the target layer; None: the last spatial one.
        images: photographs, a tensor or several inputs, as `explain` takes them; a few of each class say most.
        targets: (B,), the labels, each an index or a name of the network's classes; None if they aren't known.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: what is explained; see `CutModel`.
        explained: which of several inputs is explained; see `axiom_bench.trace`.
        preprocessing: of photographs; see `explain`.

    Returns:
        Answers; printing one gives its line: the question, ok, note or stop, and a sentence.

    Raises:
        BenchError: for an unknown layer, and for images or targets of another form.
    """
    if images is None:
        raise BenchError("Give images by name: ab.check(model, images='photo.jpg').")
    with warnings.catch_warnings(action="ignore", category=PixelsGiven):  # an answer says so
        cut_model, loaded, batch, _ = _cut_and_batch(
            model,
            layer,
            images,
            reshape,
            output,
            explained,
            preprocessing,
        )
        labels = _indices(targets, loaded, len(batch))
        traced = partial(cut_model.trace, batch.images, labels, other_inputs=batch.other_inputs)
        return examine(traced, targets is not None)


def overlay(
    image: Tensor | Photograph, heatmap: Tensor | NDArray[Any], colours: str = COLOURS, opacity: float = OPACITY
) -> Image.Image:
    """The heatmap in colour over the grey image, as a picture of the image's size.

    Args:
        image: a path, a PIL image, a tensor (3, H, W), or an array (H, W, 3); integers from 0 to 255, or floats in
            [0, 1]. Floats beyond, as a network's preprocessing leaves them, are scaled to their own minimum and
            maximum.
        heatmap: (H, W) or (1, H, W) in [0, 1]; NaN is shown as no heat.
        colours: a colour map of matplotlib, as "viridis" or "jet".
        opacity: of the colours, 0 to 1.

    Raises:
        BenchError: for anything of another type, shape or range.
    """
    image = photograph(image) if isinstance(image, str | PathLike | Image.Image) else image
    return drawn_over(picture_of(image), heatmap, colours, opacity)


def _network(model: nn.Module | CutModel | str) -> tuple[nn.Module, LoadedModel | None]:
    """The network, and what is known of one that `load_model` has made. Raises BenchError for anything else."""
    if isinstance(model, str):
        model = load_model(model)
    network = model.model if isinstance(model, CutModel) else model
    if not isinstance(network, nn.Module):
        raise BenchError(f"Invalid model: expected a torch.nn.Module or a model's name, not {type_name(model)}.")
    loaded = getattr(network, "loaded", None)
    return network, loaded if isinstance(loaded, LoadedModel) else None


def _apart(model: nn.Module, explained: int | str | None, forms: list[SeveralInputs], batch: Batch) -> Batch:
    """The batch with its explained images alone as `images`, and how the network takes several inputs, in `forms`."""
    if not are_several(batch.images, model):
        return batch
    form, images, others = taken_apart(model, batch.images, explained)
    if form not in forms:  # of many batches there is one, or the cut refuses the second
        forms.append(form)
    return replace(batch, images=images, other_inputs=others)


def _cut_and_batch(
    model: nn.Module | CutModel | str,
    layer: str | None,
    images: Any,
    reshape: AnyReshape | None,
    output: AnyOutput | None,
    explained: int | str | None,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None,
) -> tuple[CutModel, LoadedModel | None, Batch, Pixels | None]:
    """Return the cut network, what is known of it, the images as it takes them, and their pictures if known."""
    network, loaded = _network(model)
    forms: list[SeveralInputs] = []
    batch = _apart(network, explained, forms, Batch(images, ()))
    with python_words():
        tensor, pictures = prepared(batch.images, network, preprocessing or (loaded.preprocessing if loaded else None))
    batch = replace(batch, images=tensor)
    cut_model = _cut_of(model, network, loaded, batch, forms, layer, reshape, output)
    if pictures is not None and cut_model is not model:
        cut_model.normalisation = None  # they are normalised
    for form in forms:
        cut_model.take(form)
    return cut_model, loaded, batch, pictures


def _cut_of(
    model: nn.Module | CutModel | str,
    network: nn.Module,
    loaded: LoadedModel | None,
    batch: Batch,
    forms: list[SeveralInputs],
    layer: str | None,
    reshape: AnyReshape | None,
    output: AnyOutput | None,
) -> CutModel:
    """The network, cut as asked for, or as `load_model` knows; without a layer at the last spatial one of the batch's
    images. A cut model is returned as it is. Raises BenchError for one with a layer, reshape or output."""
    if isinstance(model, CutModel):
        if layer not in (None, model.layer) or reshape is not None or output is not None:
            raise BenchError(
                f"This model is cut at {model.layer!r} already, with its reshape and output; leave layer, reshape and "
                "output out, or give the network itself."
            )
        return model
    if loaded:
        layer, reshape, output = layer or loaded.layer, reshape or loaded.reshape, output or loaded.output
    if layer is None:
        layer, reshape = _default_of(network, batch, reshape, output, forms)
    cut_model = cut(network, layer, reshape=reshape, output=output)
    cut_model.finetuned = loaded.finetuned if loaded else None
    return cut_model


def _default_of(
    model: nn.Module,
    batch: Batch,
    reshape: AnyReshape | None,
    output: AnyOutput | None,
    forms: list[SeveralInputs],
) -> tuple[str, AnyReshape | None]:
    """Return the default layer, found with the other inputs of the batch's first image, and its reshape."""
    network = shared_copy(model)
    if forms:
        forms[0].give(network, tuple(each[:1] for each in batch.other_inputs))
    images = checked_images(batch.images, network)
    channels, *size = images.shape[1:]
    like = next((each for each in network.parameters() if each.is_floating_point()), images)
    first = images[:1].to(like)
    with users_device():
        with torch.no_grad(), own_state(network), failures_of(network, first):
            network(first.clone())
        calls = layers.record(network, tuple(size), check_output(output).function, channels)
    layer = layers.choose(model, "default", calls, reshape)
    for sentence in layers.default_notes(layer, calls, reshape):
        warnings.warn(f"{type(model).__name__}: {sentence}", stacklevel=5)
    if reshape is None and layers.has_tokens(layer, calls):
        reshape = "tokens"
    return layer, reshape


def _indices(targets: Any, loaded: LoadedModel | None, count: int) -> Any:
    """Of classes; those that are named are looked up. Raises BenchError for an unknown name."""
    listed = [targets] * count if isinstance(targets, int | str) else targets
    if not isinstance(listed, list | tuple) or not any(isinstance(each, str) for each in listed):
        return listed
    if loaded is None:
        raise BenchError("The classes of this network have no names here; give indices, or a network of ab.load_model.")
    return [loaded.class_index(each) if isinstance(each, str) else each for each in listed]


def chosen(kind: str, entries: Sequence[str | Callable]) -> list[Plugin]:
    """The plug-ins of a list of names or callables. kind: "method" or "metric".

    Raises BenchError for anything but a list, and for two entries of one name.
    """
    if isinstance(entries, str) or not isinstance(entries, Iterable):
        hint = f"{kind}s=[{entries!r}]" if isinstance(entries, str) else f"{kind}s=[...]"
        received = repr(entries) if isinstance(entries, str) else type_name(entries)
        raise BenchError(f"{kind}s is a list of names or callables, not {received}; pass {hint}.")
    listed = [plugins.of(kind, entry) for entry in entries]
    for index, entry in enumerate(listed):
        if entry.name in [other.name for other in listed[:index]]:
            raise BenchError(f"There are two {kind}s named {entry.name!r}; list each of them once.")
    return listed


def _as_batches(batches: Iterable[Any], apart: Callable[[Batch], Batch]) -> Iterator[Batch]:
    """Batches with image ids; bare (images, targets) are numbered in their order. Raises BenchError for other forms.
    apart: see `_apart`."""
    if isinstance(batches, Batch | Tensor | dict | str) or not isinstance(batches, Iterable):
        raise BenchError(
            f"batches is an iterable of (images, targets) or of axiom_bench.Batch, not a {type(batches).__name__}; "
            "pass a list, such as [(images, targets)]."
        )
    first = 0
    for entry in batches:
        batch = apart(entry if isinstance(entry, Batch) else _as_batch(entry))
        check_tensor(batch.images)
        if batch.annotations:
            check_objects([each.boxes for each in batch.annotations], None, batch.images[:, 0])
            if not all(each.is_of(batch.images.shape[2:]) for each in batch.annotations):
                raise BenchError(
                    "An Annotation has labels, a tensor (n,) of class indices, one for each box, and as its mask None "
                    f"or a tensor of class indices {tuple(batch.images.shape[2:])}, as the image has pixels."
                )
        if not isinstance(entry, Batch):
            batch = replace(batch, image_ids=tuple(str(first + row) for row in range(len(batch))))
        first += len(batch)
        yield batch
    if not first:
        warnings.warn("There is no image in batches; a generator that was read before is empty.", stacklevel=4)


def _as_batch(entry: Any) -> Batch:
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        raise BenchError(
            f"A batch is (images, targets) or an axiom_bench.Batch, not a {type(entry).__name__}; pass images "
            "(B, 3, H, W) with targets (B,), or with None for the predicted class."
        )
    images, targets = entry
    return Batch(images, (), targets)


def _of_whole_set(metrics: Sequence[Metric], parts: Iterable[Columns]) -> Iterator[Columns]:
    """The columns of the values of the whole data set, method after method, from the curves among the parts."""
    with_aggregate = aggregating(metrics)
    by_method: dict[str, list[Columns]] = {}
    for part in parts:
        if with_aggregate and len(part["method"]):
            by_method.setdefault(part["method"][0], []).extend([] if holds_values(part) else [part])
    for method, curves in by_method.items():
        of_method = [metric for metric in with_aggregate if (metric.spec.of == "layer") == (method == LAYER)]
        yield whole_set(of_method, method, curve_frame(curves))
