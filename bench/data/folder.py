"""Any folder of images in torchvision's ImageFolder layout: <class>/<image>; labels, but no boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from bench.data.base import Sample
from bench.data.class_list import class_list
from bench.data.files import ImageFiles, existing, image_files
from bench.errors import BenchError

LAYOUT = "the ImageFolder layout <root>/<class>/<image>.jpg (or .png, ...)"


class Folder(ImageFiles):
    """ids: "class/image.jpg". Without `classes` the class index is the place among the sorted folder names.

    With `classes` (a list or a file, see `class_list`) their order is the index, and other folders are left out.
    """

    def __init__(self, root: str | Path, classes: Sequence[str] | str | None = None, name: str = "folder") -> None:
        self.root, self.name = existing(Path(root), LAYOUT), name
        folders = sorted(path.name for path in self.root.iterdir() if path.is_dir())
        self._names = class_list(classes) if classes is not None else dict(zip(folders, folders, strict=True))
        self.classes = tuple(self._names)
        self._index = {name: index for index, name in enumerate(self.classes)}
        self.ids = tuple(path for path in image_files(self.root) if path.partition("/")[0] in self._index)
        if not self.ids:
            raise BenchError(
                f"There are no images in {self.root}; expected {LAYOUT}, with data.classes naming folders."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._names.values())

    def path(self, index: int) -> Path:
        return self.root / self.ids[index]

    def labels(self, index: int) -> tuple[int, ...]:
        return (self._index[self.ids[index].partition("/")[0]],)

    def annotate(self, index: int, image: Image.Image) -> Sample:
        return Sample(image, self.ids[index], label=self.labels(index)[0])
