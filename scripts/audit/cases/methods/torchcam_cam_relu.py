"""torchcam, CAM: the map isn't rectified, though its docstring's formula is: where all of it is
negative, a part of it is highlighted.
"""

import torch
from torch import nn
from torchcam.methods import CAM

torch.manual_seed(0)
convolution, linear = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)
model = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()
nn.init.constant_(linear.weight, -1.0)  # every channel lowers the score
convolution.bias = nn.Parameter(torch.ones(3))
with CAM(model, model[1], linear) as cam, torch.no_grad():
    model(torch.rand(1, 3, 2, 2))
    raw, heatmap = cam([0], normalized=False)[0][0], cam([0])[0][0]
print("raw map", raw.flatten().tolist(), "  heatmap", heatmap.flatten().tolist())
reproduced = (raw < 0).all() and heatmap.max() > 0.99
