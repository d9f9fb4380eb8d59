"""Any folder of images: <class>/<image>, torchvision's ImageFolder layout, or photographs without labels; no boxes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from axiom_bench.data.formats.files import as_text, listed, why
from axiom_bench.data.layouts.bases import ImageFiles, existing, image_files
from axiom_bench.data.layouts.classes import Classes, NetworkClasses, class_indices, class_list
from axiom_bench.data.layouts.label_files import read_list
from axiom_bench.errors import BenchError, first_names, unknown
from axiom_bench.kinds import File, Name

LAYOUT = "images, or the ImageFolder layout <root>/<class>/<image>.jpg (or .png, ...)"
FOLDERS = ("name", "index")
LABELS = (
    "folders that are called by the network's classes (names, ImageNet's synset ids or indices) are labels, or "
    "data.labels=FILE names a list of lines 'image,label'"
)
ORDER = "data.classes names another order"
MAX_SHOWN = 3  # folders of a note
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}  # of folders that hold the classes'


class Folder(ImageFiles):
    """ids: paths below the root, "class/image.jpg" or "image.jpg".

    classes: a list or a file, see `class_list`: their order is the index, and other folders are left out. Without them
    the subfolders are labels where every image lies in one that is called by a class of the network. Of a network whose
    classes have no names they are where there is a subfolder for each class. Else no image has a label, and
    `unlabelled` says why. folders: whether a folder is called by its class's name, or by its class's index from 0
    alone. network: its classes, called where they are needed. labels: a list of images with their classes, which counts
    instead of folders: a path, or one below the root. Raises BenchError where there are no images, or a folder of
    indices is called otherwise.
    """

    layout, orientation = LAYOUT, "EXIF orientations are applied"

    def __init__(
        self,
        root: File | Path,
        classes: Classes | None = None,
        folders: Name = "name",
        name: Name = "folder",
        network: Callable[[], NetworkClasses] | None = None,
        labels: File | None = None,
    ) -> None:
        self.root = self.folder = existing(Path(root), self.layout)
        self.name = name
        if folders not in FOLDERS:
            raise unknown("naming of folders", folders, FOLDERS)
        if folders == "index" and classes is None and network is None:
            raise BenchError("data.folders=index needs data.classes, the classes in the order of their indices.")
        subfolders = [as_text(name) for name, is_folder in listed(self.root) if is_folder]
        images, others = self._listed()
        self.ids, left_out = tuple(images), list[str]()
        self.listed: dict[str, str] | None = None  # {image: class} by the list of labels
        if classes is not None and labels is None:
            self._set_classes(class_list(classes))
            self._index = class_indices(subfolders, self.classes, self.class_names) | {**self._index}
            if folders == "index":
                number = len(self.classes)
                wrong = [folder for folder in subfolders if not (folder.isdecimal() and int(folder) < number)]
                if wrong:
                    raise BenchError(
                        f"{self.root / wrong[0]} is no class index from 0 to {number - 1}; "
                        "set data.folders=name for folders that are called by their classes."
                    )
                self._index = {folder: int(folder) for folder in subfolders}
            self.ids = tuple(path for path in images if "/" in path and _first(path) in self._index)
            left_out = [path for path in images if "/" not in path or _first(path) not in self._index]
        if not self.ids:
            hint = "with data.classes naming folders" if classes is not None else others or "there are no files in it"
            raise BenchError(f"There are no images in {as_text(self.root)}; expected {self.layout}; {hint}.")
        self.notes = (f"{as_text(self.root)}: {others}",) if others else ()
        if left_out:
            self.notes += (f"{len(left_out)} images are left out, in no folder of data.classes, as {left_out[0]}",)
        if labels is not None:
            self._read_labels(labels, classes, None if network is None or classes is not None else network())
        elif classes is None:
            self._label(subfolders, folders, None if network is None else network())

    def _listed(self) -> tuple[list[str], str]:
        """As `image_files`."""
        return image_files(self.root)

    def _read_labels(self, labels: str, classes: Classes | None, network: NetworkClasses | None) -> None:
        """Set the classes and `listed`, and add notes on the list."""
        path = next((path for path in (Path(labels), self.root / labels) if os.path.isfile(path)), None)
        if path is None:
            raise BenchError(f"data.labels: there is no file {as_text(labels)}; give a list of lines 'image,label'.")
        names = {} if network is None else network.listed
        notes: list[str] = []
        try:
            if classes is not None:
                names = class_list(classes)
            elif network is None or network.names is None:
                found = sorted({*read_list(path, self.ids, {})[0].values()})
                if all(map(str.isdecimal, found)):
                    names = names or {str(index): str(index) for index in range(max(map(int, found), default=0) + 1)}
                elif network is not None and network.count != len(found):
                    raise BenchError(
                        f"{as_text(path)} names {len(found)} classes, as {found[0]!r}, and the {network.count} classes "
                        "of the network have no names; set model.classes to their names, in the order of its outputs."
                    )
                else:
                    names = {name: name for name in found}
                    notes.append(f"labels are numbered as their names are sorted: {found[0]!r} is output 0; {ORDER}")
            self._set_classes(names)
            self.list_file = path
            self.listed, more = read_list(path, self.ids, names)
        except ValueError as error:
            raise BenchError(f"{as_text(path)} can't be read: {why(error)}.") from error
        if strangers := {*self.listed.values()}.difference(names):
            raise unknown(f"class, as {as_text(path)} names it,", min(strangers), names)
        if len(self.listed) < len(self):
            more.append(f"{len(self) - len(self.listed)} of {len(self)} samples aren't in {as_text(path)}")
        self.notes += (*notes, *more)

    def _label(self, subfolders: Sequence[str], folders: str, network: NetworkClasses | None) -> None:
        """Sets the classes and `unlabelled`, and adds a note on how the images are labelled."""
        used = list(dict.fromkeys(_first(path) for path in self.ids if "/" in path))
        flat = next((path for path in self.ids if "/" not in path), None)
        names: Mapping[str, str] = {name: name for name in subfolders}
        index: Mapping[str, int] = {name: place for place, name in enumerate(subfolders)}
        fits = network is None or (network.names is None and network.count == len(subfolders))
        if network is not None and (folders == "index" or not fits):
            names, index = network.listed, network.indices(used, only_numbers=folders == "index")
        wrong = next((folder for folder in used if folder not in index), None)
        splits = {*map(str.lower, used)} <= SPLITS and all(path.count("/") > 1 for path in self.ids)
        if flat is None and wrong is None and not splits:
            self._set_classes(names)
            self._index = index
            by_text = [folder for folder in used if fits and folder.isdecimal() and int(folder) != index[folder]]
            if by_text:
                example = f"{by_text[-1]} is output {index[by_text[-1]]}"
                self.notes += (f"folders count as their texts are sorted: {example}; data.folders=index takes numbers",)
            named = {folder: self.class_names[index[folder]] for folder in used if folder.isdecimal()}
            numbers = [f"{folder} is {name}" for folder, name in named.items() if folder != name]
            if numbers:
                self.notes += (f"labels are the indices in the folders' names: {first_names(numbers, MAX_SHOWN)}",)
            return
        self._set_classes({})
        counted = [int(folder) for folder in used if folder.isdecimal()]
        from_1 = network is not None and str(wrong).isdecimal() and network.count in counted
        hint = f": the folders count to {max(counted)}, its classes from 0" if from_1 else ""
        if network is not None and network.names is None and not from_1:
            hint = f": its {network.count} have no names, and there are {len(subfolders)} folders"
        self.unlabelled = f"{flat} lies in no folder" if flat else f"{wrong!r} is no class of the network{hint}"
        if splits:
            self.unlabelled = f"{', '.join(used)} are splits: set data.root={as_text(self.root / used[-1])}"
        self.notes += (
            f"the images of {self.name!r} have no labels ({self.unlabelled}; {LABELS}), so metrics that need labels, "
            "or boxes or masks of the data, have no value",
        )

    def is_upright(self, index: int) -> bool:
        return True

    def labels(self, index: int) -> tuple[int, ...]:
        if self.listed is not None:
            label = self.listed.get(self.ids[index])
            return () if label is None else (self._index[label],)
        return () if self.unlabelled else (self._index[_first(self.ids[index])],)


def _first(path: str) -> str:
    return path.partition("/")[0]
