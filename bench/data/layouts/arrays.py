"""Samples that are arrays (C, *space): signals, volumes, videos, and images of any channels.

They are files of their own, or all in one file. Pickles are never loaded.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from posixpath import dirname
from typing import Literal

import numpy as np

from axiom_bench.data.base import BACKGROUND, BadImage, Files
from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.formats.files import (
    as_name,
    as_text,
    lines_of,
    listed_file,
    open_regular,
    reason_of,
    short_repr,
)
from axiom_bench.data.layouts.classes import Classes, NetworkClasses, class_list, index_of_classes
from axiom_bench.data.layouts.folder import labelled_table, list_file
from axiom_bench.data.layouts.label_files import (
    ARRAYS,
    classes_of_labels,
    columns_of,
    index_images_by_name,
    named_image,
)
from axiom_bench.data.layouts.packed import clip_note, note_of, numbered_classes
from axiom_bench.data.layouts.table import Note, Row, Size, Table
from axiom_bench.data.layouts.trees import existing_folder, image_files
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import File, Name

TABLES = (".npz", ".safetensors")
LAYOUT = (
    "<root>/<class>/<sample>.npy (or .nii, .nii.gz, .wav, or a folder of frames), or a file .npz "
    "or .safetensors with images and labels"
)
FIRST, LAST, NONE = "first", "last", "none"
SPLITS = ("train", "val", "test")  # in names of MedMNIST's arrays
CORNERS = ("x0", "y0", "z0", "x1", "y1", "z1")  # headings of a list
HEADER = 65_536  # bytes of a .wav file in which its format is looked for
MOST_HEADERS = 1_000  # samples, spread over all, whose scale is read before a run
MAX_TRIED = 16  # samples that can't be read, one after another
Network = Callable[..., NetworkClasses] | None  # called with the shape of the samples
Values = np.ndarray


def arrays(
    root: File | Path,
    channels: Name | None = None,
    split: Name | None = None,
    labels: File | None = None,
    classes: Classes | None = None,
    name: Name = "arrays",
    network: Network = None,
) -> Table:
    """Return the samples of a folder, or of one file.

    Args:
        root: The folder, or a file .npz or .safetensors.
        channels: The place of the channels in an array: "first", "last" or "none". None for the
            format's own place, which is first in .npy, .npz and .safetensors.
        split: The split of a file with MedMNIST's names.
        labels: A list of files with their classes, and boxes in columns CORNERS; None for
            labels.csv in the folder, or for folders as labels.
        classes: The classes in the order of their indices, see `class_list`.
        name: The name of the data set.
        network: Returns the classes of the network, for samples of a shape.

    Raises:
        BenchError: For problems that concern all samples.
    """
    if channels not in (None, FIRST, LAST, NONE):
        raise unknown_name("place of channels", channels, (FIRST, LAST, NONE))
    # one file may hold all samples
    if str(root).lower().endswith(TABLES):
        return _of_file(Path(root), channels, split, classes, name, network)
    if split is not None:
        raise BenchError(
            f"data.split={split} is of a file {' or '.join(TABLES)}; set data.root to a split's "
            "folder."
        )
    return _of_folder(Path(root), channels, labels, classes, name, network)


def _of_folder(
    root: Path,
    channels: str | None,
    labels: str | None,
    classes: Classes | None,
    name: str,
    network: Network,
) -> Table:
    """Return the samples of a folder.

    Ids are paths below the root, "class/sample.npy", or paths of folders with frames. Samples have
    labels like photographs in a folder, or by a list.
    """
    existing_folder(root, LAYOUT)
    if labels is None and (root / "labels.csv").is_file():
        labels = str(root / "labels.csv")
    samples, other_files = image_files(root, ARRAYS)
    if not samples:
        # No file is an array: each folder with frames is a sample.
        samples = sorted({dirname(path) for path in image_files(root)[0]} - {""})
        other_files = "" if samples else other_files
    table = labelled_table(
        module=__name__,
        name=name,
        root=root,
        layout=LAYOUT,
        found=(samples, other_files),
        classes=classes,
        folders="name",
        network=None if network is None else lambda: network(_shape(root, samples, channels)),
        labels=labels,
    )
    notes: dict[str, Note] = {}
    if labels is not None:
        boxes = _boxes_of(list_file(root, labels), table.ids)
        for sample, sample_labels in zip(table.ids, table.known_labels or (), strict=True):
            if sample_labels:
                notes[sample] = note_of(sample_labels[0], boxes[sample], {})
    table.shape = _shape(root, table.ids, channels)
    table.row = partial(_row, root, table.ids, notes, channels, table.shape)
    table.notes += _scales(root, table.ids)
    table.orientation = ""
    return table


def _row(
    root: Path,
    ids: Sequence[str],
    notes: Mapping[str, Note],
    channels: str | None,
    shape: tuple[int, ...],
    index: int,
) -> Row:
    """Return the row of the sample at this index, a file of its own or frames."""
    image_id = ids[index]
    files = _files(root, image_id)

    def values() -> Values:
        image = _read(root, image_id, files, channels)
        # Samples may differ in length, but the network takes one number of channels and axes.
        if (len(image), image.ndim) != (shape[0], len(shape)):
            raise BadImage(
                image_id, f"its shape is {image.shape}, and that of the first sample {shape}"
            )
        return image

    note = notes.get(image_id)
    return Row(
        files,
        annotate=None if note is None else partial(clip_note, note, image_id),
        facts=lambda: f"{channels} {note}",
        values=values,
    )


def _files(root: Path, sample: str) -> Files:
    """Return the file of a sample, or its frames by their numbers."""
    path = listed_file(root, as_name(sample))
    frames = [path]
    if path.is_dir():
        frames = [path / as_name(name) for name in image_files(path)[0]]

    def padded_numbers(frame: Path) -> list[str]:
        return [part.zfill(9) for part in re.split(r"(\d+)", frame.name)]

    return tuple(sorted(frames, key=padded_numbers))


def _read(root: Path, sample: str, files: Files, channels: str | None) -> Values:
    """Return a sample (C, *space). Raise BadImage if it can't be read."""
    path = listed_file(root, as_name(sample))
    try:
        if files != (path,):
            return _video([np.asarray(open_rgb(frame, frame.name)) for frame in files])
        open_regular(path).close()  # a pipe would be waited for
        reader = {".npy": _npy, ".wav": _sound}.get(path.suffix.lower(), _volume)
        return as_sample(*reader(path, channels))
    except BenchError:
        raise
    except Exception as error:  # what libraries raise for damaged files is not documented
        raise BadImage(sample, f"can't be read: {_why(error)}") from error


def _shape(root: Path, samples: Sequence[str], channels: str | None) -> tuple[int, ...]:
    """Return the shape of the first sample that can be read.

    The network and its preprocessing must know the shape before the run.

    Raises:
        BenchError: If none of the first samples can be read.
    """
    errors = []
    for sample in samples[:MAX_TRIED]:
        try:
            return _read(root, sample, _files(root, sample), channels).shape
        except BadImage as bad:
            errors.append(bad)
    raise BenchError(
        f"None of the first {len(errors)} samples in {as_text(root)} can be read: {errors[0]}."
    )


def _scales(root: Path, samples: Sequence[str]) -> tuple[str, ...]:
    """Return a note if recordings have several sample rates, or volumes several spacings.

    The network takes numbers, not seconds or millimetres, so different scales are probably a
    mistake.
    """
    counts: Counter[str] = Counter()
    for sample in samples[:: 1 + len(samples) // MOST_HEADERS]:
        path = listed_file(root, as_name(sample))
        try:
            if path.suffix.lower() == ".wav":
                counts[_sample_rate(path)] += 1
            elif path.name.lower().endswith((".nii", ".nii.gz")):
                counts[_spacing(path)] += 1
        except Exception:  # noqa: BLE001 - damaged files are reported where they are read
            continue
    if len(counts) < 2:
        return ()
    scales = ", ".join(f"{count} of {scale}" for scale, count in sorted(counts.items()))
    return (
        f"the samples have several scales: {scales}. They are used as stored, so the same thing "
        "differs for the network: resample the files to the scale that it was trained on",
    )


def _of_file(
    path: Path,
    channels: str | None,
    split: str | None,
    classes: Classes | None,
    name: str,
    network: Network,
) -> Table:
    """Return the samples of a file. Ids are "<file>/<number from 0, nine digits>".

    The file has images (N, ...), and optionally labels (N,), masks (N, *space) and boxes. Boxes are
    (N, 2 * axes) or (N, n, 2 * axes), NaN if a sample has fewer. Masks of bool are of the sample's
    class, others of class indices and -1.
    """
    file = as_text(path)
    tables, split = _tables(path, split)
    images = tables["images"]
    masks = tables.get("masks")
    labels = tables.get("labels")
    if split:  # MedMNIST's arrays have channels only in colour images
        channels = channels or (LAST if images.ndim > 3 and images.shape[-1] == 3 else NONE)
    count = len(images) if images.ndim else 0
    if not count:
        raise BenchError(f"{file} holds no samples: its images have the shape {images.shape}.")
    try:
        shape = as_sample(np.zeros_like(images[0]), channels).shape
    except ValueError as error:
        raise BenchError(f"The images of {file}: {error}.") from error
    space = shape[1:]
    for key, form in (("masks", space), ("boxes", (2 * len(space),))):
        table = tables.get(key, np.empty((count, *form)))
        has_form = table.shape[:1] + table.shape[-len(form) :] == (count, *form)
        if not has_form or table.dtype.kind not in "bif":
            raise BenchError(
                f"{key} of {file} have the type {table.dtype} and the shape {table.shape}; give "
                f"the shape {(count, *form)}. A mask of bool marks the sample's class; a mask of "
                "whole numbers has class indices, and -1 for the background."
            )
    names: Mapping[str, str] = {}
    if classes is not None:
        names = class_list(classes)
    elif network:
        names = network(shape).names_by_class
    if labels is not None and (labels.size != count or labels.dtype.kind not in "iuU"):
        raise BenchError(
            f"labels of {file} are {labels.dtype} of the shape {labels.shape}; give each of "
            f"{count} samples one class, a whole number or a name."
        )
    sample_classes = [None] * count if labels is None else labels.reshape(count).tolist()
    if labels is not None and names:
        sample_classes = classes_of_labels([*map(str, sample_classes)], names, file)
    boxes = tables.get("boxes", np.empty((count, 0, 2))).astype(float)
    box_rows = boxes.reshape(count, -1, boxes.shape[-1]) if boxes.size else boxes
    index = index_of_classes(names)
    notes = []
    for label, sample_boxes in zip(sample_classes, box_rows, strict=True):
        existing_boxes = [box.tolist() for box in sample_boxes if not np.isnan(box).all()]
        notes.append(note_of(label, existing_boxes, index))
    prefix = f"{as_text(path.name)}/{f'{split}/' if split else ''}"
    ids = tuple(f"{prefix}{number:09d}" for number in range(count))
    sample_labels = tuple(note.labels for note in notes)
    return Table(
        __name__,
        name,
        ids,
        numbered_classes(name, names, ids, sample_labels),
        sample_labels,
        row=partial(_file_row, path, ids, notes, images, masks, channels),
        unlabelled=f"{file} holds no labels" if labels is None else "",
        orientation="",
        shape=shape,
    )


def _file_row(
    path: Path,
    ids: Sequence[str],
    notes: Sequence[Note],
    images: Values,
    masks: Values | None,
    channels: str | None,
    index: int,
) -> Row:
    """Return the row of the sample at this index of a file that holds all samples."""
    image_id = ids[index]
    note = notes[index]
    mask = None if masks is None else masks[index]

    def values() -> Values:
        try:
            return as_sample(images[index], channels)
        except ValueError as error:
            raise BadImage(image_id, str(error)) from error

    def annotation(size: Size) -> Note:
        cut_note = clip_note(note, image_id, size)
        if mask is None:
            return cut_note
        if mask.dtype.kind != "b":
            return replace(cut_note, mask=mask.astype(np.int64))
        # A mask of bool shows the sample's own class.
        label = BACKGROUND if note.label is None else note.label
        return replace(cut_note, mask=np.where(mask, label, BACKGROUND))

    def contents() -> tuple[bytes, ...]:
        image: bytes = images[index].tobytes()
        return (image,) if mask is None else (image, mask.tobytes())

    return Row(
        (path,),
        annotation,
        facts=lambda: f"{channels} {note}",
        contents=contents,
        part=f"{image_id} ",
        values=values,
    )


def as_sample(values: Values, channels: str | None) -> Values:
    """Return (C, *space), floats as float32 and whole numbers in a type that torch has.

    Raises:
        ValueError: For an array that can't be a sample, and for values that aren't finite.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"it holds {values.dtype}, not numbers")
    shape = values.shape
    if channels == NONE or values.ndim == 1:
        values = values[None]
    elif channels == LAST:
        values = np.moveaxis(values, -1, 0)
    if not 2 <= values.ndim <= 4 or not values.size:
        raise ValueError(
            f"a sample of the shape {shape} with data.channels={channels or FIRST} isn't (C, L), "
            "(C, H, W) or (C, D, H, W); set data.channels, or save it so"
        )
    kind = values.dtype.kind
    size = values.dtype.itemsize
    # torch has only one unsigned type. Others become signed, with twice the bits if possible.
    unsigned = "u1" if size == 1 else f"i{min(8, 2 * size)}"
    dtype_by_kind = {"f": "f4", "b": "u1", "u": unsigned}
    values = np.ascontiguousarray(values, dtype=dtype_by_kind.get(kind, f"i{size}"))
    if not_finite := values.size - int(np.isfinite(values).sum()):
        raise ValueError(f"{not_finite} of {values.size} values are NaN or infinite")
    return values


def _npy(path: Path, channels: str | None) -> tuple[Values, str | None]:
    """Read the array of a .npy file."""
    with open_regular(path) as file:
        return np.lib.format.read_array(file, allow_pickle=False), channels


def _sound(path: Path, channels: str | None) -> tuple[Values, str | None]:
    """Read a recording in [-1, 1], as torchaudio and librosa do: divided by the largest number."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)
        warnings.filterwarnings("error", "Reached EOF")  # a file that is cut short
        _, values = wavfile.read(path)
    if values.dtype.kind in "iu":
        half = 2.0 ** (8 * values.dtype.itemsize - 1)
        offset = half if values.dtype.kind == "u" else 0
        values = (values.astype(np.float64) - offset) / half
    return values, LAST


def _sample_rate(path: Path) -> str:
    """Read the samples per second from a .wav file's header, or raise ValueError without one."""
    with open_regular(path) as file:
        header = file.read(HEADER)
    start = header.index(b"fmt ") + 12
    order: Literal["big", "little"] = "big" if header.startswith(b"RIFX") else "little"
    rate = int.from_bytes(header[start : start + 4], order)
    return f"{rate:,} Hz sample rate"


def _spacing(path: Path) -> str:
    """Read the voxel spacing and the orientation of the axes from a NIfTI file's header."""
    import nibabel

    image = nibabel.load(path)
    spacing = " x ".join(f"{size:.3g}" for size in image.header.get_zooms()[:3])
    axes = "".join(map(str, nibabel.aff2axcodes(image.affine)))
    return f"{spacing} mm voxel spacing, axes {axes}"


def _volume(path: Path, channels: str | None) -> tuple[Values, str | None]:
    """Read the values of a NIfTI file; its fourth axis, if any, is that of channels."""
    try:
        import nibabel
    except ImportError as error:
        raise BenchError(
            "NIfTI files need nibabel: pip install '.[nifti]' in axiom-bench's checkout."
        ) from error
    values = nibabel.load(path).get_fdata(dtype=np.float32)
    return values, channels or (LAST if values.ndim > 3 else NONE)


def _video(frames: list[Values]) -> Values:
    """Return (3, T, H, W) of bytes. Raise ValueError for frames of several sizes."""
    if sizes := {frame.shape for frame in frames[1:]} - {frames[0].shape}:
        raise ValueError(
            f"its frames have the sizes {frames[0].shape[:2]} and {sizes.pop()[:2]}; give them one"
        )
    return np.ascontiguousarray(np.moveaxis(np.stack(frames), -1, 0))


def _tables(path: Path, split: str | None) -> tuple[dict[str, Values], str | None]:
    """Read the arrays images, labels, masks and boxes that a file has, and return its split.

    The split is None if the file doesn't have MedMNIST's names.
    """
    from safetensors import safe_open

    is_npz = path.suffix.lower() == ".npz"
    try:
        open_regular(path).close()
        with np.load(path, allow_pickle=False) if is_npz else safe_open(path, "np") as file:
            names = list(file.keys())
            splits = [name for name in SPLITS if f"{name}_images" in names]
            # MedMNIST's files have arrays for each split. Without data.split the last one counts.
            if split is None and "images" not in names and splits:
                split = splits[-1]
            prefix = "" if split is None else f"{split}_"
            get = file.__getitem__ if is_npz else file.get_tensor
            keys = [key for key in ("images", "labels", "masks", "boxes") if prefix + key in names]
            tables = {key: np.asarray(get(prefix + key)) for key in keys}
    except Exception as error:
        raise BenchError(f"{as_text(path)} can't be read: {_why(error)}.") from error
    if "images" not in tables:
        by_split = f"set data.split to {' or '.join(splits)}"
        hint = by_split if splits else "call its arrays images, labels, masks, boxes"
        raise BenchError(
            f"{as_text(path)} holds {', '.join(names[:8])}, and no {prefix}images; {hint}."
        )
    return tables, split


def _why(error: Exception) -> str:
    """Return the reason of an error in plain words."""
    text = reason_of(error)
    if "pickle" in text:
        return "it holds Python objects, which are never loaded; save numbers"
    return text


def _boxes_of(path: Path, samples: Sequence[str]) -> defaultdict[str, list[list[float]]]:
    """Return {sample: its boxes} of a list with columns CORNERS.

    Raises:
        BenchError: For a cell that is no number.
    """
    boxes = defaultdict[str, list[list[float]]](list)
    head, *rows = columns_of(lines_of(path, "The list of labels"))[0]
    samples_by_name = index_images_by_name(samples)
    corner_columns = []
    for name in CORNERS:
        for column, cell in enumerate(head):
            if cell.strip().lower() == name:
                corner_columns.append(column)
    for row in rows:
        # A sample may have several rows, one for each box, and rows without a box.
        cells = [row[column] for column in corner_columns if column < len(row)]
        sample = next(filter(None, (named_image(cell, samples_by_name) for cell in row)), None)
        if sample is None or not cells or not all(cells):
            continue
        try:
            boxes[sample].append([float(cell) for cell in cells])
        except ValueError as error:
            raise BenchError(
                f"{as_text(path)} has the box {short_repr(cells)} of {sample}; give numbers."
            ) from error
    return boxes
