"""Any folder of images: torchvision's ImageFolder layout <class>/<image>, or only photographs.

Boxes and masks of a labelling tool next to the images are read by `label_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from axiom_bench.data.formats.files import as_name, as_text, folder_entries, listed_file, reason_of
from axiom_bench.data.layouts.classes import (
    SYNSET_ID,
    Classes,
    ClassIndex,
    NetworkClasses,
    class_indices,
    class_list,
    imagenet_names,
    index_of_classes,
)
from axiom_bench.data.layouts.label_files import read_list
from axiom_bench.data.layouts.label_folder import AUTO, FolderContent, folder_content
from axiom_bench.data.layouts.table import Labels, Row, Table
from axiom_bench.data.layouts.trees import existing_folder, image_files
from axiom_bench.errors import BenchError, first_names, plural, unknown_name, verb
from axiom_bench.kinds import File, Name

LAYOUT = "images, or the ImageFolder layout <root>/<class>/<image>.jpg (or .png, ...)"
FOLDERS = ("name", "index")
LABELS = (
    "folders named after the network's classes (names, ImageNet's synset ids or indices) "
    "are labels, or data.labels=FILE names a list of lines 'image,label'"
)
ORDER = "data.classes names another order"
MAX_SHOWN = 3  # folders in a note
# The names of folders that hold the folders of the classes.
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclass(frozen=True)
class Labelling:
    """The labels of a folder's images.

    Attributes:
        classes: {class: its readable name}, by class index.
        labels: {image, or the first folder of its path: class index}
        notes: Sentences that a reader of the results needs.
        unlabelled: The reason why no image has a label; "" if some may have one.
    """

    classes: Mapping[str, str]
    labels: ClassIndex
    notes: tuple[str, ...] = ()
    unlabelled: str = ""


def folder(
    root: File | Path,
    classes: Classes | None = None,
    folders: Name = "name",
    name: Name = "folder",
    network: Callable[[], NetworkClasses] | None = None,
    labels: File | None = None,
    annotations: Name = AUTO,
) -> Table:
    """Return the images below a folder; ids are paths below it, "class/image.jpg" or "image.jpg".

    Args:
        root: The folder.
        classes: A list or a file, see `class_list`. Their order decides the class indices, and
            images in other folders are left out. Without classes, the subfolders are labels if
            every image lies in one that is called by a class of the network. If the network's
            classes have no names, there must be a subfolder for each class. Otherwise no image
            has a label, and `unlabelled` has the reason.
        folders: "name" if a folder may be called by its class's name; "index" if it is called by
            its class's index from 0 only.
        name: The name of the data set.
        network: Returns the classes of the network. It is called only if they are needed.
        labels: A list of images with their classes, which counts instead of folders: a path, or
            a path below the root.
        annotations: The boxes and masks next to the images: "auto" for those of any tool, a
            tool's name, or "none". With a list of labels they aren't looked for.

    Raises:
        BenchError: If there are no images, or a folder isn't called by an index although
            `folders` is "index"; and as `folder_content`.
    """
    top = existing_folder(Path(root), LAYOUT)
    images, other_files = image_files(top)
    content = FolderContent(images)
    if labels is None:
        content = folder_content(top, images, annotations, classes, network, name)
    if content.table is not None:
        if other_files:
            content.table.notes += (f"{as_text(top)}: {other_files}",)
        return content.table
    # Samples in a folder of arrays have labels in the same way.
    table = labelled_table(
        module=__name__,
        name=name,
        root=top,
        layout=LAYOUT,
        found=([*content.images], other_files),
        classes=classes,
        folders=folders,
        network=network,
        labels=labels,
    )
    if table.unlabelled and content.problem:  # the reason of the labels that were found counts
        table.unlabelled = content.problem
        table.notes = table.notes[:-1]
    table.notes = (*content.notes, *table.notes)
    table.orientation = "EXIF orientations are applied"
    return table


def labelled_table(
    module: str,
    name: str,
    root: Path,
    layout: str,
    found: tuple[list[str], str],
    classes: Classes | None,
    folders: str,
    network: Callable[[], NetworkClasses] | None,
    labels: str | None,
) -> Table:
    """Return the samples below a folder with their labels, see `folder`.

    Args:
        module: The module of the layout.
        name: As in `folder`.
        root: As in `folder`.
        layout: The layout that is expected below the root, for errors.
        found: The samples, and a sentence on other files, as `image_files` returns them.
        classes: As in `folder`.
        folders: As in `folder`.
        network: As in `folder`.
        labels: As in `folder`.

    Raises:
        BenchError: As in `folder`.
    """
    if folders not in FOLDERS:
        raise unknown_name("naming of folders", folders, FOLDERS)
    if folders == "index" and classes is None and network is None:
        raise BenchError(
            "data.folders=index needs data.classes, the classes in the order of their indices."
        )
    samples, other_files = found
    ids = samples
    subfolders = [as_text(name) for name, is_folder in folder_entries(root) if is_folder]
    notes = [f"{as_text(root)}: {other_files}"] if other_files else []
    by_classes = None
    if classes is not None and labels is None:
        names = class_list(classes)
        folder_index = class_indices(subfolders, [*names], [*names.values()])
        folder_index |= index_of_classes(names)
        if folders == "index":
            folder_index = {}
            for folder in subfolders:
                if folder.isdecimal() and int(folder) < len(names):
                    folder_index[folder] = int(folder)
            if unknown_folders := [folder for folder in subfolders if folder not in folder_index]:
                raise BenchError(
                    f"{root / unknown_folders[0]} is no class index from 0 to {len(names) - 1}; "
                    "set data.folders=name for folders named after their classes."
                )
        by_classes = Labelling(names, folder_index)
        ids = [path for path in samples if "/" in path and _first(path) in folder_index]
    if not ids:
        hint = other_files or "no file in it has an image's ending"
        if classes is not None:
            hint = "with data.classes naming folders"
        raise BenchError(f"There are no images in {as_text(root)}; expected {layout}; {hint}.")
    if len(ids) < len(samples):
        left_out = sorted({*samples}.difference(ids))
        are_left_out = verb(
            len(left_out),
            "isn't in a folder of data.classes and is left out",
            "aren't in a folder of data.classes and are left out",
        )
        notes.append(f"{plural(len(left_out), 'image')} {are_left_out}, such as {left_out[0]}")
    if labels is not None:
        # If the user gave classes, the network's classes aren't needed.
        network_classes = None
        if network is not None and classes is None:
            network_classes = network()
        labelling = _by_list(list_file(root, labels), ids, classes, network_classes)
    elif by_classes is not None:
        labelling = by_classes
    else:
        network_classes = None if network is None else network()
        labelling = _by_folders(root, name, ids, subfolders, folders, network_classes)
    # Images of one folder share one tuple.
    labels_by_key: dict[str, Labels] = {key: (label,) for key, label in labelling.labels.items()}
    image_labels = tuple(
        labels_by_key.get(path, labels_by_key.get(_first(path), ())) for path in ids
    )
    return Table(
        module,
        name,
        tuple(ids),
        labelling.classes,
        image_labels,
        row=partial(_row, root, ids),
        notes=(*notes, *labelling.notes),
        unlabelled=labelling.unlabelled,
    )


def _row(root: Path, ids: Sequence[str], index: int) -> Row:
    """Return the row of the image at this index."""
    return Row((listed_file(root, as_name(ids[index])),), is_upright=True)


def list_file(root: Path, labels: str) -> Path:
    """Return the list of labels, which is a path, or a path below the root.

    Raises:
        BenchError: If it is missing.
    """
    path = next((path for path in (Path(labels), root / labels) if os.path.isfile(path)), None)
    if path is None:
        raise BenchError(
            f"data.labels: there is no file {as_text(labels)}; give a list of lines 'image,label'."
        )
    return path


def _by_list(
    path: Path, ids: Sequence[str], classes: Classes | None, network: NetworkClasses | None
) -> Labelling:
    """Label by a list of images with their classes.

    The classes are those given, or the network's if they have names, or those in the list.
    """
    names = {} if network is None else network.names_by_class
    notes: list[str] = []
    try:
        if classes is not None:
            names = class_list(classes)
        elif network is None or network.names is None:
            # Nobody else names the classes, so they are those in the list. It is read twice: first
            # for its classes, and below to make a class of each label, such as of the index "5".
            listed_classes = sorted({*read_list(path, ids, {})[0].values()})
            if all(map(str.isdecimal, listed_classes)):
                if not names:
                    largest = max(map(int, listed_classes), default=0)
                    names = {str(index): str(index) for index in range(largest + 1)}
            elif network is not None and network.count != len(listed_classes):
                raise BenchError(
                    f"{as_text(path)} names {plural(len(listed_classes), 'class')}, as "
                    f"{listed_classes[0]!r}, and the {network.count} classes of the network have "
                    "no names; set model.classes to their names, in the order of its outputs."
                )
            else:
                names = {name: name for name in listed_classes}
                notes.append(
                    "labels are numbered as their names are sorted: "
                    f"{listed_classes[0]!r} is output 0; {ORDER}"
                )
        image_classes, list_notes = read_list(path, ids, names)
    except ValueError as error:
        raise BenchError(f"{as_text(path)} can't be read: {reason_of(error)}.") from error
    if unknown_classes := {*image_classes.values()}.difference(names):
        raise unknown_name(
            "class",
            min(unknown_classes),
            names,
            place=f"of the network, as {as_text(path)} names it",
        )
    if len(image_classes) < len(ids):
        missing = len(ids) - len(image_classes)
        arent = verb(missing, "isn't", "aren't")
        list_notes.append(f"{missing} of {plural(len(ids), 'sample')} {arent} in {as_text(path)}")
    index = {name: number for number, name in enumerate(names)}
    labels = {image: index[name] for image, name in image_classes.items()}
    return Labelling(names, labels, (*notes, *list_notes))


def _by_folders(
    root: Path,
    name: str,
    ids: Sequence[str],
    subfolders: Sequence[str],
    folders: str,
    network: NetworkClasses | None,
) -> Labelling:
    """Label by folders that are called by a class of the network, if all images lie in such."""
    used_folders = list(dict.fromkeys(_first(path) for path in ids if "/" in path))
    numbers = [folder for folder in used_folders if folder.isdecimal()]
    flat = next((path for path in ids if "/" not in path), None)
    names: Mapping[str, str] = {name: name for name in subfolders}
    if used_folders and all(map(SYNSET_ID.fullmatch, used_folders)):
        synset_names = imagenet_names()
        names = {name: synset_names.get(name, name) for name in subfolders}
    index: ClassIndex = {name: number for number, name in enumerate(subfolders)}
    # Without names of the network's classes, the sorted subfolders are the classes.
    fits = network is None or (network.names is None and network.count == len(subfolders))
    if network is not None and (folders == "index" or not fits):
        names = network.names_by_class
        index = network.indices(used_folders, only_numbers=folders == "index")
    unknown_folder = next((folder for folder in used_folders if folder not in index), None)
    have_subfolders = all(path.count("/") > 1 for path in ids)
    are_splits = {*map(str.lower, used_folders)} <= SPLITS and (
        have_subfolders or unknown_folder is not None
    )
    if flat is None and unknown_folder is None and not are_splits:
        notes = []
        by_text = [folder for folder in numbers if fits and int(folder) != index[folder]]
        if by_text:
            example = f"{by_text[-1]} is output {index[by_text[-1]]}"
            notes.append(
                f"folders count as their texts are sorted: {example}; data.folders=index takes "
                "numbers"
            )
        readable = [*names.values()]
        examples = [
            f"{folder} is {readable[index[folder]]}"
            for folder in numbers
            if folder != readable[index[folder]]
        ]
        if examples:
            notes.append(
                f"labels are the indices in the folders' names: {first_names(examples, MAX_SHOWN)}"
            )
        return Labelling(names, index, tuple(notes))
    # No image is labelled: find out why.
    folder_numbers = [int(folder) for folder in numbers]
    is_number = str(unknown_folder).isdecimal()
    from_1 = network is not None and is_number and network.count in folder_numbers
    hint = f": the folders count to {max(folder_numbers)}, its classes from 0" if from_1 else ""
    if network is not None and network.names is None and not from_1:
        are = verb(len(subfolders), "is", "are")
        hint = f": its {network.count} have no names, and there {are} "
        hint += plural(len(subfolders), "folder")
    if are_splits:
        last_split = as_text(root / used_folders[-1])
        noun = verb(len(used_folders), "is a split", "are splits")
        unlabelled = f"{', '.join(used_folders)} {noun}: set data.root={last_split}"
    elif flat:
        unlabelled = f"{flat} lies in no folder"
    else:
        unlabelled = f"{unknown_folder!r} is no class of the network{hint}"
        if have_subfolders and len(used_folders) == 1:
            inner = as_text(root / used_folders[0])
            unlabelled += f"; if the folders in it are the classes, set data.root={inner}"
    note = (
        f"the images of {name!r} have no labels ({unlabelled}; {LABELS}), so metrics that need "
        "labels, or boxes or masks of the data, have no value"
    )
    return Labelling({}, {}, (note,), unlabelled)


def _first(path: str) -> str:
    """Return the first folder of a path."""
    return path.partition("/")[0]
