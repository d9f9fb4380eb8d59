"""grad-cam, AblationCAM: an error during the ablations leaves its AblationLayer in the user's model.

Class: defect
Ours: The user's model is never edited.
Theirs: grad-cam pytorch_grad_cam/ablation_cam.py: When we finish, we will replace it back, so the original model is
    unchanged.
"""

import torch
from pytorch_grad_cam import AblationCAM
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
outputs: list[torch.Tensor] = []


def target(output):
    outputs.append(output)
    if len(outputs) > 1:  # the first is the image's own
        raise RuntimeError("out of memory, say")
    return output[0]


try:
    with AblationCAM(model, [model[1]]) as cam:
        cam(torch.rand(1, 3, 2, 2), [target])
except RuntimeError:
    print("the model's second layer is now", type(model[1]).__name__)
reproduced = not isinstance(model[1], nn.ReLU)
