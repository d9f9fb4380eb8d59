"""Explain images: compute the model's top classes, and each method's map of each chosen class with
its axiom errors.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from axiom_bench.cutting.objects import PlacedScores
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.data.formats.decoding import open_upright
from axiom_bench.data.formats.files import as_text
from axiom_bench.environment import add_current_folder
from axiom_bench.errors import BenchError, first_names
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import with_score_scale
from axiom_bench.evaluation.plugins import AnyPlugin, Method
from axiom_bench.examination.examine import examined_input
from axiom_bench.explanation.heatmaps import ClassScore, Heatmaps
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.models.objects import Objects
from axiom_bench.notes import MethodLeftOut, Note, Notes
from axiom_bench.records.entries import ConfigEntry, ImagesEntry, Manifest, MetricEntry, ModelEntry
from axiom_bench.run.composing.device import Device
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.explaining import explained_trace
from axiom_bench.run.found_rows import Wanted, find_rows
from axiom_bench.run.job import cut_at_layer
from axiom_bench.run.manifest import method_entry, value_entries
from axiom_bench.run.progress import Step, progress, show_step
from axiom_bench.run.shards import MOST_PASSES

DATA = "images"  # the name of the images in the place of a data set's
MOST_NAMED = 3  # images that a sentence lists by name


def chosen_classes(model: LoadedModel, text: str) -> list[int]:
    """Return the indices of classes that are given by index or name.

    Args:
        model: The model whose classes they are.
        text: The classes, separated by commas.

    Raises:
        BenchError: For an unknown class, with the nearest names, and for a name that several
            classes have.
    """
    names = [text] if text in (model.classes or ()) else text.split(",")  # a name may have a comma
    return list(dict.fromkeys(model.class_index(name.strip()) for name in names))


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """An image with the heatmaps of its explained classes, or of the objects in it. Each class or
    object has a row.
    """

    path: Path
    pixels: NDArray[np.uint8]
    """(H', W', 3), the image as the model sees it."""
    maps: Heatmaps

    @property
    def has_visible_map(self) -> bool:
        """True if a map isn't zero everywhere."""
        return any(heatmap.any() for heatmap in self.maps.values())


class Explainer:
    """A model, cut at its layer, with the methods and the axiom errors of a configuration. Raises
    BenchError if the model can't be cut there.
    """

    def __init__(self, model: LoadedModel, settings: Settings, methods: Sequence[Method]) -> None:
        self.model = model
        self.methods = list(methods)
        axioms = settings.report["figures"]["plane"]
        self.metrics = configured_plugins("metric", axioms, settings.metric)
        self.report = settings.report
        self.normalise = settings.normalise
        self.device = Device.of(settings.device)
        self.device.prepare()
        self.notes = Notes()  # about the network, once an image is explained
        self.cut_model = cut_at_layer(model, self.device, self.notes)
        # A note about the pixel values of the first image, once it is explained.
        self.input_note: str | None = None

    def explain(
        self,
        path: Path,
        image: Image.Image,
        targets: Sequence[int],
        top: int,
        words: Sequence[str] | None = None,
    ) -> ExplainedImage:
        """Explain the target classes of an image, or its `top` most probable classes.

        Args:
            path: The image's file, for messages.
            image: The image.
            targets: Indices of classes; empty explains the most probable ones.
            top: The number of classes.
            words: Words of the text that the network says; None for all of them. Networks that say
                no text have none.

        Raises:
            BenchError: If the image can't be resized, if the text doesn't have a word, and if no
                method applies.
        """
        image_pixels = self.model.preprocessing.from_photograph(image, as_text(path))
        pixels = image_pixels[None].to(self.device.device)
        inputs = self.model.inputs
        name = path.name
        if isinstance(inputs, Objects):
            return self._explain_found(path, pixels, Wanted(targets, top, inputs.least, words))
        other_inputs = () if inputs is None else inputs.for_images([name], [name]).rows([name])
        trace = self.cut_model.trace(pixels, other_inputs=other_inputs)
        if self.input_note is None:
            answer = examined_input(trace)
            self.input_note = answer.sentence if answer.level == "note" else ""
        class_scores = (
            trace.logits[0].softmax(0)
            if trace.has_probability
            else trace.network.explained(trace.logits)[0]
        )
        if class_scores.isnan().any():
            raise BenchError(
                f"The network's scores of the image {as_text(path)} are no numbers, as where it "
                "divides by the spread of an image of one colour; leave it out."
            )
        order = class_scores.argsort(descending=True, stable=True).tolist()
        chosen = list(targets) or order[:top]
        if chosen != trace.targets.tolist():
            # The trace above explains the predicted class. Other classes need a copy of the image.
            copies = [
                tensor.expand(len(chosen), *tensor.shape[1:]) for tensor in (pixels, *other_inputs)
            ]
            trace = self.cut_model.trace(
                copies[0],
                torch.tensor(chosen, device=pixels.device),
                other_inputs=tuple(copies[1:]),
            )
        return self._explained(path, pixels, trace)

    def _explain_found(self, path: Path, pixels: Tensor, wanted: Wanted) -> ExplainedImage:
        """Explain the objects or words of an image that are wanted."""
        network = self.model.module
        assert isinstance(network, PlacedScores)
        show_step(Step(f"{self.model.noun}s"))
        rows = find_rows(network, Batch(pixels, (as_text(path),)), wanted, self.model.classes)
        batch = rows.batch
        trace = self.cut_model.trace(batch.images, batch.targets, other_inputs=batch.other_inputs)
        explained = self._explained(path, pixels, trace, rows.scores, rows.top)
        explained.maps.texts = rows.texts
        for text in dict.fromkeys(rows.texts):
            explained.maps.notes.append(Note(f"{as_text(path)}: the text is {text!r}."))
        explained.maps.notes += rows.notes
        return explained

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
        # The notes aren't kept, since the maps have the same ones.
        self.methods = with_score_scale(self.methods, trace, Notes())
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

    def manifest(self, images: Sequence[ExplainedImage]) -> Manifest:
        """Return the manifest that a run of these images would have, for the report's pages."""
        num_rows = sum(len(image.maps.scores) for image in images)
        counted = num_rows if self.model.finds_objects else len(images)
        model = ModelEntry(
            layer=self.model.layer,
            random_weights=self.model.random_weights,
            images={DATA: ImagesEntry(kept=counted, noun=self.model.noun)},
        )
        metrics: dict[str, MetricEntry] = {}
        for metric in self.metrics:
            metrics |= value_entries(metric)
        return Manifest(
            methods={method.name: method_entry(method) for method in self.methods},
            metrics=metrics,
            models={self.model.name: model},
            config=ConfigEntry(report=dict(self.report), target="predicted"),  # no label is known
        )


def configured_plugins(
    kind: str, names: Iterable[str], entries: Mapping[str, object]
) -> list[AnyPlugin]:
    """Return the methods or metrics of these names, configured by their entries if they have any.

    Args:
        kind: "method" or "metric".
        names: The names.
        entries: The configuration, {name: the content of its YAML}.

    Raises:
        BenchError: For an unknown name, and for a wrong entry.
    """
    chosen = []
    for name in names:
        if name in entries:
            chosen.append(plugins.from_config(kind, name, entries[name]))
        else:
            chosen.append(plugins.plugin_for(kind, name))
    return chosen


def explain(
    options: Namespace,
    names: Sequence[str] | None,
    config: dict[str, object],
    paths: Sequence[Path],
) -> tuple[list[ExplainedImage], Explainer, list[str], list[str]]:
    """Explain images.

    Args:
        options: The options of the command line.
        names: The names of the methods; `None` if none is chosen.
        config: The configuration.
        paths: The image files.

    Returns:
        The images with a map that isn't zero. The explainer. Sentences about methods that don't
            apply to the model, about
        zero maps and about turned images. A sentence for each image that can't be explained.

    Raises:
        BenchError: For an unknown model, layer, class or method, and if no image can be explained.
    """
    add_current_folder()
    settings = Settings.of(config)
    if options.top < 1:
        raise BenchError(f"--top is {options.top}; it is a number of classes, 1 or more.")
    methods = configured_plugins("method", names or settings.method, settings.method)
    model = load_model(settings.model)
    targets = [] if options.targets is None else chosen_classes(model, options.targets)
    words = chosen_words(model, options.words)
    explainer = Explainer(model, settings, methods)
    images: list[ExplainedImage] = []
    notes = dict.fromkeys(filter(None, [*model.lines, model.recognition_note]))
    problems: list[str] = []
    with progress("Computing maps", len(paths)) as shown:
        for path in paths:
            try:
                image, is_turned = open_upright(path)
                explained_image = explainer.explain(path, image, targets, options.top, words)
            except BenchError as error:
                problems.append(str(error))
            else:
                images.append(explained_image)
                for note in explained_image.maps.notes:
                    # A method that doesn't apply is reported only if somebody named it.
                    if names is not None or not isinstance(note, MethodLeftOut):
                        notes[str(note)] = None
                if is_turned:
                    sentence = f"{as_text(path)} is turned upright, as its EXIF orientation says."
                    notes[sentence] = None
            shown.advance(1)
    if not images:
        raise BenchError(" ".join(dict.fromkeys(problems)))
    notes |= dict.fromkeys(map(str, explainer.notes))
    if explainer.input_note:
        notes[explainer.input_note] = None
    seen = [image for image in images if image.has_visible_map]
    blank = [as_text(image.path) for image in images if not image.has_visible_map]
    if blank:
        names_of_blank = first_names(blank, MOST_NAMED)
        notes[f"No picture is made of {names_of_blank}: all maps are zero everywhere."] = None
    return seen, explainer, [*notes, *zero_maps(seen)], problems


def chosen_words(model: LoadedModel, words: str | None) -> list[str] | None:
    """Return the chosen words; None for all words of the text.

    Args:
        model: The model.
        words: Words separated by commas, "all" or None.

    Raises:
        BenchError: If words are chosen, and the model says no text.
    """
    if words is None:
        return None
    if not model.says_words:
        raise BenchError(
            f"{model.name} says no text, so it has no --words; choose classes by --targets."
        )
    return None if words == "all" else [word.strip() for word in words.split(",")]


def zero_maps(images: Sequence[ExplainedImage]) -> Iterator[str]:
    """Yield a sentence for each method with maps that are zero everywhere.

    Images of which all maps are zero don't count.
    """
    places: dict[str, dict[str, None]] = {}
    for image in images:
        maps = image.maps
        for row, score in enumerate(maps.scores):
            zero = [method for method in maps if maps.is_zero(row, method)]
            if len(zero) == len(maps):
                continue
            for method in zero:
                title = maps.titles.get(method) or method
                places.setdefault(title, {})[f"{as_text(image.path)} ({score.name})"] = None
    for title, images_and_classes in places.items():
        names = first_names([*images_and_classes], MOST_NAMED)
        yield f"The map of {title} is zero everywhere on {names}."
