"""The settings of conf/model/*.yaml: the one place that names and checks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.configs import Setting, check_values, is_integer, is_list
from axiom_bench.errors import BenchError, unknown

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")


def _is_side(value: object) -> bool:
    return is_integer(value, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_colour(value: object) -> bool:
    return is_list(value, 3, _is_number) or is_list(value, 1, _is_number)


SETTINGS = {  # the keys of ModelSpec whose values are checked; null is always allowed
    "seed": Setting(lambda value: is_integer(value, -(2**63)), "a whole number"),
    "kwargs": Setting(lambda value: isinstance(value, Mapping), "a mapping of keyword arguments"),
    "classes": Setting(lambda value: isinstance(value, list | tuple), "a list of names"),
    "resize": Setting(
        lambda value: _is_side(value) or is_list(value, 2, _is_side), "pixels: a side, or [height, width]"
    ),
    "reshape": Setting(
        lambda value: isinstance(value, str) or is_list(value, 2, _is_side), "tokens, [rows, columns] or a class"
    ),
    "crop": Setting(_is_side, "a side in pixels"),
    "mean": Setting(_is_colour, "three numbers, for red, green and blue, or one for a network of grey images"),
    "std": Setting(_is_colour, "three numbers, for red, green and blue, or one for a network of grey images"),
}


@dataclass(frozen=True)
class ModelSpec:
    """A model as configured. None means "as the weights say" for all that concerns the input.

    source: embedded | torchvision | timm | user. architecture: its name there; for `user`, module:function or
    path.py:function. weights: `default`, the name of published weights (IMAGENET1K_V1), a file, or None for random
    weights drawn with `seed`. weights_folder: a folder whose <architecture>.safetensors (.pth, .pt) stands in for
    published weights. layer: default | last_relu | a dotted name. reshape: how a transformer's layer becomes maps:
    `tokens`, a grid (H, W), or module:class or path.py:class of a cutting.tokens.Reshape. output: what is explained,
    a name of models/outputs.py, or module:function or path.py:function from what the network returns to scores (B, n).
    resize: the shorter side, or exactly (H, W); crop: the side of the centre crop; in pixels. mean, std: of red, green
    and blue, or of a network of grey images.
    """

    name: str
    source: str
    architecture: str
    weights: str | None = "default"
    weights_folder: str | None = None
    layer: str = "default"
    reshape: str | tuple[int, int] | None = None
    output: str = "logits"
    seed: int = 0
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    resize: int | tuple[int, int] | None = None
    crop: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None

    @staticmethod
    def of(config: Mapping[str, Any]) -> ModelSpec:
        """The checked spec of a mapping. Raises BenchError for a key that is unknown, missing or of a wrong value."""
        values = _resolved(config)
        names = [entry.name for entry in fields(ModelSpec)]
        for key in values:
            if key not in names:
                raise unknown("model setting", key, names)
        values["name"] = values.get("name") or values.get("architecture")
        values["architecture"] = values.get("architecture") or values["name"]
        missing = [key for key in ("name", "source") if not values.get(key)]
        if missing:
            raise BenchError(f"The model has no {' and no '.join(missing)}; set model.{missing[0]}.")
        check_values({key: value for key, value in values.items() if value is not None}, SETTINGS, "model.")
        for key in ("classes", "reshape", "resize", "mean", "std"):
            if isinstance(values.get(key), list):
                values[key] = tuple(map(str, values[key])) if key == "classes" else tuple(values[key])
        return ModelSpec(**{**values, "kwargs": values.get("kwargs") or {}, "layer": values.get("layer") or "default"})

    @property
    def weights_file(self) -> Path | None:
        """The local file of weights, None for published or random ones. Raises BenchError for a missing file."""
        if self.weights is None:
            return None
        file = Path(self.weights).expanduser()
        if self.weights.endswith(WEIGHTS_SUFFIXES) or (file.suffix and file.is_file()):  # such as best.ckpt
            return _existing(self.weights, [file])
        if self.weights_folder is None:
            return None
        folder = Path(self.weights_folder).expanduser()
        return _existing(self.name, [folder / f"{self.architecture}{suffix}" for suffix in WEIGHTS_SUFFIXES])


def _existing(name: str, candidates: list[Path]) -> Path:
    for path in candidates:
        if path.is_file():
            return path
    raise BenchError(
        f"There are no weights for {name!r}: {candidates[0]} is not a file; set model.weights to a local file, "
        "model.weights_folder to the folder that holds it, or model.weights=null for random weights."
    )


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """A plain dict, every ${...} filled in and no ??? left."""
    node = config if OmegaConf.is_config(config) else OmegaConf.create(dict(config))
    try:
        missing = sorted(key.removeprefix("model.") for key in OmegaConf.missing_keys(node))
        if missing:
            raise BenchError(f"The model's {', '.join(missing)} must be given; set model.{missing[0]}=...")
        values = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise BenchError(f"The model's settings can't be read: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
