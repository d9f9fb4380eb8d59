"""The label files next to a folder of images, and the labelling tool that wrote them.

An image's file has the image's name and another ending. It is in the image's folder, in a folder
such as `labels` there, or in such a folder in the place of the folder of images. If no file has an
image's name, the image's name in the files counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from posixpath import basename, dirname, splitext

import yaml

from axiom_bench.data.base import BACKGROUND, NO_VERDICT
from axiom_bench.data.formats import cvat
from axiom_bench.data.formats.files import as_name, as_text, content_of, folder_entries, nfc
from axiom_bench.data.formats.labelimg import read_labelimg
from axiom_bench.data.formats.labelme import read_labelme
from axiom_bench.data.formats.shapes import Drawing
from axiom_bench.data.formats.yolo import read_yolo
from axiom_bench.data.layouts.classes import network_class_names
from axiom_bench.data.layouts.label_files import index_images_by_name, named_image
from axiom_bench.errors import BenchError

AUTO = "auto"
NONE = "none"
YOLO = "yolo"
CVAT = "cvat"
MASKS = "masks"
COCO = "coco"
# Names of folders, which may have another case.
IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages"}
LABEL_FOLDERS = ("labels", "label", "annotations", "annotation", "ann", "json", "xml", "labelme")
MASK_FOLDERS = ("masks", "mask", "SegmentationClass", "SegmentationClassPNG", "annotations")
MASK_ENDS = ("", "_mask")  # of a mask's name, after the image's
CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "class_names.txt", "labels.txt")
# In LabelMe's files: the label of pixels in a mask that belong to no class.
NO_CLASSES = {"__ignore__": NO_VERDICT, "_background_": BACKGROUND}
YAML = (".yaml", ".yml")
MAX_BYTES = 2**28  # of one image's label file: LabelMe's may contain the image
TRIED = 20  # files that are read to recognise a tool


@dataclass(frozen=True)
class Tool:
    """The label files of a tool.

    Attributes:
        title: Words for the files.
        ending: Their ending.
        read: Return the objects in a file.
    """

    title: str
    ending: str
    read: Callable[[bytes], Drawing]


TOOLS = {
    YOLO: Tool("YOLO's label files", ".txt", read_yolo),
    "xml": Tool("XML files in VOC's form", ".xml", read_labelimg),
    "labelme": Tool("LabelMe's JSON files", ".json", read_labelme),
}
ANNOTATIONS = (AUTO, NONE, *TOOLS, CVAT, MASKS, COCO)


@dataclass(frozen=True)
class ClassFile:
    """A file that lists the classes.

    Attributes:
        path: The file.
        names: The names of the classes in their order.
        has_keypoints: True if YOLO's label files have keypoints after the boxes.
    """

    path: Path
    names: tuple[str, ...]
    has_keypoints: bool = False


@dataclass(frozen=True)
class FoundLabels:
    """The labels of a folder's images.

    Attributes:
        tool: A key of TOOLS, CVAT or MASKS.
        files: {image: label file}; for CVAT every image has the same.
        unused: The label files, or the images in a label file, that belong to no image.
        drawings: {image: its objects}, of CVAT's file.
        classes: The file that lists the classes; None if there is none.
    """

    tool: str
    files: Mapping[str, Path]
    unused: Sequence[str] = ()
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    classes: ClassFile | None = None

    @property
    def example(self) -> Path:
        """The first label file."""
        return next(iter(self.files.values()))

    def drawing(self, image: str) -> Drawing:
        """Return the objects of an image; none if its file can't be read."""
        tool = TOOLS.get(self.tool)
        if tool is None or image not in self.files:
            return self.drawings.get(image, Drawing())
        content = content_of_labels(self.files[image])
        if self.tool == YOLO and self.classes is not None:
            return read_yolo(content, self.classes.has_keypoints)
        return tool.read(content)


def find_labels(root: Path, images: Sequence[str], annotations: str) -> FoundLabels | None:
    """Find the label files of images; None if there are none.

    Args:
        root: The folder.
        images: The images below it.
        annotations: A key of TOOLS or CVAT, for a tool's files only; AUTO for those of any tool.

    Raises:
        BenchError: If several tools fit, or a file for all images can't be read.
    """
    found: list[FoundLabels] = []
    for tool in TOOLS:
        if annotations in (AUTO, tool) and (labels := _find_files(root, images, tool)):
            found.append(labels)
    if annotations in (AUTO, CVAT) and (labels := _find_cvat(root, images)):
        found.append(labels)
    if len(found) > 1:
        choices = " or ".join(f"data.annotations={labels.tool}" for labels in found)
        examples = " and ".join(as_text(labels.example) for labels in found)
        raise BenchError(
            f"The images in {as_text(root)} have labels of several tools, such as {examples}; set "
            f"{choices}."
        )
    return found[0] if found else None


def find_masks(root: Path, images: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Return {image: its mask}, and the images that are no masks.

    Masks are PNG files in a folder such as `masks`.
    """
    mask_folders = {*map(str.lower, MASK_FOLDERS)}
    photographs = [
        image for image in images if mask_folders.isdisjoint(image.lower().split("/")[:-1])
    ]
    masks: dict[str, Path] = {}
    for parent, group in groupby(photographs, dirname):
        folders = _label_folders(root, parent, MASK_FOLDERS)
        folders.pop(Path(os.path.abspath(root), as_name(parent)), None)  # those are images
        for image in group:
            names = [f"{_stem(image)}{end}.png" for end in MASK_ENDS]
            if mask := next(filter(None, (_first_file(folders, name) for name in names)), None):
                masks[image] = mask
    return (masks, photographs) if masks else ({}, [*images])


def find_classes(root: Path, files: Iterable[Path], tool: str) -> ClassFile | None:
    """Return the file that lists the classes, with the label files, in the root or above these.

    Args:
        root: The folder of the images.
        files: The label files.
        tool: As in `FoundLabels`. Only YOLO's has data.yaml.

    Raises:
        BenchError: If such a file can't be read, or two list the same classes in other orders.
    """
    folders = {path.parent for path in files}
    above = {folder.parent for folder in folders}
    first: ClassFile | None = None
    for place in (*sorted(folders), *sorted(above), root, root.parent):
        names = sorted(_files_by_name(place).values(), key=lambda name: (name != "data.yaml", name))
        for name in names:
            try:
                listed = _class_file(place / name, tool)
            except BenchError:
                if first is None:
                    raise
                continue
            if listed is None or not listed.names:
                continue
            first = first or listed
            if listed.names != first.names and {*listed.names} == {*first.names}:
                raise BenchError(
                    f"{as_text(first.path)} and {as_text(listed.path)} list the same classes in "
                    "different orders; delete the wrong one."
                )
    return first


def content_of_labels(path: Path) -> bytes:
    """Return the bytes of an image's label file; none if it can't be read."""
    try:
        return content_of(path, MAX_BYTES)
    except OSError:
        return b""


def _class_file(path: Path, tool: str) -> ClassFile | None:
    """Return the classes that a file lists; None if it is of another kind."""
    name = path.name.lower()
    if name in CLASS_LISTS:
        listed = network_class_names(str(path), "data.classes")
        return ClassFile(path, tuple(label for label in listed if label not in NO_CLASSES))
    if tool == YOLO and name.endswith(YAML):
        return _yaml_classes(path)
    return None


def _yaml_classes(path: Path) -> ClassFile | None:
    """Return the classes of YOLO's data.yaml; None if the file is of another kind."""
    try:
        content = yaml.safe_load(content_of(path, MAX_BYTES))
        names = content["names"]
        if isinstance(names, dict):
            names = [name for _, name in sorted((int(key), name) for key, name in names.items())]
        if not all(isinstance(name, str | int) for name in names):
            return None
        return ClassFile(path, tuple(map(str, names)), "kpt_shape" in content)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError):
        return None


def _find_files(root: Path, images: Sequence[str], key: str) -> FoundLabels | None:
    """Find the label files of a tool by its key."""
    tool = TOOLS[key]
    files: dict[str, Path] = {}
    folders: dict[Path, Mapping[str, str]] = {}
    for parent, group in groupby(images, dirname):
        listings = _label_folders(root, parent, LABEL_FOLDERS)
        folders |= listings
        for image in group:
            name = nfc(basename(as_name(image)))
            for stem in (splitext(name)[0], name):
                if path := _first_file(listings, f"{stem}{tool.ending}"):
                    files.setdefault(image, path)
    used = {*files.values()}
    others: list[Path] = []
    for folder, names in folders.items():
        for name in names.values():
            name_in_lower_case = name.lower()
            is_label = name_in_lower_case.endswith(tool.ending)
            is_label = is_label and name_in_lower_case not in (*CLASS_LISTS, cvat.NAME)
            if is_label and folder / name not in used:
                others.append(folder / name)
    first_files = [*files.values(), *others][:TRIED]
    contents = [content_of_labels(path) for path in first_files]
    classes = find_classes(root, files.values(), key)
    # YOLO's files of images without objects are empty, as many other files are.
    are_empty = key == YOLO and classes is not None and not any(contents)
    if not are_empty and not any(tool.read(content).fits for content in contents):
        return None
    images_by_name = index_images_by_name([image for image in images if image not in files])
    unused: list[str] = []
    for path in others:
        drawing = tool.read(content_of_labels(path))
        if not drawing.fits:
            continue
        named = named_image(drawing.image, images_by_name)
        if named is None or named in files:
            unused.append(as_text(path.name))
        else:
            files[named] = path
    if not files:
        return None
    return FoundLabels(key, files, unused, classes=classes)


def _find_cvat(root: Path, images: Sequence[str]) -> FoundLabels | None:
    """Find CVAT's file for all images, in the folder or the one above."""
    paths = [place / cvat.NAME for place in (root, root.parent)]
    path = next(filter(os.path.isfile, paths), None)
    if path is None:
        return None
    content = cvat.read_cvat(path)
    images_by_name = index_images_by_name(images)
    drawings: dict[str, Drawing] = {}
    unused: list[str] = []
    for name, drawing in content.drawings.items():
        image = named_image(name, images_by_name)
        if image is None:
            unused.append(as_text(name))
        else:
            drawings[image] = drawing
    if not drawings:
        return None
    classes = ClassFile(path, content.classes) if content.classes else None
    return FoundLabels(CVAT, dict.fromkeys(drawings, path), unused, drawings, classes)


def _label_folders(root: Path, parent: str, names: Sequence[str]) -> dict[Path, Mapping[str, str]]:
    """Return the folders that may have the labels of a folder's images, with their files.

    Args:
        root: The folder of all images.
        parent: The folder of the images, below the root.
        names: The names of folders of labels.
    """
    folder = Path(os.path.abspath(root), as_name(parent))
    parts = folder.parts
    depth = len(Path(os.path.abspath(root)).parts)
    places = [depth - 1, *range(depth, len(parts))]
    places += [place for place, part in enumerate(parts) if part.lower() in IMAGE_FOLDERS]
    spellings: list[str] = []
    for name in names:
        spellings += (name, name.lower(), name.capitalize(), name.upper())
    candidates = [folder]
    for place in sorted({*places}, reverse=True):
        for name in spellings:
            candidates.append(Path(*parts[:place], name, *parts[place + 1 :]))
    for place in range(len(parts), depth - 1, -1):
        for name in spellings:
            candidates.append(Path(*parts[:place], name, *parts[place:]))
    listings: dict[Path, Mapping[str, str]] = {}
    known: set[tuple[int, int]] = set()  # a disk may have a folder under all spellings
    for candidate in candidates:
        files = _files_by_name(candidate)
        if not files:
            continue
        status = os.stat(candidate)
        identity = (status.st_dev, status.st_ino)
        if identity not in known:
            known.add(identity)
            listings[candidate] = files
    return listings


def _files_by_name(folder: Path) -> dict[str, str]:
    """Return {name in the Unicode form NFC, its ending in lower case: name} of a folder's files."""
    if not os.path.isdir(folder):
        return {}
    names = [name for name, is_folder in folder_entries(folder) if not is_folder]
    return {f"{nfc(splitext(name)[0])}{splitext(name)[1].lower()}": name for name in names}


def _first_file(listings: Mapping[Path, Mapping[str, str]], name: str) -> Path | None:
    """Return the file of this name in the first folder that has one."""
    return next((folder / files[name] for folder, files in listings.items() if name in files), None)


def _stem(image: str) -> str:
    """Return an image's name without folders and ending, in the Unicode form NFC."""
    return nfc(splitext(basename(as_name(image)))[0])
