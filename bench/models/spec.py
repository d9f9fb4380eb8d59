"""The settings of conf/model/*.yaml: this module alone names and checks them."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePath
from typing import Annotated, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.data.layouts.classes import Classes
from axiom_bench.environment import conf_folder, read_yaml
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import (
    File,
    Name,
    check,
    check_group,
    described_values,
    home_expanded,
    shorten_for_error,
    whole_number,
)

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
AS_BUILT = "as_built"  # model.weights: keep the weights that a user's function has loaded itself
# The beginning of a name on the Hub, see `hub_name`.
HUB_PREFIX = re.compile(r"hf[-_]hub:|hf://|https?://(www\.)?huggingface\.co/")
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")  # a name on the Hugging Face Hub
MAX_SIDE = 10_000  # pixels; `data.preprocessing.MAX_PIXELS` is its square
# The values of model.output for networks that find objects.
OBJECT_OUTPUTS = ("boxes", "exclusive_boxes", "regions", "exclusive_regions")
WORD_OUTPUTS = {"words": "logits", "word_probabilities": "log_probabilities"}
"""The score of `WordScores` by model.output."""
PLACED_OUTPUTS = (*OBJECT_OUTPUTS, *WORD_OUTPUTS)
SEEDS = (-(2**63), 2**64 - 1)  # the lowest and the highest seed that torch.manual_seed accepts

COLOUR = "three numbers, for red, green and blue, or one for a network of grey images"
Side = Annotated[int, whole_number(1, "a side in pixels", MAX_SIDE)]
Size = Annotated[
    Side | tuple[Side, Side],
    described_values("pixels: a side, or [height, width], 1 to 10000 each"),
]
Grid = Annotated[File | tuple[Side, Side], described_values("tokens, [rows, columns] or a class")]
Mean = Annotated[Sequence[float], described_values(f"{COLOUR}, of pixels in [0, 1]")]
Std = Annotated[
    Sequence[float],
    described_values(
        f"{COLOUR}, above 0, of pixels in [0, 1]", lambda std: min(std, default=1) > 0
    ),
]


# The value that null stands for, computed from the other settings.
DEFAULTS: Mapping[str, Callable[[Mapping[str, object]], object]] = {
    "name": lambda values: network_name(values),
    "architecture": lambda values: values.get("name"),
    "layer": lambda _: "default",
    "kwargs": lambda _: {},
}


@dataclass(frozen=True)
class ModelSpec:
    """The settings of one model.

    `classes` and the settings of the input (`resize`, `crop`, `mean`, `std`, `interpolation`) are
    None if they follow from the weights.
    """

    name: Name
    source: Name  # embedded | torchvision | timm | huggingface | ultralytics | user
    # The network's name in its source. For `user`: module:function or path.py:function.
    architecture: File
    # For `huggingface`: a name on the Hugging Face Hub, or a folder that save_pretrained wrote.
    checkpoint: File | None = None
    # `default`, the name of published weights (such as IMAGENET1K_V1), a file, `as_built` for the
    # weights that a user's function loads, or None for random weights drawn with `seed`.
    weights: File | None = "default"
    # A folder whose <architecture>.safetensors (.pth, .pt) replaces the published weights.
    weights_folder: File | None = None
    # The key under which the file holds the network, if it holds the network several times.
    weights_key: Name | None = None
    layer: Name = "default"  # default | last_relu | a dotted name
    # How a transformer's layer becomes maps: `tokens`, a grid (H, W), or module:class of a Reshape.
    reshape: Grid | None = None
    # A name of outputs.OUTPUTS or of OBJECT_OUTPUTS, or module:function from what the network
    # returns to scores (B, n). If it is None, the logits are recognised.
    output: File | None = None
    seed: Annotated[int, whole_number(SEEDS[0], "a whole number", SEEDS[1])] = 0
    # Arguments of the function that builds the network.
    kwargs: Annotated[Mapping[str, Any], described_values("a mapping")] = field(
        default_factory=dict
    )
    # The names of the logits (a list or a file), or their number.
    classes: Annotated[int, whole_number(1, "a number of classes")] | Classes | None = None
    resize: Size | None = None  # pixels: the length of the shorter side, or exactly (H, W)
    crop: Side | None = None  # pixels: the side of the centre crop
    # The mean and standard deviation of red, green and blue, or of grey. For arrays: one number per
    # channel, or one number.
    mean: Mean | None = None
    std: Std | None = None
    interpolation: Name | None = None
    # The logit that is no class of the data: 0, or -1 for the last one.
    background: (
        Annotated[int, whole_number(-1, "an output, 0 or higher, or -1 for the last")] | None
    ) = None
    # The seed for a network that draws random numbers by design, see FixedDraws.
    draw: Annotated[int, whole_number(0, "a seed", 2**32 - 1)] | None = None
    # A file of the network's inputs in addition to the images, see InputsFile.
    inputs: File | None = None
    # The network's name for the input that is the images, see InputsFile.
    explained: Name | None = None
    # module:function from what the network returns to boxes or regions, if `output` is one of them.
    read: File | None = None
    # The lowest probability of an object that is explained, see cutting.objects.
    min_probability: Annotated[
        float, described_values("a probability, 0 to 1", lambda value: 0 <= value <= 1)
    ] = 0.3
    # Weights (written as in `weights`) of a copy of the network that was fine-tuned on images
    # without some of their pixels. The metric f_fidelity judges maps by this copy.
    finetuned: File | None = None

    @staticmethod
    def of(config: Mapping[str, object]) -> ModelSpec:
        """Return the checked spec of a mapping.

        Raises:
            BenchError: if a key is unknown or missing, or has a wrong value.
        """
        values = _resolved(check_group("model", config))
        names = [entry.name for entry in fields(ModelSpec)]
        for key in values:
            if key not in names:
                raise unknown_name("model setting", key, names)
        if values.get("source") == "huggingface" and "checkpoint" in (values.get("kwargs") or {}):
            # Command lines from before model.checkpoint have it here.
            kwargs = dict(values["kwargs"])
            values |= {"checkpoint": kwargs.pop("checkpoint"), "kwargs": kwargs}
        checkpoint = values.get("checkpoint")
        if isinstance(checkpoint, str):
            values["checkpoint"] = hub_name(checkpoint)
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
            value = values.get(key)
            if isinstance(value, list):
                values[key] = tuple(map(str, value)) if key == "classes" else tuple(value)
        return ModelSpec(**values)

    def check_colours(self) -> None:
        """Check that the mean and the standard deviation are those of pictures' colours.

        Raises:
            BenchError: if one of them isn't.
        """
        for key, values, least, most in (("mean", self.mean, 0, 1), ("std", self.std, 1e-6, 1e6)):
            if values is None:
                continue
            if len(values) in (1, 3) and least <= min(values) and max(values) <= most:
                continue
            positive = ", above 0" if key == "std" else ""
            advice = ""
            if len(values) > 3:
                advice = " Images of other channels are arrays: set data=arrays data.root=FOLDER."
            raise BenchError(
                f"model.{key} must be {COLOUR}{positive}, of pixels in [0, 1], not "
                f"{shorten_for_error([*values])}.{advice}"
            )

    def check_checkpoint(self) -> None:
        """Check that the checkpoint is a folder, or may be a name on the Hugging Face Hub.

        Raises:
            BenchError: if it is neither.
        """
        if self.checkpoint is None or HUB_NAME.fullmatch(self.checkpoint):
            return
        if not home_expanded(self.checkpoint).is_dir():
            raise BenchError(
                f"There is no folder {self.checkpoint}; set model.checkpoint to one that "
                "save_pretrained wrote, or to a name on the Hugging Face Hub."
            )

    @property
    def weights_file(self) -> Path | None:
        """The local file of weights, or None for published or random weights.

        Raises:
            BenchError: if the file is missing.
        """
        if self.weights in (None, AS_BUILT):
            return None
        file = home_expanded(self.weights)
        # An existing file of another suffix, such as model.h5, is a file too: reading it explains
        # what is wrong with it.
        if self.weights.endswith(WEIGHTS_SUFFIXES) or (file.suffix and file.is_file()):
            candidates = [file]
        elif self.weights_folder is None or self.source == "embedded":
            return None  # the package holds the weights of embedded networks
        else:
            folder = home_expanded(self.weights_folder)
            candidates = [folder / f"{self.architecture}{suffix}" for suffix in WEIGHTS_SUFFIXES]
        files = [path for path in candidates if path.is_file()]
        if not files:
            raise BenchError(
                f"There are no weights of {self.name!r}: {candidates[0]} is not a file; set "
                "model.weights=FILE to the path of your file, model.weights_folder=FOLDER to the "
                "folder that holds published weights, or model.weights=null for random weights."
            )
        return files[0]


MOST_SHOWN = 200  # characters of the names and of the settings that are missing
EXAMPLES = {  # values of the settings that a model may have without a default
    "architecture": "net.py:build",
    "weights": "FILE",
    "checkpoint": "ORG/NAME",
    "kwargs.captions": "[a cat,a dog]",
    "kwargs.prompt": "TEXT",
}
# A setting as messages write it (model.crop, "model.crop=224", model.kwargs.depth=3): its name, the
# key inside it, and its value.
_SETTING = re.compile(
    rf"\"?\bmodel\.({'|'.join(entry.name for entry in fields(ModelSpec))})\b(?:\.(\w+))?"
    r"(?:=(\[[^\]]*\]|[^\s,;){\"]*[^\s,;){\".])|=?)\"?"
)
# Advice that is written for both Python and the command line: the form for Python.
_BOTH = re.compile(r"\S+ \(in Python ([^)]*)\)|(\S+) \([^)]* on the command line\)")


def in_python(message: str) -> str:
    """Return `message` with settings of the command line written as arguments of `load_model`.

    >>> message = "set model.weights=as_built, model.crop=null or model.kwargs.depth=VALUE"
    >>> print(in_python(f"{message}, not model.classes"))
    set weights='as_built', crop=None or kwargs={'depth': VALUE}, not classes
    """

    def argument(match: re.Match[str]) -> str:
        name, inner_key, text = match.groups()
        if text is None and inner_key is None:
            return name
        if text is None:
            value = "..."
        elif text.isupper():  # a placeholder, such as VALUE
            value = text
        else:
            value = repr(yaml.safe_load(text))
        if inner_key is None:
            return f"{name}={value}"
        return f"{name}={{{inner_key!r}: {value}}}"

    message = _BOTH.sub(r"\1\2", message).replace(" or null", " or None")
    message = re.sub(
        r"set model=(\w+) model\.(architecture|weights)=(\S*\w)",
        r"call ab.load_model('\1', \2='\3')",
        message,
    )
    return _SETTING.sub(argument, message)


def _resolved(config: Mapping[str, object]) -> dict[str, Any]:
    """Return a plain dict with every ${...} filled in, or raise if a ??? is left."""
    try:
        node = config if OmegaConf.is_config(config) else OmegaConf.create(dict(config))
        missing = sorted(key.removeprefix("model.") for key in OmegaConf.missing_keys(node))
        if missing:
            names = ", ".join(missing)[:MOST_SHOWN]
            typed = '" "model.'.join(f"{key}={EXAMPLES.get(key, '...')}" for key in missing)
            raise BenchError(
                f'The model\'s {names} must be given; set "model.{typed[:MOST_SHOWN]}"'
            )
        values = OmegaConf.to_container(node, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise BenchError(
            f"The model's settings can't be read: {str(error).splitlines()[0]}"
        ) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def hub_name(name: str) -> str:
    """Return a name on the Hub without the beginning that timm, open_clip and browsers give it."""
    if not HUB_PREFIX.match(name):
        return name
    return HUB_PREFIX.sub("", name).removesuffix("/tree/main")


def network_name(settings: Mapping[str, object]) -> str | None:
    """Return the name of a model: the configured one, or the last part of its checkpoint's name, or
    its architecture; None if the settings have none of these.
    """
    name = settings.get("name")
    checkpoint = settings.get("checkpoint")
    if name is None and checkpoint is not None:
        name = PurePath(str(checkpoint)).name
    if name is None:
        name = settings.get("architecture")
    return None if name is None else str(name)


def model_names() -> list[str]:
    """Return every name that `model=` accepts, except timm's, sorted."""
    files = _files()
    without_file = [name for name in classifiers() if name not in files]
    return sorted([*files, *without_file])


def model_config(name: str) -> dict[str, Any]:
    """Return the settings of a named model, with ${...} not filled in.

    They are those of its YAML file, on top of those of the models in the file's `defaults`.

    Raises:
        BenchError: if no model has this name.
    """
    files = _files()
    if name in files:
        settings = read_yaml(files[name])
        assert isinstance(settings, dict)
        # Hydra composes them in the same order: the file's own settings come last.
        config: dict[str, Any] = {}
        for base in settings.pop("defaults", ()):
            config.update(model_config(base))
        config.update(settings)
        return config
    if not is_of_library(name):
        raise unknown_model(name, model_names())
    source = "torchvision" if name in classifiers() else "timm"
    spec = ModelSpec(name=name, source=source, architecture=name)
    return {entry.name: getattr(spec, entry.name) for entry in fields(spec)}


def is_of_library(name: str) -> bool:
    """Return whether `name` is a network of torchvision or timm.

    A name of timm's may end in a dot and a tag of weights.
    """
    return name in classifiers() or name.partition(".")[0] in timm_networks()


def unknown_model(name: str, names: Iterable[str]) -> BenchError:
    """Return the error for a name that no model has.

    timm has over a thousand, so they aren't listed, but the nearest of them may be the one that is
    meant.

    Args:
        name: The unknown name.
        names: The names of all models except timm's.
    """
    if name.endswith(WEIGHTS_SUFFIXES):
        return BenchError(
            f"{name} is a file of weights; set model=NAME model.weights={name}. If it is a YOLO of "
            "ultralytics that you trust, NAME is yolo; loading it runs code that the file names."
        )
    if sentence := other_model(name):
        return BenchError(f"There is no model {name!r}. {sentence}")
    new_name = _renamed_networks().get(name, "")
    if is_of_library(new_name):
        return BenchError(
            f"There is no model {name!r}. timm now calls it {new_name}; set model={new_name}."
        )
    error = unknown_name("model", name, names, timm_networks())
    if timm_networks():
        return error
    return BenchError(
        f"{error} A network of timm needs timm: pip install '.[timm]' in axiom-bench's checkout."
    )


@cache
def other_models() -> Mapping[str, str]:
    """Return a sentence for each name of a model of another project; * stands for any text."""
    sentences: Mapping[str, str] = read_yaml(conf_folder() / "other_names.yaml")["model"]
    return sentences


def other_model(name: str) -> str:
    """Return the sentence on a model of another project, or "" if its name isn't known."""
    for pattern, sentence in other_models().items():
        if fnmatchcase(name.lower(), pattern):
            return sentence
    return ""


@cache
def timm_networks() -> frozenset[str]:
    """Return the names of timm's networks, or nothing if timm isn't installed.

    They are read from timm's files, because importing timm takes seconds.
    """
    return frozenset(re.findall(r"^@register_model\ndef (\w+)\(", _code_of_timm(), re.M))


def _renamed_networks() -> dict[str, str]:
    """Return {earlier name: name} of timm's networks."""
    return dict(re.findall(r"^ +'(\w+)' *: '([\w.]+)',?$", _code_of_timm(), re.M))


@cache
def _code_of_timm() -> str:
    """Return the code of timm's networks, or "" if timm isn't installed."""
    paths = [path for folder in _model_folders("timm") for path in sorted(folder.glob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def named_settings(name: str, changes: Mapping[str, object]) -> Mapping[str, object]:
    """Return the settings of a named model with `changes`, as `model=NAME model.KEY=VALUE` does.

    Python's `load_model` and the command line thus start from the same settings.

    Raises:
        BenchError: if no model has this name.
    """
    root = read_yaml(conf_folder() / "config.yaml")["real_root"]
    settings = {**model_config(name), **changes}
    config = OmegaConf.create({"real_root": root, "model": settings}, flags={"allow_objects": True})
    model: Mapping[str, object] = config["model"]
    return model


def _files() -> dict[str, Path]:
    """Return the files of conf/model by the names of their models."""
    return {path.stem: path for path in sorted((conf_folder() / "model").glob("*.yaml"))}


def _model_folders(package: str) -> list[Path]:
    """Return the `models` folders of an installed package without importing it.

    Importing torchvision or timm takes seconds, and `axiom-bench list` needs only names.
    """
    spec = importlib.util.find_spec(package)
    locations = (spec.submodule_search_locations or ()) if spec else ()
    return [Path(location, "models") for location in locations]


@cache
def classifiers() -> dict[str, str]:
    """Return torchvision's classifiers: a line about each by its name, sorted by name.

    The names are those of `torchvision.models.list_models`. They are read from torchvision's files,
    because importing torchvision takes seconds.
    """
    lines: dict[str, str] = {}
    for folder in _model_folders("torchvision"):
        for path in (*folder.glob("*.py"), *folder.glob("video/*.py")):
            lines.update(_registered_models(path))
    return dict(sorted(lines.items()))


def _registered_models(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each classifier that a module of torchvision builds."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    descriptions = {
        node.name: _described_weights(node) for node in tree.body if isinstance(node, ast.ClassDef)
    }
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        # A decorator with a name, such as @register_model(name="quantized_..."), marks a network
        # that is no classifier.
        decorators = map(ast.unparse, node.decorator_list)
        if "register_model()" in decorators:
            weights = re.search(r"\bweights: Optional\[(\w+)\]", ast.unparse(node.args))
            description = descriptions.get(weights[1]) if weights else None
            yield node.name, description or "torchvision."


def _described_weights(weights: ast.ClassDef) -> str | None:
    """Return a description of the default entry of a class of weights, or None for other
    classes.
    """
    text = ast.unparse(weights)  # one line per entry
    default = re.search(r"^ +DEFAULT = (\w+)$", text, re.MULTILINE)
    if not default:
        return None
    count = re.search(rf"^ +{default[1]} = .*'num_params': (\d+)", text, re.MULTILINE)
    if not count:
        return None
    return f"torchvision, {int(count[1]) / 1e6:.1f} million parameters, weights {default[1]}."
