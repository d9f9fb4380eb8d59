"""The settings of conf/model/*.yaml: the one place that names and checks them."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.data.layouts.classes import Classes
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import File, Name, check, check_group, shown, whole, worded

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
AS_BUILT = "as_built"  # weights: those with which a user's function returns the network
MAX_SIDE = 10_000  # pixels: `data.preprocessing.MAX_PIXELS` is the square of it
OBJECT_OUTPUTS = (
    "boxes",
    "exclusive_boxes",
    "regions",
    "exclusive_regions",
)  # of networks that find objects
SEEDS = (-(2**63), 2**64 - 1)  # what torch.manual_seed takes


COLOUR = "three numbers, for red, green and blue, or one for a network of grey images"
Side = Annotated[int, whole(1, "a side in pixels", MAX_SIDE)]
Size = Annotated[
    Side | tuple[Side, Side], worded("pixels: a side, or [height, width], 1 to 10000 each")
]
Grid = Annotated[File | tuple[Side, Side], worded("tokens, [rows, columns] or a class")]
Mean = Annotated[Sequence[float], worded(f"{COLOUR}, of pixels in [0, 1]")]
Std = Annotated[
    Sequence[float],
    worded(f"{COLOUR}, above 0, of pixels in [0, 1]", lambda std: min(std, default=1) > 0),
]


DEFAULTS: Mapping[
    str, Callable[[Mapping[str, Any]], Any]
] = {  # what null stands for, of the other values
    "name": lambda values: values.get("architecture"),
    "architecture": lambda values: values.get("name"),
    "layer": lambda _: "default",
    "kwargs": lambda _: {},
}


@dataclass(frozen=True)
class ModelSpec:
    """A model as configured. None means "as the weights say" for classes and all that concerns the
    input.

    source: embedded | torchvision | timm | user. architecture: its name there; for `user`,
    module:function or path.py:function. weights: `default`, the name of published weights
    (IMAGENET1K_V1), a file, `as_built` for those that a user's function loads, or None for random
    weights drawn with `seed`. weights_folder: its <architecture>.safetensors (.pth, .pt) stands in
    for published weights. weights_key: where in the file the network is, if it is there several
    times. layer: default | last_relu | a dotted name. reshape: how a transformer's layer becomes
    maps: `tokens`, a grid (H, W), or module:class of a Reshape. output: a name of outputs.OUTPUTS
    or of OBJECT_OUTPUTS, module:function from what the network returns to scores (B, n), or None:
    logits, recognised. resize: the shorter side, or exactly (H, W); crop: the side of the centre
    crop; in pixels. mean, std: of red, green and blue, or of grey images; of arrays, of each
    channel or one number. inputs: a file of what it takes beside the images; explained: what it
    calls these, see InputsFile. classes: the names of the logits, a list or a file, or their
    number. background: the logit that is no class of the data, 0, or -1 for the last. draw: the
    seed of what a network draws that is random by design, see FixedDraws. read: of an output of
    boxes or regions, module:function from what the network returns to these; min_probability: of an
    object that is explained, see cutting.objects. finetuned: weights, as `weights` takes them, of a
    copy of the network that was fine-tuned on images without some of their pixels, by which the
    metric f_fidelity judges its maps.
    """

    name: Name
    source: Name
    architecture: File
    weights: File | None = "default"
    weights_folder: File | None = None
    weights_key: Name | None = None
    layer: Name = "default"
    reshape: Grid | None = None
    output: File | None = None
    seed: Annotated[int, whole(SEEDS[0], "a whole number", SEEDS[1])] = 0
    kwargs: Annotated[Mapping[str, Any], worded("a mapping")] = field(default_factory=dict)
    classes: Annotated[int, whole(1, "a number of classes")] | Classes | None = None
    resize: Size | None = None
    crop: Side | None = None
    mean: Mean | None = None
    std: Std | None = None
    interpolation: Name | None = None
    background: Annotated[int, whole(-1, "an output, 0 or higher, or -1 for the last")] | None = (
        None
    )
    draw: Annotated[int, whole(0, "a seed", 2**32 - 1)] | None = None
    inputs: File | None = None
    explained: Name | None = None
    read: File | None = None
    min_probability: Annotated[
        float, worded("a probability, 0 to 1", lambda value: 0 <= value <= 1)
    ] = 0.3
    finetuned: File | None = None

    @staticmethod
    def of(config: Mapping[str, Any]) -> ModelSpec:
        """The checked spec of a mapping. Raises BenchError for a key that is unknown, missing or of
        a wrong value.
        """
        values = _resolved(check_group("model", config))
        names = [entry.name for entry in fields(ModelSpec)]
        for key in values:
            if key not in names:
                raise unknown("model setting", key, names)
        for key, other in DEFAULTS.items():
            if values.get(key) is None:
                values[key] = other(values)
        missing = [key for key in ("name", "source") if values.get(key) is None]
        if missing:
            raise BenchError(
                f"The model has no {' and no '.join(missing)}; set model.{missing[0]}."
            )
        check(ModelSpec, values, "model.")
        for key in ("classes", "reshape", "resize", "mean", "std"):
            if isinstance(values.get(key), list):
                values[key] = (
                    tuple(map(str, values[key])) if key == "classes" else tuple(values[key])
                )
        return ModelSpec(**values)

    def check_colours(self) -> None:
        """Raises BenchError for a mean or a standard deviation that isn't of the colours of
        pictures.
        """
        for key, values, least, most in (("mean", self.mean, 0, 1), ("std", self.std, 1e-6, 1e6)):
            if values is not None and not (
                len(values) in (1, 3) and least <= min(values) and max(values) <= most
            ):
                above = ", above 0" if key == "std" else ""
                arrays = (
                    " Images of other channels are arrays: set data=arrays data.root=FOLDER."
                    if len(values) > 3
                    else ""
                )
                raise BenchError(
                    f"model.{key} must be {COLOUR}{above}, of pixels in [0, 1], not "
                    f"{shown([*values])}.{arrays}"
                )

    @property
    def weights_file(self) -> Path | None:
        """The local file of weights, None for published or random ones. Raises BenchError for a
        missing file.
        """
        if self.weights in (None, AS_BUILT):
            return None
        file = Path(self.weights).expanduser()
        if self.weights.endswith(WEIGHTS_SUFFIXES) or (
            file.suffix and file.is_file()
        ):  # such as model.h5
            name, candidates = self.weights, [file]
        elif (
            self.weights_folder is None or self.source == "embedded"
        ):  # whose weights are in the package
            return None
        else:
            folder = Path(self.weights_folder).expanduser()
            name, candidates = (
                self.name,
                [folder / f"{self.architecture}{suffix}" for suffix in WEIGHTS_SUFFIXES],
            )
        if not (files := [path for path in candidates if path.is_file()]):
            raise BenchError(
                f"There are no weights for {name!r}: {candidates[0]} is not a file; set "
                "model.weights to a local file, model.weights_folder to the folder that holds it, "
                "or model.weights=null for random weights."
            )
        return files[0]


_SETTING = re.compile(
    rf"\"?\bmodel\.({'|'.join(entry.name for entry in fields(ModelSpec))})\b(?:\.(\w+))?"
    r"(?:=(\[[^\]]*\]|[^\s,;){\"]*[^\s,;){\".])|=?)\"?"
)
_BOTH = re.compile(r"\S+ \(in Python ([^)]*)\)|(\S+) \([^)]* on the command line\)")


def in_python(message: str) -> str:
    """Return a message with settings of the command line written as arguments of `load_model`.

    >>> print(in_python("set model.weights=as_built, model.crop=null or model.kwargs.depth=VALUE, not model.classes"))
    set weights='as_built', crop=None or kwargs={'depth': VALUE}, not classes=
    """

    def argument(match: re.Match[str]) -> str:
        name, inner, text = match.groups()
        value = "" if text is None else text if text.isupper() else repr(yaml.safe_load(text))
        return f"{name}={value}" if inner is None else f"{name}={{{inner!r}: {value or '...'}}}"

    message = _BOTH.sub(r"\1\2", message).replace(" or null", " or None")
    message = re.sub(
        r"set model=(\w+) model\.architecture=(\S*\w)",
        r"call ab.load_model('\1', architecture='\2')",
        message,
    )
    return _SETTING.sub(argument, message)


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """A plain dict, every ${...} filled in and no ??? left."""
    try:
        node = config if OmegaConf.is_config(config) else OmegaConf.create(dict(config))
        missing = sorted(key.removeprefix("model.") for key in OmegaConf.missing_keys(node))
        if missing:
            raise BenchError(
                f"The model's {', '.join(missing)[:200]} must be given; set "
                f"model.{missing[0][:200]}=..."
            )
        values = OmegaConf.to_container(node, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise BenchError(
            f"The model's settings can't be read: {str(error).splitlines()[0]}"
        ) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def model_names() -> list[str]:
    """Every name that `model=` takes, sorted."""
    return sorted([*_files(), *_without_file()])


def model_config(name: str) -> dict[str, Any]:
    """The settings of a named model as in its YAML and in that of the model on whose settings it
    builds, ${...} not filled in. Raises BenchError for an unknown name.
    """
    if name in _files():
        settings = yaml.safe_load(_files()[name].read_text(encoding="utf-8"))
        assert isinstance(settings, dict)
        parts = (
            *map(model_config, settings.pop("defaults", ())),
            settings,
        )  # as Hydra composes them
        return {key: value for part in parts for key, value in part.items()}
    if not is_of_library(name):
        raise unknown_model(name, model_names())
    spec = ModelSpec(
        name=name, source="torchvision" if name in classifiers() else "timm", architecture=name
    )
    return {entry.name: getattr(spec, entry.name) for entry in fields(spec)}


def is_of_library(name: str) -> bool:
    """Return whether a name is a network of torchvision or timm. timm's may have a tag of weights
    behind a dot.
    """
    return name in classifiers() or name.partition(".")[0] in timm_networks()


def unknown_model(name: str, names: Iterable[str]) -> BenchError:
    """Return the error for a name that is no model's. names: those of models, without timm's."""
    error = unknown("model", name, names, timm_networks())
    if timm_networks():
        return error
    return BenchError(
        f"{error} A network of timm needs timm: pip install '.[timm]' in axiom-bench's checkout."
    )


@cache
def timm_networks() -> frozenset[str]:
    """Return the names of timm's networks, read from its files without importing it; empty if it
    isn't installed.
    """
    spec = importlib.util.find_spec("timm")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    files = [path for folder in folders for path in Path(folder, "models").glob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    return frozenset(
        chain.from_iterable(
            re.findall(r"^@register_model\ndef (\w+)\(", text, re.M) for text in texts
        )
    )


def named_settings(name: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a named model with some of them changed, as `model=NAME
    model.KEY=VALUE` has them.

    Raises BenchError for an unknown name.
    """
    root = read_yaml(conf_folder() / "config.yaml")["real_root"]
    settings = {**model_config(name), **changes}
    config = OmegaConf.create({"real_root": root, "model": settings}, flags={"allow_objects": True})
    return config["model"]


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted((conf_folder() / "model").glob("*.yaml"))}


def _without_file() -> list[str]:
    with_file = _files()
    return [name for name in classifiers() if name not in with_file]


@cache
def classifiers() -> dict[str, str]:
    """{name: one line about it}, as `torchvision.models.list_models` and each model's default
    weights have it.
    """
    spec = importlib.util.find_spec("torchvision")
    folders = (
        [Path(folder, "models") for folder in (spec.submodule_search_locations or ())]
        if spec
        else []
    )
    files = (
        path for folder in folders for each in ("*.py", "video/*.py") for path in folder.glob(each)
    )
    return dict(sorted(entry for path in files for entry in _of_module(path)))


def _of_module(path: Path) -> Iterator[tuple[str, str]]:
    """Every function of a module that is decorated with @register_model(); with another name it is
    no classifier.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = {node.name: _default(node) for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and "register_model()" in map(
            ast.unparse, node.decorator_list
        ):
            weights = re.search(r"\bweights: Optional\[(\w+)\]", ast.unparse(node.args))
            yield node.name, (weights and described.get(weights[1])) or "torchvision."


def _default(weights: ast.ClassDef) -> str | None:
    """A description of the default entry of a class of weights; None for another class."""
    text = ast.unparse(weights)  # an entry a line
    default = re.search(r"^ +DEFAULT = (\w+)$", text, re.MULTILINE)
    count = default and re.search(rf"^ +{default[1]} = .*'num_params': (\d+)", text, re.MULTILINE)
    if not default or not count:
        return None
    return f"torchvision, {int(count[1]) / 1e6:.1f} million parameters, weights {default[1]}."
