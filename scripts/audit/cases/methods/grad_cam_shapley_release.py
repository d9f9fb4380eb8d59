"""grad-cam, ShapleyCAM: `with` fails at its end behind a head that flattens, and leaves its hooks on the model.

Class: defect
Ours: The map is the same; leaving `with` raises nothing and leaves no hook.
"""

import torch
from pytorch_grad_cam import ShapleyCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
error, cam = None, ShapleyCAM(model, [model[1]])
try:
    with cam:
        cam(torch.rand(1, 3, 2, 2), [ClassifierOutputTarget(0)])
except RuntimeError as raised:
    error = raised
print(f"{type(error).__name__}: {str(error)[:33]}; hooks left: {len(model[1]._forward_hooks)}")
reproduced = error is not None
cam.activations_and_grads.gradients.clear()  # or Python prints the error again when it deletes cam
