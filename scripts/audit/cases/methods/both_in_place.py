"""grad-cam and torchcam: whether the ReLU behind the layer works in place changes their map; it doesn't change
captum's.

Class: defect
Ours: The layer's output is what the layer returned, whatever the next module does to the memory.
Theirs: torchcam torchcam/methods/gradient.py: Trick to avoid issues with inplace operations
Photographs: in_place
"""

import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import GradCAM as TorchcamGradCAM

maps = {}
images = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(3))
for inplace in (False, True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace), nn.Flatten(), nn.Linear(12, 2)).eval()
    with GradCAM(model, [model[0]]) as cam:
        grad_cam_map = cam(images, [ClassifierOutputTarget(0)])[0]
    with TorchcamGradCAM(model, model[0]) as cam:
        torchcam_map = cam([0], model(images))[0][0].detach().numpy()
    captum_map = LayerGradCam(model, model[0]).attribute(images, target=0)[0, 0].relu().detach().numpy()
    maps[inplace] = (grad_cam_map, torchcam_map, captum_map / captum_map.max())
for library, plain, in_place in zip(("grad-cam", "torchcam", "captum"), maps[False], maps[True], strict=True):
    print(f"{library}: nn.ReLU() {plain.round(3).ravel()}   nn.ReLU(inplace=True) {in_place.round(3).ravel()}")
changed = [not np.allclose(plain, in_place, atol=0.01) for plain, in_place in zip(maps[False], maps[True], strict=True)]
reproduced = changed == [True, True, False]
