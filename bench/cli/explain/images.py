"""The images that a command line names: files, and all images below folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from axiom_bench.data.base import BadImage
from axiom_bench.data.decoding import SUFFIXES, open_rgb
from axiom_bench.data.files import image_files
from axiom_bench.errors import BenchError

UPRIGHT = 1  # the EXIF orientation of a picture that is stored as it is shown


def image_paths(names: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files, each once, and a sentence for each folder without images."""
    paths: dict[Path, Path] = {}
    problems = []
    for name in names:
        listed = [name / file for file in image_files(name)] if name.is_dir() else [name]
        if not listed:
            suffixes = ", ".join(sorted(SUFFIXES))
            problems.append(f"There are no images in the folder {name}; it has no file that ends in {suffixes}.")
        for path in listed:
            paths.setdefault(path.resolve(), path)
    return list(paths.values()), problems


def open_upright(path: Path) -> tuple[Image.Image, bool]:
    """The RGB image as it is looked at, and whether its EXIF orientation turned it.

    Data sets aren't turned, since their boxes are in pixels as stored; here a reader compares the map with what a
    viewer of photographs shows. Raises BenchError where the file can't be read as an image.
    """
    if path.exists() and not path.is_file():
        raise BenchError(f"The image {path} is no regular file.")
    try:
        image = open_rgb(path, str(path))
    except BadImage as error:
        raise BenchError(f"The image {error}.") from error
    orientation = _orientation(path)
    if orientation == UPRIGHT:
        return image, False
    image.getexif()[ExifTags.Base.Orientation] = orientation  # decoding to RGB may have dropped it
    turned = ImageOps.exif_transpose(image)
    return turned, True


def _orientation(path: Path) -> int:
    """The EXIF orientation; upright where there is none, or none that EXIF knows."""
    with Image.open(path) as stored:
        orientation = stored.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    return orientation if orientation in range(1, 9) else UPRIGHT


def unique_names(paths: Sequence[Path]) -> Iterator[str]:
    """A name for each path: its stem, with a number from the second of one stem on.

    >>> list(unique_names([Path("a/cat.jpg"), Path("b/cat.png"), Path("dog.jpg")]))
    ['cat', 'cat-2', 'dog']
    """
    used: set[str] = set()
    for path in paths:
        name, number = path.stem, 1
        while name.lower() in used:
            number += 1
            name = f"{path.stem}-{number}"
        used.add(name.lower())
        yield name
