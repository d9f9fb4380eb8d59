"""grad-cam, GradCAMPlusPlus: 1e-6 is added to 2 g^2 + g^3 sum F, and outweighs it: other units of the score, another
map.

Class: defect
Ours: alpha = g^2 / (2 g^2 + g^3 sum(F_k)) (Grad-CAM++, equation 19), 0 where 0/0.
Theirs: grad-cam pytorch_grad_cam/grad_cam_plusplus.py: Equation 19 in https://arxiv.org/abs/1710.11063
Photographs: grad_cam_pp@pytorch_grad_cam
"""

import torch
from pytorch_grad_cam import GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

torch.manual_seed(4)
convolution, linear = nn.Conv2d(3, 3, 1), nn.Linear(12, 2)
model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), linear).eval()
images = torch.rand(1, 3, 2, 2)
maps = []
for factor in (1.0, 0.01):
    with torch.no_grad():
        linear.weight.mul_(factor)
        linear.bias.mul_(factor)
    maps.append(GradCAMPlusPlus(model, [model[1]])(images, [ClassifierOutputTarget(1)])[0])
    print(f"scores x {factor}: {maps[-1].ravel()}")
reproduced = abs(maps[0] - maps[1]).max() > 0.01
