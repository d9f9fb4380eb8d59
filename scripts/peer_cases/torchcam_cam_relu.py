"""torchcam, CAM: the map isn't rectified, though its docstring's formula is: where all of it is
negative, a part is lit.
"""

import torch
from torch import nn
from torchcam.methods import CAM

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
nn.init.constant_(model[4].weight, -1.0)  # every channel speaks against the class
nn.init.constant_(model[0].bias, 1.0)
with CAM(model, model[1], model[4]) as cam, torch.no_grad():
    model(torch.rand(1, 3, 2, 2))
    raw, heatmap = cam([0], normalized=False)[0][0], cam([0])[0][0]
print("raw map", raw.flatten().tolist(), "  heatmap", heatmap.flatten().tolist())
seen = (raw < 0).all() and heatmap.max() > 0.99
