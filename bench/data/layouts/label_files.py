"""Labels as people write them down: lists of images with a synset id, an index or a name.

Folders that are called by a class count as labels, too. Each list is read in one way that fits all
of it, or refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import basename, splitext

from axiom_bench.data.formats.decoding import image_suffixes
from axiom_bench.data.formats.files import as_text, comparable_name, lines_of, short_repr, tables_of
from axiom_bench.data.layouts.classes import SYNSET_ID, class_indices
from axiom_bench.errors import BenchError, plural, unknown_name, verb

ARRAYS = (".npy", ".nii.gz", ".nii", ".wav")  # endings
BOXES = "predictionstring"  # Kaggle's: the synset id, and then a box and other objects
# Headings of columns that hold a label. Without any of them, the first column that isn't the
# image's holds it.
# fmt: off
HEADINGS = {
    "label", "labels", "class", "target", "synset", "wnid", "category", BOXES, "class_name",
    "class_id", "class_index", "class_idx", "label_name", "label_id", "label_index", "label_idx",
}
# fmt: on
NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})")  # validation images, from 1
# In a list with a column for each class: its cells, and the least number of such columns.
ZEROS = ("0", "0.0", "0.")
ONES = ("1", "1.0", "1.")
LEAST_COLUMNS = 3
LEAST_ALIKE = 3  # from so many equal labels on, a note asks whether they are labels
LINES = "set data.labels to a list of lines 'image label'"
Classes = Mapping[str, str]  # {class: its readable name}, in order of class index


def read_list(
    path: Path, images: Sequence[str], classes: Classes
) -> tuple[dict[str, str], list[str]]:
    """Read the classes of images from a list.

    Columns are separated by tabs, commas, semicolons or spaces, with or without headings. Each
    class may have a column of 0 and 1. A list that has only labels is in the order of the images'
    names.

    Args:
        path: The list.
        images: The paths of the images below their folder.
        classes: {class: its readable name}, in order of class index.

    Returns:
        {image: class} of the images that the list names, and notes that a reader of the results
        needs.

    Raises:
        BenchError: If no image is named, a label is no class, or lines or columns name two classes
            for an image.
        ValueError: For a line without a label.
    """
    lines = lines_of(path, "The file of labels")
    name = as_text(path)
    images_by_name = index_images_by_name(images)
    rows: list[list[str]] = []
    image_column = 0
    for table in columns_of(lines):
        column = _column(table, images_by_name)
        if column is not None:
            rows = table
            image_column = column
            break
    if not rows:
        ordered = _in_order(name, [line.strip() for line in lines], images)
        ordered_classes = classes_of_labels([*ordered.values()], classes, name)
        return dict(zip(ordered, ordered_classes, strict=True)), []

    # Find the columns that hold labels.
    head: list[str] = []
    if named_image(rows[0][image_column], images_by_name) is None:
        head = [cell.strip().lower() for cell in rows[0]]
    other_columns = [column for column in range(len(rows[0])) if column != image_column]
    label_columns = [column for column in other_columns if head and head[column] in HEADINGS]
    columns = label_columns or other_columns[:1]
    if not columns or any(len(row) <= max(image_column, *columns) for row in rows):
        raise ValueError("a line has no label")
    cells_and_rows = [(row[image_column], row) for row in rows[bool(head) :]]
    if not label_columns:
        row_labels = _one_hot(name, head, [row for _, row in cells_and_rows], other_columns)
        if row_labels:
            cells_and_rows = [
                (cell, [label]) for (cell, _), label in zip(cells_and_rows, row_labels, strict=True)
            ]
            head = []
            columns = [0]

    # Collect the classes of each image, which must be one.
    absent: list[str] = []
    image_rows: list[tuple[str, list[str]]] = []
    for cell, row in cells_and_rows:
        image = named_image(cell, images_by_name)
        if image is None:
            absent.append(cell)
        else:
            image_rows.append((image, row))
    # A dictionary keeps the order of an image's classes.
    classes_by_image = defaultdict[str, dict[str, None]](dict)
    for column in columns:
        cells = [row[column].strip() for _, row in image_rows]
        if head and head[column] == BOXES:
            cells = [cell.split()[0] for cell in cells]
        for (image, _), label in zip(
            image_rows, classes_of_labels(cells, classes, name), strict=True
        ):
            classes_by_image[image][label] = None
    if ambiguous := [image for image in classes_by_image if len(classes_by_image[image]) > 1]:
        example = ambiguous[0]
        both = (
            f"{plural(len(ambiguous), 'image')}, such as {example}: "
            f"{' and '.join(classes_by_image[example])}"
        )
        raise BenchError(
            f"{name} names two classes for {both}; correct its lines, or remove the column that "
            "is wrong."
        )
    labels = {image: next(iter(image_classes)) for image, image_classes in classes_by_image.items()}

    notes = []
    if absent:
        arent = verb(len(absent), "isn't", "aren't")
        notes.append(
            f"{len(absent)} of {plural(len(cells_and_rows), 'image')} of {name} {arent} in the "
            f"folder, as {absent[0]}"
        )
    if len({*labels.values()}) == 1 and len(labels) >= LEAST_ALIKE:
        notes.append(
            f"all {len(labels)} labels of {name} are {next(iter(labels.values()))}: are they "
            "labels?"
        )
    return labels, notes


def _one_hot(
    name: str, head: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> list[str]:
    """Return the heading of each row's only 1 among three or more columns of 0 and 1.

    It is [] if there are no such columns.

    Raises:
        BenchError: For a row with no 1 or several.
    """
    if not head or any(len(row) != len(head) for row in rows):
        return []
    bits = {*ZEROS, *ONES}
    bit_columns = [column for column in columns if {row[column].strip() for row in rows} <= bits]
    if len(bit_columns) < LEAST_COLUMNS:
        return []
    ones = [[head[column] for column in bit_columns if row[column].strip() in ONES] for row in rows]
    if wrong_rows := [row_ones for row_ones in ones if len(row_ones) != 1]:
        raise BenchError(
            f"{name} has {len(bit_columns)} columns of 0 and 1, and {len(wrong_rows)} of "
            f"{plural(len(rows), 'line')} {verb(len(wrong_rows), 'names', 'name')} no class or "
            f"several, as {', '.join(wrong_rows[0][:3]) or 'none'}; give each image one, or call "
            "a column 'label'."
        )
    return [row_ones[0] for row_ones in ones]


def classes_of_labels(
    labels: Sequence[str], classes: Classes, source: str, strict: bool = True
) -> list[str]:
    """Return the classes that labels mean.

    The labels are all classes or synset ids, or all indices from 0, or all names. Without classes
    they stay as they are.

    Args:
        labels: The labels.
        classes: {class: its readable name}, in order of class index.
        source: The list or folder, for errors.
        strict: If True, a label that is no class's name is refused. If False, it stays as it is.

    Raises:
        BenchError: For a label that is no class, with the nearest one; also for indices that count
            from 1.
    """
    # All labels are read in one way, since a list doesn't mix indices with names.
    different = {*labels}
    ids = [*classes]
    if not classes or all(label in classes or SYNSET_ID.fullmatch(label) for label in different):
        return [*labels]
    if all(label.isdecimal() for label in different):
        if (highest := max(map(int, different))) >= len(ids):
            base = ""
            if min(map(int, different)):
                base = ", and its numbers count from 1, like the devkit's own"
            raise BenchError(
                f"{source} names class {highest}, but there are {len(ids)} classes, from 0 "
                f"on{base}; replace the numbers by synset ids or names."
            )
        return [ids[int(label)] for label in labels]
    indices = class_indices(different, ids, [*classes.values()])
    if strict and (missing := sorted(different - indices.keys())):
        names = {part.strip() for name in classes.values() for part in name.split(",")}
        raise unknown_name(
            "class", missing[0], {*classes, *names}, place=f"of the network, as {source} names it"
        )
    return [ids[indices[label]] if label in indices else label for label in labels]


def without_ending(name: str) -> str:
    """Return a name without the ending of an image or array.

    Lists often name images without it.
    """
    stem, ending = splitext(name)
    if ending.lower() in image_suffixes():
        return stem
    array = next((ending for ending in ARRAYS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(array)]


def index_images_by_name(images: Sequence[str]) -> dict[str, str]:
    """Return {a name that a list may have: image}.

    The names are paths, and shorter forms unless several images have them.

    A list that was made on another machine has other folders, or none, before the names.
    """
    images_by_name = defaultdict[str, list[str]](list)
    for image in images:
        for name in {*_names(image)}:
            images_by_name[name].append(image)
    unique = {name: several[0] for name, several in images_by_name.items() if len(several) == 1}
    return unique | {_names(image)[0]: image for image in images}


def named_image(cell: str, images_by_name: Mapping[str, str]) -> str | None:
    """Return the image that a cell of a list names, or None."""
    return next((images_by_name[name] for name in _names(cell) if name in images_by_name), None)


def _names(text: str) -> tuple[str, ...]:
    """Return the forms of an image's name, the path first."""
    path = as_text(comparable_name(text))
    stem = without_ending(path)
    return path, stem, basename(path), basename(stem)


def columns_of(lines: Sequence[str]) -> list[list[list[str]]]:
    """Return the lines in columns, by each separator that the first line has.

    Tables with as many columns in each line come first, since names have commas, too.
    """
    tables = [[row for row in rows if row] for rows in tables_of(lines).values()]
    endings = "|".join(map(re.escape, sorted(image_suffixes())))
    # An image's name may have spaces.
    words = re.compile(rf"\s*(.+?(?:{endings})|\S+)\s+(\S.*)", re.IGNORECASE)
    by_space = [[*match.groups()] if (match := words.fullmatch(line)) else [line] for line in lines]
    return sorted([*tables, by_space], key=lambda rows: len({*map(len, rows)}))


def _column(rows: list[list[str]], images_by_name: Mapping[str, str]) -> int | None:
    """Return the column that names images; None if no column does."""
    counts = [
        sum(named_image(cell, images_by_name) is not None for cell in column)
        for column in zip(*rows, strict=False)
    ]
    return counts.index(max(counts)) if any(counts) else None


def _in_order(name: str, labels: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """Return {image: label} of a list that has only labels.

    A line belongs to an image by the image's number, or by the order of names.
    """
    if not labels or not all(label.isdecimal() or SYNSET_ID.fullmatch(label) for label in labels):
        raise BenchError(
            f"{name} lists no image of the folder, but {short_repr(' '.join(labels[-1:]))}; "
            f"{LINES} of these."
        )
    if labels[0].isdecimal() and "0" not in labels:
        raise BenchError(
            f"{name} has numbers from 1, like the devkit, whose numbers aren't class indices; "
            f"{LINES}."
        )
    # ImageNet's validation list has the label of image n in line n, also for a part of the images.
    stems = [as_text(without_ending(basename(comparable_name(image)))) for image in images]
    numbers = [NUMBERED.fullmatch(stem) for stem in stems]
    if all(number and 0 < int(number[1]) <= len(labels) for number in numbers):
        return {
            image: labels[int(number[1]) - 1]
            for image, number in zip(images, numbers, strict=True)
            if number
        }
    if len(labels) != len(images):
        raise BenchError(
            f"{name} has only {plural(len(labels), 'label')} for {plural(len(images), 'image')}; "
            f"{LINES}."
        )
    return dict(zip(sorted(images), labels, strict=True))
