"""grad-cam, GuidedBackpropReLUModel: every ReLU of the user's model is replaced by one shared new one, for good.

Class: defect
Ours: The user's model is never edited.
"""

import torch
from pytorch_grad_cam import GuidedBackpropReLUModel
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 4), nn.ReLU()).eval()
first, second = model[1], model[4]
GuidedBackpropReLUModel(model)(torch.rand(1, 3, 2, 2), 0)
print("the modules are kept:", model[1] is first, model[4] is second, "  one for both:", model[1] is model[4])
try:
    GuidedBackpropReLUModel(model)(torch.rand(1, 3, 2, 2), 99)
except IndexError:
    print("after an error:", type(model[1]).__name__)
reproduced = model[1] is not first and model[1] is model[4]
