"""grad-cam, DropInConfidence: the drop isn't divided by the class's probability, as Grad-CAM++'s average drop is: with
logits it follows their scale.
"""

import numpy as np
import torch
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

linear = nn.Linear(4, 1, bias=False)
model, values = nn.Sequential(nn.Flatten(), linear).eval(), []
for weight in (1.0, 10.0):
    nn.init.constant_(linear.weight, weight)
    half = np.array([[[1, 1], [0, 0]]], dtype="float32")
    values += DropInConfidence()(torch.ones(1, 1, 2, 2), half, [ClassifierOutputTarget(0)], model).tolist()
    print(f"the map keeps half of the score {4 * weight:g}: drop {values[-1]:g}")
reproduced = values == [2.0, 20.0]
