"""grad-cam: of a module that the network calls twice it explains another call than torchcam and captum do."""

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
        self.one, self.two, self.relu, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(12, 2)

    def forward(self, images):
        return self.last(self.relu(self.two(self.relu(self.one(images)))).flatten(1))


torch.manual_seed(2)
model = Twice().eval()
images = torch.randn(1, 3, 2, 2)
with GradCAM(model, [model.relu]) as cam:
    theirs = cam(images, [ClassifierOutputTarget(0)])[0]
with TorchcamGradCAM(model, model.relu) as cam:
    torchcams = cam([0], model(images))[0][0].detach().numpy()
captums = LayerGradCam(model, model.relu).attribute(images, target=0)[0, 0].relu().detach().numpy()
captums = (captums - captums.min()) / max(captums.max() - captums.min(), 1e-30)
print(f"grad-cam {theirs.round(3).ravel()}   torchcam {torchcams.round(3).ravel()}   captum {captums.round(3).ravel()}")
seen = np.allclose(torchcams, captums, atol=1e-3) and not np.allclose(theirs, captums, atol=0.01)
