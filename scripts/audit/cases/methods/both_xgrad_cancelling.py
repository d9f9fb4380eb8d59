"""grad-cam and torchcam, XGradCAM: where a channel's values cancel, the only divisor left is an epsilon.

Class: other reading
Ours: w_k = sum(g F) / sum(F) (XGrad-CAM), 0 where |sum F| <= tol sum |F|; the paper has no guard.
Photographs: xgrad_cam@pytorch_grad_cam, xgrad_cam@torchcam
"""

import numpy as np
import torch
from pytorch_grad_cam import XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import XGradCAM as TorchcamXGradCAM

convolution, linear = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(12, 2)
model = nn.Sequential(convolution, nn.Flatten(), linear).eval()
nn.init.dirac_(convolution.weight)
nn.init.ones_(linear.weight)
images = torch.ones(1, 3, 2, 2)
images[0, 0] = torch.tensor([[1.0, -1.0], [2.0, -2.0]])  # sums to 0
with torch.no_grad():
    linear.weight[0, :4] = torch.tensor([1.0, 0.0, 1.0, 0.0])


class Recording(XGradCAM):
    def get_cam_weights(self, *arguments):
        self.weights = super().get_cam_weights(*arguments)
        return self.weights


class TorchcamRecording(TorchcamXGradCAM):
    def _get_weights(self, *arguments, **options):
        self.weights = super()._get_weights(*arguments, **options)
        return self.weights


cam = Recording(model, [model[0]])
cam(images, [ClassifierOutputTarget(0)])
with TorchcamRecording(model, model[0]) as torchcam_cam:
    torchcam_cam([0], model(images))
print("weights: grad-cam", cam.weights[0], "  torchcam", torchcam_cam.weights[0][0].tolist())
reproduced = np.abs(cam.weights).max() > 1e6 and torchcam_cam.weights[0].abs().max() > 1e6
