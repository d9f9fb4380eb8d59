"""Samples that are arrays (C, *space): signals, volumes, videos, and images of any number of channels, as files of
their own or in one. Pickles are never loaded."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from posixpath import dirname
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.data.base import BACKGROUND, BadImage, DataSet, Files, Least, Sample
from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.formats.files import as_name, as_text, lines_of, open_regular, shown, why
from axiom_bench.data.layouts.bases import Entry, Note, NotedImages, existing, image_files
from axiom_bench.data.layouts.classes import Classes, NetworkClasses, class_list
from axiom_bench.data.layouts.folder import Folder
from axiom_bench.data.layouts.label_files import ARRAYS, by_name, columns_of, meant, named_image
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import File, Name

TABLES = (".npz", ".safetensors")
LAYOUT = (
    "<root>/<class>/<sample>.npy (or .nii, .nii.gz, .wav, or a folder of frames), or a file .npz or .safetensors with "
    "images and labels"
)
FIRST, LAST, NONE = "first", "last", "none"
SPLITS = ("train", "val", "test")  # in names of MedMNIST's arrays
CORNERS = ("x0", "y0", "z0", "x1", "y1", "z1")  # headings of a list
HEADER = 65_536  # bytes of a .wav file in which its format is looked for
MOST_HEADERS = 1_000  # samples, spread over all, whose scale is read before a run
MAX_TRIED = 16  # samples that can't be read, one after another
Network = Callable[..., NetworkClasses] | None  # called with the shape of the samples
Values = NDArray[Any]


def arrays(
    root: File | Path,
    channels: Name | None = None,
    split: Name | None = None,
    labels: File | None = None,
    classes: Classes | None = None,
    name: Name = "arrays",
    network: Network = None,
) -> DataSet:
    """The samples of a folder, or of one file. channels: where an array has them; None: as its format has them, and
    first in .npy, .npz and .safetensors. split: of a file with MedMNIST's names. labels: a list of files with their
    classes, and boxes in columns CORNERS; None: labels.csv in the folder, or folders. network: its classes, for samples
    of a shape. Raises BenchError for what concerns all samples."""
    if channels not in (None, FIRST, LAST, NONE):
        raise unknown("place of channels", channels, (FIRST, LAST, NONE))
    if str(root).lower().endswith(TABLES):
        return ArrayFile(Path(root), channels, split, classes, name, network)
    if split is not None:
        raise BenchError(f"data.split={split} is of a file {' or '.join(TABLES)}; set data.root to a split's folder.")
    return ArrayFolder(Path(root), channels, labels, classes, name, network)


class ArrayFolder(Folder):
    """ids: paths below the root, "class/sample.npy", or of folders with frames. Labels as of photographs in a folder,
    or by a list."""

    layout, orientation = LAYOUT, ""

    def __init__(
        self, root: Path, channels: str | None, labels: str | None, classes: Classes | None, name: str, network: Network
    ) -> None:
        self.channels, self._notes = channels, dict[str, Note]()
        if labels is None and (existing(root, LAYOUT) / "labels.csv").is_file():
            labels = str(root / "labels.csv")
        of_network = None if network is None else lambda: network(self.shape)
        super().__init__(root, classes, name=name, network=of_network, labels=labels)
        self.notes += self._scales()
        if self.listed is not None:
            boxes = _boxes_of(self.list_file, self.ids)
            self._notes = {sample: Note.of(label, boxes[sample], self._index) for sample, label in self.listed.items()}

    def _listed(self) -> tuple[list[str], str]:
        samples, others = image_files(self.root, ARRAYS)
        if samples:
            return samples, others
        frames = sorted({dirname(path) for path in image_files(self.root)[0]} - {""})
        return frames, "" if frames else others

    def _scales(self) -> tuple[str, ...]:
        """Return a note if recordings have several sample rates, or volumes several spacings or orientations."""
        counts: Counter[str] = Counter()
        for index in range(0, len(self), 1 + len(self) // MOST_HEADERS):
            path = self.path(index)
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
            f"the samples have several scales: {scales}. They are used as stored, so the same thing differs for the "
            "network: resample the files to the scale that it was trained on",
        )

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the first sample that can be read. Raises BenchError where none of the first can."""
        wrong = []
        for index in range(min(MAX_TRIED, len(self))):
            try:
                return self._array(index).shape
            except BadImage as bad:
                wrong.append(bad)
        raise BenchError(f"None of the first {len(wrong)} samples in {as_text(self.root)} can be read: {wrong[0]}.")

    def labels(self, index: int) -> tuple[int, ...]:
        return self._notes.get(self.ids[index], Note()).labels if self._notes else super().labels(index)

    def meaning(self, index: int) -> str:
        return f"{self.channels} {self._notes.get(self.ids[index])}"

    def files(self, index: int) -> Files:
        path = self.path(index)
        frames = [path / as_name(name) for name in image_files(path)[0]] if path.is_dir() else [path]
        return tuple(sorted(frames, key=lambda frame: [part.zfill(9) for part in re.split(r"(\d+)", frame.name)]))

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        image, image_id = self._array(index), self.ids[index]
        if (len(image), image.ndim) != (self.shape[0], len(self.shape)):
            raise BadImage(image_id, f"its shape is {image.shape}, and that of the first sample {self.shape}")
        note = self._notes.get(image_id, Note(next(iter(self.labels(index)), None)))
        return note.sample(image, image_id, image.shape[:0:-1])

    def _array(self, index: int) -> Values:
        path = self.path(index)
        try:
            if path.is_dir():
                return _video([np.asarray(open_rgb(frame, frame.name)) for frame in self.files(index) if frame])
            open_regular(path).close()  # a pipe would be waited for
            reader = {".npy": _npy, ".wav": _sound}.get(path.suffix.lower(), _volume)
            return numbers(*reader(path, self.channels))
        except BenchError:
            raise
        except Exception as error:  # what libraries raise for damaged files is not documented
            raise BadImage(self.ids[index], f"can't be read: {_why(error)}") from error


class ArrayFile(NotedImages):
    """ids: "<file>/<number from 0, nine digits>". Arrays: images (N, ...), and where they are there labels (N,), masks
    (N, *space) and boxes (N, 2 * axes) or (N, n, 2 * axes), NaN where there are fewer. Masks of bool are of the
    sample's class, others of class indices and -1."""

    orientation = ""

    def __init__(
        self, path: Path, channels: str | None, split: str | None, classes: Classes | None, name: str, network: Network
    ) -> None:
        self.name, self.paths, file = name, {path.name: path}, as_text(path)
        tables, split = _tables(path, split)
        self.images, self.masks, labels = tables["images"], tables.get("masks"), tables.get("labels")
        if split:  # MedMNIST's
            channels = channels or (LAST if self.images.ndim > 3 and self.images.shape[-1] == 3 else NONE)
        self.channels, count = channels, len(self.images) if self.images.ndim else 0
        if not count:
            raise BenchError(f"{file} holds no samples: its images have the shape {self.images.shape}.")
        try:
            self._shape = numbers(np.zeros_like(self.images[0]), channels).shape
        except ValueError as error:
            raise BenchError(f"The images of {file}: {error}.") from error
        space = self._shape[1:]
        for key, form in (("masks", space), ("boxes", (2 * len(space),))):
            table = tables.get(key, np.empty((count, *form)))
            if table.shape[:1] + table.shape[-len(form) :] != (count, *form) or table.dtype.kind not in "bif":
                raise BenchError(
                    f"{key} of {file} are {table.dtype} of the shape {table.shape}; give {(count, *form)}, "
                    "masks as bool, of the sample's class, or as whole numbers, class indices and -1."
                )
        self._set_classes(class_list(classes) if classes is not None else network(self.shape).listed if network else {})
        if labels is None:
            self.unlabelled = f"{file} holds no labels"
        elif labels.size != count or labels.dtype.kind not in "iuU":
            raise BenchError(
                f"labels of {file} are {labels.dtype} of the shape {labels.shape}; give each of {count} samples one "
                "class, a whole number or a name."
            )
        named = [None] * count if labels is None else labels.reshape(count).tolist()
        if labels is not None and self.classes:
            named = meant([*map(str, named)], dict(zip(self.classes, self.class_names, strict=True)), file)
        boxes = tables.get("boxes", np.empty((count, 0, 2))).astype(float)
        rows = boxes.reshape(count, -1, boxes.shape[-1]) if boxes.size else boxes
        self._take(
            {
                f"{as_text(path.name)}/{f'{split}/' if split else ''}{place:09d}": Entry(
                    path.name,
                    place,
                    Note.of(label, [box.tolist() for box in of_row if not np.isnan(box).all()], self._index),
                )
                for place, (label, of_row) in enumerate(zip(named, rows, strict=True))
            },
            "it is empty",
            LAYOUT,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def at(self, entry: Entry) -> bytes:
        content: bytes = self.images[entry.place].tobytes()
        return content

    def annotation(self, index: int) -> tuple[bytes | None, ...]:
        return () if self.masks is None else (self.masks[self.entries[index].place].tobytes(),)

    def meaning(self, index: int) -> str:
        return f"{self.channels} {super().meaning(index)}"

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        entry, mask = self.entries[index], None
        try:
            image = numbers(self.images[entry.place], self.channels)
        except ValueError as error:
            raise BadImage(self.ids[index], str(error)) from error
        if self.masks is not None:
            mask = self.masks[entry.place]
            label = BACKGROUND if entry.note.label is None else entry.note.label
            mask = np.where(mask, label, BACKGROUND) if mask.dtype.kind == "b" else mask.astype(np.int64)
        return entry.note.sample(image, self.ids[index], image.shape[:0:-1], mask)


def numbers(values: Values, channels: str | None) -> Values:
    """(C, *space), floats as float32 and whole numbers in a type that torch has. Raises ValueError for what can't be a
    sample, and for values that aren't finite."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"it holds {values.dtype}, not numbers")
    shape = values.shape
    if channels == NONE or values.ndim == 1:
        values = values[None]
    elif channels == LAST:
        values = np.moveaxis(values, -1, 0)
    if not 2 <= values.ndim <= 4 or not values.size:
        raise ValueError(
            f"a sample of the shape {shape} with data.channels={channels or FIRST} isn't (C, L), (C, H, W) or "
            "(C, D, H, W); set data.channels, or save it so"
        )
    kind, size = values.dtype.kind, values.dtype.itemsize
    of_kind = {"f": "f4", "b": "u1", "u": "u1" if size == 1 else f"i{min(8, 2 * size)}"}
    values = np.ascontiguousarray(values, dtype=of_kind.get(kind, f"i{size}"))
    if wrong := values.size - int(np.isfinite(values).sum()):
        raise ValueError(f"{wrong} of {values.size} values are NaN or infinite")
    return values


def _npy(path: Path, channels: str | None) -> tuple[Values, str | None]:
    with open_regular(path) as file:
        return np.lib.format.read_array(file, allow_pickle=False), channels


def _sound(path: Path, channels: str | None) -> tuple[Values, str | None]:
    """In [-1, 1], as torchaudio and librosa give it: whole numbers are divided by the largest."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)
        warnings.filterwarnings("error", "Reached EOF")  # a file that is cut short
        _, values = wavfile.read(path)
    if values.dtype.kind in "iu":
        half = 2.0 ** (8 * values.dtype.itemsize - 1)
        values = (values.astype(np.float64) - (half if values.dtype.kind == "u" else 0)) / half
    return values, LAST


def _sample_rate(path: Path) -> str:
    """Read the samples per second from a .wav file's header. Raises ValueError without one."""
    with open_regular(path) as file:
        header = file.read(HEADER)
    rate = header.index(b"fmt ") + 12
    return (
        f"{int.from_bytes(header[rate : rate + 4], 'big' if header.startswith(b'RIFX') else 'little'):,} Hz sample rate"
    )


def _spacing(path: Path) -> str:
    """Read the voxel spacing and the orientation of the axes from a NIfTI file's header."""
    import nibabel

    image = nibabel.load(path)
    spacing = " x ".join(f"{size:.3g}" for size in image.header.get_zooms()[:3])
    return f"{spacing} mm voxel spacing, axes {''.join(map(str, nibabel.aff2axcodes(image.affine)))}"


def _volume(path: Path, channels: str | None) -> tuple[Values, str | None]:
    """A fourth axis is that of channels."""
    try:
        import nibabel
    except ImportError as error:
        raise BenchError("NIfTI files need nibabel: pip install '.[nifti]' in axiom-bench's checkout.") from error
    values = nibabel.load(path).get_fdata(dtype=np.float32)
    return values, channels or (LAST if values.ndim > 3 else NONE)


def _video(frames: list[Values]) -> Values:
    """(3, T, H, W), bytes. Raises ValueError for frames of several sizes."""
    if sizes := {frame.shape for frame in frames[1:]} - {frames[0].shape}:
        raise ValueError(f"its frames have the sizes {frames[0].shape[:2]} and {sizes.pop()[:2]}; give them one")
    return np.ascontiguousarray(np.moveaxis(np.stack(frames), -1, 0))


def _tables(path: Path, split: str | None) -> tuple[dict[str, Values], str | None]:
    """({images, labels, masks, boxes: array} of those that a file has, the split where it has MedMNIST's names)."""
    from safetensors import safe_open

    is_npz = path.suffix.lower() == ".npz"
    try:
        open_regular(path).close()
        with np.load(path, allow_pickle=False) if is_npz else safe_open(path, "np") as file:
            names = list(file.keys())
            splits = [each for each in SPLITS if f"{each}_images" in names]
            if split is None and "images" not in names and splits:
                split = splits[-1]
            prefix = "" if split is None else f"{split}_"
            get = file.__getitem__ if is_npz else file.get_tensor
            wanted = [key for key in ("images", "labels", "masks", "boxes") if prefix + key in names]
            tables = {key: np.asarray(get(prefix + key)) for key in wanted}
    except Exception as error:
        raise BenchError(f"{as_text(path)} can't be read: {_why(error)}.") from error
    if "images" not in tables:
        hint = f"set data.split to {' or '.join(splits)}" if splits else "call its arrays images, labels, masks, boxes"
        raise BenchError(f"{as_text(path)} holds {', '.join(names[:8])}, and no {prefix}images; {hint}.")
    return tables, split


def _why(error: Exception) -> str:
    text = why(error)
    return "it holds Python objects, which are never loaded; save numbers" if "pickle" in text else text


def _boxes_of(path: Path, samples: Sequence[str]) -> defaultdict[str, list[list[float]]]:
    """{sample: its boxes} of a list with columns CORNERS. Raises BenchError for a cell that is no number."""
    boxes = defaultdict[str, list[list[float]]](list)
    (head, *rows), samples_by_name = columns_of(lines_of(path, "The list of labels"))[0], by_name(samples)
    places = [place for name in CORNERS for place, cell in enumerate(head) if cell.strip().lower() == name]
    for row in rows:
        cells = [row[place] for place in places if place < len(row)]
        sample = next(filter(None, (named_image(cell, samples_by_name) for cell in row)), None)
        if sample is None or not cells or not all(cells):
            continue
        try:
            boxes[sample].append([float(cell) for cell in cells])
        except ValueError as error:
            raise BenchError(f"{as_text(path)} has the box {shown(cells)} of {sample}; give numbers.") from error
    return boxes
