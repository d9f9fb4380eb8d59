"""grad-cam, ROADCombined: its noise has no seed; the same call twice gives two values."""

import numpy as np
import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
images, maps = torch.rand(1, 3, 4, 4), np.random.rand(1, 4, 4).astype("float32")
values = [ROADCombined(percentiles=[50])(images, maps, [ClassifierOutputTarget(0)], model).item() for _ in range(2)]
print(f"{values[0]:.6f} and {values[1]:.6f}")
reproduced = values[0] != values[1]
