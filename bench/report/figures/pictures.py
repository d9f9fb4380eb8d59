"""The pictures that a run stored: images, every method's map, and the images that the maps perturb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_bench.errors import BenchError
from axiom_bench.records import pictures
from axiom_bench.records.files import safe_name
from axiom_bench.report.figures.drawing import SMALL
from axiom_bench.statistics.run_folder import RunFolder

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pictures:
    """N images of one model, M methods. images (N, H, W, 3); heatmaps (M, N, H, W) in [0, 1]; perturbed
    (M, N, H, W, 3); confidence (N,), confidence_perturbed (M, N): the explained class's probability, or where
    confidence_of is "score" the explained score, which isn't one."""

    model: str
    layer: str
    images: Pixels
    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    methods: tuple[str, ...]
    heatmaps: NDArray[np.floating[Any]]
    perturbed: Pixels
    confidence: NDArray[np.floating[Any]]
    confidence_perturbed: NDArray[np.floating[Any]]
    confidence_of: str

    @property
    def slug(self) -> str:
        """For a file's name: the model and the layer."""
        return safe_name(f"{self.model}-{self.layer}")


def load(run: RunFolder) -> Iterator[Pictures]:
    """One model's pictures after the other. Raises BenchError for a file that can't be read."""
    for file in run.manifest.get("pictures") or []:
        arrays = pictures.read_arrays(run.path / file)
        try:
            yield _pictures(arrays)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(
                f"The pictures {run.path / file} aren't a run's ({error}); run the same command again."
            ) from error


def _pictures(arrays: dict[str, Any]) -> Pictures:
    values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Pictures)}
    values |= {name: tuple(map(str, values[name])) for name in ("image_ids", "class_names", "methods")}
    values |= {name: str(values[name]) for name in ("model", "layer", "confidence_of")}
    values["heatmaps"] = values["heatmaps"] / np.float32(255)
    return Pictures(**values)


def no_pictures(run: RunFolder, methods: Sequence[str]) -> str:
    """Why the run has no pictures with all of these methods, and the setting that brings them."""
    names = ",".join(methods)
    if not run.manifest.get("pictures"):
        return "The run stored no pictures: pictures.rows=6 stores those of six images."
    return f"No network of this run has the maps of {names}: add them with method=[...,{names}]."


def show(axes: Any, image: Pixels, title: str = "", label: str = "") -> None:
    """An image without ticks, with a title above it and a label on its left."""
    axes.imshow(image, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title, loc="center", fontsize=SMALL, fontweight="normal")
    if label:
        axes.set_ylabel(label, fontsize=SMALL, rotation=0, ha="right", va="center", labelpad=6)
