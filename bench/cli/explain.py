"""`axiom-bench explain`: check the arguments without importing torch, choose the output, and write
it.

`explain_images` computes the maps, and `explain_drawing` draws them.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_bench.cli.model_options import model_overrides, quoted_value
from axiom_bench.cli.terminal import complain, say
from axiom_bench.data.formats.decoding import image_suffixes
from axiom_bench.data.formats.files import as_name, as_text
from axiom_bench.data.layouts.trees import image_files
from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.records import files
from axiom_bench.run.composing.composition import LAYER, composed
from axiom_bench.run.composing.paths import check_images, check_paths
from axiom_bench.run.progress import progress

if TYPE_CHECKING:
    from axiom_bench.cli.explain_images import ExplainedImage, Explainer


def explain(options: Namespace) -> int:
    """Explain the images, write the files, and report the images that can't be explained.

    Args:
        options: The options of the command line.

    Returns:
        The exit code, 2 if an image or a folder can't be explained.

    Raises:
        BenchError: For a mistake in the arguments, and if no image can be explained.
    """
    names = options.methods.split(",") if options.methods and options.methods != "all" else None
    config = configuration(options, names)
    images, notes, problems = image_paths(options.images)
    if not images:
        raise BenchError(" ".join(problems))
    output = Output.of(options.output, options.images, images, options.overwrite)
    with progress("Loading methods and the model"):  # the import takes seconds, too
        from axiom_bench.cli import explain_images

        explained, explainer, explained_notes, unexplained = explain_images.explain(
            options, names, config, images
        )
    notes += explained_notes
    from axiom_bench.cli.explain_drawing import (
        missing_font_notes,  # here: the import takes a second
    )

    if output.pictures:
        notes += missing_font_notes(explained)
    paths = _write(output, explained, explainer, [*notes, *unexplained], options.colours)
    say([*notes, *(f"written: {path}" for path in paths)])
    problems += unexplained
    for problem in problems:
        complain(problem)
    return 2 if problems else 0


def configuration(options: Namespace, names: Sequence[str] | None) -> dict[str, Any]:
    """Return the configuration with the options of the command line in it.

    The named methods are chosen in the configuration, so that those of a user's own folder are
    found, too.

    Args:
        options: The options of the command line.
        names: The names of the methods; `None` if no method is chosen, or all.

    Raises:
        BenchError: If the configuration can't be composed, or if no model is chosen. Also if
            images, weights or code don't exist.
    """
    check_images(options.images)
    overrides = list(options.overrides)
    overrides += model_overrides(options)
    if options.prompt is not None:
        overrides.append(f"model.kwargs.prompt={quoted_value(options.prompt)}")
    keys = {override.partition("=")[0] for override in overrides}
    if not keys & {"model", "experiment"}:
        raise BenchError(
            "Name the model: --model resnet18, or your own: --model net.py:build --weights FILE."
        )
    if names is None and options.methods:
        overrides.append("method=all")
    known_names = [name for name in names or () if "." not in name]  # others are dotted paths
    for group, is_of_library in (("method", False), ("peers", True)):
        chosen = [name for name in known_names if ("@" in name) == is_of_library]
        if chosen:
            overrides.append(f"{group}=[{','.join(chosen)}]")
    with composed(overrides, options.config_dir) as composition:
        config = composition.plain_job()
    if len(composition.jobs) > 1 and keys & {"model", LAYER}:
        raise BenchError(
            "explain takes one network and one layer; name them: --model resnet18 --layer layer4."
        )
    check_paths({"model": config["model"]}, composition.swept_axes)
    return config


def image_paths(names: Sequence[Path]) -> tuple[list[Path], list[str], list[str]]:
    """Return the images of files and folders.

    Args:
        names: The files and folders, as they were typed.

    Returns:
        The image files, each once. A sentence for each folder that also has other files. A sentence
        for each folder without images.
    """
    paths: dict[str, Path] = {}
    notes: list[str] = []
    problems: list[str] = []
    for name in names:
        images = [""]
        other = ""
        if os.path.isdir(name):
            try:
                images, other = image_files(name)
            except BenchError as error:
                problems.append(str(error))
                continue
            # Here: a single photograph doesn't need the import.
            from axiom_bench.data.layouts.label_search import find_masks

            masks, images = find_masks(name, images)
            if masks:
                arent = verb(len(masks), "isn't", "aren't")
                count = plural(len(masks), "mask")
                notes.append(f"{as_text(name)}: {count} of images {arent} explained.")
        if not images:
            endings = ", ".join(sorted(image_suffixes()))
            hint = other or f"it has no file that ends in {endings}"
            problems.append(f"There are no images in the folder {as_text(name)}; {hint}.")
        elif other:
            notes.append(f"{as_text(name)}: {other}.")
        for image in images:
            # A file that is given twice, also through a link, is explained once.
            path = name / as_name(image)
            paths.setdefault(os.path.realpath(path), path)
    return list(paths.values()), notes, problems


def numbered(stem: str) -> Iterator[str]:
    """Yield the stem, and then the stem with a number: cat, cat-2, cat-3, ..."""
    return chain([stem], (f"{stem}-{number}" for number in count(2)))


def unique_names(paths: Sequence[Path]) -> Iterator[str]:
    """Yield a name for each path: its stem, with a number if an earlier path has the same stem.

    >>> list(unique_names([Path("a/cat.jpg"), Path("b/cat.png"), Path("dog.jpg")]))
    ['cat', 'cat-2', 'dog']
    """
    used: set[str] = set()
    for path in paths:
        name = next(name for name in numbered(as_text(path.stem)) if name.lower() not in used)
        used.add(name.lower())
        yield name


PICTURES = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".pdf": "pdf",
    ".svg": "svg",
}
FORMATS = {**PICTURES, ".html": "html", ".htm": "html"}
INDEX = "index.html"  # the page in a folder


@dataclass(frozen=True)
class Output:
    """The files to write."""

    pictures: Mapping[Path, Path]
    """{image: the file of its picture}."""
    page: Path | None
    """A page with all images."""

    @staticmethod
    def of(
        path: Path | None, names: Sequence[Path], images: Sequence[Path], overwrite: bool = False
    ) -> Output:
        """Return the files to write for these images: a picture, a page, or a folder with both.

        Args:
            path: The file or folder to write; `None` chooses `default_path`.
            names: The files and folders of the images, as they were typed.
            images: The image files.
            overwrite: Allow that existing files are replaced, except images and folders.

        Raises:
            BenchError: For a format that can't be written, for a picture of several images, and if
                something would be replaced that may not be.
        """
        if path is None:
            path = default_path(names)
        kind = FORMATS.get(path.suffix.lower())
        if path.is_dir() and kind is not None:
            raise BenchError(f"{path} is a folder, which isn't replaced; give another --output.")
        # The path is checked before the images are decoded and the network is loaded.
        if not path.is_dir():
            files.check_output(path)
            if kind is None and (path.suffix or path.is_file()):
                raise BenchError(
                    f"Can't write {path}: give a name that ends in {', '.join(PICTURES)} or "
                    ".html, or a folder."
                )
        if kind is None:
            pictures = {}
            for image, name in zip(images, unique_names(images), strict=True):
                pictures[image] = path / f"{name}.png"
            output = Output(pictures, page=path / INDEX)
        elif kind == "html":
            output = Output({}, page=path)
        else:
            output = Output(dict.fromkeys(images, path), page=None)
        new_files = list(output.pictures.values())
        if output.page:
            new_files.append(output.page)
        # An image is never replaced, also not through a link to it.
        originals = set(map(os.path.realpath, images))
        for file in new_files:
            if os.path.realpath(file) in originals:
                raise BenchError(
                    f"{file} would replace an image that is to be explained; give another --output."
                )
        if output.page is None and len(images) > 1:
            raise BenchError(
                f"{path} can show one image, and there are {len(images)}; give a page, such as "
                "maps.html, or a folder, which gets a picture of each."
            )
        files.check_output(*new_files)
        existing = next(filter(os.path.lexists, new_files), None)
        if existing is not None and not overwrite:
            raise BenchError(
                f"{existing} exists already; give another --output, or --overwrite to replace it."
            )
        return output


def default_path(names: Sequence[Path]) -> Path:
    """Return the first free name in the current folder.

    It is photo-maps.png for the image photo.jpg, photos-maps.html for the folder photos, and
    maps.html for several names.
    """
    stem = "maps"
    suffix = ".html"
    if len(names) == 1:
        (name,) = names
        is_folder = os.path.isdir(name)
        own_stem = as_text(Path(os.path.realpath(name)).name if is_folder else name.stem)
        if own_stem:
            stem = f"{own_stem}-maps"
        if not is_folder:
            suffix = ".png"
    paths = (Path(f"{candidate}{suffix}") for candidate in numbered(stem))
    return next(path for path in paths if not os.path.lexists(path))


def _write(
    output: Output,
    images: Sequence[ExplainedImage],
    explainer: Explainer,
    sentences: Sequence[str],
    colours: str,
) -> list[Path]:
    """Write the files and return their paths. Raise BenchError if they can't be written."""
    # Here: the import takes a second, and mistakes in the arguments have been reported by now.
    from axiom_bench.cli.explain_drawing import page, picture

    heading = f"{explainer.model.name} at {explainer.model.layer}"
    drawn_images = [image for image in images if image.path in output.pictures]
    paths = []
    with progress("Drawing pictures", len(drawn_images)) as shown:
        for image in drawn_images:
            path = output.pictures[image.path]
            kind = PICTURES[path.suffix.lower()]
            files.write(path, picture(image, heading, kind, colours))
            paths.append(path)
            shown.advance(1)
    if output.page is not None and images:
        with progress("Writing the page"):
            text = page(images, explainer.manifest(images), sentences, colours)
            files.write(output.page, text.encode())
        paths.append(output.page)
    return paths
