"""`axiom-bench explain`: images, a model's top classes, and the maps of many methods, as pictures or a page."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from PIL import Image

from axiom_bench.cli.explain_arguments import named_methods
from axiom_bench.cli.explain_images import Classes, ExplainedImage, Explainer, configured
from axiom_bench.data.base import BadImage
from axiom_bench.data.formats.decoding import SUFFIXES, open_scaled
from axiom_bench.data.formats.files import as_name, as_text
from axiom_bench.data.layouts.bases import image_files
from axiom_bench.errors import BenchError
from axiom_bench.models.load import load_model
from axiom_bench.records import files
from axiom_bench.run.composing import settings


def image_paths(names: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files, each once, and a sentence for each folder without images."""
    paths: dict[str, Path] = {}
    problems = []
    for name in names:
        try:
            listed = [name / as_name(file) for file in image_files(name)] if os.path.isdir(name) else [name]
        except BenchError as error:
            problems.append(str(error))
            continue
        if not listed:
            suffixes = ", ".join(sorted(SUFFIXES))
            problems.append(
                f"There are no images in the folder {as_text(name)}; it has no file that ends in {suffixes}."
            )
        for path in listed:
            paths.setdefault(os.path.realpath(path), path)
    return list(paths.values()), problems


def open_upright(path: Path) -> tuple[Image.Image, bool]:
    """The RGB image as it is looked at, and whether its EXIF orientation turned it. Raises BenchError where the file
    can't be read as an image."""
    try:
        image, _, turned = open_scaled(path, as_text(path), None, upright=True)
    except BadImage as error:
        raise BenchError(f"The image {error}.") from error
    return image, bool(turned)


def unique_names(paths: Sequence[Path]) -> Iterator[str]:
    """A name for each path: its stem, with a number from the second of one stem on.

    >>> list(unique_names([Path("a/cat.jpg"), Path("b/cat.png"), Path("dog.jpg")]))
    ['cat', 'cat-2', 'dog']
    """
    used: set[str] = set()
    for path in paths:
        stem = as_text(path.stem)
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        name = next(name for name in names if name.lower() not in used)
        used.add(name.lower())
        yield name


PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".pdf": "pdf", ".svg": "svg"}
FORMATS = {**PICTURES, ".html": "html", ".htm": "html"}
INDEX = "index.html"  # of a folder


@dataclass(frozen=True)
class Output:
    """path: a picture of one image (`format` as matplotlib names it), a page ("html") or a folder (None)."""

    path: Path
    format: str | None

    @staticmethod
    def of(path: Path | None, images: Collection[Path]) -> Output:
        """What to write for these images; without a path a picture of one image, a page of several. Raises BenchError
        for a format that can't be written, for a picture of several images, and where something else than an earlier
        output would be replaced."""
        path = Path("explanation.png" if len(images) == 1 else "explanation.html") if path is None else path
        if path.is_dir():
            if path.suffix.lower() in FORMATS:
                raise BenchError(f"{path} is a folder, which isn't replaced; give another --output.")
            return Output(path, None)
        files.check_output(path)
        if os.path.realpath(path) in set(map(os.path.realpath, images)):
            raise BenchError(f"--output {path} would replace an image that is to be explained; give another name.")
        kind = FORMATS.get(path.suffix.lower())
        if kind is None and (path.suffix or path.is_file()):
            raise BenchError(
                f"Can't write {path}: give a name that ends in {', '.join(PICTURES)} or .html, or a folder."
            )
        if kind not in (None, "html") and len(images) > 1:
            raise BenchError(
                f"{path} can show one image, and there are {len(images)}; give a page, such as explanation.html, or a "
                "folder, which gets a picture of each."
            )
        return Output(path, kind)

    def picture_in(self, name: str, images: Collection[Path]) -> Path:
        """The picture of an image's name in a folder. Raises BenchError where it would replace an image or a folder."""
        path = self.path / f"{name}.png"
        if os.path.realpath(path) in set(map(os.path.realpath, images)):
            raise BenchError(f"{path} is an image that is to be explained; give --output another folder.")
        files.check_output(path, self.path / INDEX)
        return path


def explain(options: Namespace, config: dict[str, Any]) -> tuple[list[Path], list[str], list[str]]:
    """Writes pictures or a page of the images: (the files, sentences about methods that don't apply to the model and
    about turned images, a sentence for each image that can't be explained). options: of the command line, and config
    what they configure. Raises BenchError for an unknown model, layer, class, method or format, and where no image can
    be explained."""
    settings.add_current_folder()
    names = named_methods(options)
    settings.check(config)
    if options.top < 1:
        raise BenchError(f"--top is {options.top}; it is a number of classes, 1 or more.")
    methods = configured("method", names or config["method"], config)
    model = load_model(config["model"])
    classes = Classes.of(model)
    targets = [] if options.targets is None else classes.chosen(options.targets)
    paths, problems = image_paths(options.images)
    output = Output.of(options.output, paths)
    explainer = Explainer(model, classes, config, methods)
    images, notes = _explained(explainer, paths, targets, options.top, problems)
    if not images:
        raise BenchError(" ".join(dict.fromkeys(problems)))
    if names is None:  # nobody named those that don't apply
        notes = [note for note in notes if not note.startswith("The method ")]
    heading = f"{model.name} at {model.layer}"
    return _write(output, images, heading, [*notes, *problems], options.colours), notes, problems


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
    from axiom_bench.cli.explain_drawing import page, picture

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
