"""Labels of a flat ImageNet folder: from Kaggle's solution file, from lines "image label", or from the devkit."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from axiom_bench.data.formats.file_names import as_text, shown
from axiom_bench.data.formats.reading import lines_of, why
from axiom_bench.data.layouts.devkit import ARCHIVE, META, TRUTH, Devkit
from axiom_bench.errors import BenchError

USUAL = ("LOC_val_solution.csv", "val.txt", TRUTH, f"ILSVRC2012_devkit_t12/data/{TRUTH}", ARCHIVE)


def flat_labels(root: Path, name: str | None, images: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """{image file: synset id}. name: the file of labels below the root, or None for the first usual one that exists.

    Raises BenchError where there is no such file, a line can't be read, or an image has no label.
    """
    candidates = [name] if name else [*USUAL]
    path = next((root / candidate for candidate in candidates if os.path.isfile(root / candidate)), None)
    if path is None:
        raise BenchError(
            f"The images in {root} lie in no class folders, and there is no file of labels; expected one of "
            f"{', '.join(candidates)} below it, or data.labels naming a file of lines 'image label'."
        )
    try:
        if path.suffix == ".csv":
            by_stem = _from_csv(path)
        elif path.name in (TRUTH, ARCHIVE):
            by_stem = _from_devkit(root, path, images)
        else:
            by_stem = _from_lines(path, classes)
    except (ValueError, IndexError, KeyError, AttributeError, csv.Error) as error:
        raise BenchError(f"The file of labels {as_text(path)} can't be read: {why(error)}.") from error
    missing = [image for image in images if Path(image).stem not in by_stem]
    if missing:
        raise BenchError(f"{path} has no label for {missing[0]} ({len(missing)} images in all).")
    return {image: by_stem[Path(image).stem] for image in images}


def images_of_classes(
    synset_of: Mapping[str, str], index: Mapping[str, int], is_subset: bool, place: Path
) -> tuple[str, ...]:
    """The images of `synset_of`, {image: synset id}, whose synset has a class index, ascending.

    is_subset: whether images of other synsets are left out; else they raise BenchError. place: where the images are.
    """
    others = [image for image, synset in synset_of.items() if synset not in index]
    if others and not is_subset:
        raise BenchError(
            f"{place / others[0]} is of class {synset_of[others[0]]!r}, which the class list lacks; "
            "add it there, or set data.classes."
        )
    return tuple(sorted(image for image, synset in synset_of.items() if synset in index))


def _from_csv(path: Path) -> dict[str, str]:
    """Kaggle's columns: ImageId, and PredictionString whose first word is the synset id (its boxes follow)."""
    rows = csv.DictReader(lines_of(path, "The file of labels"))
    return _each_once((row["ImageId"], row["PredictionString"].split()[0]) for row in rows)


def _from_lines(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Lines "image label"; a label is a synset id, or a class index from 0 in the order of the classes."""
    words = [line.split() for line in lines_of(path, "The file of labels")]
    for line in words:
        if line[1].isdigit() and int(line[1]) >= len(classes):
            raise ValueError(f"class {line[1]} of {line[0]}, but there are {len(classes)} classes")
    return _each_once((Path(image).stem, classes[int(label)] if label.isdigit() else label) for image, label in words)


def _each_once(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{image: label}. Raises ValueError for an image with two."""
    by_image: dict[str, str] = {}
    for image, label in labels:
        if by_image.setdefault(as_text(image), label) != label:
            raise ValueError(f"{shown(image)} has two labels, {by_image[as_text(image)]!r} and {label!r}")
    return by_image


def _from_devkit(root: Path, path: Path, images: Sequence[str]) -> dict[str, str]:
    """The kit's numbers are not the usual class indices: its meta.mat says which synset each stands for."""
    kit = Devkit.find(root)
    if kit is None:
        raise BenchError(
            f"{path.name} numbers the classes in its own way: put the devkit's {META} beside it, in {root}."
        )
    if kit.truth is None:
        raise BenchError(f"{path} holds no {TRUTH}; it isn't the whole devkit.")
    return kit.labels([Path(image).stem for image in images])
