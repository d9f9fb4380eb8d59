"""Read weights from a file without running code, find the network in it by names and shapes, and
load them into the network.

Checkpoints name the same tensors in many ways: inside a key, with the prefix of a wrapper, or next
to an optimiser. `load` accepts all of these without a setting.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from axiom_bench.cutting.model_copy import unwrapped_name
from axiom_bench.errors import BenchError, first_names, unknown_name

# Separates a checkpoint's key from the names inside it. A dot separates a module from its tensors.
INNER = "\0"
BATCH_COUNTERS = "num_batches_tracked"  # older files lack it, and no value depends on it
# Tensors that training adds to a network's own: losses, heads that are idle in eval mode, and the
# counts of profilers.
TRAINING_ONLY = re.compile(
    r"(\w*(criterion|loss|metric)\w*|aux\w*|AuxLogits|(.*\.)?total_(ops|params))(\.|$)"
)
# The dtypes of weights, and of the counts and indices in the same state dict.
DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool,
    torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip
DAMAGED = "the file is damaged, or holds more than tensors"
SAVE = "save them with safetensors, or with torch.save(model.state_dict(), ...)"
OF_PYTORCH = "give the state dict of the network in PyTorch"
UNPACK = "unpack it, and give the file of weights in it"
# Files that aren't weights: how they begin, what they are, and what to do.
KINDS = (
    (rb"$", "it is empty", "copy or download it again"),
    (
        rb"\s*<(!doctype|html|\?xml)",
        "it is a web page, which a failed download leaves",
        "download the file itself",
    ),
    (
        rb"version https://git-lfs",
        "it is Git LFS's pointer to the file",
        "run git lfs pull in the cloned repository",
    ),
    (
        rb"\s*\{",
        "it is JSON, such as the index of weights in several files",
        f"load the network in Python and {SAVE}",
    ),
    (rb"\x89HDF", "it is HDF5, as Keras writes it", OF_PYTORCH),
    (rb"\x93NUMPY", "it is an array of NumPy", f"load it in Python and {SAVE}"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|.{257}ustar", "it is an archive", UNPACK),
)
# The suffixes of other libraries' files.
OTHER_SUFFIXES = (".onnx", ".pb", ".tflite", ".keras", ".caffemodel", ".mlmodel")
SHARD = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.")  # the name of one of several files of weights
MAX_REASON = 200  # characters
MAX_DEPTH = 20  # levels of a checkpoint's mappings and lists
# The bytes to which an archive may unpack beyond twice its own size. torch doesn't compress its
# archives.
MAX_UNPACKED = 2**30
# torchvision's DenseNet files are older than its module: their norm.1.weight is now norm1.weight.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


@dataclass(frozen=True)
class Weights:
    """A state dict, or a checkpoint that contains state dicts."""

    state: Any  # mappings and lists of tensors, as the file nests them
    description: str  # where the weights come from, for the manifest
    sha256: str
    are_random: bool = False

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the path of keys to each, with INNER behind every mapping or list."""
        return {
            OLD_DENSENET.sub(r"\1\2", name): tensor
            for name, tensor in _named(self.state, "", set())
        }


@dataclass(frozen=True)
class Place:
    """A place in a file where all or some of a network's tensors are.

    A training checkpoint holds a network under a key, inside a wrapper, or twice (with its moving
    average).
    """

    prefix: str  # the prefix of the tensors' names in the file
    tensors: Mapping[str, Tensor]  # the file's tensors by the network's names
    missing: Sequence[str]  # the network's names that the file lacks
    wrong_shape: Sequence[str]  # the network's names whose tensor has another shape in the file
    other_names: Sequence[str]  # the names of the other tensors in the same state dict
    # those of `other_names` that may belong to a layer, without the prefix
    unexpected: Sequence[str]

    @property
    def fits(self) -> bool:
        """True if every tensor of the network has one here, and no layer is left."""
        return not (self.missing or self.wrong_shape or self.unexpected)

    @property
    def name(self) -> str:
        """The place's name, as `model.weights_key` takes it."""
        return self.prefix.rstrip(f".{INNER}").replace(INNER, ".") or "top"


class StandIn:
    """A stand-in for an object whose class a pickle names: nothing of that class is imported or
    called.
    """

    def __new__(cls, *_: object, **__: object) -> Any:
        # A subclass of dict may hold tensors, so its content is kept as a plain mapping.
        return OrderedDict() if cls.__name__.lower().endswith("dict") else super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Ignore the state of the pickled object."""


def read_weights(path: Path) -> Weights:
    """Read a .safetensors file, or a checkpoint of torch.save of any name.

    A pickle's code is never run. Its objects are left out, except tensors, numbers, texts and
    containers.

    Raises:
        BenchError: if the file can't be read or holds no tensors with names.
    """
    try:
        if not path.is_file() and path.exists():  # reading a pipe would wait forever
            raise IsADirectoryError("it is no file")
        is_safetensors = path.suffix == ".safetensors"
        state = load_file(path) if is_safetensors else _load_checkpoint(path)
    except Exception as error:
        reason, step = _why(path, error)
        raise BenchError(f"The weights {path} can't be read ({reason}); {step}.") from error
    if SHARD.search(path.name):
        raise BenchError(
            f"{path} is only one of several files of weights; load the whole network in Python "
            f"and {SAVE}."
        )
    if _is_of_ultralytics(path):
        raise BenchError(
            f"The weights {path} are a YOLO of ultralytics, a pickled network; set model=yolo "
            f"model.weights={path} if you trust the file, because loading it runs code that it "
            "names."
        )
    if isinstance(state, StandIn):
        raise BenchError(
            f"The weights {path} are a whole pickled object, whose code isn't run; load it in "
            "Python where its code is, as `model`, and write a file of "
            "torch.save(model.state_dict(), 'weights.pth')."
        )
    weights = Weights(state, path.name, file_sha256(path))
    if not weights.tensors:
        raise BenchError(
            f"The weights {path} hold no state dict (names and tensors); save model.state_dict()."
        )
    return weights


def _load_checkpoint(path: Path) -> object:
    """Return the content of a checkpoint, with stand-ins for objects of unknown classes."""
    # A malicious archive may unpack to far more bytes than it has.
    unpacked = sum(member.file_size for member in _members(path))
    if unpacked > MAX_UNPACKED + 2 * path.stat().st_size:
        raise OSError(f"it would unpack to {unpacked:,} bytes")
    class_paths = []
    if is_zipfile(path):
        class_paths = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    stand_ins: list[Any] = []
    for class_path in class_paths:
        module, _, name = class_path.rpartition(".")
        attributes = {"__module__": module, "__qualname__": name}
        stand_ins.append(type(name, (StandIn,), attributes))
    with torch.serialization.safe_globals(stand_ins):
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _is_of_ultralytics(path: Path) -> bool:
    """Return whether a readable checkpoint holds a network of ultralytics."""
    if path.suffix == ".safetensors" or not is_zipfile(path):
        return False
    class_paths = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return any(class_path.startswith("ultralytics.") for class_path in class_paths)


def _why(path: Path, error: Exception) -> tuple[str, str]:
    """Return why a file can't be read, and what to do about it."""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(512)
        if path.suffix.lower() in OTHER_SUFFIXES:
            return f"{path.suffix} is a file of another library than PyTorch", OF_PYTORCH
        for begin, kind, step in KINDS:
            if re.match(begin, start, re.DOTALL | re.IGNORECASE):
                return kind, step
    # torch's own messages don't help: "101", or nothing.
    if isinstance(error, OSError | SafetensorError):
        return str(error).split("\n")[0][:MAX_REASON], SAVE
    names = [member.filename for member in _members(path)]
    if any(name.endswith("constants.pkl") for name in names):
        step = f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
        return "it is TorchScript", f"write a file of its state dict: {step}"
    is_damaged = not names or any(name.endswith("data.pkl") for name in names)
    return (DAMAGED, SAVE) if is_damaged else ("it is a zip of other files", UNPACK)


def _members(path: Path) -> list[ZipInfo]:
    """Return the members of a zip file; none if the file isn't a whole one.

    Their sizes show what an archive unpacks to, and their names which program wrote it.
    """
    try:
        with ZipFile(path) as archive:
            return archive.infolist()
    except (BadZipFile, OSError, ValueError, NotImplementedError):  # torch reports what it is
        return []


def _named(content: object, before: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors inside mappings and lists with their names, which begin with `before`.

    `seen` holds the ids of the containers that were visited, because one may contain itself.
    """
    if not isinstance(content, Mapping | list | tuple) or id(content) in seen:
        return
    if before.count(INNER) >= MAX_DEPTH:
        return
    seen.add(id(content))
    for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
        if isinstance(value, Tensor):
            yield f"{before}{key}", value
        yield from _named(value, f"{before}{key}{INNER}", seen)


def find_places(weights: Weights, expected: Mapping[str, Tensor]) -> list[Place]:
    """Return all places of a file where a network fits.

    Names are compared in three forms: as they are; without the names of wrappers; and also with _
    for dots, as averages have them (ema_fc_weight). In each form, modules that contain the whole
    network are removed from the network's names one by one.

    Args:
        weights: The content of the file.
        expected: The network's state dict.

    Returns:
        The places. If the network fits nowhere, the only one is the place that has most of it.
    """
    tensors = weights.tensors
    found: list[Place] = []
    for unwrap, dot in ((str, "."), (unwrapped_name, "."), (unwrapped_name, "_")):
        short_name = partial(_short_name, unwrap, dot)
        # Every name is divided at each of its separators into a prefix and a short name.
        divisions: dict[tuple[str, str], None] = {}
        for name in tensors:
            for separator in re.finditer(rf"^|[.{dot}{INNER}]", name):
                start = separator.end()
                divisions[name[:start], short_name(name[start:])] = None
        network_names = {unwrap(name): name for name in expected}
        while True:
            wanted = {name.replace(".", dot): own for name, own in network_names.items()}
            counts = Counter(prefix for prefix, name in divisions if name in wanted)
            counts = counts or Counter(name[: name.rfind(INNER) + 1] for name in tensors)
            least = max(counts.values()) / 2
            prefixes = [prefix for prefix, count in counts.items() if count > least]
            for prefix in prefixes:
                found.append(_place(tensors, short_name, wanted, expected, prefixes, prefix))
            # If one module contains the whole network, the search is repeated without its name.
            outer = {name.partition(".")[0] for name in network_names}
            if len(outer) != 1 or not all("." in name for name in network_names):
                break
            network_names = {name.partition(".")[2]: own for name, own in network_names.items()}
    # The same tensors may fit by several forms of their names.
    fitting: dict[frozenset[int], Place] = {}
    for place in found:
        if place.fits:
            fitting.setdefault(frozenset(map(id, place.tensors.values())), place)
    if fitting:
        return [*fitting.values()]
    return [min(found, key=lambda p: len(p.missing) + len(p.wrong_shape) + len(p.unexpected))]


def _short_name(unwrap: Callable[[str], str], dot: str, name: str) -> str:
    """Return a name without wrappers and with `dot` for dots."""
    return unwrap(name).replace(".", dot)


def _place(
    tensors: dict[str, Tensor],
    short_name: Callable[[str], str],
    wanted: dict[str, str],
    expected: Mapping[str, Tensor],
    prefixes: Sequence[str],
    prefix: str,
) -> Place:
    """Return the place at `prefix`, inside which other places of `prefixes` may lie.

    `wanted` has the network's own names by their short names.
    """
    others = tuple(other for other in prefixes if other.startswith(prefix) and other != prefix)
    inside = [name for name in tensors if name.startswith(prefix) and not name.startswith(others)]
    short_names = {name: short_name(name.removeprefix(prefix)) for name in inside}
    # A short name that occurs twice belongs to two copies of the network: neither is used.
    occurrences = Counter(short_names.values())
    file_names = {}
    for name, short in short_names.items():
        if short in wanted and occurrences[short] == 1:
            file_names[wanted[short]] = name
    # All other names of the same state dict are listed.
    state = prefix[: prefix.rfind(INNER) + 1]
    used = {*file_names.values()}
    beside = []
    unexpected = []
    for name, tensor in tensors.items():
        if name in used or not name.startswith(state) or INNER in name[len(state) :]:
            continue
        beside.append(name.removeprefix(state))
        # A single whole number, such as a number of steps, belongs to no layer.
        is_count = not tensor.ndim and tensor.dtype == torch.int64
        if name in short_names and not is_count and not TRAINING_ONLY.match(short_names[name]):
            unexpected.append(short_names[name])
    missing = [
        name for name in expected if name not in file_names and not name.endswith(BATCH_COUNTERS)
    ]
    wrong = sorted(
        name
        for name, file_name in file_names.items()
        if tensors[file_name].shape != expected[name].shape
    )
    return Place(
        prefix=prefix,
        tensors={name: tensors[file_names[name]] for name in expected if name in file_names},
        missing=missing,
        wrong_shape=wrong,
        other_names=beside,
        unexpected=unexpected,
    )


def load_into(
    module: nn.Module, weights: Weights, architecture: str, key: str | None = None
) -> list[str]:
    """Load the weights into the module, and return a sentence if the file holds more than them.

    Each tensor is cast to the module's dtype (float16 to float32).

    Args:
        module: The network.
        weights: The content of the file.
        architecture: The network's name, for messages.
        key: A part of the name of a place, if the network is in the file several times with
            different values.

    Returns:
        A sentence on where in the file the network is, or nothing if the file holds only it.

    Raises:
        BenchError: if the network fits nowhere (the first few tensors are listed) or at several
            places, or if a tensor doesn't consist of finite floats.
    """
    expected = tensors_of(module)
    file = weights.description
    place = _chosen(find_places(weights, expected), file, key)
    if not place.fits:
        wrong_shapes = []
        for name in place.wrong_shape:
            shape = tuple(place.tensors[name].shape)
            wrong_shapes.append(f"{name} {shape} for {tuple(expected[name].shape)}")
        problems = {
            "missing": place.missing,
            "unexpected": place.unexpected,
            "of the wrong shape": wrong_shapes,
        }
        differences = "; ".join(
            f"{problem}: {first_names(names, 3)}" for problem, names in problems.items() if names
        )
        advice = "give the file of this architecture"
        if not place.missing and not place.unexpected:
            advice += (
                ", or if only its number of classes differs, build that many, such as by "
                "model.kwargs.num_classes"
            )
        raise BenchError(f"The weights {file} don't fit {architecture} ({differences}); {advice}.")
    for name, tensor in place.tensors.items():
        _check_values(tensor, expected[name].dtype, name, file)
    state = OrderedDict(place.tensors)
    # A file without version marks (safetensors) is read as one that today's module wrote.
    marks = getattr(weights.state, "_metadata", None) or module.state_dict()._metadata  # type: ignore[attr-defined]
    state._metadata = marks  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)
    if not place.prefix and not place.other_names:
        return []
    left_out = f"; left out: {first_names(place.other_names, 3)}" if place.other_names else ""
    return [f"the network is at {place.name} in {file}{left_out}."]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a network's state dict without the values that aren't tensors.

    A module may add other objects to its state dict, which no file has to match.
    """
    state = module.state_dict()
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _chosen(found: Sequence[Place], file: str, key: str | None) -> Place:
    """Return the place with that key, or raise if several places with different values have it.

    A checkpoint may hold the weights and their moving average, and only the user knows which are
    meant.
    """
    if not found[0].fits:
        return found[0]
    named = [place for place in found if key in (None, place.name)]
    if not named:
        named = [place for place in found if f".{key}." in f".{place.name}."]
    if not named:
        raise unknown_name("network", key, [entry.name for entry in found], place=f"in {file}")
    first, *others = named
    others = [place for place in others if not _are_same(first.tensors, place.tensors)]
    if others:
        places = first_names([first.name, *(place.name for place in others)], 3)
        raise BenchError(
            f"The weights {file} hold the network {len(others) + 1} times with other values, at "
            f"{places}; choose one by model.weights_key={first.name}."
        )
    return first


def _are_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Return whether all tensors that both have are equal."""
    for name, tensor in first.items():
        if name.endswith(BATCH_COUNTERS) or name not in second:
            continue
        other = second[name]
        if tensor.dtype != other.dtype or not torch.equal(tensor, other):
            return False
    return True


def _check_values(tensor: Tensor, dtype: torch.dtype, name: str, file: str) -> None:
    """Check that a tensor can be a weight of a module, whose own tensor has `dtype`."""
    forbidden_kinds = {
        "a meta": tensor.is_meta,  # it has no values
        "a nested": tensor.is_nested,
        "a quantized": tensor.is_quantized,
        "a sparse": tensor.layout != torch.strided,
        "a complex": tensor.is_complex(),
        f"a {str(tensor.dtype).removeprefix('torch.')}": tensor.dtype not in DTYPES,
    }
    for kind, has_kind in forbidden_kinds.items():
        if has_kind:
            raise BenchError(
                f"The weights {file} hold {kind} tensor, {name[:MAX_REASON]!r}; {SAVE}, as plain "
                "floats."
            )
    if not dtype.is_floating_point:
        return
    if not tensor.is_floating_point():
        problem = f"{str(tensor.dtype).removeprefix('torch.')} numbers"
    elif not tensor.to(dtype).isfinite().all():
        problem = "NaN or Inf"
    else:
        return
    raise BenchError(
        f"The weights {file} hold {problem} in {name!r}; use a checkpoint of finite "
        "floating-point values."
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of a state dict.

    It identifies weights that don't come from a file, and one of several networks in a file.
    """
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
