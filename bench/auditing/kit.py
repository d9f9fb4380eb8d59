"""The kit for tools that Python can't call: networks, images and classes as files, and the reading
of the maps that a tool made of them.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from axiom_bench.auditing import cases as networks
from axiom_bench.auditing.case import Case
from axiom_bench.auditing.drawn_maps import SUFFIXES, MapFile, read_map
from axiom_bench.auditing.keras_networks import write_keras
from axiom_bench.auditing.references import references_of
from axiom_bench.data.formats.files import (
    MAX_TEXT,
    as_text,
    content_of,
    folder_entries,
    reason_of,
)
from axiom_bench.errors import BenchError, first_names
from axiom_bench.explanation.overlay import Pixels
from axiom_bench.records import files

FORMAT = 1
INDEX = "cases.json"
MAPS = "maps"  # the folder for the maps
# The images are multiples of a power of two, so that a PNG has exactly the numbers of the .npy.
LEVEL = 1 / 32
LOWEST = -4.0
MOST_NAMED = 3  # files that a message names
README = """\
# Maps to audit

`cases.json` lists small networks with their images and classes. For each network:

1. Build it. In PyTorch: `from network import load; model = load("NAME")`. In other languages, load
   `models/NAME.onnx` (float32; outputs `logits`, `target`), `models/NAME.keras` (float32, channels
   last; a layer `target`), or build `network.py` with the weights of `models/NAME.safetensors`.
2. Explain image `images/NAME-I.npy`, (3, H, W), for class `classes[I]` at the layer `target`. The
   networks take these numbers as they are, unscaled. In the PNG of that name, a number is
   pixel / 32 - 4.
3. Save the map as `maps/NAME-I.npy`, of the layer's or the image's size. Pictures (`.png`, `.tiff`)
   are read too, grey or drawn with a colour map of matplotlib or OpenCV; then the answer is
   approximate. If you computed in float32, save float32.

Then `axiom-bench audit maps` says which formula the maps follow. Missing maps are listed, and the
others are audited. """
NETWORK_START = '''\
"""The networks of the kit. They need torch and safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
'''
NETWORK_END = '''\
def load(name: str) -> nn.Module:
    """Return a network of `DESIGNS` with its weights, in eval mode."""
    design = DESIGNS[name]
    model = SmallNetwork(design).to(design.dtype)
    model.load_state_dict(load_file(Path(__file__).parent / "models" / f"{name}.safetensors"))
    return model.eval()
'''


def kit_cases() -> list[Case]:
    """Return the audit's cases with images that a picture of 8 bits holds exactly."""
    rounded_cases = []
    for case in networks.cases():
        rounded = _levels(case.images).double() * LEVEL + LOWEST
        rounded_cases.append(replace(case, images=rounded.to(case.images.dtype)))
    return rounded_cases


def _levels(images: Tensor) -> Tensor:
    """Return the levels of 0 to 255 that are nearest to the numbers of images."""
    return ((images.double() - LOWEST) / LEVEL).round().clamp(0, 255).to(torch.uint8)


def pictures_of(images: Tensor) -> list[Pixels]:
    """Return images of the kit, (B, 3, H, W), as the pixels of their PNG."""
    return [levels.permute(1, 2, 0).numpy() for levels in _levels(images)]


def short_name(case: Case) -> str:
    """Return the name of a case in the names of files.

    >>> short_name(Case("a ReLU head", ...))  # doctest: +SKIP
    'a-relu-head'
    """
    return re.sub(r"\W+", "-", case.name.lower()).strip("-")


def map_names(case: Case) -> list[str]:
    """Return the names of a case's maps without their endings."""
    return [f"{short_name(case)}-{number}" for number in range(len(case.images))]


def export_kit(folder: Path) -> list[str]:
    """Write the kit.

    Args:
        folder: The folder, which is new or empty.

    Returns:
        Sentences about what was written.

    Raises:
        BenchError: If the folder has files or can't be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchError(f"{folder} isn't an empty folder; give --export another one.")
    from safetensors.torch import save  # here: reading maps doesn't need it

    all_cases = kit_cases()
    entries = []
    for case in all_cases:
        name = short_name(case)
        tensors = {key: value.contiguous() for key, value in case.model.state_dict().items()}
        files.write(folder / "models" / f"{name}.safetensors", save(tensors))
        (folder / "images").mkdir(exist_ok=True)
        named_pictures = zip(map_names(case), case.images, pictures_of(case.images), strict=True)
        for map_name, image, pixels in named_pictures:
            np.save(folder / "images" / f"{map_name}.npy", image.numpy())
            Image.fromarray(pixels).save(folder / "images" / f"{map_name}.png")
        entries.append(
            {
                "name": name,
                "trait": case.name,
                "layer": case.layer,
                "classes": case.targets.tolist(),
                "maps": map_names(case),
            }
        )
    (folder / MAPS).mkdir(parents=True)
    content = {"format": FORMAT, "networks": fingerprint(all_cases), "cases": entries}
    files.write(folder / INDEX, json.dumps(content, indent=1).encode())
    files.write(folder / "network.py", network_file().encode())
    files.write(folder / "README.md", README.encode())
    count = sum(len(case.images) for case in all_cases)
    lines = [f"written: {folder}, {len(all_cases)} networks with {count} images and README.md"]
    for suffix, converter in CONVERTERS.items():
        if any(find_spec(package) is None for package in converter.packages):
            install = " ".join(converter.packages)
            lines.append(
                f"{converter.title} is left out; pip install {install}, then export again."
            )
            continue
        try:
            for case in all_cases:
                converter.write(folder / "models" / f"{short_name(case)}{suffix}", case)
        except ImportError as error:  # an older or broken installation
            lines.append(f"{converter.title} is left out, since it can't be imported: {error}.")
    lines.append(f"Save your maps in {folder / MAPS}, then: axiom-bench audit {folder / MAPS}")
    return lines


class _WithLayer(nn.Module):
    """A network that also returns the target layer's output."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.model = copy.deepcopy(case.model)
        self.layer = case.layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []
        layer = self.model.get_submodule(self.layer)
        handle = layer.register_forward_hook(lambda module, given, output: outputs.append(output))
        logits = self.model(images)
        handle.remove()
        return logits, outputs[0]


def write_onnx(path: Path, case: Case) -> None:
    """Write a network as ONNX, whose outputs are the logits and the target layer's maps.

    Its numbers are float32, because ONNX Runtime has no convolution of float64.
    """
    with warnings.catch_warnings(action="ignore"):  # the exporter's own deprecated calls
        torch.onnx.export(
            _WithLayer(case).float().eval(),
            (case.images[:1].float(),),
            str(path),
            input_names=["images"],
            output_names=["logits", case.layer],
            verbose=False,
            external_data=False,
        )


class Converter(NamedTuple):
    """A format of networks that other packages write."""

    title: str
    packages: tuple[str, ...]
    write: Callable[[Path, Case], None]


CONVERTERS = {  # by the ending of a file
    ".onnx": Converter("ONNX", ("onnx", "onnxscript"), write_onnx),
    ".keras": Converter("Keras", ("keras",), write_keras),
}


def network_file() -> str:
    """Return the text of the Python file with the networks' classes."""
    constants = f"NUM_CLASSES = {networks.NUM_CLASSES}\nHIDDEN = {networks.HIDDEN}\n"
    classes = [
        inspect.getsource(part)
        for part in (networks.Centred, networks.Design, networks.SmallNetwork)
    ]
    lines = ["DESIGNS = {"]
    for design, case in zip(networks.DESIGNS, networks.cases(), strict=True):
        lines.append(f'    "{short_name(case)}": {design!r},')
    lines.append("}\n")
    return "\n\n".join([NETWORK_START + "\n" + constants, *classes, "\n".join(lines), NETWORK_END])


def fingerprint(all_cases: Sequence[Case]) -> str:
    """Return a checksum of the networks, the images and the classes of a kit."""
    digest = hashlib.sha256()
    for case in all_cases:
        digest.update(case.name.encode())
        for tensor in (*case.model.state_dict().values(), case.images, case.targets):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class StoredMaps:
    """The maps that a tool made. Called as a CAM function, they answer from the files.

    Attributes:
        cases: The cases whose maps are complete.
        maps: The maps of each case, (B, h, w).
        sources: {how maps were read: the number of maps}.
        error: The largest rounding error of a value, 0 for numbers.
        problems: A sentence for each file that is missing or can't be used.
    """

    cases: list[Case]
    maps: list[Tensor]
    sources: dict[str, int]
    error: float
    problems: tuple[str, ...]

    def __call__(
        self, model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor
    ) -> Tensor:
        """Return the stored maps of the case that has these images."""
        for case, maps in zip(self.cases, self.maps, strict=True):
            if images.shape == case.images.shape and torch.equal(images, case.images):
                return maps
        raise BenchError("There are no stored maps of these images.")


def read_kit_maps(folder: Path) -> StoredMaps:
    """Read the maps that a tool made of the kit.

    Args:
        folder: The folder of the maps, or the kit.

    Raises:
        BenchError: If the kit is another version's, or if no case has all its maps.
    """
    if (folder / MAPS).is_dir():
        folder = folder / MAPS
    all_cases = kit_cases()
    _check_version(folder.parent / INDEX, all_cases)
    return stored_maps(folder, all_cases, [map_names(case) for case in all_cases])


def _check_version(index: Path, all_cases: Sequence[Case]) -> None:
    """Raise BenchError if a kit has other networks than this version's. The maps may be in a folder
    without a kit.
    """
    if not index.is_file():
        return
    try:
        content = files.parse_mapping(content_of(index, MAX_TEXT))
    except (OSError, ValueError) as error:
        reason = reason_of(error)
    else:
        if content.get("networks") == fingerprint(all_cases):
            return
        reason = "its networks are those of another version of axiom-bench"
    raise BenchError(
        f"{index} can't be used: {reason}; write a new kit: axiom-bench audit --export FOLDER."
    )


def stored_maps(
    folder: Path,
    all_cases: Sequence[Case],
    names: Sequence[Sequence[str]],
) -> StoredMaps:
    """Read the maps of cases.

    Args:
        folder: The folder of the maps.
        all_cases: The cases.
        names: The names of each case's maps, without their endings.

    Raises:
        BenchError: If no case has all its maps.
    """
    by_name: dict[str, list[Path]] = {}
    for file_name, is_folder in folder_entries(folder):
        path = folder / file_name
        if not is_folder and path.suffix.lower() in SUFFIXES:
            by_name.setdefault(path.stem, []).append(path)
    complete: list[Case] = []
    maps: list[Tensor] = []
    sources: dict[str, int] = {}
    problems: list[str] = []
    missing: list[str] = []
    error = 0.0
    for case, case_names in zip(all_cases, names, strict=True):
        absent = [name for name in case_names if name not in by_name]
        missing += absent
        if absent:
            continue
        try:
            read = [_only(by_name[name]) for name in case_names]
            _check_sizes(read, case, case_names)
        except BenchError as damage:
            problems.append(f"{damage} The case {case.name!r} is left out.")
            continue
        complete.append(case)
        maps.append(torch.from_numpy(np.stack([file.values for file in read])))
        error = max(error, *(file.error for file in read))
        for file in read:
            sources[file.source] = sources.get(file.source, 0) + 1
    if missing:
        shown = first_names([f"{name}.npy" for name in missing], MOST_NAMED)
        problems.insert(0, f"Maps are missing in {as_text(folder)}: {shown}.")
    if not complete:
        raise BenchError(" ".join(problems))
    known = {name for case_names in names for name in case_names}
    others = sorted(set(by_name) - known)
    if others:
        shown = first_names(others, MOST_NAMED)
        problems.append(f"Files with other names than the kit's aren't read: {shown}.")
    return StoredMaps(complete, maps, sources, error, tuple(problems))


def _only(paths: Sequence[Path]) -> MapFile:
    """Read the one file of a map. Raise BenchError if there are several."""
    if len(paths) > 1:
        both = " and ".join(sorted(as_text(path.name) for path in paths))
        raise BenchError(f"{both} are of one map; keep one of them.")
    return read_map(paths[0])


def _check_sizes(read: Sequence[MapFile], case: Case, names: Sequence[str]) -> None:
    """Raise BenchError if maps differ in size, or have neither the layer's nor the image's."""
    image = tuple(case.images.shape[2:])
    layer = references_of(case).layer_size
    sizes = (layer, image, layer[::-1], image[::-1])  # transposed maps are a reading
    for file, name in zip(read, names, strict=True):
        if file.values.shape not in sizes:
            height, width = file.values.shape
            raise BenchError(
                f"{name} has {height} x {width} numbers; the layer has {layer[0]} x {layer[1]} and "
                f"the image {image[0]} x {image[1]}."
            )
    if len({file.values.shape for file in read}) > 1:
        raise BenchError(f"The maps {', '.join(names)} have different sizes; save all in one size.")
