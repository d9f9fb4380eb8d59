"""Weights from a file: read without running code, found in it by names and shapes, and fitted with
clear errors.
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
from axiom_bench.errors import BenchError, first_names, unknown

# between a checkpoint's key and what is under it; between a module and its tensors stands a dot
INNER = "\0"
COUNTED = "num_batches_tracked"  # older files lack it, and no value depends on it
# What training adds beside a network's own tensors: losses, heads that rest in eval mode, counts of
# profilers.
ADDED = re.compile(
    r"(\w*(criterion|loss|metric)\w*|aux\w*|AuxLogits|(.*\.)?total_(ops|params))(\.|$)"
)
DTYPES = (  # of weights, and of the counts and indices beside them
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool,
    torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip
DAMAGED = "the file is damaged, or holds more than tensors"
SAVE = "save them with safetensors, or with torch.save(model.state_dict(), ...)"
OF_PYTORCH = "give the state dict of the network in PyTorch"
UNPACK = "unpack it, and give the file of weights in it"
KINDS = (  # how a file begins that isn't one of weights, what it is, and what to do
    (rb"$", "it is empty", "copy or download it again"),
    (
        rb"\s*<(!doctype|html|\?xml)",
        "it is a web page, as a failed download leaves it",
        "download the file itself",
    ),
    (
        rb"version https://git-lfs",
        "it is Git LFS's pointer to the file",
        "run git lfs pull where it was cloned",
    ),
    (
        rb"\s*\{",
        "it is JSON, as the index of weights in several files",
        f"load the network in Python and {SAVE}",
    ),
    (rb"\x89HDF", "it is HDF5, as Keras writes it", OF_PYTORCH),
    (rb"\x93NUMPY", "it is an array of NumPy", f"load it in Python and {SAVE}"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|.{257}ustar", "it is an archive", UNPACK),
)
OTHERS = (
    ".onnx",
    ".pb",
    ".tflite",
    ".keras",
    ".caffemodel",
    ".mlmodel",
)  # endings of other libraries' files
SHARD = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.")
MAX_REASON = 200  # characters
MAX_DEPTH = 20  # of a checkpoint's mappings and lists
MAX_UNPACKED = (
    2**30
)  # bytes of a checkpoint's archive, which torch doesn't compress, beyond twice the file's own
# torchvision's DenseNet files are older than its module: norm.1.weight there is norm1.weight here.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


@dataclass(frozen=True)
class Weights:
    """A state dict, or a checkpoint that holds some; where it comes from, and its SHA-256, as a
    manifest has them.
    """

    state: Any
    description: str
    sha256: str
    are_random: bool = False

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the keys down to each, with INNER behind that of a mapping or a list."""
        return {
            OLD_DENSENET.sub(r"\1\2", name): tensor
            for name, tensor in _named(self.state, "", set())
        }


@dataclass(frozen=True)
class Place:
    """Where in a file a network's tensors are, as far as it has them.

    before: what stands before their names there. tensors: by the network's names. missing, wrong:
    of the network's, for their name or their shape. beside: the others in the same state dict, of
    which `unexpected` may be the network's.
    """

    before: str
    tensors: Mapping[str, Tensor]
    missing: Sequence[str]
    wrong: Sequence[str]
    beside: Sequence[str]
    unexpected: Sequence[str]

    @property
    def fits(self) -> bool:
        """Whether each tensor of the network has one here, and no layer is left."""
        return not (self.missing or self.wrong or self.unexpected)

    @property
    def name(self) -> str:
        """As `model.weights_key` takes it."""
        return self.before.rstrip(f".{INNER}").replace(INNER, ".") or "top"


class Unread:
    """In the place of an object whose class a pickle names: nothing of that class is imported or
    called.
    """

    def __new__(cls, *_: object, **__: object) -> Any:
        return OrderedDict() if cls.__name__.lower().endswith("dict") else super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """What it held isn't read."""


def read(path: Path) -> Weights:
    """What a .safetensors file holds, or a checkpoint of torch.save of any name. A pickle's code is
    never run: its objects that are no tensors, numbers, texts or containers are left out.

    Raises BenchError where the file can't be read or holds no tensors with names.
    """
    try:
        if not path.is_file() and path.exists():  # reading a pipe would wait without end
            raise IsADirectoryError("it is no file")
        state: Any = load_file(path) if path.suffix == ".safetensors" else _loaded(path)
    except Exception as error:
        reason, step = _why(path, error)
        raise BenchError(f"The weights {path} can't be read ({reason}); {step}.") from error
    if SHARD.search(path.name):
        raise BenchError(
            f"The weights {path} are a part of several files; load the network in Python and "
            f"{SAVE}."
        )
    if isinstance(state, Unread):
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


def _loaded(path: Path) -> Any:
    # An archive may unpack to far more than it has.
    unpacked = sum(member.file_size for member in _members(path))
    if unpacked > MAX_UNPACKED + 2 * path.stat().st_size:
        raise OSError(f"it would unpack to {unpacked:,} bytes")
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zipfile(path) else []
    named = [name.rpartition(".") for name in names]
    unread: list[Any] = [
        type(name, (Unread,), {"__module__": each, "__qualname__": name}) for each, _, name in named
    ]
    with torch.serialization.safe_globals(unread):
        return torch.load(path, map_location="cpu", weights_only=True)


def _why(path: Path, error: Exception) -> tuple[str, str]:
    """Why a file can't be read, and what to do."""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(512)
        if path.suffix.lower() in OTHERS:
            return f"{path.suffix} is a file of another library than PyTorch", OF_PYTORCH
        for begin, kind, step in KINDS:
            if re.match(begin, start, re.DOTALL | re.IGNORECASE):
                return kind, step
    if isinstance(
        error, OSError | SafetensorError
    ):  # torch's messages don't help: "101", or nothing
        return str(error).split("\n")[0][:MAX_REASON], SAVE
    names = [member.filename for member in _members(path)]
    if any(name.endswith("constants.pkl") for name in names):
        step = f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
        return "it is TorchScript", f"write a file of its state dict: {step}"
    is_damaged = not names or any(name.endswith("data.pkl") for name in names)
    return (DAMAGED, SAVE) if is_damaged else ("it is a zip of other files", UNPACK)


def _members(path: Path) -> list[ZipInfo]:
    """Of a zip file; none of a file that is no whole one."""
    try:
        with ZipFile(path) as archive:
            return archive.infolist()
    except (BadZipFile, OSError, ValueError, NotImplementedError):  # torch says what it is
        return []


def _named(content: Any, before: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if (
        isinstance(content, Mapping | list | tuple)
        and id(content) not in seen
        and before.count(INNER) < MAX_DEPTH
    ):
        seen.add(id(content))
        for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
            if isinstance(value, Tensor):
                yield f"{before}{key}", value
            yield from _named(value, f"{before}{key}{INNER}", seen)


def places(weights: Weights, expected: Mapping[str, Tensor]) -> list[Place]:
    """All places of a file where a network with this state dict fits; where it fits nowhere, the
    one that has most of it. Names are taken as they are, then without those of wrappers, and each
    without what all of the network's begin with; last with _ for dots, as averages have them
    (ema_fc_weight).
    """
    tensors, found = weights.tensors, list[Place]()
    for unwrap, dot in ((str, "."), (unwrapped_name, "."), (unwrapped_name, "_")):
        form = partial(_form, unwrap, dot)
        starts = [
            (name, each.end())
            for name in tensors
            for each in re.finditer(rf"^|[.{dot}{INNER}]", name)
        ]
        inner = dict.fromkeys((name[:start], form(name[start:])) for name, start in starts)
        of_network = {unwrap(name): name for name in expected}
        while True:
            wanted = {name.replace(".", dot): own for name, own in of_network.items()}
            counts = Counter(before for before, name in inner if name in wanted)
            counts = counts or Counter(name[: name.rfind(INNER) + 1] for name in tensors)
            befores = [
                before for before, count in counts.items() if count > max(counts.values()) / 2
            ]
            found += [
                _place(tensors, form, wanted, expected, befores, before) for before in befores
            ]
            if len({name.partition(".")[0] for name in of_network}) != 1 or not all(
                "." in name for name in of_network
            ):
                break
            of_network = {name.partition(".")[2]: own for name, own in of_network.items()}
    fitting: dict[
        frozenset[int], Place
    ] = {}  # the same tensors may fit by several forms of their names
    for place in found:
        if place.fits:
            fitting.setdefault(frozenset(map(id, place.tensors.values())), place)
    closest = min(
        found, key=lambda place: len(place.missing) + len(place.wrong) + len(place.unexpected)
    )
    return [*fitting.values()] or [closest]


def _form(unwrap: Callable[[str], str], dot: str, name: str) -> str:
    return unwrap(name).replace(".", dot)


def _place(
    tensors: dict[str, Tensor], form: Callable[[str], str], wanted: dict[str, str], expected: Mapping[str, Tensor],
    befores: Sequence[str], before: str,
) -> Place:  # fmt: skip
    """befores: of all places, of which one may lie within another."""
    others = tuple(each for each in befores if each.startswith(before) and each != before)
    inside = [name for name in tensors if name.startswith(before) and not name.startswith(others)]
    inner = {name: form(name.removeprefix(before)) for name in inside}
    alike = Counter(inner.values())  # a network isn't put together from several copies
    own = {
        wanted[short]: name
        for name, short in inner.items()
        if short in wanted and alike[short] == 1
    }
    state = before[
        : before.rfind(INNER) + 1
    ]  # the names beside it are those of the same state dict
    within = [
        name for name in tensors if name.startswith(state) and INNER not in name[len(state) :]
    ]
    taken = {*own.values()}
    beside = [name for name in within if name not in taken]
    # One whole number, as of steps, is no layer's.
    layers = [
        name
        for name in beside
        if name in inner and (tensors[name].ndim or tensors[name].dtype != torch.int64)
    ]
    missing = [name for name in expected if name not in own and not name.endswith(COUNTED)]
    wrong = sorted(
        name for name, full in own.items() if tensors[full].shape != expected[name].shape
    )
    return Place(
        before,
        {name: tensors[own[name]] for name in expected if name in own},
        missing,
        wrong,
        [name.removeprefix(state) for name in beside],
        [inner[name] for name in layers if not ADDED.match(inner[name])],
    )


def fit(
    module: nn.Module, weights: Weights, architecture: str, key: str | None = None
) -> list[str]:
    """Loads the weights into the module; each tensor is cast to the module's dtype (float16 to
    float32). Returns a sentence on where in the file they are, where they aren't all that it holds.

    key: a part of that place, where the network fits at several of other values. Raises BenchError
    where it fits at none, naming the first few tensors, or at several, and where a tensor is none
    of finite floats.
    """
    expected, file = tensors_of(module), weights.description
    place = _chosen(places(weights, expected), file, key)
    if not place.fits:
        sizes = (
            (name, tuple(place.tensors[name].shape), tuple(expected[name].shape))
            for name in place.wrong
        )
        shapes = [f"{name} {shape} for {of_network}" for name, shape, of_network in sizes]
        parts = {
            "missing": place.missing,
            "unexpected": place.unexpected,
            "of the wrong shape": shapes,
        }
        differences = "; ".join(
            f"{problem}: {first_names(names, 3)}" for problem, names in parts.items() if names
        )
        raise BenchError(
            f"The weights {file} don't fit {architecture} ({differences}); give the file of this "
            "architecture."
        )
    for name, tensor in place.tensors.items():
        _check_values(tensor, expected[name].dtype, name, file)
    state = OrderedDict(place.tensors)
    # A file without version marks (safetensors) is read as one that today's module has written.
    marks = getattr(weights.state, "_metadata", None) or module.state_dict()._metadata  # type: ignore[attr-defined]
    state._metadata = marks  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)
    left_out = f"; left out: {first_names(place.beside, 3)}" if place.beside else ""
    return (
        [f"the network is at {place.name} in {file}{left_out}."] if place.before or left_out else []
    )


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """A network's state dict, without what its layers save beside tensors."""
    return {
        name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)
    }


def _chosen(found: Sequence[Place], file: str, key: str | None) -> Place:
    """The place of that key. Raises BenchError where places of other values are left."""
    if not found[0].fits:
        return found[0]
    named = [place for place in found if key in (None, place.name)]
    named = named or [place for place in found if f".{key}." in f".{place.name}."]
    if not named:
        raise unknown(f"place of the network in {file}", key, [place.name for place in found])
    first, *others = named
    if others := [place for place in others if not _are_same(first.tensors, place.tensors)]:
        places = first_names([first.name, *(place.name for place in others)], 3)
        raise BenchError(
            f"The weights {file} hold the network {len(others) + 1} times with other values, at "
            f"{places}; choose one by model.weights_key={first.name}."
        )
    return first


def _are_same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    pairs = (
        (tensor, two[name])
        for name, tensor in one.items()
        if not name.endswith(COUNTED) and name in two
    )
    return all(
        first.dtype == second.dtype and torch.equal(first, second) for first, second in pairs
    )


def _check_values(tensor: Tensor, dtype: torch.dtype, name: str, file: str) -> None:
    """Raises BenchError for a tensor that can't be a weight, of a module that has that dtype
    there.
    """
    kinds = {  # that can't be weights
        "a meta": tensor.is_meta,  # it has no values
        "a nested": tensor.is_nested,
        "a quantized": tensor.is_quantized,
        "a sparse": tensor.layout != torch.strided,
        "a complex": tensor.is_complex(),
        f"a {str(tensor.dtype).removeprefix('torch.')}": tensor.dtype not in DTYPES,
    }
    if kind := next((kind for kind, holds in kinds.items() if holds), None):
        raise BenchError(
            f"The weights {file} hold {kind} tensor, {name[:MAX_REASON]!r}; {SAVE}, as plain "
            "floats."
        )
    is_floats = tensor.is_floating_point()
    if dtype.is_floating_point and not (is_floats and tensor.to(dtype).isfinite().all()):
        problem = (
            "NaN or Inf" if is_floats else f"{str(tensor.dtype).removeprefix('torch.')} numbers"
        )
        raise BenchError(
            f"The weights {file} hold {problem} in {name!r}; use a checkpoint that is finite, in "
            "floats."
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
