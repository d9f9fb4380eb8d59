"""grad-cam: an explanation in a training loop switches the model to eval mode and replaces the gradients gathered so
far.

Class: defect
Ours: Mode and gradients of the user's model stay as they are.
"""

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).train()
model[3].bias.grad = torch.tensor([5.0, 5.0])
with GradCAM(model, [model[1]]) as cam:
    cam(torch.rand(1, 3, 2, 2), [ClassifierOutputTarget(0)])
print("training:", model.training, "  gradient of the last bias:", model[3].bias.grad.tolist())
reproduced = not model.training and model[3].bias.grad.tolist() != [5.0, 5.0]
