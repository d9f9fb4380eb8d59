"""`axiom-bench explain`: what it is asked for, checked as far as that takes no torch, and where it
writes.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_bench.cli.terminal import complain, say
from axiom_bench.data.formats.decoding import suffixes
from axiom_bench.data.formats.files import as_name, as_text
from axiom_bench.data.layouts.trees import image_files
from axiom_bench.errors import BenchError
from axiom_bench.records import files
from axiom_bench.run.composing.composition import LAYER, composed
from axiom_bench.run.composing.paths import check_images, check_paths
from axiom_bench.run.progress import progress

if TYPE_CHECKING:
    from axiom_bench.cli.explain_images import ExplainedImage, Explainer


def explain(options: Namespace) -> int:
    """Explains the images that can be explained, writes them and names the others: the exit code.
    Raises BenchError.
    """
    names = options.methods.split(",") if options.methods and options.methods != "all" else None
    config = configuration(options, names)
    images, others, problems = image_paths(options.images)
    if not images:
        raise BenchError(" ".join(problems))
    output = Output.of(options.output, options.images, images, options.overwrite)
    with progress("maps"):  # what is imported takes seconds, too
        from axiom_bench.cli import explain_images

        explained, explainer, notes, unexplained = explain_images.explain(
            options, names, config, images
        )
    notes = [*others, *notes]
    from axiom_bench.cli.explain_drawing import undrawn  # here: what draws takes a second to import

    notes += undrawn(explained) if output.pictures else []
    written = _write(output, explained, explainer, [*notes, *unexplained], options.colours)
    say([*notes, *(f"written: {path}" for path in written)])
    problems += unexplained
    for problem in problems:
        complain(problem)
    return 2 if problems else 0


def configuration(options: Namespace, names: Sequence[str] | None) -> dict[str, Any]:
    """The configuration, with the command line's options in it, and the named methods as choices,
    so that those of a user's own folder are found, too. names: None where no method is named, or
    all. Raises BenchError where it can't be composed, where no model is named, and for images,
    weights and code that aren't there.
    """
    check_images(options.images)
    overrides = [*options.overrides, *([] if options.model is None else [f"model={options.model}"])]
    if not any(override.partition("=")[0] in ("model", "experiment") for override in overrides):
        raise BenchError(
            "Name the model: --model resnet18, or your own: model=user "
            "model.architecture=net.py:build model.weights=FILE."
        )
    if names is None:
        overrides += ["method=all"] if options.methods else []
    for group, is_of_library in (("method", False), ("peers", True)):
        chosen = [
            name for name in names or () if "." not in name and ("@" in name) == is_of_library
        ]
        overrides += [f"{group}=[{','.join(chosen)}]"] if chosen else []
    with composed(overrides, options.config_dir) as composition:
        config = composition.plain_job()
    if len(composition.jobs) > 1 and any(
        word.partition("=")[0] in ("model", LAYER) for word in overrides
    ):
        raise BenchError(
            "explain takes one network and one layer; name them: --model resnet18 --layer layer4."
        )
    chosen_by_option = {"weights": options.weights, "layer": options.layer}
    config["model"] |= {key: value for key, value in chosen_by_option.items() if value is not None}
    check_paths({"model": config["model"]}, composition.several)
    return config


def image_paths(names: Sequence[Path]) -> tuple[list[Path], list[str], list[str]]:
    """The files, each once; a sentence for each folder with others, and for each without images."""
    paths: dict[str, Path] = {}
    others, problems = list[str](), list[str]()
    for name in names:
        try:
            images, other = image_files(name) if os.path.isdir(name) else ([""], "")
        except BenchError as error:
            problems.append(str(error))
            continue
        if not images:
            endings = ", ".join(sorted(suffixes()))
            hint = other or f"it has no file that ends in {endings}"
            problems.append(f"There are no images in the folder {as_text(name)}; {hint}.")
        elif other:
            others.append(f"{as_text(name)}: {other}.")
        for image in images:
            paths.setdefault(os.path.realpath(name / as_name(image)), name / as_name(image))
    return list(paths.values()), others, problems


def numbered(stem: str) -> Iterator[str]:
    """The stem, and then the stem with a number: cat, cat-2, cat-3, ..."""
    return chain([stem], (f"{stem}-{number}" for number in count(2)))


def unique_names(paths: Sequence[Path]) -> Iterator[str]:
    """A name for each path: its stem, with a number from the second of one stem on.

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
INDEX = "index.html"  # of a folder


@dataclass(frozen=True)
class Output:
    """pictures: {image: the file of its picture}. page: of all images."""

    pictures: Mapping[Path, Path]
    page: Path | None

    @staticmethod
    def of(
        path: Path | None, names: Sequence[Path], images: Sequence[Path], overwrite: bool = False
    ) -> Output:
        """What to write for these images: a picture, a page, or a folder with both. names: as they
        were typed, files and folders; without a path the output is named after them. Raises
        BenchError for a format that can't be written, for a picture of several images, and where
        something would be replaced: an image or a folder, or without `overwrite` any file.
        """
        path = default_path(names) if path is None else path
        kind = FORMATS.get(path.suffix.lower())
        if path.is_dir() and kind is not None:
            raise BenchError(f"{path} is a folder, which isn't replaced; give another --output.")
        if not path.is_dir():
            files.check_output(path)
            if kind is None and (path.suffix or path.is_file()):
                raise BenchError(
                    f"Can't write {path}: give a name that ends in {', '.join(PICTURES)} or "
                    ".html, or a folder."
                )
        if kind is None:
            pictures = {
                image: path / f"{name}.png"
                for image, name in zip(images, unique_names(images), strict=True)
            }
            output = Output(pictures, path / INDEX)
        else:
            output = (
                Output({}, path) if kind == "html" else Output(dict.fromkeys(images, path), None)
            )
        written = [*output.pictures.values(), *([output.page] if output.page else ())]
        originals = set(map(os.path.realpath, images))
        for file in written:
            if os.path.realpath(file) in originals:
                raise BenchError(
                    f"{file} would replace an image that is to be explained; give another --output."
                )
        if output.page is None and len(images) > 1:
            raise BenchError(
                f"{path} can show one image, and there are {len(images)}; give a page, such as "
                "maps.html, or a folder, which gets a picture of each."
            )
        files.check_output(*written)
        there = next(filter(os.path.lexists, written), None)
        if there is not None and not overwrite:
            raise BenchError(
                f"{there} exists already; give another --output, or --overwrite to replace it."
            )
        return output


def default_path(names: Sequence[Path]) -> Path:
    """In the current folder, the first name that is free: photo-maps.png for the image photo.jpg,
    photos-maps.html for the folder photos, maps.html for several names.
    """
    stem, suffix = "maps", ".html"
    if len(names) == 1:
        (name,) = names
        is_folder = os.path.isdir(name)
        own = as_text(Path(os.path.realpath(name)).name if is_folder else name.stem)
        stem, suffix = f"{own}-maps" if own else stem, ".html" if is_folder else ".png"
    return next(
        path
        for path in map(Path, (f"{each}{suffix}" for each in numbered(stem)))
        if not os.path.lexists(path)
    )


def _write(
    output: Output,
    images: Sequence[ExplainedImage],
    explainer: Explainer,
    sentences: Sequence[str],
    colours: str,
) -> list[Path]:
    """Writes the files; their paths. Raises BenchError where they can't be written."""
    # Here: what draws takes a second to import, and a mistake in the arguments has been answered by
    # now.
    from axiom_bench.cli.explain_drawing import page, picture

    heading = f"{explainer.model.name} at {explainer.model.layer}"
    pictures = [
        (output.pictures[image.path], image) for image in images if image.path in output.pictures
    ]
    with progress("pictures", len(pictures)) as shown:
        for path, image in pictures:
            files.write(path, picture(image, heading, PICTURES[path.suffix.lower()], colours))
            shown.advance(1)
    pages = [output.page] if output.page is not None and images else []
    for path in pages:
        with progress("page"):
            text = page(images, explainer.manifest(len(images)), sentences, colours)
            files.write(path, text.encode())
    return [*(path for path, _ in pictures), *pages]
