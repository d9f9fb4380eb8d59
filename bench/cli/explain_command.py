"""`axiom-bench explain`: images, a model's top classes, and the maps of many methods, as pictures or a page."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from axiom_bench.cli.explain_arguments import PICTURES, Output, named_methods
from axiom_bench.cli.explain_images import Classes, ExplainedImage, Explainer, configured
from axiom_bench.data.base import BadImage
from axiom_bench.data.formats.decoding import open_scaled
from axiom_bench.data.formats.files import as_text
from axiom_bench.errors import BenchError
from axiom_bench.models.load import load_model
from axiom_bench.records import files
from axiom_bench.run.composing import settings
from axiom_bench.run.progress import progress

MOST_NAMED = 3  # images in a sentence


def open_upright(path: Path) -> tuple[Image.Image, bool]:
    """The RGB image as it is looked at, and whether its EXIF orientation turned it. Raises BenchError where the file
    can't be read as an image."""
    try:
        image, _, turned = open_scaled(path, as_text(path), None, upright=True)
    except BadImage as error:
        raise BenchError(f"The image {error}.") from error
    return image, bool(turned)


def explain(
    options: Namespace, config: dict[str, Any], paths: Sequence[Path], output: Output
) -> tuple[list[Path], list[str], list[str]]:
    """Writes pictures or a page of the images: (the files, sentences about methods that don't apply to the model, zero
    maps and turned images, a sentence for each image that can't be explained). options: of the command line, and config
    what they configure. Raises BenchError for an unknown model, layer, class or method, and where no image can be
    explained."""
    settings.add_current_folder()
    names = named_methods(options)
    settings.check(config)
    if options.top < 1:
        raise BenchError(f"--top is {options.top}; it is a number of classes, 1 or more.")
    methods = configured("method", names or config["method"], config)
    model = load_model(config["model"])
    classes = Classes.of(model)
    targets = [] if options.targets is None else classes.chosen(options.targets)
    explainer = Explainer(model, classes, config, methods)
    images, notes, problems = _explained(explainer, paths, targets, options.top)
    if not images:
        raise BenchError(" ".join(dict.fromkeys(problems)))
    if names is None:  # nobody named those that don't apply
        notes = [note for note in notes if not note.startswith("The method ")]
    notes += zero_maps(images)
    return _write(output, images, explainer, [*notes, *problems], options.colours), notes, problems


def _explained(
    explainer: Explainer, paths: Sequence[Path], targets: Sequence[int], top: int
) -> tuple[list[ExplainedImage], list[str], list[str]]:
    """The images that can be explained, notes, and a sentence for each of the others."""
    images: list[ExplainedImage] = []
    notes: dict[str, None] = {}
    problems: list[str] = []
    with progress("maps", len(paths)) as shown:
        for path in paths:
            try:
                image, turned = open_upright(path)
                explained, left_out = explainer.explain(path, image, targets, top)
            except BenchError as error:
                problems.append(str(error))
            else:
                images.append(explained)
                notes |= dict.fromkeys(left_out)
                if turned:
                    notes[f"{as_text(path)} is turned upright, as its EXIF orientation says."] = None
            shown.advance(1)
    return images, list(notes), problems


def zero_maps(images: Sequence[ExplainedImage]) -> list[str]:
    """A sentence for each method with maps that are zero everywhere, but for images of which all maps are."""
    names: dict[str, dict[str, None]] = {}
    for image in images:
        for score, maps in image.maps:
            zero = [shown for shown in maps if shown.is_zero]
            for shown in zero if len(zero) < len(maps) else ():
                names.setdefault(shown.title, {})[f"{as_text(image.path)} (class {score.name})"] = None
    return [f"The map of {title} is zero everywhere on {_listed(list(where))}." for title, where in names.items()]


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _write(
    output: Output, images: Sequence[ExplainedImage], explainer: Explainer, sentences: Sequence[str], colours: str
) -> list[Path]:
    """Writes the files; their paths. Raises BenchError where they can't be written."""
    # Here: what draws takes a second to import, and a mistake in the arguments has been answered by now.
    from axiom_bench.cli.explain_drawing import page, picture

    heading = f"{explainer.model.name} at {explainer.model.layer}"
    pictures = [(output.pictures[image.path], image) for image in images if image.path in output.pictures]
    with progress("pictures", len(pictures)) as shown:
        for path, image in pictures:
            files.write(path, picture(image, heading, PICTURES[path.suffix.lower()], colours))
            shown.advance(1)
    if output.page is not None:
        with progress("page"):
            text = page(images, explainer.manifest(len(images)), sentences, colours)
            files.write(output.page, text.encode())
    return [*(path for path, _ in pictures), *([output.page] if output.page else ())]
