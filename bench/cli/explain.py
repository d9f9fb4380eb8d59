"""`axiom-bench explain`: one picture, the maps of many methods beside it, in a PNG."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from axiom_bench.cutting.cut_model import cut
from axiom_bench.data.base import BadImage, Sample
from axiom_bench.data.decoding import open_rgb
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.evaluate import explain as explain_images
from axiom_bench.evaluation.left_out import MethodLeftOut
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.records import files
from axiom_bench.run import settings
from axiom_bench.run.sweep import configuration
from axiom_bench.run.user_code import add_current_folder

ALL = ["all"]
COLUMNS = 4
INCHES = 2.6
GROUP_OF = {True: "peers", False: "method"}  # by whether a name has the library in it


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    overrides: KEY=VALUE, as of a run. config_folder: a user's own YAML files. weights, layer: over the configuration's.
    methods: names, a user's own as dotted paths, or ["all"]; None for the configuration's. target: a class of the
    model, as index or name; None for the predicted one.
    """

    image: Path
    output: Path
    overrides: Sequence[str] = ()
    config_folder: Path | None = None
    weights: str | None = None
    layer: str | None = None
    methods: Sequence[str] | None = None
    target: str | None = None


def explain(request: Request) -> tuple[Path, list[str]]:
    """Writes the picture: its path, and sentences about methods that were named and don't apply to the model.

    Raises BenchError for an image that can't be read, an unknown model, layer, class or method, and where no method
    applies.
    """
    add_current_folder()
    config = configuration(_overrides(request), request.config_folder)
    settings.check(config)
    methods = _methods(request.methods, config)
    options = {"weights": request.weights, "layer": request.layer}
    model = load_model(config["model"] | {key: value for key, value in options.items() if value is not None})
    classes = _classes(model, config["model"])
    target = None if request.target is None else torch.tensor([_class_index(request.target, model, classes)])
    images = _image(request.image, model)
    with warnings.catch_warnings(record=True, action="always") as caught:
        maps = explain_images(
            model.module, model.layer, images, methods, target, reshape=model.reshape, output=model.output
        )
    left_out = [str(warning.message) for warning in caught if issubclass(warning.category, MethodLeftOut)]
    if not maps:
        raise BenchError(left_out[0])
    titles = {method.name: method.spec.title or method.name for method in methods}
    panels = {titles[name]: heatmap[0].numpy() for name, heatmap in maps.items()}
    caption = _caption(model, classes, _predicted(model, images), target)
    files.write(request.output, _png(model.preprocessing.denormalise(images)[0], panels, caption))
    return request.output, [] if request.methods is None or request.methods == ALL else left_out


def _overrides(request: Request) -> list[str]:
    """The overrides with the named methods as choices, so that those of a user's own folder are found, too.

    Raises BenchError where no model is named.
    """
    if not any(override.partition("=")[0] in ("model", "experiment") for override in request.overrides):
        raise BenchError(
            "Name the model: --model resnet18, or your own: model=user model.architecture=net.py:build model.weights=F."
        )
    if request.methods is None or request.methods == ALL:
        return [*request.overrides, *(["method=all"] if request.methods else [])]
    chosen: dict[str, list[str]] = {}
    for name in request.methods:
        if "." not in name:
            chosen.setdefault(GROUP_OF["@" in name], []).append(name)
    return [*request.overrides, *(f"{group}=[{','.join(names)}]" for group, names in chosen.items())]


def _methods(names: Sequence[str] | None, config: Mapping[str, Any]) -> list[Plugin]:
    """The configuration's methods, or those of the names, in their order. Raises BenchError."""
    entries = config["method"]
    if names is None or names == ALL:
        return [plugins.from_config("method", name, entry) for name, entry in entries.items()]
    return [
        plugins.from_config("method", name, entries[name]) if name in entries else plugins.of("method", name)
        for name in names
    ]


def _image(path: Path, model: LoadedModel) -> Tensor:
    """(1, 3, H', W'), preprocessed for the model. Raises BenchError."""
    try:
        pixels, _ = model.preprocessing(Sample(open_rgb(path, str(path)), str(path)))
    except BadImage as error:
        raise BenchError(f"The image {error}.") from error
    return pixels[None]


def _classes(model: LoadedModel, config: Mapping[str, Any]) -> Sequence[str] | None:
    """One name per class, where they are known: torchvision's networks have ImageNet's."""
    if model.classes is None and config["source"] == "torchvision":
        names: Sequence[str] = next(iter(torchvision.models.get_model_weights(config["architecture"]))).meta[
            "categories"
        ]
        return names if len(names) == model.number_of_classes else None
    return model.classes


def _class_index(target: str, model: LoadedModel, classes: Sequence[str] | None) -> int:
    """The index of a class that is given as index or name. Raises BenchError, with the nearest names."""
    names = list(classes or ())
    if target in names:
        return names.index(target)
    if target.isdecimal() and int(target) < model.number_of_classes:
        return int(target)
    if names and not target.isdecimal():
        raise unknown(f"class of {model.name}", target, names)
    kind = "an index" if not names else "a name or an index"
    raise BenchError(
        f"There is no class {target!r} of {model.name}; give {kind} from 0 to {model.number_of_classes - 1}."
    )


def _predicted(model: LoadedModel, images: Tensor) -> int:
    """The class that the model predicts, of its output."""
    cut_model = cut(model.module, model.layer, reshape=model.reshape, output=model.output)
    return int(cut_model.trace(images).targets[0])


def _caption(model: LoadedModel, classes: Sequence[str] | None, predicted: int, target: Tensor | None) -> str:
    """The model, the class that is explained, and the predicted one where it is another."""
    names = {index: classes[index] if classes else f"class {index}" for index in range(model.number_of_classes)}
    explained = predicted if target is None else int(target[0])
    also = "" if explained == predicted else f" (predicted: {names[predicted]})"
    return f"{model.name} at {model.layer}: {names[explained]}{also}"


def _png(image: np.ndarray, maps: Mapping[str, np.ndarray], caption: str) -> bytes:
    """The image (H, W, 3) and each map (H, W) over it, in rows of COLUMNS."""
    panels = 1 + len(maps)
    rows, columns = math.ceil(panels / COLUMNS), min(panels, COLUMNS)
    figure = Figure(figsize=(columns * INCHES, rows * (INCHES + 0.3) + 0.3), layout="constrained")
    figure.suptitle(caption, fontsize=10)
    for number, (title, heatmap) in enumerate({"": None, **maps}.items(), start=1):
        axis = figure.add_subplot(rows, columns, number)
        axis.set_axis_off()
        axis.imshow(image)
        axis.set_title(title, fontsize=9)
        if heatmap is not None:
            axis.imshow(heatmap, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
