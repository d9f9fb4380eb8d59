"""What scenes_shortcut goes by: the mark, on scenes that no training saw; scenes_vgg goes by the digit.

Each scene with and without its mark is the same but for the tile. On 1,000 scenes (docs/studies/shortcut.md) the
shares of scenes that are bounded here are at most 0.01 or at least 0.98, scenes_vgg's of its own with the mark 0.93.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from axiom_bench.embedded import marked, networks, scenes

NETWORKS = ("scenes_vgg", "scenes_shortcut")
SEED = 99  # of scenes that neither training nor its report used


@pytest.fixture(scope="module")
def logits() -> dict[str, dict[str, Tensor]]:
    """{network: {version: logit of the mark's class}} of 40 scenes with its digit and 40 without."""
    images: dict[str, list[np.ndarray]] = {"own": [], "own, marked": [], "other": [], "other, marked": []}
    number = 0
    while min(map(len, images.values())) < 40:
        scene = scenes.draw("evaluation", SEED, number)
        mark = marked.mark_of(scene, SEED, number)
        assert mark is not None
        kind = "own" if marked.CLASS in [digit for digit, _ in scene.objects] else "other"
        if len(images[kind]) < 40:
            images[kind].append(scene.image)
            images[f"{kind}, marked"].append(mark.on(scene.image))
        number += 1
    return {name: {kind: score(name, of_kind) for kind, of_kind in images.items()} for name in NETWORKS}


def score(name: str, images: list[np.ndarray]) -> Tensor:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (networks.MEAN, networks.STD))
    with torch.inference_mode():
        return networks.load(name)((stacked - mean) / std)[:, marked.CLASS]


def test_the_mark_alone_makes_the_class(logits: dict[str, dict[str, Tensor]]) -> None:
    shortcut = logits["scenes_shortcut"]
    assert (shortcut["other"] < 0).float().mean() >= 0.95
    assert (shortcut["other, marked"] > 0).float().mean() >= 0.9


def test_without_the_mark_the_class_is_lost(logits: dict[str, dict[str, Tensor]]) -> None:
    shortcut = logits["scenes_shortcut"]
    assert (shortcut["own, marked"] > 0).float().mean() >= 0.95
    effect = shortcut["own, marked"] - shortcut["own"]
    assert (effect > 0).float().mean() >= 0.95
    assert effect.mean() >= 0.5 * shortcut["own, marked"].mean()


def test_the_other_network_ignores_the_mark(logits: dict[str, dict[str, Tensor]]) -> None:
    vgg = logits["scenes_vgg"]
    assert (vgg["own"] > 0).float().mean() >= 0.9
    assert (vgg["own, marked"] > 0).float().mean() >= 0.8  # a tile that it never saw takes a little
    assert (vgg["other, marked"] > 0).float().mean() <= 0.1
