"""grad-cam, AblationCAM: weights are divided by the score without a guard; a score of 0 gives NaN."""

import numpy as np
import torch
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

convolution, linear = nn.Conv2d(3, 3, 1), nn.Linear(12, 2)
model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), linear).eval()
nn.init.zeros_(linear.weight)
nn.init.zeros_(linear.bias)
heatmap = AblationCAM(model, [model[1]])(torch.rand(1, 3, 2, 2), [ClassifierOutputTarget(0)])
print(heatmap[0])
reproduced = np.isnan(heatmap).any()
