"""torchcam, CAM: refusing a network of two linear layers, it has already put a hook on it, which stays.

Class: defect
Ours: Nothing is left on a model that is refused.
Theirs: torchcam torchcam/methods/activation.py: This CAM method does not support multiple fully connected layers.
"""

from torch import nn
from torchcam.methods import CAM

model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
try:
    CAM(model, model[1])
except ValueError as error:
    print(f"{error} Hooks on the layer: {len(model[1]._forward_hooks)}")
reproduced = len(model[1]._forward_hooks) > 0
