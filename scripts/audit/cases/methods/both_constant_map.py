"""grad-cam and torchcam: min-max scaling makes a constant positive map, as every 1 x 1 map is, a map of zeros.

Class: other reading
Ours: heatmap = relu(map) / its maximum: a constant positive map is 1. Papers have the ReLU alone.
Theirs: torchcam torchcam/methods/core.py: normalized: whether the CAM should be normalized
Photographs: grad_cam@pytorch_grad_cam, grad_cam@torchcam
"""

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import GradCAM as TorchcamGradCAM

model = nn.Sequential(nn.Conv2d(3, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)).eval()
for parameter in model.parameters():
    nn.init.constant_(parameter, 0.5)
images = torch.ones(1, 3, 2, 2)
with GradCAM(model, [model[1]]) as cam:
    grad_cam_map = cam(images, [ClassifierOutputTarget(0)])[0]
with TorchcamGradCAM(model, model[1]) as cam:
    torchcam_map = cam([0], model(images))[0][0]
    raw = cam([0], model(images), normalized=False)[0][0]
print("raw map:", raw.item(), "  grad-cam:", grad_cam_map.ravel(), "  torchcam:", torchcam_map.item())
reproduced = raw.item() > 0 and not grad_cam_map.any() and torchcam_map.item() == 0
