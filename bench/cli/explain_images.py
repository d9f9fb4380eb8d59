"""Images explained: the model's top classes, and for each chosen class every method's map with its
axiom errors.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from axiom_bench.cutting.objects import Found, ObjectScores
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.formats.decoding import open_upright
from axiom_bench.data.formats.files import as_text
from axiom_bench.environment import add_current_folder
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import with_score_scale
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.examination.examine import examined_input
from axiom_bench.explanation.heatmaps import ClassScore, Heatmaps
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.models.objects import Objects
from axiom_bench.notes import MethodLeftOut, Notes
from axiom_bench.records.entries import ConfigEntry, ImagesEntry, Manifest, ModelEntry
from axiom_bench.run.composing.device import Device
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.explaining import TOP, class_name, explained_trace
from axiom_bench.run.job import cut_of
from axiom_bench.run.manifest import method_entry, values_of
from axiom_bench.run.progress import at, progress
from axiom_bench.run.shards import MOST_PASSES

DATA = "images"  # what is explained, in the place of a data set
MOST_NAMED = 3  # images in a sentence


def chosen_classes(model: LoadedModel, text: str) -> list[int]:
    """The indices of classes that are named by comma, each by index or name. Raises BenchError,
    with the nearest names, for no such class, and for a name that several classes have.
    """
    names = [text] if text in (model.classes or ()) else text.split(",")  # a name may have a comma
    return list(dict.fromkeys(model.class_index(name.strip()) for name in names))


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """An image with the heatmaps of its explained classes, or of the objects in it: one row
    each.
    """

    path: Path
    pixels: NDArray[np.uint8]  # (H', W', 3), as the model sees the image
    maps: Heatmaps

    @property
    def is_seen(self) -> bool:
        """Whether a map isn't zero."""
        return any(heatmap.any() for heatmap in self.maps.values())


class Explainer:
    """A model, cut at its layer, with the methods and the axiom errors of a configuration. Raises
    BenchError.
    """

    def __init__(self, model: LoadedModel, settings: Settings, methods: Sequence[Plugin]) -> None:
        self.model, self.methods = model, list(methods)
        axioms = settings.report["figures"]["plane"]
        self.metrics = configured("metric", axioms, settings.metric)
        self.report = settings.report
        self.normalise = settings.normalise
        self.device = Device.of(settings.device)
        self.device.prepare()
        self.cut_model = cut_of(
            model, self.device, Notes()
        )  # `explain` reads cut_model.mates instead
        self.input_note: str | None = None  # on the values of the first image, once it is explained

    def explain(
        self, path: Path, image: Image.Image, targets: Sequence[int], top: int
    ) -> ExplainedImage:
        """Explain the target classes of an image, or its `top` most probable classes.

        Raises BenchError if the image can't be resized, and if no method applies.
        """
        pixels = self.model.preprocessing.of_photograph(image, as_text(path))[None].to(
            self.device.device
        )
        inputs, name = self.model.inputs, path.name
        if isinstance(inputs, Objects):
            return self._of_objects(path, pixels, targets, top, inputs.least)
        others = () if inputs is None else inputs.of_images([name], [name]).rows([name])
        trace = self.cut_model.trace(pixels, other_inputs=others)
        if self.input_note is None:
            answer = examined_input(trace)
            self.input_note = answer.sentence if answer.level == "note" else ""
        of_classes = (
            trace.logits[0].softmax(0)
            if trace.has_probability
            else trace.network.explained(trace.logits)[0]
        )
        if of_classes.isnan().any():
            raise BenchError(
                f"The network's scores of the image {as_text(path)} are no numbers, as where it "
                "divides by the spread of an image of one colour; leave it out."
            )
        chosen = list(targets) or of_classes.argsort(descending=True, stable=True).tolist()[:top]
        if chosen != trace.targets.tolist():
            targets_of_rows = torch.tensor(chosen, device=pixels.device)
            copies = [each.expand(len(chosen), *each.shape[1:]) for each in (pixels, *others)]
            trace = self.cut_model.trace(copies[0], targets_of_rows, other_inputs=tuple(copies[1:]))
        return self._explained(path, pixels, trace)

    def _of_objects(
        self, path: Path, pixels: Tensor, targets: Sequence[int], top: int, least: float
    ) -> ExplainedImage:
        """Explain the `top` most probable objects of the target classes, or of all classes."""
        network = self.model.module
        assert isinstance(network, ObjectScores)
        at("objects")
        (found,) = network.found(pixels, least)
        chosen = [each for each in found if not targets or each.label in targets][:top]
        if not chosen:
            classes = (
                " or ".join(class_name(self.model.classes, label) for label in targets) or "object"
            )
            raise BenchError(
                f"{self.model.name} finds no {classes} in {as_text(path)} with a probability of "
                f"at least {least}; lower model.min_probability."
            )
        labels = torch.tensor([each.label for each in chosen], device=pixels.device)
        places = torch.stack([each.place for each in chosen])
        trace = self.cut_model.trace(
            pixels.expand(len(chosen), -1, -1, -1), labels, other_inputs=(places,)
        )
        top_objects = [self._score_of(each) for each in found[:TOP]]
        scores = [self._score_of(each) for each in chosen]
        return self._explained(path, pixels, trace, scores, [top_objects] * len(chosen))

    def _score_of(self, found: Found) -> ClassScore:
        name = class_name(self.model.classes, found.label)
        return ClassScore(found.label, name, found.probability, box=tuple(found.box.tolist()))

    def _explained(
        self,
        path: Path,
        pixels: Tensor,
        trace: Trace,
        scores: Sequence[ClassScore] = (),
        top: Sequence[Sequence[ClassScore]] = (),
    ) -> ExplainedImage:
        """Explain every row of a trace of copies of one image. Raise BenchError if no method
        applies.
        """
        self.methods = with_score_scale(
            self.methods, trace, Notes()
        )  # the maps have the same notes
        picture = self.model.preprocessing.denormalise(pixels)
        maps = explained_trace(
            trace,
            self.methods,
            self.metrics,
            normalise=self.normalise,
            classes=self.model.classes,
            pictures=np.repeat(picture, len(trace), axis=0),
            scores=scores,
            top=top,
            max_passes=MOST_PASSES,
        )
        if not maps:
            raise BenchError(str(maps.notes[-1]))
        return ExplainedImage(path, picture[0], maps)

    def manifest(self, images: int) -> Manifest:
        """What a run of so many images would say of the model, the methods and the metrics, for the
        report's pages.
        """
        model = ModelEntry(
            layer=self.model.layer,
            random_weights=self.model.random_weights,
            images={DATA: ImagesEntry(kept=images)},
        )
        return Manifest(
            methods={method.name: method_entry(method) for method in self.methods},
            metrics={
                name: value for metric in self.metrics for name, value in values_of(metric).items()
            },
            models={self.model.name: model},
            config=ConfigEntry(report=dict(self.report), target="predicted"),  # no label is known
        )


def configured(kind: str, names: Iterable[str], entries: Mapping[str, Any]) -> list[Plugin]:
    """Return the methods or metrics of these names, as their entries configure them. Raises
    BenchError.
    """
    return [plugins.from_config(kind, name, entries[name]) if name in entries else plugins.of(kind, name)
            for name in names]  # fmt: skip


def explain(
    options: Namespace, names: Sequence[str] | None, config: dict[str, Any], paths: Sequence[Path]
) -> tuple[list[ExplainedImage], Explainer, list[str], list[str]]:
    """The images that can be explained, by what, sentences about methods that don't apply to the
    model, zero maps and turned images, and a sentence for each other image. names: of the methods,
    None where none is named. config: of the options. Raises BenchError for an unknown model, layer,
    class or method, and where no image can be explained.
    """
    add_current_folder()
    settings = Settings.of(config)
    if options.top < 1:
        raise BenchError(f"--top is {options.top}; it is a number of classes, 1 or more.")
    methods = configured("method", names or settings.method, settings.method)
    model = load_model(settings.model)
    targets = [] if options.targets is None else chosen_classes(model, options.targets)
    explainer = Explainer(model, settings, methods)
    images: list[ExplainedImage] = []
    notes = dict.fromkeys(filter(None, [*model.lines, model.recognised]))
    problems: list[str] = []
    with progress("maps", len(paths)) as shown:
        for path in paths:
            try:
                image, turned = open_upright(path)
                explained_image = explainer.explain(path, image, targets, options.top)
            except BenchError as error:
                problems.append(str(error))
            else:
                images.append(explained_image)
                for note in explained_image.maps.notes:
                    if names is not None or not isinstance(
                        note, MethodLeftOut
                    ):  # nobody named the method
                        notes[str(note)] = None
                if turned:
                    notes[f"{as_text(path)} is turned upright, as its EXIF orientation says."] = (
                        None
                    )
            shown.advance(1)
    if not images:
        raise BenchError(" ".join(dict.fromkeys(problems)))
    notes |= dict.fromkeys(filter(None, [explainer.cut_model.mates, explainer.input_note]))
    seen = [image for image in images if image.is_seen]
    blank = [as_text(image.path) for image in images if not image.is_seen]
    if blank:
        notes[
            f"No picture is made of {first_names(blank, MOST_NAMED)}: all maps are zero everywhere."
        ] = None
    return seen, explainer, [*notes, *zero_maps(seen)], problems


def zero_maps(images: Sequence[ExplainedImage]) -> Iterator[str]:
    """A sentence for each method with maps that are zero everywhere, but for images of which all
    maps are.
    """
    places: dict[str, dict[str, None]] = {}
    for image in images:
        maps = image.maps
        for row, score in enumerate(maps.scores):
            zero = [method for method in maps if maps.is_zero(row, method)]
            for method in zero if len(zero) < len(maps) else ():
                title = maps.titles.get(method) or method
                places.setdefault(title, {})[f"{as_text(image.path)} ({score.name})"] = None
    for title, where in places.items():
        yield f"The map of {title} is zero everywhere on {first_names([*where], MOST_NAMED)}."
