"""grad-cam: where the network calls a module twice, it explains another call than torchcam and captum do.

Class: other reading
Ours: The module's last call, as torchcam and captum.
"""

import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import GradCAM as TorchcamGradCAM


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu, self.last = (
            nn.Conv2d(3, 3, 1),
            nn.Conv2d(3, 3, 1),
            nn.ReLU(),
            nn.Linear(12, 2),
        )

    def forward(self, images):
        return self.last(self.relu(self.second(self.relu(self.first(images)))).flatten(1))


torch.manual_seed(2)
model = Twice().eval()
images = torch.randn(1, 3, 2, 2)
with GradCAM(model, [model.relu]) as cam:
    grad_cam_map = cam(images, [ClassifierOutputTarget(0)])[0]
with TorchcamGradCAM(model, model.relu) as cam:
    torchcam_map = cam([0], model(images))[0][0].detach().numpy()
captum_map = LayerGradCam(model, model.relu).attribute(images, target=0)[0, 0].relu().detach().numpy()
captum_map = (captum_map - captum_map.min()) / max(captum_map.max() - captum_map.min(), 1e-30)
for library, heatmap in (("grad-cam", grad_cam_map), ("torchcam", torchcam_map), ("captum", captum_map)):
    print(library, heatmap.round(3).ravel())
reproduced = np.allclose(torchcam_map, captum_map, atol=1e-3) and not np.allclose(grad_cam_map, captum_map, atol=0.01)
