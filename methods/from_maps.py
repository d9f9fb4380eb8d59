"""Maps made elsewhere, by any tool or language, read by the image's id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, NoMap
from axiom_bench.explanation.explanation import Map
from axiom_bench.kinds import File

SUFFIXES = (".npy", ".npz")  # of the files in a folder
UNREADABLE = (OSError, ValueError, EOFError, BadZipFile, SafetensorError)


@dataclass(frozen=True)
class MapFiles:
    """arrays: by id, what reads one, as any real numbers. shape: (h, w) of all. problem: why they
    can't be used.
    """

    arrays: Mapping[str, Callable[[], NDArray]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    problem: str = ""


def from_maps(trace: Trace, path: File) -> Map:
    """The image's array in a folder or a file, signed, as any other tool made it -> (B, h, w).

    path: a folder with a .npy file, or a .npz file of one array, for each image; or a .npz or
    .safetensors file with an array for each. It is called as the image's id, or "<id>@<class
    index>", which is looked for first. Arrays are (h, w), of one shape, and cover the image as the
    network gets it. Images without one are `missing`. Raises NoMap for a trace without image ids;
    BenchError where an array can't be read or isn't of that shape.
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
    for row, (image_id, target) in enumerate(
        zip(trace.image_ids, trace.targets.tolist(), strict=True)
    ):
        read = maps.arrays.get(f"{image_id}@{target}", maps.arrays.get(image_id))
        if read is not None:
            raw[row], missing[row] = torch.from_numpy(read().astype(np.float64)), False
    return Map(raw.to(trace.activations), missing)


def _map_files(path: Path) -> MapFiles:
    """All arrays, each looked at once, so that a wrong one doesn't count or fail by the batch that
    it is in.
    """
    name, shape = str(path), None
    try:
        arrays = _arrays(path)
        for name, read in arrays.items():
            array = read()
            if array.ndim != 2 or not array.size or array.dtype.kind not in "biuf":
                return MapFiles(
                    problem=f"The map {name!r} in {path} is {array.shape} of {array.dtype}, not (h, w)."
                )
            shape = shape or array.shape
            if array.shape != shape:
                problem = (
                    f"The map {name!r} in {path} is {array.shape}, and others are {shape}; resize "
                    "them to one."
                )
                return MapFiles(problem=problem)
    except UNREADABLE as error:
        return MapFiles(
            problem=f"The map {name!r} in {path} can't be read ({error}); write it again."
        )
    if shape is None:
        problem = (
            f"There are no maps in {path}; give a folder of .npy or .npz files, or a .npz or "
            ".safetensors file."
        )
        return MapFiles(problem=problem)
    return MapFiles(arrays, shape)


def _arrays(path: Path) -> dict[str, Callable[[], NDArray]]:
    """What reads each array, by its name. Raises one of UNREADABLE."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        return {
            file.relative_to(path).as_posix()[: -len(file.suffix)]: partial(_array_of, file)
            for file in files
        }
    if path.suffix == ".safetensors":
        tensors = safe_open(path, framework="pt")
        return {name: partial(_of_tensor, tensors, name) for name in tensors.keys()}  # noqa: SIM118 - no mapping
    if path.suffix == ".npz":
        arrays = np.load(path)
        return {name: partial(arrays.__getitem__, name) for name in arrays.files}
    return {}


def _of_tensor(tensors: safe_open, name: str) -> NDArray:
    """float64, since NumPy has no bfloat16."""
    array: NDArray = tensors.get_tensor(name).double().numpy()
    return array


def _array_of(file: Path) -> NDArray:
    """The array of a .npy file, whose values are read when they are used, or the one of a .npz
    file.
    """
    if file.suffix == ".npy":
        return np.lib.format.open_memmap(file, mode="r")
    with np.load(file) as arrays:
        if len(arrays.files) != 1:
            raise ValueError(f"it has {len(arrays.files)} arrays, not one")
        return arrays[arrays.files[0]]
