"""The command from its arguments to its files: every image that can be explained is, and each other has a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axiom_bench.cli.explain.explained import Classes, ExplainedImage, Explainer
from axiom_bench.cli.explain.files import INDEX, Output, image_paths, open_upright, unique_names
from axiom_bench.data.formats.files import as_text
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.overlay import COLOURS
from axiom_bench.models.load import load_model
from axiom_bench.records import files
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.settings import add_current_folder
from axiom_bench.run.sweep import configuration

ALL = ["all"]
GROUP_OF = {True: "peers", False: "method"}  # by whether a name has the library in it


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    images: files and folders. output: None for the default name. overrides: KEY=VALUE, as of a run. config_folder: a
    user's own YAML files. weights, layer: over the configuration's. methods: names, a user's own as dotted paths, or
    ["all"]; None for the configuration's. targets: classes of the model, by index or name, with commas between them;
    None for the `top` most probable ones. colours: a colour map of matplotlib.
    """

    images: Sequence[Path]
    output: Path | None = None
    overrides: Sequence[str] = ()
    config_folder: Path | None = None
    weights: str | None = None
    layer: str | None = None
    methods: Sequence[str] | None = None
    targets: str | None = None
    top: int = 1
    colours: str = COLOURS


@dataclass(frozen=True)
class Answer:
    """written: files. notes: sentences about methods that don't apply to the model, and about turned images.
    problems: a sentence for each image that can't be explained."""

    written: Sequence[Path]
    notes: Sequence[str]
    problems: Sequence[str]


def explain(request: Request) -> Answer:
    """Writes pictures or a page of the images.

    Raises BenchError for an unknown model, layer, class, method or format, and where no image can be explained.
    """
    add_current_folder()
    config = configuration(_overrides(request), request.config_folder)
    settings.check(config)
    if request.top < 1:
        raise BenchError(f"--top is {request.top}; it is a number of classes, 1 or more.")
    methods = _methods(request.methods, config)
    options = {"weights": request.weights, "layer": request.layer}
    model = load_model(config["model"] | {key: value for key, value in options.items() if value is not None})
    classes = Classes.of(model, config["model"])
    targets = [] if request.targets is None else classes.chosen(request.targets)
    paths, problems = image_paths(request.images)
    output = Output.of(request.output, paths)
    explainer = Explainer(model, classes, config, methods)
    images, notes = _explained(explainer, paths, targets, request.top, problems)
    if not images:
        raise BenchError(" ".join(dict.fromkeys(problems)))
    if request.methods is None or request.methods == ALL:  # nobody named those that don't apply
        notes = [note for note in notes if not note.startswith("The method ")]
    heading = f"{model.name} at {model.layer}"
    return Answer(_write(output, images, heading, [*notes, *problems], request.colours), notes, problems)


def _explained(
    explainer: Explainer, paths: Sequence[Path], targets: Sequence[int], top: int, problems: list[str]
) -> tuple[list[ExplainedImage], list[str]]:
    """The images that can be explained, and notes; a sentence is added to `problems` for each of the others."""
    images: list[ExplainedImage] = []
    notes: dict[str, None] = {}
    for path in paths:
        try:
            image, turned = open_upright(path)
            explained, left_out = explainer.explain(path, image, targets, top)
        except BenchError as error:
            problems.append(str(error))
            continue
        images.append(explained)
        notes |= dict.fromkeys(left_out)
        if turned:
            notes[f"{as_text(path)} is turned upright, as its EXIF orientation says."] = None
    return images, list(notes)


def _write(
    output: Output, images: Sequence[ExplainedImage], model: str, sentences: Sequence[str], colours: str
) -> list[Path]:
    """Writes the files; their paths. Raises BenchError where they can't be written."""
    # Here: what draws takes a second to import, and a mistake in the arguments has been answered by now.
    from axiom_bench.cli.explain.drawn import page, picture

    if output.format == "html":
        contents = {output.path: page(images, model, sentences, colours).encode()}
    elif output.format is not None:
        contents = {output.path: picture(images[0], model, output.format, colours)}
    else:
        paths = [image.path for image in images]
        names = [output.picture_in(name, paths) for name in unique_names(paths)]
        contents = {
            **{name: picture(image, model, "png", colours) for name, image in zip(names, images, strict=True)},
            output.path / INDEX: page(images, model, sentences, colours).encode(),
        }
    for path, content in contents.items():
        files.write(path, content)
    return list(contents)


def _overrides(request: Request) -> list[str]:
    """The overrides with the named methods as choices, so that those of a user's own folder are found, too.

    Raises BenchError where no model is named.
    """
    if not any(override.partition("=")[0] in ("model", "experiment") for override in request.overrides):
        raise BenchError(
            "Name the model: --model resnet18, or your own: model=user model.architecture=net.py:build model.weights=F."
        )
    if request.methods is None or request.methods == ALL:
        return [*request.overrides, *(["method=all"] if request.methods else [])]
    chosen: dict[str, list[str]] = {}
    for name in request.methods:
        if "." not in name:
            chosen.setdefault(GROUP_OF["@" in name], []).append(name)
    return [*request.overrides, *(f"{group}=[{','.join(names)}]" for group, names in chosen.items())]


def _methods(names: Sequence[str] | None, config: Mapping[str, Any]) -> list[Plugin]:
    """The configuration's methods, or those of the names, in their order. Raises BenchError."""
    entries = config["method"]
    if names is None or names == ALL:
        return [plugins.from_config("method", name, entry) for name, entry in entries.items()]
    return [
        plugins.from_config("method", name, entries[name]) if name in entries else plugins.of("method", name)
        for name in names
    ]
