"""What a network takes beside its images, from a file (model.inputs): a row for each image."""

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

from axiom_bench.cutting.images import OtherInputs, SeveralInputs, taken_apart
from axiom_bench.data.batch import Batch
from axiom_bench.data.formats.files import (
    as_text,
    comparable,
    lines_of,
    open_regular,
    shown,
    table_of,
    why,
)
from axiom_bench.data.layouts.label_files import without_ending
from axiom_bench.errors import BenchError

IDS = "ids"  # the array of a .npz that names the images
ARRAYS = (".npz", ".safetensors")
Columns = Mapping[
    str, Sequence[str] | Tensor
]  # by their names: the cells of a list, or an array with a row an image


@dataclass(frozen=True)
class InputsFile:
    """name: of the file. takes: how the network takes its inputs. values: the others, (N, ...)
    each, in their order. ids: of the images, a row each; () where rows are in the data's order.
    places: the row of each image of a job.
    """

    name: str
    takes: SeveralInputs = field(compare=False, repr=False)
    values: OtherInputs = field(compare=False, repr=False)
    ids: tuple[str, ...] = field(repr=False)
    places: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of(path: Path, network: nn.Module, image: Tensor, explained: str | None) -> InputsFile:
        """A file whose columns or arrays are called as forward's arguments. image: one, (1, C,
        *space). explained: the argument, or key of the one dict that forward takes, that the images
        are; None: the one that isn't in the file. Raises BenchError for a file that can't be read
        or has other names.
        """
        ids, columns = _read(path)
        parameters = inspect.signature(network.forward).parameters
        names = _named(columns, parameters)
        rest = [name for name in parameters if name not in names]
        key = explained or next(iter(rest), "")
        if key not in parameters:  # of a dict, which may hold more than it asks for
            names = {
                name: group
                for name, group in _named(columns, None).items()
                if name != key and _are_numbers(group)
            }
        required = [name for name in rest if parameters[name].default is inspect.Parameter.empty]
        if not names or (key in parameters and {*required} - {key}):
            of_dict = (
                "; where it takes one dict, say by model.explained=KEY what the images are called"
                * (len(rest) == 1)
            )
            raise BenchError(
                f"{type(network).__name__}.forward takes {' and '.join(parameters)}, and "
                f"{as_text(path)} holds {', '.join(columns)[:200]}; call its columns or arrays as "
                f"forward calls them{of_dict}."
            )
        values = {name: _tensor(as_text(path), group) for name, group in names.items()}
        if len({len(each) for each in values.values()} | ({len(ids)} if ids else set())) > 1:
            sizes = ", ".join(f"{name} {len(each)}" for name, each in values.items())
            raise BenchError(
                f"The arrays of {as_text(path)} have other numbers of rows: {sizes}; give one an "
                "image."
            )
        takes, _, _ = taken_apart(
            network, {key: image, **{name: each[:1] for name, each in values.items()}}, key
        )
        return InputsFile(as_text(path), takes, tuple(values.values()), ids)

    @property
    def description(self) -> str:
        """A sentence on what the network is given: names, types and shapes of a batch."""
        names = (key for key in self.takes.keys if key != self.takes.explained)
        kinds = (
            f"{str(each.dtype).removeprefix('torch.')} {('B', *each.shape[1:])}"
            for each in self.values
        )
        inputs = " and ".join(
            f"{name}, {kind}," for name, kind in zip(names, kinds, strict=True)
        ).replace("'", "")
        images = (
            f"The images are its argument {self.takes.explained!r} (another: model.explained=NAME)"
        )
        return f"{images}, and beside them it gets {inputs} of {self.name}."

    @property
    def first(self) -> OtherInputs:
        """Those of one image, for a first pass."""
        return tuple(each[:1] for each in self.values)

    def of_images(self, images: Sequence[str], chosen: Sequence[str]) -> InputsFile:
        """With the places of the chosen images, by id, else by a file's name with or without its
        ending where one image alone has it. images: all of the data. Raises BenchError for images
        without a row, and for two rows of one.
        """
        count = len(self.values[0])
        if not self.ids and count != len(images):
            raise BenchError(
                f"{self.name} holds {count} rows and no array {IDS!r}, and the data hold "
                f"{len(images)} images; give rows in the images' order, or {IDS!r}, or a .csv "
                "whose first column names the images."
            )
        rows = dict(zip(map(comparable, self.ids or images), range(count), strict=True))
        if len(rows) < count:
            (twice, _), *_ = Counter(map(comparable, self.ids)).most_common(1)
            raise BenchError(f"{self.name} has several rows for {twice!r}; leave one.")
        alike, found = Counter(map(basename, images)), dict[str, str | None]()
        for image in chosen:
            name = basename(image)
            names = map(
                comparable, (image, name, without_ending(name)) if alike[name] == 1 else (image,)
            )
            found[image] = next((each for each in names if each in rows), None)
        if missing := [image for image, name in found.items() if name is None]:
            raise BenchError(
                f"{self.name} has no row for {len(missing)} of {len(chosen)} images, as "
                f"{missing[0]!r}; add rows, or leave these images out by data.leave_out."
            )
        return replace(
            self, places={image: rows[name] for image, name in found.items() if name is not None}
        )

    def beside(self, batch: Batch) -> Batch:
        """The batch with what the network takes beside its images."""
        return replace(batch, other_inputs=self.rows(batch.image_ids))

    def rows(self, images: Sequence[str]) -> OtherInputs:
        """Of these images, (B, ...) each."""
        places = torch.tensor([self.places[image] for image in images])
        return tuple(each[places] for each in self.values)

    def sha256(self, image: str) -> str:
        """Of an image's row."""
        content = b"".join(each.contiguous().numpy().tobytes() for each in self.rows([image]))
        return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> tuple[tuple[str, ...], Columns]:
    """(ids of the images, the columns)."""
    suffix = path.suffix.lower()
    if suffix not in ARRAYS:
        lines = lines_of(path, "The file of model.inputs")
        separator, table = table_of(lines)
        if not table or any(len(row) != len(table[0]) for row in table):
            raise BenchError(
                f"The lines of {as_text(path)} haven't one number of cells; give a .csv with a "
                f"line of headings, an image's id first, or arrays in {' or '.join(ARRAYS)}."
            )
        (_, *heads), *cells = table
        if separator == ";":  # as spreadsheets write a table where a comma is the decimal mark
            cells = [
                [first, *(cell.replace(",", ".") for cell in others)] for first, *others in cells
            ]
        first, *columns = zip(*cells, strict=True) if cells else [()] * len(table[0])
        return tuple(cell.strip() for cell in first), dict(
            zip(map(str.strip, heads), columns, strict=True)
        )
    try:
        open_regular(path).close()
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        else:
            with safe_open(path, "np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except Exception as error:  # what libraries raise for damaged files is not documented
        reason = (
            "it is damaged, or holds Python objects, which are never loaded"
            if "pickle" in str(error)
            else why(error)
        )
        raise BenchError(f"{as_text(path)} can't be read: {reason}.") from error
    ids = arrays.pop(IDS, np.empty(0))
    return tuple(map(str, ids)), {
        name: torch.from_numpy(each)
        for name, each in arrays.items()
        if each.ndim and each.dtype.kind in "biuf"
    }


def _named(columns: Columns, parameters: Mapping[str, object] | None) -> dict[str, Columns]:
    """{argument: its columns}: NAME.x and NAME.y are of NAME. parameters: None: of any argument."""
    groups: dict[str, dict[str, Sequence[str] | Tensor]] = {}
    for name, column in columns.items():
        argument = name.partition(".")[0]
        if parameters is None or argument in parameters:
            groups.setdefault(argument, {})[name] = column
    return dict(groups)


def _are_numbers(group: Columns) -> bool:
    try:
        _tensor("", group)
    except BenchError:
        return False
    return True


def _tensor(file: str, group: Columns) -> Tensor:
    """An array as it is, floats as float32. Of a list one column of whole numbers is (N,), int64,
    as indices are; others are (N, n), float32. Raises BenchError for a cell that is no number.
    """
    columns = list(group.values())
    if isinstance(array := columns[0], Tensor):
        return array.float() if array.is_floating_point() else array
    whole = len(columns) == 1 and all(cell.strip().lstrip("+-").isdecimal() for cell in columns[0])
    if whole:
        return torch.tensor([int(cell) for cell in columns[0]])
    for name, column in group.items():
        for cell in column:
            try:
                is_number = bool(np.isfinite(float(cell)))
            except ValueError:
                is_number = False
            if not is_number:
                raise BenchError(
                    f"{file} has {shown(cell)} in its column {name!r}; give a number for each "
                    "image, such as 61.5."
                )
    return torch.tensor([[float(cell) for cell in row] for row in zip(*columns, strict=True)])
