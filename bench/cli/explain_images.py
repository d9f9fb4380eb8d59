"""Images explained: the model's top classes, and for each chosen class every method's map with its axiom errors."""

from __future__ import annotations

import math
import warnings
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from axiom_bench.columns import OK
from axiom_bench.cutting.dependence import BatchMates
from axiom_bench.cutting.objects import ObjectScores
from axiom_bench.cutting.silent import only_zeros
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.data.formats.decoding import open_upright
from axiom_bench.data.formats.files import as_text
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import (
    MethodLeftOut,
    ZeroMaps,
    explained,
    is_on_score_scale,
    warn_of_silence,
    with_score_scale,
)
from axiom_bench.evaluation.measurement import Measurement, measure_all
from axiom_bench.evaluation.method_costs import MOST_PASSES
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.examination.examine import examined_input
from axiom_bench.explanation.explanation import given
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.models.objects import Objects
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.settings import Device
from axiom_bench.run.job import cut_of
from axiom_bench.run.manifest import values_of
from axiom_bench.run.progress import at, progress
from axiom_bench.statistics.labels import NOTHING, number, share

TOP = 5  # classes that are listed
DATA = "images"  # what is explained, in the place of a data set
SHARES = 10**9  # a probability in whole numbers
MOST_NAMED = 3  # images in a sentence


def class_name(model: LoadedModel, index: int) -> str:
    """The class's name, or "class 7"."""
    return model.classes[index] if model.classes else f"class {index}"


def chosen_classes(model: LoadedModel, text: str) -> list[int]:
    """The indices of classes that are named by comma, each by index or name. Raises BenchError, with the nearest names,
    for no such class, and for a name that several classes have."""
    names = [text] if text in (model.classes or ()) else text.split(",")  # a name may have a comma
    return list(dict.fromkeys(model.class_index(name.strip()) for name in names))


@dataclass(frozen=True)
class ClassScore:
    """A class's index and name, and its softmax probability, or its score where the model's output has none. box: of
    one object of the class, x0 y0 x1 y1 in pixels; None where the class is explained."""

    index: int
    name: str
    value: float
    is_probability: bool = True
    box: tuple[float, ...] | None = None

    @property
    def text(self) -> str:
        """ "93 %", where 0 % and 100 % stand for none and all alone; "score 4.20"."""
        if not self.is_probability:
            return f"score {number(self.value)}"
        return share(math.ceil(self.value * SHARES), SHARES)


class AxiomError(NamedTuple):
    """metric, title: the name of its value, and as people read it. value: NaN unless the status is ok."""

    metric: str
    title: str
    value: float
    status: str


@dataclass(frozen=True, eq=False)
class ExplainedMap:
    """A method's name and title, its heatmap (H', W') in [0, 1], and what was measured on it."""

    method: str
    title: str
    heatmap: NDArray[np.floating[Any]]
    errors: Sequence[AxiomError]

    @property
    def is_zero(self) -> bool:
        """Whether there is nothing to see."""
        return not self.heatmap.any()

    def lines(self) -> list[str]:
        """That the map is zero, and the errors as text; one line where none has a value, for one reason."""
        lines = ["Zero everywhere"] if self.is_zero else []
        reasons = [error.status.replace("_", " ") for error in self.errors]
        if len({*reasons}) == 1 and OK not in reasons:
            return [*lines, f"No axiom errors: {reasons[0]}"]
        for error, reason in zip(self.errors, reasons, strict=True):
            text = number(error.value) if error.status == OK else f"{NOTHING} ({reason})"
            lines.append(f"{error.title}: {text}")
        return lines


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """pixels: (H', W', 3), as the model sees the image. top: most probable first. maps: of each explained class, in
    the order in which they were asked for, or of each object."""

    path: Path
    pixels: NDArray[np.uint8]
    top: Sequence[ClassScore]
    maps: Sequence[tuple[ClassScore, Sequence[ExplainedMap]]]

    @property
    def is_seen(self) -> bool:
        """Whether a map isn't zero."""
        return not all(shown.is_zero for _, maps in self.maps for shown in maps)


class Explainer:
    """A model, cut at its layer, with the methods and the axiom errors of a configuration. Raises BenchError."""

    def __init__(self, model: LoadedModel, config: Mapping[str, Any], methods: Sequence[Plugin]) -> None:
        self.model, self.methods = model, list(methods)
        self.metrics = configured("metric", config["report"]["figures"]["plane"], config)  # those of the axiom plane
        self.report: Mapping[str, Any] = config["report"]
        self.normalise: str = config["normalise"]
        self.max_passes: float = config["metrics"]["max_forwards_per_image"] or MOST_PASSES
        self.device = Device.of(config["device"])
        self.device.prepare()
        self.cut_model = cut_of(model, self.device)
        self.input_note: str | None = None  # on the values of the first image, once it is explained

    def explain(
        self, path: Path, image: Image.Image, targets: Sequence[int], top: int
    ) -> tuple[ExplainedImage, list[str]]:
        """The image explained, and a sentence for each method that doesn't apply to the model. targets: the classes to
        explain; where there are none, the `top` most probable ones. Raises BenchError where the image can't be resized,
        and where no method applies."""
        pixels = self.model.preprocessing.of_photograph(image, as_text(path))[None].to(self.device.device)
        inputs, name = self.model.inputs, path.name
        if isinstance(inputs, Objects):
            return self._of_objects(path, pixels, targets, top, inputs.least)
        others = () if inputs is None else inputs.of_images([name], [name]).rows([name])
        trace = self.cut_model.trace(pixels, other_inputs=others)
        if self.input_note is None:
            answer = examined_input(trace)
            self.input_note = answer.sentence if answer.level == "note" else ""
        of_classes = trace.logits[0].softmax(0) if trace.has_probability else trace.network.explained(trace.logits)[0]
        if of_classes.isnan().any():
            raise BenchError(
                f"The network's scores of the image {as_text(path)} are no numbers, as where it divides by the spread "
                "of an image of one colour; leave it out."
            )
        ranked = of_classes.argsort(descending=True, stable=True).tolist()
        chosen = list(targets) or ranked[:top]
        if chosen != trace.targets.tolist():
            targets_of_rows = torch.tensor(chosen, device=pixels.device)
            copies = [each.expand(len(chosen), *each.shape[1:]) for each in (pixels, *others)]
            trace = self.cut_model.trace(copies[0], targets_of_rows, other_inputs=tuple(copies[1:]))
        maps, notes = self._maps(trace)
        scores = {
            index: ClassScore(index, class_name(self.model, index), float(of_classes[index]), trace.has_probability)
            for index in ranked
        }
        return ExplainedImage(
            path=path,
            pixels=self.model.preprocessing.denormalise(pixels)[0],
            top=[scores[index] for index in ranked[:TOP]],
            maps=[(scores[index], of_class) for index, of_class in zip(chosen, maps, strict=True)],
        ), notes

    def _of_objects(
        self, path: Path, pixels: Tensor, targets: Sequence[int], top: int, least: float
    ) -> tuple[ExplainedImage, list[str]]:
        """As `explain`, of the `top` most probable objects, of the targets where there are any."""
        network = self.model.module
        assert isinstance(network, ObjectScores)
        at("objects")
        (found,) = network.found(pixels, least)
        chosen = [each for each in found if not targets or each.label in targets][:top]
        if not chosen:
            classes = " or ".join(class_name(self.model, label) for label in targets) or "object"
            raise BenchError(
                f"{self.model.name} finds no {classes} in {as_text(path)} with a probability of at least {least}; "
                "lower model.min_probability."
            )
        labels = torch.tensor([each.label for each in chosen], device=pixels.device)
        places = torch.stack([each.place for each in chosen])
        trace = self.cut_model.trace(pixels.expand(len(chosen), -1, -1, -1), labels, other_inputs=(places,))
        maps, notes = self._maps(trace)
        scores = [
            ClassScore(each.label, class_name(self.model, each.label), each.probability, box=tuple(each.box.tolist()))
            for each in (*chosen, *found)
        ]
        picture = self.model.preprocessing.denormalise(pixels)[0]
        top_scores = scores[len(chosen) :][:TOP]
        return ExplainedImage(path, picture, top_scores, [*zip(scores[: len(chosen)], maps, strict=True)]), notes

    def _maps(self, trace: Trace) -> tuple[list[list[ExplainedMap]], list[str]]:
        """For each row of the trace every method's map; and a sentence for each method that is left out."""
        batch = Batch(trace.images, ("",) * len(trace), trace.targets)
        with warnings.catch_warnings(record=True, action="always") as caught:
            self.methods = with_score_scale(self.methods, trace)
            is_silent = warn_of_silence(trace)
            explanations = []
            for method in self.methods:
                at(method.spec.title or method.name)
                explanations.append((method, explained(trace, batch, method, self.normalise)))
        kinds = (MethodLeftOut, ZeroMaps)
        notes = [str(warning.message) for warning in caught if issubclass(warning.category, kinds)]
        applicable = [(method, explanation) for method, explanation in explanations if explanation is not None]
        if not applicable:
            raise BenchError(notes[-1])
        is_seen = any(given(each.heatmap, "heatmap").any() for _, each in applicable)
        if not is_seen and not is_silent:
            notes.append(only_zeros(trace))
        at("axiom errors, which report.figures.plane=[] leaves out")
        scales = [(explanation, is_on_score_scale(method, trace)) for method, explanation in applicable]
        has_errors = is_seen and any(is_on_scale for _, is_on_scale in scales)
        costly = self._costly(trace) if has_errors and "drops" not in vars(trace) else []
        if costly:
            titles = " and ".join((metric.spec.title or metric.name).lower() for metric in costly)
            notes.append(
                f"No {titles}: its ablation drops would cost about {trace.drops_cost:,.0f} forward passes "
                f"({trace.capture}). To compute it, set metrics.max_forwards_per_image={math.ceil(trace.drops_cost)}."
            )
        measured = measure_all([metric for metric in self.metrics if is_seen and metric not in costly], scales)
        rows: list[list[ExplainedMap]] = [[] for _ in range(len(trace))]
        for (method, explanation), measurement in zip(applicable, measured, strict=True):
            heatmaps = given(explanation.heatmap, "heatmap").cpu().numpy()
            title = method.spec.title or method.name
            for row, maps in enumerate(rows):
                maps.append(ExplainedMap(method.name, title, heatmaps[row], self._errors(measurement, row)))
        return rows, list(dict.fromkeys(notes))

    def _costly(self, trace: Trace) -> list[Plugin]:
        """Return the metrics whose ablation drops no method has needed, and that cost more than the budget."""
        need_drops = [metric for metric in self.metrics if plugins.NEEDS_DROPS in plugins.needs_of(metric)]
        return need_drops if need_drops and trace.drops_cost > self.max_passes else []

    def _errors(self, measurement: Measurement, row: int) -> list[AxiomError]:
        titles = {metric.name: metric.spec.title or metric.name for metric in self.metrics}
        return [
            AxiomError(name, titles.get(name, name), float(values[row]), statuses[row])
            for name, (values, statuses) in measurement.values.items()
        ]

    def manifest(self, images: int) -> dict[str, Any]:
        """What a run of so many images would say of the model, the methods and the metrics, for the report's pages."""
        model = {"layer": self.model.layer, "random_weights": self.model.random_weights}
        return {
            "methods": {method.name: method.as_dict() for method in self.methods},
            "metrics": {name: about for metric in self.metrics for name, about in values_of(metric).items()},
            "models": {self.model.name: {**model, "images": {DATA: {"kept": images}}}},
            "config": {"report": self.report, "target": "predicted"},  # no label is known
        }


def configured(kind: str, names: Iterable[str], config: Mapping[str, Any]) -> list[Plugin]:
    """The methods or metrics of these names, as the configuration has them. Raises BenchError."""
    of_kind = config[kind]
    return [plugins.from_config(kind, name, of_kind[name]) if name in of_kind else plugins.of(kind, name)
            for name in names]  # fmt: skip


def explain(
    options: Namespace, names: Sequence[str] | None, config: dict[str, Any], paths: Sequence[Path]
) -> tuple[list[ExplainedImage], Explainer, list[str], list[str]]:
    """The images that can be explained, by what, sentences about methods that don't apply to the model, zero maps and
    turned images, and a sentence for each other image. names: of the methods, None where none is named. config: of the
    options. Raises BenchError for an unknown model, layer, class or method, and where no image can be explained."""
    settings.add_current_folder()
    settings.check(config)
    if options.top < 1:
        raise BenchError(f"--top is {options.top}; it is a number of classes, 1 or more.")
    methods = configured("method", names or config["method"], config)
    model = load_model(config["model"])
    targets = [] if options.targets is None else chosen_classes(model, options.targets)
    explainer = Explainer(model, config, methods)
    images: list[ExplainedImage] = []
    notes = dict.fromkeys(filter(None, [*model.lines, model.recognised]))
    problems: list[str] = []
    with progress("maps", len(paths)) as shown, warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchMates)  # which is said once, below
        for path in paths:
            try:
                image, turned = open_upright(path)
                explained_image, left_out = explainer.explain(path, image, targets, options.top)
            except BenchError as error:
                problems.append(str(error))
            else:
                images.append(explained_image)
                notes |= dict.fromkeys(left_out)
                if turned:
                    notes[f"{as_text(path)} is turned upright, as its EXIF orientation says."] = None
            shown.advance(1)
    if not images:
        raise BenchError(" ".join(dict.fromkeys(problems)))
    notes |= dict.fromkeys(filter(None, [explainer.cut_model.mates, explainer.input_note]))
    of_named = [note for note in notes if names is not None or not note.startswith("The method ")]  # which nobody named
    seen = [image for image in images if image.is_seen]
    blank = [as_text(image.path) for image in images if not image.is_seen]
    if blank:
        of_named.append(f"No picture is made of {first_names(blank, MOST_NAMED)}: all maps are zero everywhere.")
    return seen, explainer, [*of_named, *zero_maps(seen)], problems


def zero_maps(images: Sequence[ExplainedImage]) -> Iterator[str]:
    """A sentence for each method with maps that are zero everywhere, but for images of which all maps are."""
    places: dict[str, dict[str, None]] = {}
    for image in images:
        for score, maps in image.maps:
            zero = [shown for shown in maps if shown.is_zero]
            for shown in zero if len(zero) < len(maps) else ():
                places.setdefault(shown.title, {})[f"{as_text(image.path)} (class {score.name})"] = None
    for title, where in places.items():
        yield f"The map of {title} is zero everywhere on {first_names([*where], MOST_NAMED)}."
