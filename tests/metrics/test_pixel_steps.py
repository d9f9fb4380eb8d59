"""Metrics of pixels in the map's order, in steps of equal number, against loops from their definitions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.metrics.build import close, functions
from tests.metrics.test_cells import resized

(faithfulness_estimate,) = functions("faithfulness_estimate")


def parts(values: np.ndarray, count: int) -> list[Tensor]:
    """The places of 144 pixels of 12 x 12 in `count` parts of equal number, highest first."""
    order = np.argsort(-values, kind="stable")
    masks = [np.isin(np.arange(144), order[np.arange(144) * count // 144 == part]) for part in range(count)]
    return [torch.from_numpy(mask).view(12, 12) for mask in masks]


def answer(trace, row: int, image: Tensor, output: str) -> float:
    logits = trace.cut_model.model(image[None])[0]
    return float((logits if output == "logit" else logits.softmax(0))[trace.targets[row]])


@pytest.mark.parametrize(("groups", "fill", "output"), [(10, "zero", "probability"), (7, "mean", "logit")])
def test_faithfulness_estimate_is_a_loop_over_groups(explanation, trace, groups, fill, output):
    actual = faithfulness_estimate(explanation, groups, fill, output=output)
    for row, raw in enumerate(resized(explanation.raw_map)):
        image, sums, drops = trace.images[row], [], []
        colour = torch.zeros(()) if fill == "zero" else image.mean((1, 2), keepdim=True)
        for part in parts(raw.flatten().numpy(), groups):
            sums.append(float(raw[part].sum()))
            without = answer(trace, row, torch.where(part, colour, image), output)
            drops.append(answer(trace, row, image, output) - without)
        close(actual[row], np.corrcoef(sums, drops)[0, 1], atol=1e-9)
