"""Cases of grad-cam's metrics."""

import numpy as np
import torch
from pytorch_grad_cam.metrics.arcc import Coherency
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence
from pytorch_grad_cam.metrics.perturbation_confidence import RemoveMostRelevantFirst
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

FIRST = [ClassifierOutputTarget(0)]


def grad_cam_coherency_constant():
    """grad-cam, Coherency: 1e-8 in the denominator makes a constant map's correlation 0, and the coherency 0.5."""
    maps = np.random.rand(1, 2, 2).astype("float32")
    values = Coherency()(torch.ones(1, 3, 2, 2), maps, None, None, lambda **_: np.zeros((1, 2, 2), dtype="float32"))
    print("the masked image's map is zero everywhere:", values)
    return values[0] == 0.5


def grad_cam_drop_absolute():
    """grad-cam, DropInConfidence: the drop isn't divided by the class's probability, as Grad-CAM++'s average drop is:
    with logits it follows their scale.
    """
    linear = nn.Linear(4, 1, bias=False)
    model, values = nn.Sequential(nn.Flatten(), linear).eval(), []
    half = np.array([[[1, 1], [0, 0]]], dtype="float32")
    for weight in (1.0, 10.0):
        nn.init.constant_(linear.weight, weight)
        values += DropInConfidence()(torch.ones(1, 1, 2, 2), half, FIRST, model).tolist()
        print(f"the map keeps half of the score {4 * weight:g}: drop {values[-1]:g}")
    return values == [2.0, 20.0]


def grad_cam_road_noise():
    """grad-cam, ROADCombined: its noise has no seed; the same call twice gives two values."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
    images, maps = torch.rand(1, 3, 4, 4), np.random.rand(1, 4, 4).astype("float32")
    values = [ROADCombined(percentiles=[50])(images, maps, FIRST, model).item() for _ in range(2)]
    print(f"{values[0]:.6f} and {values[1]:.6f}")
    return values[0] != values[1]


def grad_cam_road_zeros():
    """grad-cam, ROAD: all pixels at the percentile's value are removed; a map that is 0 in most pixels, as behind a
    ReLU, loses the whole image, and the imputed values depend on no pixel.
    """
    removed = []

    class Counting(NoisyLinearImputer):
        def __call__(self, image, kept):
            removed.append(int((kept == 0).sum()))
            return super().__call__(image, kept)

    heatmap = torch.zeros(4, 4)
    heatmap[0] = torch.tensor([1.0, 0.75, 0.5, 0.25])
    imputed = RemoveMostRelevantFirst(50, Counting(noise=0))(torch.ones(3, 4, 4), heatmap)
    print(f"half of 16 pixels to be removed; removed: {removed[0]}")
    print(f"a white image becomes {imputed.min():.3g} to {imputed.max():.3g}")
    return removed[0] == 16
