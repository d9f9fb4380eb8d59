"""torchcam: 1e-8 is added to the maximum that a map is divided by: maps with small gradients don't reach 1.

Class: documented choice
Ours: relu(map) / its maximum, with no epsilon; a map of zeros stays.
Theirs: torchcam torchcam/methods/core.py: Avoid division by zero
Photographs: grad_cam@torchcam
"""

import torch
from torch import nn
from torchcam.methods import GradCAM

torch.manual_seed(1)
convolution, linear = nn.Conv2d(3, 3, 1), nn.Linear(12, 2)
model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), linear).double().eval()
images = torch.rand(1, 3, 2, 2, dtype=torch.float64)
highest = []
for factor in (1.0, 1e-4, 1e-4):
    with torch.no_grad():
        linear.weight.mul_(factor)
    with GradCAM(model, model[1]) as cam:
        highest.append(cam([1], model(images))[0].max().item())
    print(f"mean |gradient| {linear.weight.abs().mean().item():.1e}: the map's maximum is {highest[-1]:.4f}")
reproduced = highest[0] > 0.99 and highest[-1] < 0.9
