"""`axiom-bench explain`: one picture, the maps of many methods beside it, in a PNG."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from axiom_bench import methods
from axiom_bench.data.base import BadImage, Sample
from axiom_bench.data.decoding import open_rgb
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.evaluate import explain as heatmaps_of
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.models.load import LoadedModel, load_model
from axiom_bench.records import files
from axiom_bench.run.sweep import configuration
from axiom_bench.run.user_code import add_current_folder

ALL = ["all"]
COLUMNS = 4
INCHES = 2.6


def explain(
    image: Path, model: str, weights: str | None, layer: str | None, names: Sequence[str] | None, output: Path
) -> tuple[Path, list[str]]:
    """Writes the picture: its path, and sentences about methods that were named and don't apply to the model.

    names: methods, a user's own as dotted paths, or ["all"]; None for those of the quick experiment. Raises BenchError
    for an image that can't be read, an unknown model, layer or method, and where no method applies.
    """
    add_current_folder()
    said = {"weights": weights, "layer": layer}
    quick = configuration([f"model={model}"])
    chosen = _chosen(names, quick["method"])
    loaded = load_model(quick["model"] | {key: value for key, value in said.items() if value is not None})
    try:
        pixels_in, _ = loaded.preprocessing(Sample(open_rgb(image, str(image)), str(image)))
    except BadImage as error:
        raise BenchError(f"The image {error}.") from error
    batch = pixels_in[None]
    with warnings.catch_warnings(record=True, action="always") as caught:
        maps = heatmaps_of(loaded.module, loaded.layer, batch, chosen, reshape=loaded.reshape)
    left_out = [str(warning.message) for warning in caught]
    if not maps:
        raise BenchError(left_out[0])
    titles = {method.name: method.spec.title or method.name for method in chosen}
    shown = {titles[name]: heatmap[0].numpy() for name, heatmap in maps.items()}
    files.write(output, _png(loaded.preprocessing.denormalise(batch)[0], shown, _caption(loaded, batch)))
    return output, [] if names in (None, ALL) else left_out


def _chosen(names: Sequence[str] | None, otherwise: Iterable[str]) -> list[Plugin]:
    if names == ALL:
        return [methods.get(name) for name in methods.names()]
    return [plugins.of("method", name) for name in (otherwise if names is None else names)]


def _caption(model: LoadedModel, batch: torch.Tensor) -> str:
    """The model, and the class that it sees: the one explained."""
    with torch.no_grad():
        target = int(model.module(batch).argmax(1))
    name = model.classes[target] if model.classes else f"class {target}"
    return f"{model.name} at {model.layer}: {name}"


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
