"""Images in a folder of one class: of every mode and format, damaged, far too large, and what only is called as one.

Every file has a row or the status `bad_image`; the pixels of what is intact are those of a literal replica.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

import numpy as np
from PIL import Image

from axiom_bench.data.base import BadImage
from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.formats.file_names import as_name, as_text
from axiom_bench.data.layouts.folder import Folder
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError

from ..case import Case, Kind
from . import odd_files, pictures
from .pictures import Made

PREPROCESSING = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
MAX_GROWTH = 400 * 2**10  # kB of the process: a bomb would take gigabytes

MAKERS: tuple[Callable[[Case], Made], ...] = (
    pictures.of_a_mode,
    pictures.damaged_file,
    pictures.truncated,
    pictures.bomb,
    pictures.turned,
    pictures.extreme,
    pictures.animated,
    pictures.with_odd_extras,
    odd_files.no_file,
    odd_files.odd_name,
)


def attempt(case: Case) -> None:
    folder = case.folder / "class"
    folder.mkdir()
    image = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    image.save(folder / "good.png")
    made = case.random.choice(MAKERS)(case)
    case.say(made.what)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bad = _bad_images(case)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH, "it took memory"
    assert "class/good.png" not in bad, "the good image beside it is lost"
    image_id = f"class/{as_text(os.fsdecode(made.name))}"
    if image_id in bad:
        assert made.may_be_bad, f"refused: {bad[image_id]}"
        raise BenchError(str(bad[image_id]))
    assert not made.must_be_bad, "read, and it should not have been"
    pixels = np.asarray(open_rgb(folder / os.fsdecode(made.name), "again"))
    if made.pixels is not None:
        assert pixels.shape == made.pixels.shape, f"{pixels.shape} pixels, not {made.pixels.shape}"
        difference = np.abs(pixels.astype(int) - made.pixels.astype(int)).max()
        assert difference <= made.tolerance, f"pixels differ by {difference}"


def _bad_images(case: Case) -> dict[str, BadImage]:
    """The bad images by id, after every file was found to have one row or one status."""
    data = Folder(case.folder)
    names = [f"class/{as_text(os.fsdecode(name))}" for name in os.listdir(os.fsencode(case.folder / "class"))]
    assert data.ids == tuple(sorted(names)), f"{data.ids} of {names}"
    assert [os.path.basename(as_name(image_id)) in os.listdir(case.folder / "class") for image_id in data.ids]
    rows: list[str] = []
    bad: dict[str, BadImage] = {}
    for item in batches(data, range(len(data)), PREPROCESSING, "label", 4):
        if isinstance(item, BadImage):
            bad[item.image_id] = item
        else:
            assert item.images.isfinite().all(), "values that aren't finite"
            rows += item.image_ids
    assert sorted([*rows, *bad]) == list(data.ids), "an image has no row and no status, or two"
    for index in range(len(data)):
        assert data.fingerprint(index) == data.fingerprint(index)
    return bad


KIND = Kind(attempt, share=140)
