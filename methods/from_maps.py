"""Maps that other tools made, in any language, read from files by the image's id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, NoMap
from axiom_bench.explanation.explanation import Map
from axiom_bench.kinds import File

SUFFIXES = (".npy", ".npz")  # of the files in a folder
UNREADABLE = (OSError, ValueError, EOFError, BadZipFile, SafetensorError)


@dataclass(frozen=True)
class MapFiles:
    """The maps of a folder or file, or the reason why they can't be used.

    Attributes:
        arrays: A function per id that reads the array, which may have any real type.
        shape: The shape of all arrays, (h, w).
        problem: The reason why the maps can't be used; empty if they can.
    """

    arrays: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    problem: str = ""


def from_maps(trace: Trace, path: File) -> Map:
    """Array in a file of the image's name, signed, as any other tool made it -> (B, h, w).

    An array is named by the image's id, or "<id>@<class index>", which is looked for first. Arrays
    are (h, w), of one shape, and cover the image as the network gets it. Images without an array
    are `missing`.

    Args:
        trace: The traced batch, with image ids.
        path: A folder with a .npy file, or a .npz file of one array, for each image; or a .npz or
            .safetensors file with an array for each image.

    Returns:
        The maps, (B, h, w).

    Raises:
        NoMap: If the trace has no image ids.
        BenchError: If an array can't be read or has another shape.
    """
    if trace.image_ids is None:
        raise NoMap(
            "Maps from files are found by the ids of images, and this trace has none. It is of "
            "images, classes, a model or a layer that a metric or a method changed, or wasn't "
            "made of an axiom_bench.Batch."
        )
    maps = trace.cut_model.once(
        ("maps from files", path), lambda: _map_files(Path(path).expanduser())
    )
    if maps.problem:
        raise BenchError(maps.problem)
    raw = torch.full((len(trace), *maps.shape), torch.nan, dtype=torch.float64)
    missing = torch.ones(len(trace), dtype=torch.bool)
    rows = zip(trace.image_ids, trace.targets.tolist(), strict=True)
    for row, (image_id, target) in enumerate(rows):
        # A map of the explained class comes before one for all classes.
        read = maps.arrays.get(f"{image_id}@{target}", maps.arrays.get(image_id))
        if read is not None:
            raw[row] = torch.from_numpy(read().astype(np.float64))
            missing[row] = False
    return Map(raw.to(trace.activations), missing)


def _map_files(path: Path) -> MapFiles:
    """Return all arrays of a folder or file, each checked once.

    So a wrong array is an error for every batch, not only for the batch that contains its image.
    """
    name = str(path)  # the error for a file that can't be opened has no array's name
    shape = None
    try:
        arrays = _arrays(path)
        for name, read in arrays.items():
            array = read()
            if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
                return MapFiles(
                    problem=f"The map {name!r} in {path} is {array.shape} of {array.dtype}, "
                    "not (h, w)."
                )
            shape = shape or array.shape
            if array.shape != shape:
                return MapFiles(
                    problem=f"The map {name!r} in {path} is {array.shape}, and others are {shape}; "
                    "resize them to one."
                )
    except UNREADABLE as error:
        return MapFiles(
            problem=f"The map {name!r} in {path} can't be read ({error}); write it again."
        )
    if shape is None:
        return MapFiles(
            problem=f"There are no maps in {path}; give a folder of .npy or .npz files, or a .npz "
            "or .safetensors file."
        )
    return MapFiles(arrays, shape)


def _arrays(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Return a function per name that reads the array. Raise one of UNREADABLE on failure."""
    if path.is_dir():
        readers: dict[str, Callable[[], np.ndarray]] = {}
        for file in sorted(path.rglob("*")):
            if file.suffix in SUFFIXES:
                name = file.relative_to(path).as_posix()[: -len(file.suffix)]
                readers[name] = partial(_file_array, file)
        return readers
    if path.suffix == ".safetensors":
        tensors = safe_open(path, framework="pt")
        return {name: partial(_tensor_array, tensors, name) for name in tensors.keys()}  # noqa: SIM118 - no mapping
    if path.suffix == ".npz":
        arrays = np.load(path)
        return {name: partial(arrays.__getitem__, name) for name in arrays.files}
    return {}


def _tensor_array(tensors: safe_open, name: str) -> np.ndarray:
    """Return a tensor as float64, since NumPy has no bfloat16."""
    array: np.ndarray = tensors.get_tensor(name).double().numpy()
    return array


def _file_array(file: Path) -> np.ndarray:
    """Return the array of a .npy file, whose values are read when used, or of a .npz file."""
    if file.suffix == ".npy":
        return np.lib.format.open_memmap(file, mode="r")
    with np.load(file) as arrays:
        if len(arrays.files) != 1:
            raise ValueError(f"it has {len(arrays.files)} arrays, not one")
        maps: np.ndarray = arrays[arrays.files[0]]
        return maps
