"""Labels as people write them down: lists of images with a synset id, an index or a name, and
folders that are called so. Each is read in one way that fits all of it, or refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import basename, splitext

from axiom_bench.data.formats.decoding import suffixes
from axiom_bench.data.formats.files import as_text, comparable, lines_of, shown, tables_of
from axiom_bench.data.layouts.classes import SYNSET_ID, class_indices
from axiom_bench.errors import BenchError, unknown

ARRAYS = (".npy", ".nii.gz", ".nii", ".wav")  # endings
BOXES = "predictionstring"  # Kaggle's: the synset id, and then a box and other objects
HEADINGS = {  # of columns that hold a label; without any it is the first that isn't the image's
    *(
        "label",
        "labels",
        "class",
        "target",
        "synset",
        "wnid",
        "category",
        BOXES,
        "class_name",
        "class_id",
    ),
    *("class_index", "class_idx", "label_name", "label_id", "label_index", "label_idx"),
}
NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})")  # validation images, from 1
ZEROS, ONES, LEAST_COLUMNS = (
    ("0", "0.0", "0."),
    ("1", "1.0", "1."),
    3,
)  # of a list with a column for each class
LEAST_ALIKE = 3  # labels that are all the same look as if there were none
LINES = "set data.labels to a list of lines 'image label'"
Classes = Mapping[str, str]  # {class: its readable name}, in order of class index


def read_list(
    path: Path, images: Sequence[str], classes: Classes
) -> tuple[dict[str, str], list[str]]:
    """({image: class} of those that the list names, what a reader must know). images: their paths
    below the folder.

    Columns are separated by tabs, commas, semicolons or spaces, under headings or not; each class
    may have a column of 0 and 1. A list of labels alone is in the order of the images' names.
    Raises BenchError where no image is named, for a label that is none, and where lines or columns
    name two classes for an image; ValueError for a line without a label.
    """
    lines, name = lines_of(path, "The file of labels"), as_text(path)
    images_by_name = by_name(images)
    tables = ((rows, _column(rows, images_by_name)) for rows in columns_of(lines))
    rows, place = next(((rows, column) for rows, column in tables if column is not None), ([], 0))
    if not rows:
        ordered = _in_order(name, [line.strip() for line in lines], images)
        return dict(zip(ordered, meant([*ordered.values()], classes, name), strict=True)), []
    head = (
        [cell.strip().lower() for cell in rows[0]]
        if named_image(rows[0][place], images_by_name) is None
        else []
    )
    others = [column for column in range(len(rows[0])) if column != place]
    headed = [column for column in others if head and head[column] in HEADINGS]
    columns = headed or others[:1]
    if not columns or any(len(row) <= max(place, *columns) for row in rows):
        raise ValueError("a line has no label")
    listed = [(row[place], row) for row in rows[bool(head) :]]
    if not headed and (labels_of_rows := _one_hot(name, head, [row for _, row in listed], others)):
        listed = [(cell, [label]) for (cell, _), label in zip(listed, labels_of_rows, strict=True)]
        head, columns = [], [0]
    matches = [(named_image(cell, images_by_name), row) for cell, row in listed]
    of_images = [(image, row) for image, row in matches if image is not None]
    named = defaultdict[str, dict[str, None]](dict)
    for column in columns:
        cells = [row[column].strip() for _, row in of_images]
        cells = [cell.split()[0] for cell in cells] if head and head[column] == BOXES else cells
        for (image, _), label in zip(of_images, meant(cells, classes, name), strict=True):
            named[image][label] = None
    if wrong := [image for image in named if len(named[image]) > 1]:
        both = f"{len(wrong)} images, as {wrong[0]}: {' and '.join(named[wrong[0]])}"
        raise BenchError(
            f"{name} names two classes for {both}; correct its lines, or remove the column that "
            "is wrong."
        )
    labels, notes = {image: next(iter(of_image)) for image, of_image in named.items()}, []
    if absent := [
        cell for (cell, _), (image, _) in zip(listed, matches, strict=True) if image is None
    ]:
        notes = [
            f"{len(absent)} of {len(listed)} images of {name} aren't in the folder, as {absent[0]}"
        ]
    if len({*labels.values()}) == 1 and len(labels) >= LEAST_ALIKE:
        notes += [
            f"all {len(labels)} labels of {name} are {next(iter(labels.values()))}: are they "
            "labels?"
        ]
    return labels, notes


def _one_hot(
    name: str, head: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> list[str]:
    """The heading of each row's only 1 among three or more columns of 0 and 1; [] where there are
    no such columns. Raises BenchError for a row with another number of them.
    """
    if not head or any(len(row) != len(head) for row in rows):
        return []
    of_bits = [
        column for column in columns if {row[column].strip() for row in rows} <= {*ZEROS, *ONES}
    ]
    if len(of_bits) < LEAST_COLUMNS:
        return []
    ones = [[head[column] for column in of_bits if row[column].strip() in ONES] for row in rows]
    if wrong := [of_row for of_row in ones if len(of_row) != 1]:
        raise BenchError(
            f"{name} has {len(of_bits)} columns of 0 and 1, and {len(wrong)} of {len(rows)} lines "
            f"name no class or several, as {', '.join(wrong[0][:3]) or 'none'}; give each image "
            "one, or call a column 'label'."
        )
    return [of_row[0] for of_row in ones]


def meant(labels: Sequence[str], classes: Classes, source: str, strict: bool = True) -> list[str]:
    """The classes of labels that are all of them classes or synset ids, or all indices from 0, or
    all names. Without classes they stay as they are.

    source: the list or folder, for errors. strict: whether a label that is no class's name is
    refused, with the nearest; else it stays as it is. Raises BenchError, for indices that count
    from 1 too.
    """
    different, ids = {*labels}, [*classes]
    if not classes or all(label in classes or SYNSET_ID.fullmatch(label) for label in different):
        return [*labels]
    if all(label.isdecimal() for label in different):
        if (highest := max(map(int, different))) >= len(ids):
            base = (
                ", and its numbers count from 1, as the devkit's own do"
                if min(map(int, different))
                else ""
            )
            raise BenchError(
                f"{source} names class {highest}, but there are {len(ids)} classes, from 0 "
                f"on{base}; put synset ids or names in the place of numbers."
            )
        return [ids[int(label)] for label in labels]
    indices = class_indices(different, ids, [*classes.values()])
    if strict and (missing := sorted(different - indices.keys())):
        names = {part.strip() for name in classes.values() for part in name.split(",")}
        raise unknown(f"class, as {source} names it,", missing[0], {*classes, *names})
    return [ids[indices[label]] if label in indices else label for label in labels]


def without_ending(name: str) -> str:
    """A name without the ending of an image or array."""
    stem, ending = splitext(name)
    array = next((ending for ending in ARRAYS if name.lower().endswith(ending)), "")
    return stem if ending.lower() in suffixes() else name[: len(name) - len(array)]


def _stem(name: str) -> str:
    return as_text(without_ending(basename(comparable(name))))


def by_name(images: Sequence[str]) -> dict[str, str]:
    """Return {a name that a list may have: image}: paths, and what is shorter unless several images
    have it.
    """
    images_by_name = defaultdict[str, list[str]](list)
    for image in images:
        for name in {*_names(image)}:
            images_by_name[name].append(image)
    alone = {name: several[0] for name, several in images_by_name.items() if len(several) == 1}
    return alone | {_names(image)[0]: image for image in images}


def named_image(cell: str, images_by_name: Mapping[str, str]) -> str | None:
    """Return the image that a cell of a list names, or None."""
    return next((images_by_name[name] for name in _names(cell) if name in images_by_name), None)


def _names(text: str) -> tuple[str, ...]:
    path = as_text(comparable(text))
    stem = without_ending(path)
    return path, stem, basename(path), basename(stem)


def columns_of(lines: Sequence[str]) -> list[list[list[str]]]:
    """The lines in columns by each separator that the first has; first those that have as many
    columns in each line, since names have commas too.
    """
    tables = [[row for row in rows if row] for rows in tables_of(lines).values()]
    endings = "|".join(map(re.escape, sorted(suffixes())))
    words = re.compile(
        rf"\s*(.+?(?:{endings})|\S+)\s+(\S.*)", re.IGNORECASE
    )  # an image's name may have spaces
    by_space = [[*match.groups()] if (match := words.fullmatch(line)) else [line] for line in lines]
    return sorted([*tables, by_space], key=lambda rows: len({*map(len, rows)}))


def _column(rows: list[list[str]], images_by_name: Mapping[str, str]) -> int | None:
    """The column that names images; None where none does."""
    counts = [
        sum(named_image(cell, images_by_name) is not None for cell in column)
        for column in zip(*rows, strict=False)
    ]
    return counts.index(max(counts)) if any(counts) else None


def _in_order(name: str, labels: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """{image: label} of a list of labels alone, a line for each image by its number or by the order
    of names.
    """
    if not labels or not all(label.isdecimal() or SYNSET_ID.fullmatch(label) for label in labels):
        raise BenchError(
            f"{name} lists no image of the folder, but {shown(' '.join(labels[-1:]))}; {LINES} of "
            "these."
        )
    if labels[0].isdecimal() and "0" not in labels:
        raise BenchError(
            f"{name} has numbers from 1, as the devkit, whose numbers aren't class indices; "
            f"{LINES}."
        )
    numbers = [NUMBERED.fullmatch(_stem(image)) for image in images]
    if all(number and 0 < int(number[1]) <= len(labels) for number in numbers):
        return {
            image: labels[int(number[1]) - 1]
            for image, number in zip(images, numbers, strict=True)
            if number
        }
    if len(labels) != len(images):
        raise BenchError(
            f"{name} has {len(labels)} labels alone, and there are {len(images)} images; {LINES}."
        )
    return dict(zip(sorted(images), labels, strict=True))
