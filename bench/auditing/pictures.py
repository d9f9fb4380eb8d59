"""The pictures of an audit: one image with the implementation's map and the formula's map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from axiom_bench.auditing.case import CamFunction, Case
from axiom_bench.auditing.observation import observe
from axiom_bench.auditing.references import references_of
from axiom_bench.auditing.verdict import FormulaAnswer
from axiom_bench.embedded import networks, scenes
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.overlay import Pixels

NETWORK = "scenes_vgg"
LAYER = "features.13"  # the default layer of conf/model/scenes_vgg.yaml
SCENE = 3  # the number of a scene with several digits


@dataclass(frozen=True, eq=False)
class Panels:
    """One image with its two maps.

    Attributes:
        case: The name of the network.
        image: The image, (H, W, 3).
        implementation: The map of the audited implementation, (h, w).
        formula: The map of the formula, (h, w).
    """

    case: str
    image: Pixels
    implementation: NDArray[np.float64]
    formula: NDArray[np.float64]


def scene_case() -> Case:
    """Return an embedded network with one scene, which people recognise."""
    scene = scenes.draw("evaluation", 0, SCENE)
    pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1).float() / 255
    image = (pixels - networks.MEAN[0]) / networks.STD[0]
    targets = torch.tensor([scene.label])
    return Case("a trained network", networks.load(NETWORK), LAYER, image[None], targets)


def panels_of(cam: CamFunction, answer: FormulaAnswer, candidates: Sequence[Case]) -> Panels | None:
    """Return the pictures of the first case on which implementation and formula have a map.

    Args:
        cam: The implementation.
        answer: The formula, or the nearest one.
        candidates: The cases.
    """
    name = answer.formula or answer.nearest
    if name is None:
        return None
    method = plugins.load("method", name)
    for case in candidates:
        try:
            observed = observe(cam, case).maps
        except Exception:  # noqa: BLE001 - a user's code may raise anything
            continue
        expected = references_of(case).maps(method, answer.reading, observed.shape[1:])
        if expected is not None and observed[0].isfinite().all():
            return Panels(
                case=case.name,
                image=_as_pixels(case.images[0]),
                implementation=observed[0].double().numpy(),
                formula=expected[0].double().numpy(),
            )
    return None


def _as_pixels(image: Tensor) -> Pixels:
    """Return an image (C, H, W) with its own range of values as a picture (H, W, 3)."""
    values = image.double()
    values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    if len(values) != 3:
        values = values.mean(0, keepdim=True).expand(3, -1, -1)
    levels: Pixels = (255 * values).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return levels
