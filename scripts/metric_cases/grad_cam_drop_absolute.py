"""grad-cam, DropInConfidence: the drop isn't divided by the class's probability, as Grad-CAM++'s average drop is: with
logits it follows their scale.
"""

import numpy as np
import torch
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

model, found = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False)).eval(), []
for weight in (1.0, 10.0):
    nn.init.constant_(model[1].weight, weight)
    seen_half = np.array([[[1, 1], [0, 0]]], dtype="float32")
    found += DropInConfidence()(torch.ones(1, 1, 2, 2), seen_half, [ClassifierOutputTarget(0)], model).tolist()
    print(f"the map keeps half of the score {4 * weight:g}: drop {found[-1]:g}")
seen = found == [2.0, 20.0]
