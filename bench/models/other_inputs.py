"""Read a network's inputs in addition to the images from a file (model.inputs), a row per image."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from posixpath import basename

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from axiom_bench.cutting.images import OtherInputs, SeveralInputs, separate_inputs
from axiom_bench.data.batch import Batch
from axiom_bench.data.formats.files import (
    as_text,
    comparable_name,
    lines_of,
    open_regular,
    reason_of,
    short_repr,
    table_of,
)
from axiom_bench.data.layouts.label_files import without_ending
from axiom_bench.errors import BenchError, plural

IDS = "ids"  # the array of a file of arrays that names the images
ARRAYS = (".npz", ".safetensors")  # the suffixes of files of arrays
# By its name: the cells of a column of a table, or an array with one row per image.
Columns = Mapping[str, Sequence[str] | Tensor]


@dataclass(frozen=True)
class InputsFile:
    """A file of a network's inputs in addition to the images."""

    name: str  # the file's name
    takes: SeveralInputs = field(compare=False, repr=False)  # how the network takes its inputs
    # The inputs in addition to the images, (N, ...) each, in the order in which they are taken.
    values: OtherInputs = field(compare=False, repr=False)
    # The image of each row; empty if the rows are in the data's order.
    ids: tuple[str, ...] = field(repr=False)
    # The row of each image of a job.
    places: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of(path: Path, network: nn.Module, image: Tensor, explained: str | None) -> InputsFile:
        """Read a file whose columns or arrays have the names of forward's arguments.

        Args:
            path: The file.
            network: The network.
            image: One image, (1, C, *space).
            explained: The argument that is the images, or its key if forward takes one dict. None
                means the argument that isn't in the file.

        Raises:
            BenchError: if the file can't be read or has other names.
        """
        ids, columns = _read(path)
        parameters = inspect.signature(network.forward).parameters
        columns_by_argument = _grouped(columns, parameters)
        rest = [name for name in parameters if name not in columns_by_argument]
        key = explained or next(iter(rest), "")
        if key not in parameters:
            # forward takes one dict: every column may be an entry, and not all must be read.
            columns_by_argument = {
                name: group
                for name, group in _grouped(columns, None).items()
                if name != key and _are_numbers(group)
            }
        required = {name for name in rest if parameters[name].default is inspect.Parameter.empty}
        if not columns_by_argument or (key in parameters and required - {key}):
            advice = ""
            if len(rest) == 1:
                advice = "; if it takes one dict, set model.explained=KEY to the key of the images"
            raise BenchError(
                f"{type(network).__name__}.forward takes {' and '.join(parameters)}, and "
                f"{as_text(path)} holds {', '.join(columns)[:200]}; call its columns or arrays as "
                f"forward calls them{advice}."
            )
        values = {
            name: _tensor(as_text(path), group) for name, group in columns_by_argument.items()
        }
        lengths = {len(value) for value in values.values()}
        if ids:
            lengths.add(len(ids))
        if len(lengths) > 1:
            sizes = ", ".join(f"{name} {len(value)}" for name, value in values.items())
            raise BenchError(
                f"The arrays of {as_text(path)} have other numbers of rows: {sizes}; give one per "
                "image."
            )
        inputs = {key: image}
        for name, value in values.items():
            inputs[name] = value[:1]
        takes, _, _ = separate_inputs(network, inputs, key)
        return InputsFile(as_text(path), takes, tuple(values.values()), ids)

    @property
    def description(self) -> str:
        """A sentence on the network's inputs, with the names, types and shapes of a batch."""
        names = (key for key in self.takes.keys if key != self.takes.explained)
        inputs = []
        for name, value in zip(names, self.values, strict=True):
            dtype = str(value.dtype).removeprefix("torch.")
            inputs.append(f"{name}, {dtype} {('B', *value.shape[1:])},".replace("'", ""))
        images = (
            f"The images are its argument {self.takes.explained!r} (another: model.explained=NAME)"
        )
        return f"{images}, and it also gets {' and '.join(inputs)} of {self.name}."

    @property
    def first(self) -> OtherInputs:
        """The inputs of one image, for a first forward pass."""
        return tuple(value[:1] for value in self.values)

    def for_images(self, images: Sequence[str], chosen: Sequence[str]) -> InputsFile:
        """Return the file with the row of each chosen image.

        A row is found by the image's id. Otherwise it is found by the file name, with or without
        its ending, if only one image has this file name.

        Args:
            images: The ids of all images of the data.
            chosen: The ids of a job's images.

        Raises:
            BenchError: if an image has no row, or two rows.
        """
        count = len(self.values[0])
        if not self.ids and count != len(images):
            raise BenchError(
                f"{self.name} holds {plural(count, 'row')} and no array {IDS!r}, and the data "
                f"hold {plural(len(images), 'image')}; give rows in the images' order, or "
                f"{IDS!r}, or a .csv whose first column names the images."
            )
        rows = dict(zip(map(comparable_name, self.ids or images), range(count), strict=True))
        if len(rows) < count:
            (twice, _), *_ = Counter(map(comparable_name, self.ids)).most_common(1)
            raise BenchError(f"{self.name} has several rows for {twice!r}; keep one of them.")
        # A file name that two images have could give one of them the other's row.
        same_names = Counter(map(basename, images))
        places = {}
        missing = []
        for image in chosen:
            file_name = basename(image)
            names = [image]
            if same_names[file_name] == 1:
                names += [file_name, without_ending(file_name)]
            place = next((rows[name] for name in map(comparable_name, names) if name in rows), None)
            if place is None:
                missing.append(image)
            else:
                places[image] = place
        if missing:
            raise BenchError(
                f"{self.name} has no row for {len(missing)} of {plural(len(chosen), 'image')}, as "
                f"{missing[0]!r}; add rows, or leave these images out by data.leave_out."
            )
        return replace(self, places=places)

    def add_to_batch(self, batch: Batch) -> Batch:
        """Return the batch with the network's inputs in addition to the images."""
        return replace(batch, other_inputs=self.rows(batch.image_ids))

    def rows(self, images: Sequence[str]) -> OtherInputs:
        """Return the inputs of these images, (B, ...) each."""
        indices = torch.tensor([self.places[image] for image in images])
        return tuple(value[indices] for value in self.values)

    def row_name(self, row: str) -> None:
        """Return None, since each row explains a class."""

    def sha256(self, image: str) -> str:
        """Return the SHA-256 of an image's row.

        It is part of the key of every value of the image.
        """
        content = b"".join(value.contiguous().numpy().tobytes() for value in self.rows([image]))
        return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> tuple[tuple[str, ...], Columns]:
    """Return the images' ids and the columns of a file."""
    if path.suffix.lower() in ARRAYS:
        return _read_arrays(path)
    lines = lines_of(path, "The file of model.inputs")
    separator, table = table_of(lines)
    if not table or any(len(row) != len(table[0]) for row in table):
        raise BenchError(
            f"The lines of {as_text(path)} have different numbers of cells; give a .csv with a "
            f"line of headings, an image's id first, or arrays in {' or '.join(ARRAYS)}."
        )
    (_, *headings), *rows = table
    # Spreadsheets write semicolons in countries where a comma is the decimal mark.
    if separator == ";":
        rows = [[first, *(cell.replace(",", ".") for cell in cells)] for first, *cells in rows]
    first_column, *columns = zip(*rows, strict=True) if rows else [()] * len(table[0])
    ids = tuple(cell.strip() for cell in first_column)
    return ids, dict(zip(map(str.strip, headings), columns, strict=True))


def _read_arrays(path: Path) -> tuple[tuple[str, ...], Columns]:
    """Return the images' ids and the numerical arrays of a file."""
    try:
        open_regular(path).close()
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        else:
            with safe_open(path, "np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except Exception as error:  # what libraries raise for damaged files is not documented
        reason = reason_of(error)
        if "pickle" in str(error):
            reason = "it is damaged, or holds Python objects, which are never loaded"
        raise BenchError(f"{as_text(path)} can't be read: {reason}.") from error
    ids = arrays.pop(IDS, np.empty(0))
    columns = {}
    for name, array in arrays.items():
        if array.ndim and array.dtype.kind in "biuf":
            columns[name] = torch.from_numpy(array)
    return tuple(map(str, ids)), columns


def _grouped(columns: Columns, parameters: Mapping[str, object] | None) -> dict[str, Columns]:
    """Return the columns of each argument: NAME.x and NAME.y belong to NAME.

    Columns of names that aren't in `parameters` are left out, unless it is None.
    """
    groups: dict[str, dict[str, Sequence[str] | Tensor]] = {}
    for name, column in columns.items():
        argument = name.partition(".")[0]
        if parameters is None or argument in parameters:
            groups.setdefault(argument, {})[name] = column
    return dict(groups)


def _are_numbers(group: Columns) -> bool:
    """Return whether every cell of an argument's columns is a number."""
    try:
        _tensor("", group)
    except BenchError:
        return False
    return True


def _tensor(file: str, group: Columns) -> Tensor:
    """Return the tensor of an argument's columns, or raise if a cell isn't a number.

    An array stays as it is, except that floats become float32. A single column of whole numbers
    becomes (N,), int64, because it may hold indices. Other columns become (N, n), float32.
    """
    columns = list(group.values())
    first = columns[0]
    if isinstance(first, Tensor):
        return first.float() if first.is_floating_point() else first
    if len(columns) == 1 and all(cell.strip().lstrip("+-").isdecimal() for cell in first):
        return torch.tensor([int(cell) for cell in first])
    for name, column in group.items():
        for cell in column:
            try:
                is_number = bool(np.isfinite(float(cell)))
            except ValueError:
                is_number = False
            if not is_number:
                raise BenchError(
                    f"{file} has {short_repr(cell)} in its column {name!r}; give a number for each "
                    "image, such as 61.5."
                )
    return torch.tensor([[float(cell) for cell in row] for row in zip(*columns, strict=True)])
