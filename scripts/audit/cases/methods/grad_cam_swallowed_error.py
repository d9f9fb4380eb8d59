"""grad-cam: its `with` swallows an IndexError, for example of a class that doesn't exist; the program continues without
a map.

Class: documented choice
Ours: An error in a block reaches the caller.
Theirs: grad-cam pytorch_grad_cam/base_cam.py: An exception occurred in CAM with block
"""

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
heatmap = None
with GradCAM(model, [model[1]]) as cam:
    heatmap = cam(torch.rand(1, 3, 2, 2), [ClassifierOutputTarget(7)])  # there are two classes
print("after the block: heatmap =", heatmap)
reproduced = heatmap is None
