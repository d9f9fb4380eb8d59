"""Any folder of images in torchvision's ImageFolder layout: <class>/<image>; labels, but no boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from axiom_bench.data.base import Sample
from axiom_bench.data.formats.files import as_name, as_text, listed
from axiom_bench.data.layouts.bases import ImageFiles, existing, images_in_folders
from axiom_bench.data.layouts.classes import Classes, class_list
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import File, Name

LAYOUT = "the ImageFolder layout <root>/<class>/<image>.jpg (or .png, ...)"
FOLDERS = ("name", "index")


class Folder(ImageFiles):
    """ids: "class/image.jpg". Without `classes` the class index is the place among the sorted folder names.

    With `classes` (a list or a file, see `class_list`) their order is the index, and other folders are left out.
    folders: whether a folder is called by its class's name, or by its class's index from 0, as ImageNet-V2's are; their
    classes must then be given, since "10" sorts before "2", and a missing class would number the others anew.
    Raises BenchError where there are no images, or a folder of indices is called otherwise.
    """

    def __init__(
        self, root: File | Path, classes: Classes | None = None, folders: Name = "name", name: Name = "folder"
    ) -> None:
        self.root, self.name = existing(Path(root), LAYOUT), name
        if folders not in FOLDERS:
            raise unknown("naming of folders", folders, FOLDERS)
        subfolders = [as_text(name) for name, is_folder in listed(self.root) if is_folder]
        if folders == "index" and classes is None:
            raise BenchError("data.folders=index needs data.classes, the classes in the order of their indices.")
        self._set_classes(class_list(classes) if classes is not None else {name: name for name in subfolders})
        if folders == "index":
            self._index = _indices(self.root, subfolders, len(self.classes))
        self.ids = images_in_folders(self.root, self._index)
        if not self.ids:
            raise BenchError(
                f"There are no images in {self.root}; expected {LAYOUT}, with data.classes naming folders."
            )

    def path(self, index: int) -> Path:
        return self.root / as_name(self.ids[index])

    def labels(self, index: int) -> tuple[int, ...]:
        return (self._index[self.ids[index].partition("/")[0]],)

    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        return Sample(image, self.ids[index], label=self.labels(index)[0])


def _indices(root: Path, folders: Sequence[str], number_of_classes: int) -> dict[str, int]:
    """{folder: the class index it is called by}. Raises BenchError for a folder that is no index of a class."""
    wrong = [folder for folder in folders if not (folder.isdecimal() and int(folder) < number_of_classes)]
    if wrong:
        raise BenchError(
            f"{root / wrong[0]} is no class index from 0 to {number_of_classes - 1}; "
            "set data.folders=name for folders that are called by their classes."
        )
    return {folder: int(folder) for folder in folders}
